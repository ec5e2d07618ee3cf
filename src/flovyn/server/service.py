"""A whole server, inside an `async with` block."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import anyio
from anyio.abc import SocketAttribute

from flovyn.errors import ConfigurationError
from flovyn.server import acceptor, limits, rpc, web
from flovyn.server.access import choose, first_key
from flovyn.server.auth import Keys
from flovyn.server.clock import Clock
from flovyn.server.engine import Engine
from flovyn.server.hosting import hosted
from flovyn.server.memory import Memory
from flovyn.server.shell import Shell
from flovyn.server.store import Durability, Store
from flovyn.server.store.orgs import OrgRow

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence

    from anyio.abc import Listener, SocketStream

    from flovyn.server.auth import Access, Org
    from flovyn.server.http import HttpServer
    from flovyn.server.memory import MemoryChannel

__all__ = ["Server", "Statistics", "serve"]

_LONGEST_WORKER_TIMEOUT_S = 86_400
_LAST_PORT = 65_535


@dataclass(frozen=True, slots=True)
class Statistics:
    """What a server is doing at this moment.

    Attributes:
        connections: Clients that are connected and have made a call; zero once the server has ended.
        waiting_polls: Long polls that are being held open; zero once the server has ended.
        waiting_results: Calls that wait for the end of a workflow; zero once the server has ended.
        listeners: Streams of notifications that are open; zero once the server has ended.
        claims: Workflows and tasks that are in the hands of workers; a file keeps them when the server ends.
        http_connections: Clients that are connected to REST; zero once the server has ended.
        http_requests: Requests that are being answered; zero once the server has ended.
    """

    connections: int
    waiting_polls: int
    waiting_results: int
    listeners: int
    claims: int
    http_connections: int
    http_requests: int


class Server:
    """A running server.

    Attributes:
        url: Where it answers gRPC.
        host: The address it listens on.
        grpc_port: The port it listens on.
        http_url: Where it answers REST; None if it does not.
        http_port: The port for that.
        orgs: The organisations that it serves.
        org_id: The first of them.
        org_slug: The short name of that one.
        token: A worker key that opens it, empty if it has none.
        api_key: A user key that opens it, if it has one.
        engine: Its engine, for tests.
    """

    def __init__(self, shell: Shell, access: Access, running: _Running, *, host: str) -> None:
        self.host = host
        self.grpc_port: int = running.grpc_port
        self.url: str = _url(host, running.grpc_port)
        self.http_port: int | None = running.http_port
        self.http_url: str | None = None if running.http_port is None else _url(host, running.http_port)
        self.orgs: Sequence[Org] = access.orgs
        self.org_id: str = access.orgs[0].id
        self.org_slug: str = access.orgs[0].slug
        self.token: str = first_key(access, "Worker") or ""
        self.api_key: str | None = first_key(access, "User")
        self.engine: Engine = shell.engine
        self._shell = shell
        self._http = running.http
        self._memory = running.memory

    def __repr__(self) -> str:
        return f"<Server {self.url} org {self.org_id}>"

    def channel(self, *, token: str | None = None) -> MemoryChannel:
        """A connection from within this process, which needs no socket; opened with ``async with``.

        It carries the calls of a client as a channel to `url` does, and is a connection of its own to the server.

        Args:
            token: The key that the server is shown; `token` if left out.

        Example:
            ```python
            async with serve() as server, server.channel() as channel:
                client = Client(channel, org_id=server.org_id, dial=server.channel)
            ```
        """
        return self._memory.channel(token=self.token if token is None else token)

    def statistics(self) -> Statistics:
        """What the server is doing at this moment."""
        leases = self.engine.core.leases
        return Statistics(
            connections=len(leases.links()),
            waiting_polls=len(self._shell.waiters),
            waiting_results=len(self._shell.endings),
            listeners=len(self._shell.news),
            claims=len(leases.claims()),
            http_connections=0 if self._http is None else self._http.connections,
            http_requests=0 if self._http is None else self._http.requests,
        )


@asynccontextmanager
async def serve(  # noqa: PLR0913 - options, each by its name
    *,
    db: str = ":memory:",
    host: str = "127.0.0.1",
    grpc_port: int = 0,
    http_port: int | None = None,
    dev: bool = True,
    token: str | None = None,
    org_id: str | None = None,
    api_key: str | None = None,
    access: Access | None = None,
    worker_timeout: float | None = None,
    durability: Durability = "normal",
) -> AsyncGenerator[Server]:
    """Run a Flovyn server for as long as the block runs, on asyncio and on trio.

    When the block ends, calls that are under way are answered before the server goes, within five seconds; when the
    block is left by an exception, the server goes at once.

    Args:
        db: The SQLite file, created if there is none; ``:memory:`` keeps nothing.
        host: The address to listen on. Development mode allows only addresses of this machine.
        grpc_port: The port for gRPC; 0 picks a free one.
        http_port: The port for REST; 0 picks a free one. Without, there is none, and nothing of it is imported.
        dev: Development mode: a fixed organisation and keys that everybody knows, and dead workers are noticed sooner.
        token: The worker key that opens the server; needed outside development mode.
        org_id: The UUID of the organisation that the key belongs to; needed outside development mode.
        api_key: The user key that opens REST for the same organisation.
        access: Organisations and keys, in place of these three, outside development mode.
        worker_timeout: Seconds after which a silent worker has lost what it had claimed; 60, or 5 in development mode.
        durability: ``normal``: what was acknowledged survives the death of this process; ``full``: also that of the
            machine, at the price of waiting for the disk with every call.

    Yields:
        The running server.

    Raises:
        ConfigurationError: An option, or a combination of them, cannot work; the file or a port cannot be had; or
            REST is wanted and its packages are missing.

    Example:
        ```python
        import anyio, flovyn.server

        async def main() -> None:
            async with flovyn.server.serve() as server:
                print(server.url, server.org_id)

        anyio.run(main)
        ```
    """
    for name, port in (("grpc_port", grpc_port), ("http_port", http_port or 0)):
        if not 0 <= port <= _LAST_PORT:
            raise ConfigurationError(f"{name} is {port}; it must be between 0 and {_LAST_PORT}")
    access = choose(dev=dev, host=host, token=token, org_id=org_id, api_key=api_key, access=access)
    timeout_ms = _worker_timeout_ms(worker_timeout, dev=dev)
    store = Store(db, durability=durability)
    try:
        patience_ms = limits.WORKER_TIMEOUT_MS if worker_timeout is None else timeout_ms
        engine = Engine(store, clock=Clock(), new_id=_new_id, worker_timeout_ms=timeout_ms, patience_ms=patience_ms)
        engine.sync(OrgRow(org.id, org.slug, org.name, org.tier, 0) for org in access.orgs)
        shell = Shell(engine, Keys(access.keys))
        http = None if http_port is None else web.build(shell, access)
        async with _running(shell, http, host, grpc_port, http_port or 0) as running:
            yield Server(shell, access, running, host=host)
    finally:
        store.close()


@dataclass(frozen=True, slots=True)
class _Running:
    """What runs in a server, and where."""

    memory: Memory
    grpc_port: int
    http: HttpServer | None
    http_port: int | None


@asynccontextmanager
async def _running(
    shell: Shell, http: HttpServer | None, host: str, grpc_port: int, http_port: int
) -> AsyncGenerator[_Running]:
    """Everything that runs in a server."""
    drain = acceptor.Drain()
    routes = rpc.routes(shell)
    memory = Memory(routes, on_disconnect=shell.disconnected)
    async with AsyncExitStack() as listeners:
        grpc_listener = await listeners.enter_async_context(await _listen(host, grpc_port))
        services: list[Callable[..., Coroutine[Any, Any, Any]]] = [
            partial(acceptor.serve, routes, grpc_listener, on_disconnect=shell.disconnected, drain=drain),
            memory.serve,
        ]
        port: int | None = None
        if http is not None:
            http_listener = await listeners.enter_async_context(await _listen(host, http_port))
            port = _port(http_listener)
            services.append(partial(http.serve, http_listener))
        farewell = partial(_come_to_rest, shell, http, drain)
        async with hosted(shell, *services, farewell=farewell) as said:
            yield _Running(memory, said[0][1], http, port)


async def _listen(host: str, port: int) -> Listener[SocketStream]:
    try:
        return await anyio.create_tcp_listener(local_host=host, local_port=port)
    except OSError as error:
        raise ConfigurationError(f"cannot listen at {host}:{port}: {error.strerror or error}") from error


def _port(listener: Listener[SocketStream]) -> int:
    port: int = listener.extra(SocketAttribute.local_port)
    return port


async def _come_to_rest(shell: Shell, http: HttpServer | None, drain: acceptor.Drain) -> None:
    """Let everything end that is under way."""
    shell.end_polls()
    with anyio.move_on_after(limits.DRAIN_S):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(drain.rest)
            if http is not None:
                tasks.start_soon(http.rest)


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _worker_timeout_ms(seconds: float | None, *, dev: bool) -> int:
    if seconds is None:
        return limits.DEV_WORKER_TIMEOUT_MS if dev else limits.WORKER_TIMEOUT_MS
    if not 0 < seconds <= _LONGEST_WORKER_TIMEOUT_S:
        raise ConfigurationError(f"worker_timeout is {seconds}; it must be over 0 and at most a day, in seconds")
    return max(1, round(seconds * 1000))


def _new_id() -> str:
    return str(uuid4())
