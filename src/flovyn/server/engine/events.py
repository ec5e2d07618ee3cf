"""The events that the server writes: their type and the exact keys of their data.

Every spelling here is read by workers that already exist, so nothing outside this list may enter a history.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "TERMINAL_TYPES",
    "Event",
    "cancellation_requested",
    "child_completed",
    "child_failed",
    "child_initiated",
    "operation_completed",
    "promise_created",
    "promise_rejected",
    "promise_resolved",
    "promise_timeout",
    "signal_received",
    "state_cleared",
    "state_set",
    "task_cancelled",
    "task_completed",
    "task_failed",
    "task_scheduled",
    "timer_cancelled",
    "timer_fired",
    "timer_started",
    "workflow_cancelled",
    "workflow_completed",
    "workflow_failed",
    "workflow_started",
    "workflow_suspended",
]

TERMINAL_TYPES: Final = frozenset({"WORKFLOW_COMPLETED", "WORKFLOW_EXECUTION_FAILED", "WORKFLOW_CANCELLED"})
"""A history ends with the first of these."""

_encode: Final = msgspec.json.Encoder().encode


class Event(NamedTuple):
    """An event that has no number yet.

    Attributes:
        type: One of the platform's event types.
        data: A JSON object.
    """

    type: str
    data: bytes


def workflow_started(
    *, kind: str, payload: msgspec.Raw, metadata: Mapping[str, str], parent_id: str | None = None
) -> Event:
    """The first event of every history. A child learns from it whose it is."""
    data: dict[str, object] = {"input": payload, "kind": kind, "metadata": metadata}
    if parent_id is not None:
        data["parentWorkflowExecutionId"] = parent_id
    return Event("WORKFLOW_STARTED", _encode(data))


def workflow_completed(output: msgspec.Raw) -> Event:
    """A workflow returned."""
    return Event("WORKFLOW_COMPLETED", _encode({"output": output}))


def workflow_failed(*, error: str, stack_trace: str, failure_type: str) -> Event:
    """A workflow raised."""
    data = {"error": error, "stackTrace": stack_trace, "failureType": failure_type}
    return Event("WORKFLOW_EXECUTION_FAILED", _encode(data))


def workflow_cancelled(reason: str) -> Event:
    """A workflow ended by cancellation. Workers do not know this type: it may only ever be the last event."""
    return Event("WORKFLOW_CANCELLED", _encode({"reason": reason}))


def workflow_suspended(reason: str) -> Event:
    """A workflow waits."""
    return Event("WORKFLOW_SUSPENDED", _encode({"reason": reason}))


def cancellation_requested(*, reason: str, requested_by: str) -> Event:
    """Somebody wants a workflow to stop."""
    return Event("CANCELLATION_REQUESTED", _encode({"reason": reason, "requestedBy": requested_by}))


def child_initiated(name: str, *, child_id: str, kind: str, payload: msgspec.Raw) -> Event:
    """A child was created."""
    return Event(
        "CHILD_WORKFLOW_INITIATED", _encode({**_child(name, child_id), "childWorkflowKind": kind, "input": payload})
    )


def child_completed(name: str, *, child_id: str, output: msgspec.Raw) -> Event:
    """A child returned."""
    return Event("CHILD_WORKFLOW_COMPLETED", _encode({**_child(name, child_id), "output": output}))


def child_failed(name: str, *, child_id: str, error: str, reason: str | None) -> Event:
    """A child raised, or was cancelled for that reason: no official worker knows an event of its own for the latter."""
    data: dict[str, object] = {**_child(name, child_id), "error": error}
    if reason is not None:
        data["reason"] = reason
    return Event("CHILD_WORKFLOW_FAILED", _encode(data))


def _child(name: str, child_id: str) -> dict[str, object]:
    # Readers differ in the key of the id, so it stands there in every spelling that one of them looks for.
    return {
        "childExecutionName": name,
        "childExecutionId": child_id,
        "childWorkflowExecutionId": child_id,
        "childworkflowExecutionId": child_id,
    }


def operation_completed(name: str, result: msgspec.Raw) -> Event:
    """A local operation was recorded. Readers differ in the key of its name, so it stands there twice."""
    return Event("OPERATION_COMPLETED", _encode({"operationName": name, "name": name, "result": result}))


def state_set(key: str, value: msgspec.Raw) -> Event:
    """A state key was written."""
    return Event("STATE_SET", _encode({"key": key, "value": value}))


def state_cleared(key: str) -> Event:
    """A state key was dropped."""
    return Event("STATE_CLEARED", _encode({"key": key}))


def signal_received(name: str, *, value: msgspec.Raw) -> Event:
    """Somebody sent a value."""
    return Event("SIGNAL_RECEIVED", _encode({"signalName": name, "signalValue": value}))


def promise_created(promise_id: str, *, name: str, timeout_ms: int | None, key: str | None) -> Event:
    """A promise was created. Readers compare its name, and find its end by its id."""
    data: dict[str, object] = {"promiseId": promise_id, "promiseName": name}
    if timeout_ms is not None:
        data["timeoutMs"] = timeout_ms
    if key is not None:
        data["idempotencyKey"] = key
    return Event("PROMISE_CREATED", _encode(data))


def promise_resolved(promise_id: str, *, name: str, value: msgspec.Raw) -> Event:
    """A promise got its value."""
    return Event("PROMISE_RESOLVED", _encode({"promiseId": promise_id, "promiseName": name, "value": value}))


def promise_rejected(promise_id: str, *, name: str, error: str) -> Event:
    """A promise got an error instead."""
    return Event("PROMISE_REJECTED", _encode({"promiseId": promise_id, "promiseName": name, "error": error}))


def promise_timeout(promise_id: str, *, name: str) -> Event:
    """Nobody settled a promise in time."""
    return Event("PROMISE_TIMEOUT", _encode({"promiseId": promise_id, "promiseName": name}))


def task_scheduled(
    task_id: str, *, kind: str, payload: msgspec.Raw, queue: str, max_retries: int | None, timeout_ms: int | None
) -> Event:
    """A task was created."""
    data: dict[str, object] = {"kind": kind, "taskExecutionId": task_id, "input": payload, "queue": queue}
    if max_retries is not None:
        data["maxRetries"] = max_retries
    if timeout_ms is not None:
        data["timeoutMs"] = timeout_ms
    return Event("TASK_SCHEDULED", _encode(data))


def task_completed(task_id: str, *, kind: str, output: msgspec.Raw) -> Event:
    """A task returned. With a key named "result" beside it, the native worker would ignore the output."""
    return Event("TASK_COMPLETED", _encode({"taskExecutionId": task_id, "output": output, "kind": kind}))


def task_failed(task_id: str, *, kind: str, error: str, retryable: bool) -> Event:
    """A task failed for the last time."""
    data = {"taskExecutionId": task_id, "error": error, "kind": kind, "retryable": retryable}
    return Event("TASK_FAILED", _encode(data))


def task_cancelled(task_id: str, *, kind: str, reason: str) -> Event:
    """A task was cancelled. No official worker resolves this one: a TASK_FAILED always follows it."""
    return Event("TASK_CANCELLED", _encode({"taskExecutionId": task_id, "kind": kind, "reason": reason}))


def timer_started(timer_id: str, *, duration_ms: int, fire_at_ms: int) -> Event:
    """A timer was armed."""
    return Event("TIMER_STARTED", _encode({"timerId": timer_id, "durationMs": duration_ms, "fireAtMs": fire_at_ms}))


def timer_fired(timer_id: str) -> Event:
    """The time of a timer came."""
    return Event("TIMER_FIRED", _encode({"timerId": timer_id}))


def timer_cancelled(timer_id: str) -> Event:
    """A timer was disarmed."""
    return Event("TIMER_CANCELLED", _encode({"timerId": timer_id}))
