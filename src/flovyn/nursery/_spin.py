"""Programs that never come to rest, and whose fault it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flovyn.errors import RunawayWorkflow

if TYPE_CHECKING:
    from collections.abc import Collection

    from flovyn.nursery._task import TaskState

__all__ = ["Suspects", "foreign_spin", "sampled_from"]

_SAMPLE = 1000


def sampled_from(step_limit: int) -> int:
    """The number of steps from which on they are counted by task; before, it would cost too much."""
    return step_limit - min(_SAMPLE, step_limit // 2)


class Suspects:
    """The tasks that made the last steps before the limit, and how many each of them made."""

    __slots__ = ("_made",)

    def __init__(self) -> None:
        self._made: dict[TaskState, int] = {}

    def note(self, task: TaskState) -> None:
        """A task is about to make a step."""
        self._made[task] = self._made.get(task, 0) + 1

    def error(self, steps: int, running: Collection[TaskState]) -> RunawayWorkflow:
        """The limit is reached: the culprit is who made most of the last steps, of those that have not ended.

        Args:
            steps: How many steps were made in all.
            running: The tasks that have not ended, in the order in which they were started.
        """
        made = {task: count for task, count in self._made.items() if task in running}
        if made:
            culprit = max(made, key=lambda task: made[task])
            whose = f"task {culprit.name!r} made {made[culprit]} of the last ones, more than any other"
        else:
            *_, culprit = running
            whose = f"the last ones were made by tasks that have ended; task {culprit.name!r} is the newest"
        return RunawayWorkflow(
            f"the workflow made {steps} steps without coming to rest; {whose}; it is at\n{_stack(culprit)}"
        )


def foreign_spin(task: TaskState, times: int) -> RunawayWorkflow:
    """A single step does not end: the task awaits foreign things, and catches the error each time."""
    return RunawayWorkflow(
        f"task {task.name!r} awaited something foreign {times} times in one step, and went on each time; "
        f"it is at\n{_stack(task)}"
    )


def _stack(task: TaskState) -> str:
    return "".join(task.stack().format())
