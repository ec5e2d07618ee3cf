"""A whole server, inside an `async with` block."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import anyio

from flovyn.errors import ConfigurationError
from flovyn.server import acceptor, limits, rpc
from flovyn.server.auth import DEV_ORG_ID, DEV_ORG_SLUG, DEV_TOKEN, Keys
from flovyn.server.clock import Clock
from flovyn.server.engine import Engine
from flovyn.server.shell import Shell
from flovyn.server.store import Durability, Store

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

__all__ = ["Server", "Statistics", "serve"]

_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
_LONGEST_WORKER_TIMEOUT_S = 86_400
_LAST_PORT = 65_535


@dataclass(frozen=True, slots=True)
class Principal:
    """Who a key stands for."""

    token: str = field(repr=False)
    org_id: str
    org_slug: str


@dataclass(frozen=True, slots=True)
class Statistics:
    """What a server is doing at this moment.

    Attributes:
        connections: Clients that are connected and have made a call; zero once the server has ended.
        waiting_polls: Long polls that are being held open; zero once the server has ended.
        listeners: Streams of notifications that are open; zero once the server has ended.
        claims: Workflows and tasks that are in the hands of workers; a file keeps them when the server ends.
    """

    connections: int
    waiting_polls: int
    listeners: int
    claims: int


class Server:
    """A running server.

    Attributes:
        url: Where it answers gRPC.
        host: The address it listens on.
        grpc_port: The port it listens on.
        org_id: The organisation that it serves.
        org_slug: The short name of that organisation.
        token: The key that opens it.
        engine: Its engine, for tests.
    """

    def __init__(self, shell: Shell, principal: Principal, *, host: str, grpc_port: int) -> None:
        self.host = host
        self.grpc_port = grpc_port
        self.url: str = f"http://[{host}]:{grpc_port}" if ":" in host else f"http://{host}:{grpc_port}"
        self.org_id: str = principal.org_id
        self.org_slug: str = principal.org_slug
        self.token: str = principal.token
        self.engine: Engine = shell.engine
        self._shell = shell

    def __repr__(self) -> str:
        return f"<Server {self.url} org {self.org_id}>"

    def statistics(self) -> Statistics:
        """What the server is doing at this moment."""
        leases = self.engine.core.leases
        return Statistics(
            connections=len(leases.links()),
            waiting_polls=len(self._shell.waiters),
            listeners=len(self._shell.news),
            claims=len(leases.claims()),
        )


@asynccontextmanager
async def serve(
    *,
    db: str = ":memory:",
    host: str = "127.0.0.1",
    grpc_port: int = 0,
    dev: bool = True,
    token: str | None = None,
    org_id: str | None = None,
    worker_timeout: float | None = None,
    durability: Durability = "normal",
) -> AsyncGenerator[Server]:
    """Run a Flovyn server for as long as the block runs, on asyncio and on trio.

    Args:
        db: The SQLite file, created if there is none; ``:memory:`` keeps nothing.
        host: The address to listen on. Development mode allows only addresses of this machine.
        grpc_port: The port for gRPC; 0 picks a free one.
        dev: Development mode: a fixed organisation and token that everybody knows, and dead workers are noticed sooner.
        token: The key that opens the server; needed outside development mode.
        org_id: The UUID of the organisation that the key belongs to; needed outside development mode.
        worker_timeout: Seconds after which a silent worker has lost what it had claimed; 60, or 5 in development mode.
        durability: ``normal``: what was acknowledged survives the death of this process; ``full``: also that of the
            machine, at the price of waiting for the disk with every call.

    Yields:
        The running server.

    Raises:
        ConfigurationError: An option, or a combination of them, cannot work; or the file or the port cannot be had.

    Example:
        ```python
        import anyio, flovyn.server

        async def main() -> None:
            async with flovyn.server.serve() as server:
                print(server.url, server.org_id)

        anyio.run(main)
        ```
    """
    if not 0 <= grpc_port <= _LAST_PORT:
        raise ConfigurationError(f"grpc_port is {grpc_port}; it must be between 0 and {_LAST_PORT}")
    principal = _principal(dev=dev, host=host, token=token, org_id=org_id)
    timeout_ms = _worker_timeout_ms(worker_timeout, dev=dev)
    store = Store(db, durability=durability)
    try:
        engine = Engine(store, clock=Clock(), new_id=_new_id, worker_timeout_ms=timeout_ms)
        shell = Shell(engine, Keys({principal.token: principal.org_id}))
        async with _running(shell, host, grpc_port) as port:
            yield Server(shell, principal, host=host, grpc_port=port)
    finally:
        store.close()


@asynccontextmanager
async def _running(shell: Shell, host: str, port: int) -> AsyncGenerator[int]:
    """Everything that runs in a server; what the block raises leaves it as it is, never in a group."""
    try:
        listener = await anyio.create_tcp_listener(local_host=host, local_port=port)
    except OSError as error:
        raise ConfigurationError(f"cannot listen at {host}:{port}: {error.strerror or error}") from error
    accept = partial(acceptor.serve, rpc.routes(shell), listener, on_disconnect=shell.disconnected)
    raised: Exception | None = None
    async with anyio.create_task_group() as tasks:
        address = await tasks.start(accept)
        tasks.start_soon(shell.keep_time)
        tasks.start_soon(shell.keep_writing)
        try:
            yield address[1]
        except Exception as error:  # noqa: BLE001 - kept away from the task group, which would wrap it
            raised = error
        finally:
            tasks.cancel_scope.cancel()
    shell.write()
    if raised is not None:
        raise raised


def _principal(*, dev: bool, host: str, token: str | None, org_id: str | None) -> Principal:
    if dev and host not in _LOOPBACK:
        raise ConfigurationError(
            f"development mode listens only at addresses of this machine, not at {host!r}: everybody knows its token. "
            "Turn it off, and give a token and an organisation"
        )
    if not dev and (token is None or org_id is None):
        missing = "a token (FLOVYN_WORKER_TOKEN)" if token is None else "an organisation (FLOVYN_ORG_ID)"
        raise ConfigurationError(f"a server needs {missing}; only development mode (--dev) brings its own")
    token = DEV_TOKEN if token is None else token
    if org_id is None or org_id == DEV_ORG_ID:
        return Principal(token, DEV_ORG_ID, DEV_ORG_SLUG)
    try:
        canonical = str(UUID(org_id))
    except ValueError:
        raise ConfigurationError(f"the organisation {org_id!r} is not a UUID") from None
    return Principal(token, canonical, f"org-{canonical[:8]}")


def _worker_timeout_ms(seconds: float | None, *, dev: bool) -> int:
    if seconds is None:
        return limits.DEV_WORKER_TIMEOUT_MS if dev else limits.WORKER_TIMEOUT_MS
    if not 0 < seconds <= _LONGEST_WORKER_TIMEOUT_S:
        raise ConfigurationError(f"worker_timeout is {seconds}; it must be over 0 and at most a day, in seconds")
    return max(1, round(seconds * 1000))


def _new_id() -> str:
    return str(uuid4())
