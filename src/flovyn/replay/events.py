"""What history says: one `Event` for each thing that happened, with the JSON of the platform behind it.

The catalogue is open. Types that are not known here are kept out of the way, never guessed at.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from flovyn.errors import MalformedMessage

__all__ = ["ENDINGS", "EXTERNAL", "STARTED", "SUSPENDED", "Event", "EventData", "read_event"]

STARTED: Final = "WORKFLOW_STARTED"
SUSPENDED: Final = "WORKFLOW_SUSPENDED"

# Each of these ends a workflow; servers differ in which they write.
ENDINGS: Final = frozenset({"WORKFLOW_COMPLETED", "WORKFLOW_EXECUTION_FAILED", "WORKFLOW_FAILED", "WORKFLOW_CANCELLED"})

# What the outside world tells a workflow. Everything else in a history was written by a submission.
EXTERNAL: Final = frozenset(
    {
        "TASK_COMPLETED",
        "TASK_FAILED",
        "TASK_CANCELLED",
        "TIMER_FIRED",
        "SIGNAL_RECEIVED",
        "PROMISE_RESOLVED",
        "PROMISE_REJECTED",
        "PROMISE_TIMEOUT",
        "CHILD_WORKFLOW_COMPLETED",
        "CHILD_WORKFLOW_FAILED",
        "CHILD_WORKFLOW_CANCELLED",
        "CANCELLATION_REQUESTED",
    }
)

# The other events whose data a replay looks into.
_COMMANDED: Final = frozenset(
    {
        "TASK_SCHEDULED",
        "TIMER_STARTED",
        "TIMER_CANCELLED",
        "OPERATION_COMPLETED",
        "PROMISE_CREATED",
        "CHILD_WORKFLOW_INITIATED",
        "STATE_SET",
        "STATE_CLEARED",
    }
)

_NULL: Final = msgspec.Raw(b"null")


class EventData(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """The keys of `event_data` that a workflow's history is read for; payloads stay undecoded until a type is known."""

    kind: str | None = None
    task_execution_id: str | None = None
    task_id: str | None = None
    timer_id: str | None = None
    operation_name: str | None = None
    name: str | None = None
    duration_ms: int | None = None
    promise_id: str | None = None
    promise_name: str | None = None
    idempotency_key: str | None = None
    child_execution_name: str | None = None
    child_execution_id: str | None = None
    child_workflow_execution_id: str | None = None
    child_id_lower: str | None = msgspec.field(default=None, name="childworkflowExecutionId")
    child_workflow_kind: str | None = None
    workflow_kind: str | None = None
    parent_workflow_execution_id: str | None = None
    key: str | None = None
    signal_name: str | None = None
    signal_value: msgspec.Raw = _NULL
    value: msgspec.Raw = _NULL
    result: msgspec.Raw = _NULL
    output: msgspec.Raw = _NULL
    error: Any = None
    reason: Any = None

    @property
    def task(self) -> str:
        """The task's id; older servers write the key `taskId`."""
        return self.task_execution_id or self.task_id or ""

    @property
    def operation(self) -> str:
        """The operation's name; older servers write the key `name`."""
        return self.operation_name if self.operation_name is not None else self.name or ""

    @property
    def child(self) -> str:
        """The child's id; servers differ in the spelling, and some tell none."""
        return self.child_execution_id or self.child_workflow_execution_id or self.child_id_lower or ""

    @property
    def child_name(self) -> str:
        """The child's name."""
        return self.child_execution_name or ""

    @property
    def child_kind(self) -> str:
        """The child's kind, if it is told."""
        return self.child_workflow_kind or self.workflow_kind or ""


class Event(msgspec.Struct, frozen=True, gc=False):
    """One entry of a history."""

    sequence: int
    type: str
    data: EventData


# Our server tells a child of its parent; the input that stands beside is none of a replay's business.
_PARENT: Final = b'"parentWorkflowExecutionId"'

_decoder = msgspec.json.Decoder(EventData)
_NOTHING: Final = EventData()


def read_event(sequence: int, kind: str, data: bytes) -> Event:
    """Make an event of what the wire carries.

    Raises:
        MalformedMessage: The data is not what the platform writes for such an event.
    """
    if not data or (kind not in EXTERNAL and kind not in _COMMANDED and (kind != STARTED or _PARENT not in data)):
        return Event(sequence, kind, _NOTHING)
    try:
        return Event(sequence, kind, _decoder.decode(data))
    except msgspec.DecodeError as error:
        raise MalformedMessage(f"event {sequence} ({kind}) of the history cannot be read: {error}") from error
