"""How a workflow ended, read from the event that says so. Pure: no I/O, no clock."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from flovyn.errors import MalformedMessage, WorkflowCancelled, WorkflowFailed, WorkflowTimedOut
from flovyn.replay.events import ENDINGS, EXTERNAL
from flovyn.serde.envelope import parse_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from flovyn.wire.messages.flovyn import v1 as pb

__all__ = ["EndFinder", "conclude"]

R = TypeVar("R")


class _Ending(msgspec.Struct, frozen=True, rename="camel"):
    output: msgspec.Raw = msgspec.Raw(b"null")
    error: str | None = None
    failure_type: str | None = None
    reason: str | None = None


_decoder: Final = msgspec.json.Decoder(_Ending)


# What a server may write that enforces the time limits of workflows; none is known to tell more.
_TIMED_OUT: Final = frozenset({"TIMEOUT", "TIMED_OUT"})
_TIMED_OUT_TEXTS: Final = frozenset({"Workflow timed out", "Workflow execution timed out"})

_FAILED: Final = frozenset({"WORKFLOW_EXECUTION_FAILED", "WORKFLOW_FAILED"})


class EndFinder:
    """Looks for the event that ends a workflow, in a history that is read piece by piece.

    The first one counts, should a server ever write two. A workflow that has failed may be retried, though: once a
    worker has gone on with it, the failure counts no more.

    Args:
        after: The number of a failure that was retried; nothing up to there is an end.

    Example:
        >>> from flovyn.wire.messages.flovyn import v1 as pb
        >>> finder = EndFinder()
        >>> finder.look([pb.WorkflowEvent(sequence_number=1, event_type="WORKFLOW_STARTED")]) is None
        True
        >>> finder.look([pb.WorkflowEvent(sequence_number=2, event_type="WORKFLOW_COMPLETED")]).sequence_number
        2
    """

    __slots__ = ("_after", "_ending")

    def __init__(self, after: int = 0) -> None:
        self._after = after
        self._ending: pb.WorkflowEvent | None = None

    def look(self, events: Iterable[pb.WorkflowEvent]) -> pb.WorkflowEvent | None:
        """Read on; returns the end of the workflow, as far as is known by now."""
        for event in events:
            if event.sequence_number > self._after:
                self._see(event)
        return self._ending

    def _see(self, event: pb.WorkflowEvent) -> None:
        ending = self._ending
        if event.event_type not in ENDINGS:
            # What comes from outside may come late, and says nothing.
            if ending is not None and ending.event_type in _FAILED and event.event_type not in EXTERNAL:
                self._ending = None
        elif ending is None or (ending.event_type in _FAILED and event.event_type == "WORKFLOW_COMPLETED"):
            self._ending = event


def conclude(event: pb.WorkflowEvent, *, workflow_id: str, kind: str, decode: Callable[[bytes], R]) -> R:
    """Turn the end of a workflow into its value, or into the error that it is.

    Raises:
        WorkflowFailed: It ended with an error; WorkflowTimedOut if that was its time limit.
        WorkflowCancelled: It was cancelled.
        PayloadError: Its value does not fit the type that was asked for.
        MalformedMessage: The event is not what the platform writes.
    """
    try:
        ending = _decoder.decode(event.event_data or b"{}")
    except msgspec.DecodeError as error:
        raise MalformedMessage(
            f"the end of workflow {workflow_id} ({event.event_type}) cannot be read: {error}"
        ) from error
    if event.event_type == "WORKFLOW_COMPLETED":
        return decode(bytes(ending.output))
    # The official bindings say "cancelled" by a failure of that type.
    if event.event_type == "WORKFLOW_CANCELLED" or ending.failure_type == "CANCELLED":
        raise WorkflowCancelled(ending.reason or ending.error or "Workflow cancelled", workflow_id=workflow_id)
    raise _failure(ending, workflow_id, kind)


def _failure(ending: _Ending, workflow_id: str, kind: str) -> WorkflowFailed:
    told = parse_error(ending.error or "Workflow failed")
    timed_out = ending.failure_type in _TIMED_OUT or (told.type is None and told.message in _TIMED_OUT_TEXTS)
    failed = (WorkflowTimedOut if timed_out else WorkflowFailed)(
        str(told),
        workflow_id=workflow_id,
        kind=kind,
        error_type=told.type,
        failure_type=ending.failure_type or None,
    )
    failed.__cause__ = told.as_exception()
    return failed
