"""That a task is to end, and why."""

from __future__ import annotations

__all__ = ["Cancellation"]


class Cancellation:
    """What the worker writes and the task's context reads. The first reason stands."""

    __slots__ = ("_reason",)

    def __init__(self) -> None:
        self._reason: str | None = None

    @property
    def reason(self) -> str | None:
        """Why the task is to end; None as long as it is not to."""
        return self._reason

    def request(self, reason: str) -> None:
        """Ask for the end of the task."""
        if self._reason is None:
            self._reason = reason
