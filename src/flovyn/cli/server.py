"""`flovyn server`."""

from __future__ import annotations

import enum
import os
import signal
import sys
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

import anyio
import typer

from flovyn.errors import ConfigurationError

if TYPE_CHECKING:
    from flovyn.server import Server

__all__ = ["server"]

T = TypeVar("T")

_HTTP_PORT: Final = 8000
_GRPC_PORT: Final = 9090


class _Durability(enum.StrEnum):
    normal = "normal"
    full = "full"


class _Backend(enum.StrEnum):
    asyncio = "asyncio"
    trio = "trio"


def server(  # noqa: PLR0913, PLR0917 - Typer reads the options from here
    db: Annotated[
        str | None,
        typer.Option(
            help="The SQLite file, created if there is none; :memory: keeps nothing.", show_default="flovyn.db"
        ),
    ] = None,
    host: Annotated[str | None, typer.Option(help="The address to listen on.", show_default="127.0.0.1")] = None,
    grpc_port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="The port for gRPC; 0 picks a free one.", show_default="9090")
    ] = None,
    http_port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="The port for REST; 0 picks a free one.", show_default="8000")
    ] = None,
    no_http: Annotated[bool, typer.Option("--no-http", help="No REST.")] = False,
    config: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="A TOML file with settings, organisations and keys; without, the one that CONFIG_FILE names.",
        ),
    ] = None,
    dev: Annotated[
        bool, typer.Option("--dev", help="A fixed organisation and keys, printed; this machine only.")
    ] = False,
    token: Annotated[
        str | None, typer.Option(envvar="FLOVYN_WORKER_TOKEN", show_envvar=True, help="The worker key, for gRPC.")
    ] = None,
    api_key: Annotated[
        str | None, typer.Option(envvar="FLOVYN_API_KEY", show_envvar=True, help="The user key, for REST.")
    ] = None,
    org: Annotated[
        str | None, typer.Option(envvar="FLOVYN_ORG_ID", show_envvar=True, help="The organisation's UUID.")
    ] = None,
    durability: Annotated[
        _Durability | None,
        typer.Option(
            help="normal survives the death of the process, full that of the machine (and waits for the disk).",
            show_default="normal",
        ),
    ] = None,
    worker_timeout: Annotated[
        float | None,
        typer.Option(help="Seconds after which a silent worker loses its work.", show_default="60, with --dev 5"),
    ] = None,
    backend: Annotated[_Backend, typer.Option(help="The event loop to run on.")] = _Backend.asyncio,
) -> None:
    """Run a Flovyn server on this machine, until it is interrupted.

    Prints where it answers and for which organisations, one a line. Options win over environment variables, and those
    over the file.
    """
    from flovyn.server.config import load

    if find_spec(backend.value) is None:
        raise ConfigurationError(f"--backend {backend.value} needs a package: pip install 'flovyn[{backend.value}]'")
    settings = load(config, os.environ)
    wait = settings.worker_timeout if worker_timeout is None else worker_timeout
    options: dict[str, Any] = {
        "db": _first(db, settings.db, "flovyn.db"),
        "host": _first(host, settings.host, "127.0.0.1"),
        "grpc_port": _first(grpc_port, settings.grpc_port, _GRPC_PORT),
        "http_port": _http_port(http_port, settings.http_port, no_http=no_http),
        "dev": dev,
        "token": token,
        "api_key": api_key,
        "org_id": org,
        "access": settings.access,
        "durability": durability.value if durability else settings.durability or "normal",
        "worker_timeout": wait,
    }
    # Where uvloop is installed it saves the server some per cent of its time.
    loop = {"use_uvloop": find_spec("uvloop") is not None} if backend is _Backend.asyncio else {}
    anyio.run(partial(_serve, options), backend=backend.value, backend_options=loop)


def _first(*values: T | None) -> T | None:
    """What is given first, be it 0 or empty."""
    return next((value for value in values if value is not None), None)


def _http_port(option: int | None, setting: int | None, *, no_http: bool) -> int | None:
    from flovyn.server.web import missing_packages

    if no_http:
        if option is not None:
            raise ConfigurationError(f"--http-port {option} and --no-http contradict each other; give one of them")
        return None
    wanted = _first(option, setting)
    if wanted is None and (missing := missing_packages()):
        sys.stderr.write(f"no REST: {', '.join(missing)} is not installed; pip install 'flovyn[server]'\n")
        return None
    return _first(wanted, _HTTP_PORT)


async def _serve(options: dict[str, Any]) -> None:
    from flovyn.server import serve

    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with serve(**options) as running:
            for line in _lines(running, dev=options["dev"]):
                print(line, flush=True)
            async for _ in signals:
                return


def _lines(running: Server, *, dev: bool) -> list[str]:
    shown = f"[{running.host}]" if ":" in running.host else running.host
    lines = [f"grpc {shown}:{running.grpc_port}"]
    if running.http_port is not None:
        lines.append(f"http {shown}:{running.http_port}")
    lines += [f"org {org.id} {org.slug}" for org in running.orgs]
    if dev:
        lines += [f"api-key {running.api_key}", f"token {running.token}"]
    return lines
