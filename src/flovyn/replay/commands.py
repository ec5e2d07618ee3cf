"""What a workflow asks of the server: the commands of one submission, in order.

Structs, as the events are: they are made and compared in half the time of dataclasses, and loaded in a tenth.
"""

from __future__ import annotations

import msgspec

__all__ = [
    "CancelTimer",
    "CancelWorkflow",
    "ClearState",
    "Command",
    "CompleteWorkflow",
    "CreatePromise",
    "FailWorkflow",
    "RecordOperation",
    "RequestCancelChild",
    "ScheduleChild",
    "ScheduleTask",
    "SetState",
    "StartTimer",
    "SuspendWorkflow",
]


class RecordOperation(msgspec.Struct, frozen=True, gc=False):
    """Write the result of a local operation (JSON) into history."""

    name: str
    result: bytes


class SetState(msgspec.Struct, frozen=True, gc=False):
    """Put JSON under a key of the workflow's state."""

    key: str
    value: bytes


class ClearState(msgspec.Struct, frozen=True, gc=False):
    """Drop a key of the workflow's state."""

    key: str


class ScheduleTask(msgspec.Struct, frozen=True, gc=False):
    """Create a task; `input` is JSON, `timeout_ms` counts from now on the server. None leaves it to the server."""

    task_id: str
    kind: str
    input: bytes
    queue: str | None = None
    timeout_ms: int | None = None
    priority_seconds: int | None = None
    idempotency_key: str | None = None
    idempotency_key_ttl_seconds: int | None = None
    max_retries: int | None = None


class ScheduleChild(msgspec.Struct, frozen=True, gc=False):
    """Start a child workflow; `input` is JSON, without a queue it goes to its parent's."""

    name: str
    kind: str
    id: str
    input: bytes
    queue: str | None = None
    priority_seconds: int | None = None


class RequestCancelChild(msgspec.Struct, frozen=True, gc=False):
    """Ask a child workflow to stop. It leaves no event in the parent's history."""

    name: str
    id: str
    reason: str


class CreatePromise(msgspec.Struct, frozen=True, gc=False):
    """Create a promise; `timeout_ms` counts from now on the server."""

    name: str
    timeout_ms: int | None
    idempotency_key: str
    idempotency_key_ttl_seconds: int | None = None


class StartTimer(msgspec.Struct, frozen=True, gc=False):
    """Arm a timer."""

    timer_id: str
    duration_ms: int


class CancelTimer(msgspec.Struct, frozen=True, gc=False):
    """Disarm a timer; one that has fired is ignored by the server."""

    timer_id: str


class SuspendWorkflow(msgspec.Struct, frozen=True, gc=False):
    """Wait for the next event."""

    reason: str


class CompleteWorkflow(msgspec.Struct, frozen=True, gc=False):
    """End with a value (JSON)."""

    output: bytes


class FailWorkflow(msgspec.Struct, frozen=True, gc=False):
    """End with an error text (see `flovyn.serde.envelope`)."""

    error: str
    stack_trace: str = ""
    failure_type: str = "ERROR"


class CancelWorkflow(msgspec.Struct, frozen=True, gc=False):
    """End as cancelled."""

    reason: str


Command = (
    RecordOperation
    | SetState
    | ClearState
    | ScheduleTask
    | ScheduleChild
    | RequestCancelChild
    | CreatePromise
    | StartTimer
    | CancelTimer
    | SuspendWorkflow
    | CompleteWorkflow
    | FailWorkflow
    | CancelWorkflow
)
