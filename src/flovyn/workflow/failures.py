"""How the end of a task, a child workflow or a promise is told to the code that waits for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from flovyn.errors import (
    ChildWorkflowCancelled,
    ChildWorkflowFailed,
    ExecutionError,
    PromiseRejected,
    PromiseTimeout,
    TaskCancelled,
    TaskFailed,
    TaskTimeout,
)
from flovyn.serde.envelope import parse_error

if TYPE_CHECKING:
    from flovyn.replay import Event
    from flovyn.replay.children import Child

__all__ = ["child_error", "failed_task", "promise_error", "task_error"]

# What a server or another SDK writes that has no envelope to tell more with (spec of the platform, tasks).
_CANCELLED: Final = frozenset({"Task cancelled", "Cancelled"})
_TIMED_OUT: Final = frozenset({"Task timed out", "Task execution timed out", "Task exceeded deadline"})
_LIMITS: Final = frozenset({"start_to_close", "heartbeat_timeout"})  # what a worker of ours gives as a reason
_CHILD_CANCELLED: Final = frozenset({"Child workflow cancelled", "Workflow cancelled", "Cancelled"})


def task_error(event: Event, kind: str) -> ExecutionError:
    """The exception for a task that did not end with a value."""
    data = event.data
    if event.type == "TASK_CANCELLED":
        reason = data.reason if isinstance(data.reason, str) and data.reason else "Task cancelled"
        return TaskCancelled(reason, task_id=data.task, kind=kind)
    return failed_task(data.error if isinstance(data.error, str) else "", task_id=data.task, kind=kind)


def failed_task(error: str, *, task_id: str, kind: str, attempts: int | None = None) -> ExecutionError:
    """The exception for a task that ended with an error.

    Args:
        error: The text, with whatever stands in it for SDKs; nothing if there is none.
        task_id: The task.
        kind: Its kind.
        attempts: How many attempts there were, as far as the server knows.
    """
    info = parse_error(error or "Task failed")
    # A text that tells the type of an exception is a body's own, whatever its message happens to be.
    if info.type is None and info.message in _CANCELLED:
        return TaskCancelled(info.reason or info.message, task_id=task_id, kind=kind)
    if info.type == "TimeoutError" and info.reason in _LIMITS:
        return TaskTimeout(info.message, task_id=task_id, kind=kind, limit=info.reason)
    if info.type in {None, "TimeoutError"} and info.message in _TIMED_OUT:
        return TaskTimeout(info.message, task_id=task_id, kind=kind)
    failed = TaskFailed(
        str(info),
        task_id=task_id,
        kind=kind,
        retryable=info.retryable,
        error_type=info.type,
        attempts=attempts if info.attempts is None else info.attempts,
    )
    failed.__cause__ = info.as_exception()
    return failed


def child_error(event: Event, child: Child, kind: str) -> ExecutionError:
    """The exception for a child workflow that did not end with a value."""
    data = event.data
    name, identity = child.name, child.id or data.child
    if isinstance(data.reason, str) or event.type == "CHILD_WORKFLOW_CANCELLED":
        # A server that knows why a child was cancelled tells it beside the error that every SDK understands.
        reason = data.reason if isinstance(data.reason, str) and data.reason else "Child workflow cancelled"
        return ChildWorkflowCancelled(reason, workflow_id=identity, name=name, kind=kind)
    info = parse_error(data.error if isinstance(data.error, str) and data.error else "Child workflow failed")
    if info.type is None and info.message in _CHILD_CANCELLED:
        return ChildWorkflowCancelled(info.reason or info.message, workflow_id=identity, name=name, kind=kind)
    failed = ChildWorkflowFailed(str(info), workflow_id=identity, name=name, kind=kind, error_type=info.type)
    failed.__cause__ = info.as_exception()
    return failed


def promise_error(event: Event, name: str) -> ExecutionError:
    """The exception for a promise that was not resolved."""
    if event.type == "PROMISE_TIMEOUT":
        return PromiseTimeout(f"nobody has resolved promise {name!r} in time", name=name)
    error = event.data.error
    info = parse_error(error if isinstance(error, str) and error else "Promise rejected")
    rejected = PromiseRejected(str(info), name=name, error_type=info.type)
    rejected.__cause__ = info.as_exception()
    return rejected
