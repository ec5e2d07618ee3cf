"""What a workflow asks of the server: the commands of one submission, in order."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "CancelTimer",
    "CancelWorkflow",
    "Command",
    "CompleteWorkflow",
    "FailWorkflow",
    "RecordOperation",
    "ScheduleTask",
    "StartTimer",
    "SuspendWorkflow",
]


@dataclass(frozen=True, slots=True)
class RecordOperation:
    """Write the result of a local operation (JSON) into history."""

    name: str
    result: bytes


@dataclass(frozen=True, slots=True)
class ScheduleTask:
    """Create a task; `input` is JSON, `timeout_ms` counts from now on the server."""

    task_id: str
    kind: str
    input: bytes
    queue: str | None = None
    timeout_ms: int | None = None


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
    | ScheduleTask
    | StartTimer
    | CancelTimer
    | SuspendWorkflow
    | CompleteWorkflow
    | FailWorkflow
    | CancelWorkflow
)
