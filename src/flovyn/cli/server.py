"""`flovyn server`."""

from __future__ import annotations

import enum
import signal
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated

import anyio
import typer

from flovyn.errors import ConfigurationError

if TYPE_CHECKING:
    from flovyn.server import Durability

__all__ = ["server"]


class _Durability(enum.StrEnum):
    normal = "normal"
    full = "full"


class _Backend(enum.StrEnum):
    asyncio = "asyncio"
    trio = "trio"


def server(  # noqa: PLR0913, PLR0917 - Typer reads the options from here
    db: Annotated[str, typer.Option(help="The SQLite file, created if there is none; :memory: keeps nothing.")] = (
        "flovyn.db"
    ),
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    grpc_port: Annotated[int, typer.Option(min=0, max=65535, help="The port for gRPC; 0 picks a free one.")] = 9090,
    dev: Annotated[
        bool, typer.Option("--dev", help="A fixed organisation and token, printed; this machine only.")
    ] = False,
    token: Annotated[
        str | None, typer.Option(envvar="FLOVYN_WORKER_TOKEN", show_envvar=True, help="The key that opens the server.")
    ] = None,
    org: Annotated[
        str | None, typer.Option(envvar="FLOVYN_ORG_ID", show_envvar=True, help="The organisation's UUID.")
    ] = None,
    durability: Annotated[
        _Durability,
        typer.Option(
            help="normal survives the death of the process, full that of the machine (and waits for the disk)."
        ),
    ] = _Durability.normal,
    worker_timeout: Annotated[
        float | None,
        typer.Option(help="Seconds after which a silent worker loses its work.", show_default="60, with --dev 5"),
    ] = None,
    backend: Annotated[_Backend, typer.Option(help="The event loop to run on.")] = _Backend.asyncio,
) -> None:
    """Run a Flovyn server on this machine, until it is interrupted.

    Prints where it answers and for which organisation, one a line.
    """
    if find_spec(backend.value) is None:
        raise ConfigurationError(f"--backend {backend.value} needs a package: pip install 'flovyn[{backend.value}]'")
    main = partial(
        _serve,
        db=db,
        host=host,
        grpc_port=grpc_port,
        dev=dev,
        token=token,
        org_id=org,
        durability=durability.value,
        worker_timeout=worker_timeout,
    )
    anyio.run(main, backend=backend.value)


async def _serve(
    *,
    db: str,
    host: str,
    grpc_port: int,
    dev: bool,
    token: str | None,
    org_id: str | None,
    durability: Durability,
    worker_timeout: float | None,
) -> None:
    from flovyn.server import serve

    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with serve(
            db=db,
            host=host,
            grpc_port=grpc_port,
            dev=dev,
            token=token,
            org_id=org_id,
            durability=durability,
            worker_timeout=worker_timeout,
        ) as running:
            shown = f"[{running.host}]" if ":" in running.host else running.host
            print(f"grpc {shown}:{running.grpc_port}", flush=True)
            print(f"org {running.org_id} {running.org_slug}", flush=True)
            if dev:
                print(f"token {running.token}", flush=True)
            async for _ in signals:
                return
