"""A handle on a task that stands alone, for threads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flovyn.blocking.portal import Portal
    from flovyn.client import SubmittedTask as AsyncSubmittedTask
    from flovyn.client import TaskAttempt, TaskDescription, TaskLogLine

__all__ = ["SubmittedTask"]

R = TypeVar("R")


class SubmittedTask(Generic[R]):
    """A task that no workflow has scheduled; what each method does and raises is said at `flovyn.SubmittedTask`."""

    __slots__ = ("_portal", "_submitted")

    def __init__(self, portal: Portal, submitted: AsyncSubmittedTask[R]) -> None:
        self._portal = portal
        self._submitted = submitted

    def __repr__(self) -> str:
        return f"<blocking {self._submitted!r}>"

    @property
    def id(self) -> str:
        """The id of the task, a UUID as text."""
        return self._submitted.id

    @property
    def kind(self) -> str:
        """The kind of the task."""
        return self._submitted.kind

    def result(self) -> R:
        """Wait for the task to end; limit the wait with `flovyn.blocking.fail_after`."""
        return self._portal.call(self._submitted.result)

    def describe(self) -> TaskDescription[R]:
        """Ask where the task stands."""
        return self._portal.call(self._submitted.describe)

    def cancel(self) -> None:
        """End the task, also while it runs."""
        self._portal.call(self._submitted.cancel)

    def attempts(self) -> Iterator[TaskAttempt]:
        """Go through the attempts that have ended, the first one first."""
        return self._portal.entries(self._submitted.attempts())

    def logs(self) -> Iterator[TaskLogLine]:
        """Go through what the task has logged, the oldest line first."""
        return self._portal.entries(self._submitted.logs())
