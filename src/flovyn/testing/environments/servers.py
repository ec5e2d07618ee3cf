"""The embedded server under a virtual clock, in memory or on the network. Imported only where one is begun."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING
from uuid import uuid4

from flovyn.server import acceptor, rpc
from flovyn.server.auth import DEV_API_KEY, DEV_ORG_ID, DEV_ORG_SLUG, DEV_TOKEN, Key, Keys
from flovyn.server.engine import Engine
from flovyn.server.hosting import hosted
from flovyn.server.memory import Memory
from flovyn.server.shell import Shell
from flovyn.server.store import Store
from flovyn.testing.environments.rest import Requests, Rest
from flovyn.wire.channel import Channel

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    import httpx2

    from flovyn.server.memory import MemoryChannel
    from flovyn.testing.environments.clock import VirtualClock
    from flovyn.testing.environments.rest import Counted
    from flovyn.wire.transport import Transport

__all__ = ["VirtualServer", "serving"]


@dataclass(frozen=True, slots=True)
class VirtualServer:
    """A running server whose time is not its own.

    Attributes:
        shell: The server.
        rest: Knows when nothing can run.
        url: Where it answers gRPC, if it is on the network.
        org_id: Its organisation.
        token: The key that opens it.
        dial: Makes a channel to it that `rest` knows of.
        web: Makes what carries requests to its REST interface, likewise.
    """

    shell: Shell
    rest: Rest
    url: str | None
    dial: Callable[[], AbstractAsyncContextManager[Transport]]
    web: Callable[[], httpx2.AsyncBaseTransport]
    org_id: str = DEV_ORG_ID
    token: str = field(default=DEV_TOKEN, repr=False)
    api_key: str = field(default=DEV_API_KEY, repr=False)


@asynccontextmanager
async def serving(clock: VirtualClock, *, db: str, network: bool) -> AsyncGenerator[VirtualServer]:
    """Run a server for as long as the block runs; its time passes as the clock says.

    Raises:
        ConfigurationError: The file cannot be used, or there is no free port.
    """
    store = Store(db)
    try:
        engine = Engine(store, clock=clock, new_id=lambda: str(uuid4()))
        shell = Shell(engine, Keys([Key(DEV_TOKEN, DEV_ORG_ID, "Worker"), Key(DEV_API_KEY, DEV_ORG_ID, "User")]))
        requests = Requests()
        channels: list[Counted] = [requests]
        rest = Rest(shell, channels)
        clock.attach(shell, rest)
        async with _answering(shell, clock, network=network) as (url, connect):

            def dial() -> AbstractAsyncContextManager[Transport]:
                channel = connect()
                channels.append(channel)
                return channel

            def web() -> httpx2.AsyncBaseTransport:
                from flovyn.testing.environments.web import MemoryHttp

                return MemoryHttp(shell, {DEV_ORG_SLUG: DEV_ORG_ID}, requests.tally)

            yield VirtualServer(shell, rest, url, dial, web)
    finally:
        store.close()


@asynccontextmanager
async def _answering(
    shell: Shell, clock: VirtualClock, *, network: bool
) -> AsyncGenerator[tuple[str | None, Callable[[], MemoryChannel | Channel]]]:
    routes = rpc.routes(shell)
    if network:
        accept = partial(acceptor.serve, routes, ("127.0.0.1", 0), on_disconnect=shell.disconnected)
        async with hosted(shell, accept, clock.run, keeps_time=False) as (address, _):
            url = f"http://{address[0]}:{address[1]}"
            yield url, partial(Channel, url, token=DEV_TOKEN)
    else:
        memory = Memory(routes, on_disconnect=shell.disconnected)
        async with hosted(shell, memory.serve, clock.run, keeps_time=False):
            yield None, partial(memory.channel, token=DEV_TOKEN)
