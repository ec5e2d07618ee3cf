"""The client's end: what a channel is on a network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol, Self, TypeVar

import anyio.lowlevel

from flovyn.errors import UsageError
from flovyn.server.memory.call import MemoryCall
from flovyn.wire.caller import Caller, bearer
from flovyn.wire.endpoint import Endpoint
from flovyn.wire.metadata import readable_metadata
from flovyn.wire.options import ChannelOptions, ChannelStatistics
from flovyn.wire.pump import RequestPump
from flovyn.wire.replies import Replies
from flovyn.wire.tally import Tally
from flovyn.wire.transport import NO_METADATA, Reply

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Callable, Mapping
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType

    from flovyn.wire.transport import Method

__all__ = ["MemoryChannel"]

Q = TypeVar("Q")
R = TypeVar("R")

_NOWHERE: Final = Endpoint("memory", "memory", 0, None)


class _Connection(Protocol):
    """Calls that go down together."""

    @property
    def open(self) -> bool: ...

    def begin(self, call: MemoryCall[Any, Any], /) -> None: ...

    def lose(self, reason: str, /) -> None: ...


class MemoryChannel:
    """Calls a server in this process; `Memory.channel` makes these.

    It behaves as a channel does on a network: the two sides share no objects, cancelling the scope around a call
    cancels its handler, and work that was claimed over it is freed soon after it is closed.

    Args:
        connect: Makes the connection, when there is none.
        token: Sent with every call as ``authorization: Bearer``.
        options: Limits.

    Raises:
        ConfigurationError: The token cannot stand in a header.
    """

    def __init__(
        self, connect: Callable[[], _Connection], *, token: str | None = None, options: ChannelOptions | None = None
    ) -> None:
        self._connect = connect
        self._options = options or ChannelOptions()
        self._tally = Tally()
        self._caller = Caller(_NOWHERE, self._options, None if token is None else bearer(token), self._tally)
        self._connection: _Connection | None = None
        self._connected = 0
        self._entered = False
        self._left = False

    def __repr__(self) -> str:
        return "MemoryChannel()"

    async def __aenter__(self) -> Self:
        if self._entered:
            raise UsageError("a channel can be entered only once; make another one")
        self._entered = True
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._left = True
        self._lose("this side closed the connection")

    def cut(self) -> None:
        """Lose the connection, as a network does; the next call makes another one."""
        self._lose("the connection was cut")

    async def unary(self, method: Method[Q, R], request: Q, *, metadata: Mapping[str, str] = NO_METADATA) -> Reply[R]:
        """One message there, one back."""
        data = self._caller.message(method, request)
        headers = readable_metadata(self._caller.headers(method, metadata))
        with self._tally:
            call = self._begin(method, headers)
            try:
                call.send_nowait(data)
                return await call.only_reply()
            finally:
                call.close()

    def server_stream(
        self, method: Method[Q, R], request: Q, *, metadata: Mapping[str, str] = NO_METADATA
    ) -> AbstractAsyncContextManager[AsyncIterator[R]]:
        """One message there, any number back; the call is over when the block is left."""
        data = self._caller.message(method, request)
        headers = readable_metadata(self._caller.headers(method, metadata))
        return _Replies(lambda: self._begin(method, headers), data, self._tally)

    async def client_stream(
        self, method: Method[Q, R], requests: AsyncIterable[Q], *, metadata: Mapping[str, str] = NO_METADATA
    ) -> Reply[R]:
        """Any number of messages there, one back.

        What `requests` raises ends the call and is raised here. It is read no further once the server has answered.
        """
        headers = readable_metadata(self._caller.headers(method, metadata))
        pump = RequestPump(requests, lambda request: self._caller.message(method, request))
        with self._tally:
            call = self._begin(method, headers)

            async def exchange() -> Reply[R]:
                return await pump.exchange(call)

            try:
                return await pump.run(exchange)
            finally:
                call.close()

    def statistics(self) -> ChannelStatistics:
        """A snapshot of what the channel is doing and has done."""
        tally, connection = self._tally, self._connection
        return ChannelStatistics(
            open_connections=int(connection is not None and connection.open),
            dialing=0,
            active_calls=tally.active,
            waiting_calls=0,
            connections_opened=self._connected,
            dials_failed=0,
            calls_started=tally.started,
            calls_succeeded=tally.succeeded,
            calls_failed=tally.failed,
            calls_cancelled=tally.cancelled,
            calls_repeated=tally.repeated,
        )

    def _begin(self, method: Method[Q, R], headers: Mapping[str, str]) -> MemoryCall[Q, R]:
        if not self._entered or self._left:
            raise UsageError("the channel is not open: call inside its `async with` block")
        connection = self._connection
        if connection is None or not connection.open:
            connection = self._connection = self._connect()
            self._connected += 1
        call = MemoryCall(method, headers, self._options.max_receive_size)
        connection.begin(call)
        return call

    def _lose(self, reason: str) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.lose(reason)


class _Replies(Replies[R]):
    """The answer to a call in memory."""

    def __init__(self, begin: Callable[[], MemoryCall[Any, R]], data: bytes, tally: Tally) -> None:
        super().__init__(tally)
        self._make = begin
        self._data = data
        self._call: MemoryCall[Any, R] | None = None

    @property
    def _is_open(self) -> bool:
        return self._call is not None

    async def _begin(self) -> None:
        call = self._call = self._make()
        call.send_nowait(self._data)
        await anyio.lowlevel.checkpoint()

    async def _receive(self) -> R | None:
        assert self._call is not None
        return await self._call.next_reply()

    def _close(self) -> None:
        call, self._call = self._call, None
        if call is not None:
            call.close()
