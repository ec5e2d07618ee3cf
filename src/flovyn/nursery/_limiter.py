"""Capacity limiters: tokens that are lent to somebody."""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import TYPE_CHECKING, Self, final

import anyio
from anyio import CapacityLimiterStatistics, WouldBlock

from flovyn.nursery._current import current_kernel, current_task

if TYPE_CHECKING:
    from types import TracebackType

    from flovyn.nursery._task import TaskState
    from flovyn.nursery.kernel import Kernel

__all__ = ["CapacityLimiter"]


@final
class CapacityLimiter(anyio.CapacityLimiter):
    """A number of tokens; each borrower has at most one, and waits in line for it."""

    __slots__ = ("_borrowers", "_line", "_total")

    def __new__(cls, total_tokens: float) -> Self:  # noqa: ARG004  # AnyIO's own asks the current backend
        return object.__new__(cls)

    def __init__(self, total_tokens: float) -> None:
        self._total: float = 0
        self._borrowers: dict[object, None] = {}
        self._line: OrderedDict[object, tuple[Kernel, TaskState]] = OrderedDict()
        self.total_tokens = total_tokens

    async def __aenter__(self) -> None:
        await self.acquire()

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        self.release()

    @property
    def total_tokens(self) -> float:
        """The tokens that there are; with more of them, tasks that wait go on."""
        return self._total

    @total_tokens.setter
    def total_tokens(self, value: float) -> None:
        if not isinstance(value, int) and not math.isinf(value):
            raise TypeError("total_tokens must be an int or math.inf")
        if value < 0:
            raise ValueError("total_tokens must be >= 0")
        self._total = value
        self._lend()

    @property
    def borrowed_tokens(self) -> int:
        """The tokens that are lent."""
        return len(self._borrowers)

    @property
    def available_tokens(self) -> float:
        """The tokens that are left."""
        return self._total - len(self._borrowers)

    def acquire_nowait(self) -> None:
        """Borrow a token for the current task.

        Raises:
            WouldBlock: There is none, or somebody waits for one.
            RuntimeError: The task has one.
        """
        self.acquire_on_behalf_of_nowait(current_task())

    def acquire_on_behalf_of_nowait(self, borrower: object) -> None:
        """Borrow a token for `borrower`.

        Raises:
            WouldBlock: There is none, or somebody waits for one.
            RuntimeError: The borrower has one.
        """
        if borrower in self._borrowers:
            raise RuntimeError("this borrower is already holding one of this CapacityLimiter's tokens")
        if self._line or len(self._borrowers) >= self._total:
            raise WouldBlock
        self._borrowers[borrower] = None

    async def acquire(self) -> None:
        """Borrow a token for the current task, waiting for it if need be."""
        await self.acquire_on_behalf_of(current_task())

    async def acquire_on_behalf_of(self, borrower: object) -> None:
        """Borrow a token for `borrower`, waiting for it if need be."""
        kernel, task = current_kernel(), current_task()
        await kernel.checkpoint_if_cancelled()
        try:
            self.acquire_on_behalf_of_nowait(borrower)
        except WouldBlock:
            if borrower in self._line:
                raise RuntimeError("this borrower is already waiting for a token of this CapacityLimiter") from None

            def leave() -> bool:
                del self._line[borrower]
                return True

            self._line[borrower] = (kernel, task)
            await kernel.wait_woken(leave)
        else:
            await kernel.cancel_shielded_checkpoint()

    def release(self) -> None:
        """Give the current task's token back.

        Raises:
            RuntimeError: It has none.
        """
        self.release_on_behalf_of(current_task())

    def release_on_behalf_of(self, borrower: object) -> None:
        """Give the borrower's token back.

        Raises:
            RuntimeError: It has none.
        """
        if borrower not in self._borrowers:
            raise RuntimeError("this borrower isn't holding any of this CapacityLimiter's tokens")
        del self._borrowers[borrower]
        self._lend()

    def _lend(self) -> None:
        while self._line and len(self._borrowers) < self._total:
            next(iter(self._line.values()))[0].keep_out()
            borrower, (kernel, task) = self._line.popitem(last=False)
            self._borrowers[borrower] = None
            kernel.wake(task)

    def statistics(self) -> CapacityLimiterStatistics:
        """Who has borrowed, in that order, and how many wait."""
        return CapacityLimiterStatistics(
            self.borrowed_tokens, self.total_tokens, tuple(self._borrowers), len(self._line)
        )
