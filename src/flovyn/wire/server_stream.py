"""A call that is answered with any number of messages."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, TypeVar

from flovyn.errors import UsageError
from flovyn.wire.http2.failure import StreamFailed

if TYPE_CHECKING:
    from types import TracebackType

    from flovyn.wire.call import Call
    from flovyn.wire.caller import Caller
    from flovyn.wire.http2.stream import Headers
    from flovyn.wire.tally import Tally
    from flovyn.wire.transport import Method

__all__ = ["ServerStream"]

R = TypeVar("R")


class ServerStream(AbstractAsyncContextManager[AsyncIterator[R]], AsyncIterator[R]):
    """The block and its iterator. A class, not a generator: no cancel scope may be held while the user's code runs."""

    def __init__(self, caller: Caller, tally: Tally, method: Method[Any, R], data: bytes, headers: Headers) -> None:
        self._caller = caller
        self._tally = tally
        self._method = method
        self._data = data
        self._headers = headers
        self._call: Call[Any, R] | None = None
        self._attempt = 0
        self._begun = False
        self._complete = False
        self._error: Exception | None = None

    async def __aenter__(self) -> AsyncIterator[R]:
        if self._attempt:
            raise UsageError("a stream can be entered only once; make another call")
        self._tally.__enter__()
        try:
            await self._send()
        except BaseException as error:
            self._tally.__exit__(type(error), error, None)
            raise
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._close()
        if self._error is not None:
            self._tally.failed += 1
        elif self._complete:
            self._tally.succeeded += 1
        else:
            self._tally.cancelled += 1

    async def __anext__(self) -> R:
        if self._complete or self._error is not None:
            raise StopAsyncIteration
        if self._call is None:
            raise UsageError("read a stream inside its `async with` block")
        try:
            message = await self._receive()
        except Exception as error:
            self._error = error
            raise
        if message is None:
            self._complete = True
            raise StopAsyncIteration
        return message

    async def _receive(self) -> R | None:
        while True:
            call = self._call
            assert call is not None
            try:
                message = await call.recv_message()
                if message is None:
                    await call.finish()
                self._begun = True
            except StreamFailed as failure:
                call.explain()
                self._close(failure)
                await self._caller.consider(failure, self._method, self._attempt, repeatable=not self._begun)
                await self._send()
            else:
                return message

    async def _send(self) -> None:
        """Sends the request, again if the server certainly has not acted on it."""
        while True:
            self._attempt += 1
            try:
                call = await self._caller.begin(self._method, self._headers)
                await call.send_request()
                self._call = call
                await call.send_frame(self._data, end=True)
            except StreamFailed as failure:
                self._close(failure)
                await self._caller.consider(failure, self._method, self._attempt)
            except BaseException:
                self._close()
                raise
            else:
                return

    def _close(self, failure: StreamFailed | None = None) -> None:
        call, self._call = self._call, None
        if call is not None:
            call.close(failure)
