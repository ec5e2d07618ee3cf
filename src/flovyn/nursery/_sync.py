"""Events, locks and semaphores: whoever waits first is served first."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Self, final

import anyio
from anyio import EventStatistics, LockStatistics, SemaphoreStatistics, WouldBlock

from flovyn.errors import DeterminismError
from flovyn.nursery._current import current_kernel, current_task, stepping
from flovyn.nursery._info import KernelTaskInfo

if TYPE_CHECKING:
    from flovyn.nursery._task import TaskState
    from flovyn.nursery.kernel import Kernel

__all__ = ["Event", "Line", "Lock", "Semaphore"]


class Line:
    """Tasks that stand in line."""

    __slots__ = ("_kernel", "_tasks")

    def __init__(self) -> None:
        self._kernel: Kernel | None = None
        self._tasks: OrderedDict[TaskState, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._tasks)

    async def wait(self) -> None:
        """Stand at the end of the line until called.

        Raises:
            DeterminismError: Tasks of another workflow stand here: what it does is no part of this one's history.
        """
        kernel, task = current_kernel(), current_task()
        self._check(kernel)
        self._kernel = kernel
        await kernel.checkpoint_if_cancelled()

        def leave() -> bool:
            del self._tasks[task]
            return True

        self._tasks[task] = None
        await kernel.wait_woken(leave)

    def call_next(self) -> TaskState:
        """Wake the first in line.

        Raises:
            KeyError: Nobody waits.
            DeterminismError: Tasks of another workflow stand here, or of one while this is the host's code.
        """
        self._check(stepping.kernel)
        task, _ = self._tasks.popitem(last=False)
        task.kernel.wake(task)
        return task

    def _check(self, kernel: Kernel | None) -> None:
        if not self._tasks or self._kernel is None or kernel is self._kernel:
            return
        if kernel is not None:
            raise DeterminismError(
                "another workflow waits for this object: workflows share nothing, use a promise or a signal"
            )
        # The owner of a kernel that is not private may do as it likes between steps.
        self._kernel.keep_out()


@final
class Event(anyio.Event):
    """A flag that tasks wait for; all of them go on, in the order in which they came, when it is set."""

    __slots__ = ("_kernel", "_line", "_set")

    def __new__(cls) -> Self:
        return object.__new__(cls)

    def __init__(self) -> None:
        self._kernel = stepping.kernel
        self._set = False
        self._line = Line()

    def set(self) -> None:
        """Set the flag, for good.

        Raises:
            DeterminismError: It is a workflow's, and this is another's code or the host's.
        """
        if self._kernel is not None:
            self._kernel.keep_out()
        self._set = True
        while self._line:
            self._line.call_next()

    def is_set(self) -> bool:
        """Whether `set` was called."""
        return self._set

    async def wait(self) -> None:
        """Wait until the flag is set."""
        if self._set:
            await current_kernel().checkpoint()
        else:
            await self._line.wait()

    def statistics(self) -> EventStatistics:
        """How many tasks wait."""
        return EventStatistics(tasks_waiting=len(self._line))


@final
class Lock(anyio.Lock):
    """Held by one task at a time, and handed on in the order in which tasks asked."""

    __slots__ = ("_fast", "_line", "_owner")

    def __new__(cls, *, fast_acquire: bool = False) -> Self:  # noqa: ARG004  # AnyIO's own asks the current backend
        return object.__new__(cls)

    def __init__(self, *, fast_acquire: bool = False) -> None:
        self._fast = fast_acquire
        self._owner: TaskState | None = None
        self._line = Line()

    async def acquire(self) -> None:
        """Wait until the current task holds the lock.

        Raises:
            RuntimeError: It holds it already.
        """
        kernel = current_kernel()
        await kernel.checkpoint_if_cancelled()
        try:
            self.acquire_nowait()
        except WouldBlock:
            await self._line.wait()
        else:
            if not self._fast:
                await kernel.cancel_shielded_checkpoint()

    def acquire_nowait(self) -> None:
        """Take the lock.

        Raises:
            WouldBlock: Another task holds it.
            RuntimeError: The current task holds it already.
        """
        task = current_task()
        if self._owner is task:
            raise RuntimeError("Attempted to acquire an already held Lock")
        if self._owner is not None:
            raise WouldBlock
        self._owner = task

    def release(self) -> None:
        """Hand the lock to the task that has waited longest.

        Raises:
            RuntimeError: The current task does not hold it.
        """
        if self._owner is not current_task():
            raise RuntimeError("The current task is not holding this lock")
        self._owner = self._line.call_next() if self._line else None

    def locked(self) -> bool:
        """Whether a task holds the lock."""
        return self._owner is not None

    def statistics(self) -> LockStatistics:
        """Who holds the lock, and how many wait."""
        owner = None if self._owner is None else KernelTaskInfo(self._owner)
        return LockStatistics(self.locked(), owner, len(self._line))


@final
class Semaphore(anyio.Semaphore):
    """A count of permits, handed out in the order in which tasks asked."""

    __slots__ = ("_line", "_max_value", "_value")

    def __new__(
        cls,
        initial_value: int,  # noqa: ARG004  # AnyIO's own asks the current backend
        *,
        max_value: int | None = None,  # noqa: ARG004
        fast_acquire: bool = False,  # noqa: ARG004
    ) -> Self:
        return object.__new__(cls)

    def __init__(self, initial_value: int, *, max_value: int | None = None, fast_acquire: bool = False) -> None:
        super().__init__(initial_value, max_value=max_value, fast_acquire=fast_acquire)
        self._value = initial_value
        self._max_value = max_value
        self._line = Line()

    async def acquire(self) -> None:
        """Wait for a permit."""
        kernel = current_kernel()
        await kernel.checkpoint_if_cancelled()
        try:
            self.acquire_nowait()
        except WouldBlock:
            await self._line.wait()
        else:
            if not self._fast_acquire:
                await kernel.cancel_shielded_checkpoint()

    def acquire_nowait(self) -> None:
        """Take a permit.

        Raises:
            WouldBlock: There is none.
        """
        if self._value == 0:
            raise WouldBlock
        self._value -= 1

    def release(self) -> None:
        """Give a permit back, to the task that has waited longest.

        Raises:
            ValueError: There would be more than `max_value`.
        """
        if self._max_value is not None and self._value == self._max_value:
            raise ValueError("semaphore released too many times")
        if self._line:
            self._line.call_next()
        else:
            self._value += 1

    @property
    def value(self) -> int:
        """The permits that are left."""
        return self._value

    @property
    def max_value(self) -> int | None:
        """The most that there can be."""
        return self._max_value

    def statistics(self) -> SemaphoreStatistics:
        """How many tasks wait."""
        return SemaphoreStatistics(len(self._line))
