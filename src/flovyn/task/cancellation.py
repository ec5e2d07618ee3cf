"""That a task is to end, and why."""

from __future__ import annotations

from typing import Literal, TypeAlias

__all__ = ["CancelCause", "Cancellation"]

CancelCause: TypeAlias = Literal["cancelled", "timeout", "lost", "stopping"]
"""What ends a task early.

* `cancelled`: by its workflow; or the server refuses it, as it was cancelled or has ended there, or was given away.
* `timeout`: it was over a limit of its own.
* `lost`: the server has not been heard for a lease, and gives the task to others.
* `stopping`: its worker ends.
"""


class Cancellation:
    """What the worker writes and the task's context reads, perhaps in another thread. The first reason stands."""

    __slots__ = ("_cause", "_reason")

    def __init__(self) -> None:
        self._cause: CancelCause | None = None
        self._reason: str | None = None

    @property
    def reason(self) -> str | None:
        """Why the task is to end; None as long as it is not to."""
        return self._reason

    @property
    def cause(self) -> CancelCause | None:
        """What sort of reason that is."""
        return self._cause

    def request(self, reason: str, *, cause: CancelCause = "cancelled") -> None:
        """Ask for the end of the task."""
        if self._reason is None:
            # The reason is what a thread asks for first, so it comes last.
            self._cause = cause
            self._reason = reason
