"""A task as AnyIO describes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from anyio import TaskInfo

if TYPE_CHECKING:
    from flovyn.nursery._task import TaskState

__all__ = ["KernelTaskInfo"]


@final
class KernelTaskInfo(TaskInfo):
    """The ids are the tasks' numbers, the same on every replay."""

    __slots__ = ("_task",)

    def __init__(self, task: TaskState) -> None:
        super().__init__(task.id, None if task.parent is None else task.parent.id, task.name, task.coro)
        self._task = task

    def has_pending_cancellation(self) -> bool:
        """Whether the task's next checkpoint raises."""
        return self._task.scope.effectively_cancelled
