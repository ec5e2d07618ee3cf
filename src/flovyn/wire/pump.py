"""The requests of a call that sends any number of messages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import anyio

from flovyn.wire.http2.failure import StreamFailed
from flovyn.wire.http2.flag import Flag

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Awaitable, Callable

    from flovyn.wire.transport import Reply

__all__ = ["RequestPump"]

Q = TypeVar("Q")
R = TypeVar("R")
T = TypeVar("T")

_KEPT = 256 * 1024
_CLOSE_SECONDS = 5.0


class Receiver(Protocol[R]):
    """One attempt at a call, which takes messages."""

    @property
    def answered(self) -> bool:
        """The server has said all it will say."""
        ...

    async def send_frame(self, data: bytes, *, end: bool) -> None:
        """Send a message; raises `StreamFailed` if nobody takes it any more."""
        ...

    async def end(self) -> None:
        """There are no more messages."""
        ...

    async def only_reply(self) -> Reply[R]:
        """Wait for the answer."""
        ...


class RequestPump(Generic[Q]):
    """Sends what the user's iterator yields, while the answer is waited for.

    The iterator is read by one task for the whole call: an attempt that fails must not cancel it, for a cancelled
    generator yields no more. The first messages, up to a bound, are kept to be sent once more on another stream, should
    the server refuse this one.
    """

    def __init__(self, requests: AsyncIterable[Q], frame: Callable[[Q], bytes]) -> None:
        self._requests = aiter(requests)
        self._frame = frame
        self._next: bytes | None = None
        self._available = Flag()
        self._taken = Flag()
        self._kept: list[bytes] = []
        self._kept_size = 0
        self._failure: Exception | None = None
        self.repeatable: bool = True
        """All messages so far are still at hand."""

    async def run(self, exchange: Callable[[], Awaitable[T]]) -> T:
        """Reads the iterator while `exchange` makes its attempts, and closes it afterwards.

        Raises:
            Exception: What the iterator or `exchange` raised.
        """
        outcome: T | None = None
        error: Exception | None = None
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._read, tasks.cancel_scope)
                try:
                    outcome = await exchange()
                except Exception as raised:  # noqa: BLE001 - raised below, outside the group
                    error = raised
                tasks.cancel_scope.cancel()
        finally:
            await self._close()  # noqa: ASYNC102 - shielded and bounded in there
        if error := self._failure or error:
            raise error
        return outcome  # type: ignore[return-value]  # one of the two is there

    async def exchange(self, call: Receiver[R]) -> Reply[R]:
        """One attempt: sends everything and waits for the one answer."""
        outcome: Reply[R] | None = None
        error: Exception | None = None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._send, call)
            try:
                outcome = await call.only_reply()
            except Exception as raised:  # noqa: BLE001 - raised below, outside the group
                error = raised
            tasks.cancel_scope.cancel()  # an answer that comes early makes the rest of the messages pointless
        if error is not None:
            raise error
        return outcome  # type: ignore[return-value]  # one of the two is there

    async def _read(self, scope: anyio.CancelScope) -> None:
        try:
            async for request in self._requests:
                self._next = self._frame(request)
                self._available.set()
                self._taken.clear()
                await self._taken.wait()
        except Exception as error:  # noqa: BLE001 - raised by `run`, outside the group
            self._failure = error
            scope.cancel()
        self._available.set()

    async def _send(self, call: Receiver[Any]) -> None:
        try:
            for kept in list(self._kept):
                await call.send_frame(kept, end=False)
            while not call.answered:
                await self._available.wait()
                data = self._next
                if data is None:
                    await call.end()
                    return
                self._keep(data)
                self._next = None
                self._available.clear()
                self._taken.set()
                await call.send_frame(data, end=False)
        except StreamFailed:
            pass  # the receiving side meets the same end and makes the most of it

    def _keep(self, data: bytes) -> None:
        self._kept_size += len(data)
        if self._kept_size > _KEPT:
            self.repeatable = False
            self._kept.clear()
        elif self.repeatable:
            self._kept.append(data)

    async def _close(self) -> None:
        close = getattr(self._requests, "aclose", None)
        if close is not None:
            with anyio.move_on_after(_CLOSE_SECONDS, shield=True):
                await close()
