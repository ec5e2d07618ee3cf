"""Answers the calls of channels in this process."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Never

import anyio

from flovyn.errors import ServerUnavailable
from flovyn.server.acceptor import AcceptorOptions, Peer
from flovyn.server.memory.call import MemoryCall, Terms
from flovyn.server.memory.channel import MemoryChannel

if TYPE_CHECKING:
    from collections.abc import Callable

    from anyio.abc import TaskGroup, TaskStatus

    from flovyn.server.acceptor import Routes
    from flovyn.wire.options import ChannelOptions

__all__ = ["Memory"]

logger: logging.Logger = logging.getLogger(__name__)


def _ignore(peer: Peer) -> None: ...


class Memory:
    """A server's end of connections that need no network.

    Args:
        routes: What can be called.
        options: Limits; what concerns bytes on a network does not count here.
        on_disconnect: Called once for each connection over which there was a call, when it is closed and all its
            handlers have ended.

    Example:
        >>> from flovyn.server.acceptor import Call, Routes
        >>> from flovyn.wire.transport import Method, Shape
        >>> echo = Method("/example.Echo/Say", bytes, bytes, Shape.UNARY)
        >>> async def say(call: Call, request: bytes) -> bytes:
        ...     return request + b" " + call.metadata["authorization"].encode()
        >>> async def main() -> None:
        ...     routes = Routes()
        ...     routes.unary(echo, say)
        ...     memory = Memory(routes)
        ...     async with anyio.create_task_group() as tasks:
        ...         await tasks.start(memory.serve)
        ...         async with memory.channel(token="secret") as channel:
        ...             print((await channel.unary(echo, b"hello")).message)
        ...         tasks.cancel_scope.cancel()
        >>> anyio.run(main)
        b'hello Bearer secret'
    """

    def __init__(
        self,
        routes: Routes,
        *,
        options: AcceptorOptions | None = None,
        on_disconnect: Callable[[Peer], None] = _ignore,
    ) -> None:
        self._routes = routes
        self._options = options or AcceptorOptions()
        self._on_disconnect = on_disconnect
        self._tasks: TaskGroup | None = None
        self._connections: dict[Connection, None] = {}

    async def serve(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> Never:
        """Answer calls until cancelled; every handler runs inside this call.

        Args:
            task_status: Told when calls can be made.
        """
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            task_status.started()
            try:
                await anyio.sleep_forever()
            finally:
                self._tasks = None
                for connection in list(self._connections):
                    connection.lose("the server is ending")
        raise AssertionError("unreachable: serving ends by an exception")

    def channel(self, *, token: str | None = None, options: ChannelOptions | None = None) -> MemoryChannel:
        """A connection for a client, which opens it with ``async with``.

        Args:
            token: Sent with every call as ``authorization: Bearer``.
            options: The client's limits; what concerns bytes on a network does not count here.

        Raises:
            ConfigurationError: The token cannot stand in a header.
        """
        return MemoryChannel(self._connect, token=token, options=options)

    def _connect(self) -> Connection:
        if self._tasks is None:
            raise ServerUnavailable("the server in memory is not running; the call had no effect")
        connection = Connection(self._routes, self._options, self._tasks, self._gone)
        self._connections[connection] = None
        return connection

    def _gone(self, connection: Connection) -> None:
        del self._connections[connection]
        try:
            self._on_disconnect(connection.peer)
        except Exception:
            logger.exception("on_disconnect failed for %r", connection.peer)


class Connection:
    """What a network's connection is: calls that go down together."""

    def __init__(
        self, routes: Routes, options: AcceptorOptions, tasks: TaskGroup, gone: Callable[[Connection], None]
    ) -> None:
        self.peer: Peer = Peer("memory")
        self._terms = Terms(routes, options, self.peer, self._left)
        self._tasks = tasks
        self._gone = gone
        self._calls: dict[MemoryCall[Any, Any], None] = {}
        self.open: bool = True

    def begin(self, call: MemoryCall[Any, Any]) -> None:
        """Start to answer a call."""
        self._calls[call] = None
        self._tasks.start_soon(call.serve, self._terms)

    def lose(self, reason: str) -> None:
        """End it, whichever side it is that goes."""
        if self.open:
            self.open = False
            for call in list(self._calls):
                call.lose(reason)
            self._leave()

    def _left(self, call: MemoryCall[Any, Any]) -> None:
        del self._calls[call]
        self._leave()

    def _leave(self) -> None:
        if not self.open and not self._calls:
            self._gone(self)
