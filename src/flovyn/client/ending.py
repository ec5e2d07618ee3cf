"""How a workflow ended, read from the event that says so. Pure: no I/O, no clock."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from flovyn.errors import MalformedMessage, WorkflowCancelled, WorkflowFailed
from flovyn.replay.events import ENDINGS
from flovyn.serde.envelope import parse_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from flovyn.wire.messages.flovyn import v1 as pb

__all__ = ["conclude", "find_ending"]

R = TypeVar("R")


class _Ending(msgspec.Struct, frozen=True, rename="camel"):
    output: msgspec.Raw = msgspec.Raw(b"null")
    error: str | None = None
    failure_type: str | None = None
    reason: str | None = None


_decoder: Final = msgspec.json.Decoder(_Ending)


def find_ending(events: Iterable[pb.WorkflowEvent]) -> pb.WorkflowEvent | None:
    """The first event that ends the workflow: should a server ever write two, the first one counts."""
    return next((event for event in events if event.event_type in ENDINGS), None)


def conclude(event: pb.WorkflowEvent, *, workflow_id: str, kind: str, decode: Callable[[bytes], R]) -> R:
    """Turn the end of a workflow into its value, or into the error that it is.

    Raises:
        WorkflowFailed: It ended with an error.
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
    failed = WorkflowFailed(
        str(told),
        workflow_id=workflow_id,
        kind=kind,
        error_type=told.type,
        failure_type=ending.failure_type or None,
    )
    failed.__cause__ = told.as_exception()
    return failed
