"""Tasks that wait for a condition, not for somebody who wakes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from flovyn.nursery._task import TaskState

__all__ = ["Conditions"]


class Conditions:
    """Who waits for what, in the order in which they began to wait."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: dict[TaskState, Callable[[], bool]] = {}

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def add(self, task: TaskState, predicate: Callable[[], bool]) -> None:
        """A task begins to wait."""
        self._waiting[task] = predicate

    def remove(self, task: TaskState) -> None:
        """A task waits no more."""
        del self._waiting[task]

    def clear(self) -> None:
        """Nobody waits any more."""
        self._waiting.clear()

    def wake_one(self) -> None:
        """Wake the first task whose condition holds, or cannot be told because the predicate raises.

        Only that one: what it does next may make the condition of another false again, and that one must not go on as
        if it still held.
        """
        for task, predicate in list(self._waiting.items()):
            if not task.parked or task not in self._waiting:
                continue  # an earlier predicate had side effects, against the rules
            holds, error = _examine(task, predicate)
            if (holds or error is not None) and task in self._waiting:
                del self._waiting[task]
                task.kernel.wake(task, error=error)
                return


def _examine(task: TaskState, predicate: Callable[[], bool]) -> tuple[bool, BaseException | None]:
    """Ask as the task itself would: with its context variables, and as the current task."""
    kernel = task.kernel
    kernel.current = task
    try:
        return bool(task.context.run(predicate)), None
    except BaseException as error:  # noqa: BLE001  # it is the task's, whatever it is
        return False, error
    finally:
        kernel.current = None
