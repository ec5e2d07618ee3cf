"""Tasks that wait for a condition, not for somebody who wakes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from flovyn.nursery._task import TaskState

__all__ = ["wake_one"]


def wake_one(waiting: dict[TaskState, Callable[[], bool]]) -> None:
    """Wake the first task whose condition holds, or cannot be told because the predicate raises.

    Only that one: what it does next may make the condition of another false again, and that one must not go on as if it
    still held.

    Args:
        waiting: Who waits for what, in the order in which they began to wait; who is woken is taken out.
    """
    for task, predicate in list(waiting.items()):
        if task not in waiting:
            continue  # an earlier predicate had side effects, against the rules
        holds, error = _examine(task, predicate)
        if (holds or error is not None) and task in waiting:
            del waiting[task]
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
