"""What a task that is being started says `started()` to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from anyio.abc import TaskStatus

if TYPE_CHECKING:
    from flovyn.nursery._group import TaskGroup

__all__ = ["StartStatus"]


class StartStatus(TaskStatus[Any]):
    """Moves the task into the group that it was started for.

    Attributes:
        called: Whether `started` was called.
        value: With what.
        nest: The group in which the task runs until then.
    """

    def __init__(self, target: TaskGroup) -> None:
        self.called = False
        self.value: Any = None
        self.nest: TaskGroup | None = None
        self._target = target

    def started(self, value: Any = None) -> None:
        """The task has started.

        Args:
            value: Returned by `start`.

        Raises:
            RuntimeError: It was called before.
        """
        if self.called:
            raise RuntimeError("called 'started' twice on the same task status")
        self.called, self.value = True, value
        if self.nest is not None:
            self.nest.move_children(self._target)
