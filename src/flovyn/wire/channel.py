"""The client's side of the wire: calls over one HTTP/2 connection, on asyncio and on trio."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Self, TypeVar

import anyio

from flovyn.errors import UsageError
from flovyn.wire.caller import Caller, bearer
from flovyn.wire.dialer import Dialer
from flovyn.wire.endpoint import Endpoint
from flovyn.wire.http2.failure import StreamFailed
from flovyn.wire.options import ChannelOptions, ChannelStatistics
from flovyn.wire.pump import RequestPump
from flovyn.wire.server_stream import ServerStream
from flovyn.wire.tally import Tally
from flovyn.wire.transport import NO_METADATA, Reply

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterable, AsyncIterator, Mapping
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType

    from anyio.abc import TaskGroup

    from flovyn.wire.transport import Method

__all__ = ["Channel"]

Q = TypeVar("Q")
R = TypeVar("R")


class Channel:
    """Calls a server, over one connection that is made when it is needed and made again when it is lost.

    A call that the server certainly has not acted on (it never left, the server refused the stream, or was closing) is
    sent again by itself, a bounded number of times. Cancelling the scope around a call resets its stream at once.

    Args:
        url: ``http://host:port``, or ``https://host:port`` for TLS.
        token: Sent with every call as ``authorization: Bearer``.
        ssl_context: How TLS is spoken, instead of the system's defaults. The channel sets its ALPN protocols, so it
            should have a context of its own.
        options: Limits and times.

    Raises:
        ConfigurationError: The URL, the token or their combination cannot work.

    Example:
        >>> channel = Channel("http://localhost:9090", token="fwt_secret")
        >>> channel
        Channel('http://localhost:9090')
        >>> channel.statistics().open_connections
        0
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        ssl_context: ssl.SSLContext | None = None,
        options: ChannelOptions | None = None,
    ) -> None:
        self._endpoint = Endpoint.parse(url, ssl_context)
        self._options = options or ChannelOptions()
        self._tally = Tally()
        self._caller = Caller(self._endpoint, self._options, None if token is None else bearer(token), self._tally)
        self._tasks: TaskGroup | None = None
        self._dialer: Dialer | None = None

    def __repr__(self) -> str:
        return f"Channel({self._endpoint.url!r})"

    async def __aenter__(self) -> Self:
        if self._tasks is not None:
            raise UsageError("a channel can be entered only once; make another one")
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        self._dialer = self._caller.dialer = Dialer(self._endpoint, self._options, self._tasks)
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        assert self._tasks is not None
        self._caller.dialer = None
        self._tasks.cancel_scope.cancel()
        try:
            # Bounded: all that runs in there is cancelled, and each connection bounds its own farewell.
            return await self._tasks.__aexit__(exc_type, exc, traceback)  # noqa: ASYNC102
        except BaseExceptionGroup as group:
            if exc is not None and group.exceptions == (exc,):
                return False  # what the block raised leaves it as it is
            raise

    async def unary(self, method: Method[Q, R], request: Q, *, metadata: Mapping[str, str] = NO_METADATA) -> Reply[R]:
        """One message there, one back."""
        caller = self._caller
        data = caller.frame(method, request)
        headers = caller.headers(method, metadata)
        with self._tally:
            for attempt in itertools.count(1):
                try:
                    async with await caller.begin(method, headers) as call:
                        await call.send_frame(data, end=True)
                        return await call.only_reply()
                except StreamFailed as failure:
                    await caller.consider(failure, method, attempt)
        raise AssertionError("unreachable")

    def server_stream(
        self, method: Method[Q, R], request: Q, *, metadata: Mapping[str, str] = NO_METADATA
    ) -> AbstractAsyncContextManager[AsyncIterator[R]]:
        """One message there, any number back; the call is over when the block is left."""
        data = self._caller.frame(method, request)
        return ServerStream(self._caller, self._tally, method, data, self._caller.headers(method, metadata))

    async def client_stream(
        self, method: Method[Q, R], requests: AsyncIterable[Q], *, metadata: Mapping[str, str] = NO_METADATA
    ) -> Reply[R]:
        """Any number of messages there, one back.

        What `requests` raises ends the call and is raised here. It is read no further once the server has answered.
        """
        caller = self._caller
        headers = caller.headers(method, metadata)
        pump = RequestPump(requests, lambda request: caller.frame(method, request))

        async def exchange() -> Reply[R]:
            for attempt in itertools.count(1):
                try:
                    async with await caller.begin(method, headers) as call:
                        return await pump.exchange(call)
                except StreamFailed as failure:
                    await caller.consider(failure, method, attempt, repeatable=pump.repeatable)
            raise AssertionError("unreachable")

        with self._tally:
            return await pump.run(exchange)

    async def lost(self) -> None:
        """Wait until the connection that new calls take is gone; no wait if there is none."""
        if self._dialer is not None:
            await self._dialer.lost()

    def hang_up(self, reason: str) -> None:
        """Give the connection up. Calls under way on it are lost, as when it breaks; the next call makes a new one."""
        if self._dialer is not None:
            self._dialer.hang_up(reason)

    def statistics(self) -> ChannelStatistics:
        """A snapshot of what the channel is doing and has done."""
        tally, dialer = self._tally, self._dialer
        return ChannelStatistics(
            open_connections=dialer.open if dialer else 0,
            dialing=dialer.dialing if dialer else 0,
            active_calls=tally.active,
            waiting_calls=dialer.waiting if dialer else 0,
            connections_opened=dialer.opened if dialer else 0,
            dials_failed=dialer.failed if dialer else 0,
            calls_started=tally.started,
            calls_succeeded=tally.succeeded,
            calls_failed=tally.failed,
            calls_cancelled=tally.cancelled,
            calls_repeated=tally.repeated,
        )
