"""What a workflow asks of the server: the commands of one submission, in order."""

from __future__ import annotations

from dataclasses import dataclass

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


@dataclass(frozen=True, slots=True)
class RecordOperation:
    """Write the result of a local operation (JSON) into history."""

    name: str
    result: bytes


@dataclass(frozen=True, slots=True)
class SetState:
    """Put JSON under a key of the workflow's state."""

    key: str
    value: bytes


@dataclass(frozen=True, slots=True)
class ClearState:
    """Drop a key of the workflow's state."""

    key: str


@dataclass(frozen=True, slots=True)
class ScheduleTask:
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


@dataclass(frozen=True, slots=True)
class ScheduleChild:
    """Start a child workflow; `input` is JSON, without a queue it goes to its parent's."""

    name: str
    kind: str
    id: str
    input: bytes
    queue: str | None = None
    priority_seconds: int | None = None


@dataclass(frozen=True, slots=True)
class RequestCancelChild:
    """Ask a child workflow to stop. It leaves no event in the parent's history."""

    name: str
    id: str
    reason: str


@dataclass(frozen=True, slots=True)
class CreatePromise:
    """Create a promise; `timeout_ms` counts from now on the server."""

    name: str
    timeout_ms: int | None
    idempotency_key: str
    idempotency_key_ttl_seconds: int | None = None


@dataclass(frozen=True, slots=True)
class StartTimer:
    """Arm a timer."""

    timer_id: str
    duration_ms: int


@dataclass(frozen=True, slots=True)
class CancelTimer:
    """Disarm a timer; one that has fired is ignored by the server."""

    timer_id: str


@dataclass(frozen=True, slots=True)
class SuspendWorkflow:
    """Wait for the next event."""

    reason: str


@dataclass(frozen=True, slots=True)
class CompleteWorkflow:
    """End with a value (JSON)."""

    output: bytes


@dataclass(frozen=True, slots=True)
class FailWorkflow:
    """End with an error text (see `flovyn.serde.envelope`)."""

    error: str
    stack_trace: str = ""
    failure_type: str = "ERROR"


@dataclass(frozen=True, slots=True)
class CancelWorkflow:
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
