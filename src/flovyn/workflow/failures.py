"""How the end of a task is told to the code that waits for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from flovyn.errors import ExecutionError, TaskCancelled, TaskFailed, TaskTimeout
from flovyn.serde.envelope import parse_error

if TYPE_CHECKING:
    from flovyn.replay import Event

__all__ = ["task_error"]

# What a server or another SDK writes that has no envelope to tell more with (spec of the platform, tasks).
_CANCELLED: Final = frozenset({"Task cancelled", "Cancelled"})
_TIMED_OUT: Final = frozenset({"Task timed out", "Task execution timed out", "Task exceeded deadline"})


def task_error(event: Event, kind: str) -> ExecutionError:
    """The exception for a task that did not end with a value."""
    data = event.data
    if event.type == "TASK_CANCELLED":
        reason = data.reason if isinstance(data.reason, str) and data.reason else "Task cancelled"
        return TaskCancelled(reason, task_id=data.task, kind=kind)
    info = parse_error(data.error if isinstance(data.error, str) and data.error else "Task failed")
    # A text that tells the type of an exception is a body's own, whatever its message happens to be.
    if info.type is None and info.message in _CANCELLED:
        return TaskCancelled(info.reason or info.message, task_id=data.task, kind=kind)
    if info.type in {None, "TimeoutError"} and info.message in _TIMED_OUT:
        return TaskTimeout(info.message, task_id=data.task, kind=kind)
    return TaskFailed(
        str(info),
        task_id=data.task,
        kind=kind,
        retryable=info.retryable,
        error_type=info.type,
        details=info.as_data(),
    )
