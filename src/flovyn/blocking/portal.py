"""The way from a thread into the event loop."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, TypeVar

import anyio

from flovyn.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Generator

    from anyio.from_thread import BlockingPortal

__all__ = ["Entries", "Portal", "fail_after"]

T = TypeVar("T")

_due: ContextVar[float | None] = ContextVar("_due", default=None)
"""When, by the monotonic clock, the calls of the block have to be answered."""

_END: Final = object()


@contextmanager
def fail_after(seconds: float) -> Generator[None]:
    """Limit how long the calls of a block may take, all together.

    It is what `anyio.fail_after` is for asynchronous programs, and changes as little: a wait that is given up leaves
    the workflow running. Of blocks inside each other the shortest counts.

    Args:
        seconds: How long, in seconds.

    Raises:
        TimeoutError: A call was not answered in time.

    Example:
        ```python
        with flovyn.blocking.fail_after(60):
            receipt = handle.result()
        ```
    """
    due, outer = time.monotonic() + seconds, _due.get()
    token = _due.set(due if outer is None else min(due, outer))
    try:
        yield
    finally:
        _due.reset(token)


class Portal:
    """Makes asynchronous calls for threads.

    Args:
        portal: The event loop.
    """

    __slots__ = ("_portal",)

    def __init__(self, portal: BlockingPortal) -> None:
        self._portal = portal

    def call(self, call: Callable[[], Awaitable[T]]) -> T:
        """Make a call and wait until it is answered.

        An exception that comes to the thread meanwhile (a KeyboardInterrupt) ends the call.

        Raises:
            UsageError: The client is closed.
            TimeoutError: It was not answered within `fail_after`.
        """
        due = _due.get()

        async def limited() -> T:
            if due is None:
                return await call()
            with anyio.fail_after(due - time.monotonic()):
                return await call()

        try:
            future = self._portal.start_task_soon(limited)
        except RuntimeError:
            raise UsageError("the client is closed: call inside the `with` block of flovyn.blocking.connect") from None
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def entries(self, entries: AsyncIterator[T]) -> Entries[T]:
        """The same entries, for threads."""
        return Entries(self, entries)


class Entries(Iterator[T]):
    """What an asynchronous iterator gives, one call for each."""

    __slots__ = ("_entries", "_portal")

    def __init__(self, portal: Portal, entries: AsyncIterator[T]) -> None:
        self._portal = portal
        self._entries = entries

    def __next__(self) -> T:
        async def following() -> Any:
            return await anext(self._entries, _END)

        entry = self._portal.call(following)
        if entry is _END:
            raise StopIteration
        return entry  # type: ignore[no-any-return]
