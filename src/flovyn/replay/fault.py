"""What is submitted for a run that cannot go on: its code and its history disagree, or the SDK itself failed on it.

Nothing of the program is in such a submission, and the next one does not follow it (its marker says `hold`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from flovyn.errors import MalformedMessage
from flovyn.replay.commands import RecordOperation, StartTimer, SuspendWorkflow
from flovyn.replay.events import read_event
from flovyn.replay.marker import Marker
from flovyn.replay.names import ACTIVATION, HOLD
from flovyn.replay.submission import Status, Submission, failure
from flovyn.serde.envelope import ErrorInfo

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["fail", "hold", "holds_before"]

_FIRST_MS: Final = 1_000
_LONGEST_MS: Final = 300_000


def hold(error: Exception, *, at_ms: int, salt: str, holds: int, private: bool = False) -> Submission:
    """Suspend until a reserved timer fires, so that a fixed deployment picks the run up.

    Args:
        error: Why.
        at_ms: The clock of the activation, epoch milliseconds.
        salt: The activation's id.
        holds: How many times in a row it was held before; each doubles the wait, from 1 s up to 5 minutes.
        private: The reason, which everybody can read, tells only the type of the error.
    """
    # Not the error itself: its text may be of any length, and what cannot be written as UTF-8.
    reason = type(error).__qualname__ if private else ErrorInfo.from_exception(error).message
    wait_ms = min(_FIRST_MS << min(holds, 16), _LONGEST_MS)
    return Submission(
        (_marker(at_ms, salt), StartTimer(f"{HOLD}/{salt}", wait_ms), SuspendWorkflow(f"Held: {reason}")),
        Status.SUSPENDED,
    )


def holds_before(recorded: Iterable[tuple[str, bytes]]) -> int:
    """How many times in a row a run has been held until now.

    Args:
        recorded: Type and data of the events of its history, the newest first. Only markers are looked at: the rest may
            be just what cannot be read.
    """
    holds = 0
    for kind, data in recorded:
        if kind != "OPERATION_COMPLETED":
            continue
        try:
            event = read_event(0, kind, data).data
            if event.operation != ACTIVATION:
                continue
            if not Marker.decode(event.result).hold:
                break
        except MalformedMessage:
            continue
        holds += 1
    return holds


def fail(error: Exception, *, at_ms: int, salt: str, failure_type: str = "DETERMINISM_VIOLATION") -> Submission:
    """End the workflow with the error."""
    return Submission(
        (_marker(at_ms, salt), failure(error, retryable=False, failure_type=failure_type)),
        Status.FAILED,
    )


def _marker(at_ms: int, salt: str) -> RecordOperation:
    return RecordOperation(ACTIVATION, Marker(id=salt, after=0, seen=0, at=at_ms, hold=True).encode())
