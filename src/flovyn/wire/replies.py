"""Any number of messages as one reads them: the block and its iterator, whatever carries them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, TypeVar

from flovyn.errors import UsageError

if TYPE_CHECKING:
    from types import TracebackType

    from flovyn.wire.tally import Tally

__all__ = ["Replies"]

R = TypeVar("R")


class Replies(AbstractAsyncContextManager[AsyncIterator[R]], AsyncIterator[R]):
    """The answer to one call. A class, not a generator: no cancel scope may be held while the user's code runs.

    Args:
        tally: Counts the call, and how it ended.
    """

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._entered = False
        self._complete = False
        self._error: Exception | None = None

    @abstractmethod
    async def _begin(self) -> None:
        """Make the call. If that fails, nothing of it is left."""

    @abstractmethod
    async def _receive(self) -> R | None:
        """The next message; None after the last one."""

    @abstractmethod
    def _close(self) -> None:
        """The call is over. May be said twice."""

    @property
    @abstractmethod
    def _is_open(self) -> bool:
        """Whether the call is under way."""

    async def __aenter__(self) -> AsyncIterator[R]:
        if self._entered:
            raise UsageError("a stream can be entered only once; make another call")
        self._entered = True
        self._tally.__enter__()
        try:
            await self._begin()
        except BaseException as error:
            self._close()
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
        if not self._is_open:
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
