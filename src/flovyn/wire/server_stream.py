"""A call that is answered with any number of messages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from flovyn.wire.http2.failure import StreamFailed
from flovyn.wire.replies import Replies

if TYPE_CHECKING:
    from flovyn.wire.call import Call
    from flovyn.wire.caller import Caller
    from flovyn.wire.http2.stream import Headers
    from flovyn.wire.tally import Tally
    from flovyn.wire.transport import Method

__all__ = ["ServerStream"]

R = TypeVar("R")


class ServerStream(Replies[R]):
    """Its answer, over a network: the call is made again if the server certainly has not acted on it."""

    def __init__(self, caller: Caller, tally: Tally, method: Method[Any, R], data: bytes, headers: Headers) -> None:
        super().__init__(tally)
        self._caller = caller
        self._method = method
        self._data = data
        self._headers = headers
        self._call: Call[Any, R] | None = None
        self._attempt = 0
        self._begun = False

    @property
    def _is_open(self) -> bool:
        return self._call is not None

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
                await self._begin()
            else:
                return message

    async def _begin(self) -> None:
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
