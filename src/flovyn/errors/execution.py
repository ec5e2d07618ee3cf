"""How durable work ends badly, and what the other side said of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flovyn.errors.base import FlovynError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "AllFailed",
    "ChildWorkflowCancelled",
    "ChildWorkflowFailed",
    "ExecutionError",
    "NonRetryableError",
    "OperationFailed",
    "PromiseRejected",
    "PromiseTimeout",
    "QueryFailed",
    "RemoteError",
    "TaskCancelled",
    "TaskFailed",
    "TaskTimeout",
    "WorkflowCancelled",
    "WorkflowFailed",
    "WorkflowTimedOut",
]


class RemoteError(FlovynError):
    """An exception that was raised elsewhere, as the other side described it: the cause of what is raised here.

    Its own cause, and the members of a group, are `RemoteError` too. A traceback that names this error shows the remote
    one below it.

    Args:
        message: The text of the exception, without its type.
        type: The name of its type.
        traceback: The remote traceback, its newest frames if it was too long.
        members: The members of an exception group.

    Example:
        >>> str(RemoteError("no such card", type="ValueError"))
        'ValueError: no such card'
    """

    def __init__(
        self,
        message: str,
        *,
        type: str,  # noqa: A002 - what it is called on the wire
        traceback: str | None = None,
        members: Sequence[RemoteError] = (),
    ) -> None:
        super().__init__(message)
        self.type = type
        self.traceback = traceback
        self.members: tuple[RemoteError, ...] = tuple(members)
        if traceback is not None:
            self.add_note(traceback)

    def __str__(self) -> str:
        return f"{self.type}: {self.message}" if self.message else self.type


class ExecutionError(FlovynError):
    """A workflow, a task or another piece of durable work did not end with a value."""


class _Failed(ExecutionError):
    """Code that ran elsewhere raised an exception, which is the cause of this one if the other side told of it.

    Args:
        message: The error text that history has, without the part that is for SDKs.
        error_type: The type name of the exception; None if the other side did not tell.
    """

    def __init__(self, message: str, *, error_type: str | None) -> None:
        super().__init__(message)
        self.error_type = error_type

    @property
    def traceback(self) -> str | None:
        """The remote traceback as text; None if the other side did not tell."""
        return self.__cause__.traceback if isinstance(self.__cause__, RemoteError) else None


class WorkflowFailed(_Failed):
    """The workflow ended with an error.

    Args:
        message: The error text that history has.
        workflow_id: The execution.
        kind: The workflow's kind, if known.
        error_type: The type name of the user's exception, if the failing side told.
        failure_type: The platform's word for the sort of failure, such as ``DETERMINISM_VIOLATION``, if it has one.
    """

    def __init__(
        self,
        message: str,
        *,
        workflow_id: str,
        kind: str | None = None,
        error_type: str | None = None,
        failure_type: str | None = None,
    ) -> None:
        self.workflow_id = workflow_id
        self.kind = kind
        super().__init__(message, error_type=error_type)
        self.failure_type = failure_type


class WorkflowTimedOut(WorkflowFailed):
    """The server has ended the workflow because it took longer than it was registered to take.

    It is a `WorkflowFailed`, for that is what it looks like on a server that does not tell. A `TimeoutError` that the
    workflow's own code raised is none of these: it is a `WorkflowFailed` with that `error_type`.
    """


class WorkflowCancelled(ExecutionError):
    """The workflow was cancelled.

    Args:
        message: The reason that was given.
        workflow_id: The execution.
    """

    def __init__(self, message: str, *, workflow_id: str) -> None:
        super().__init__(message)
        self.workflow_id = workflow_id

    @property
    def reason(self) -> str:
        """The reason that was given: the message."""
        return self.message


class TaskFailed(_Failed):
    """A task ended with an error, after all its attempts.

    Args:
        message: The error text that history has.
        task_id: The task's execution id.
        kind: The task's kind.
        retryable: Whether the failing side thought that another attempt could help.
        error_type: The type name of the user's exception, if the failing side told.
        attempts: How many attempts there were, if that is known.
    """

    def __init__(
        self,
        message: str,
        *,
        task_id: str,
        kind: str,
        retryable: bool = True,
        error_type: str | None = None,
        attempts: int | None = None,
    ) -> None:
        self.task_id = task_id
        self.kind = kind
        self.retryable = retryable
        super().__init__(message, error_type=error_type)
        self.attempts = attempts


class TaskCancelled(ExecutionError):
    """A task was cancelled before it ended by itself.

    Args:
        message: The reason.
        task_id: The task's execution id.
        kind: The task's kind.
    """

    def __init__(self, message: str, *, task_id: str, kind: str) -> None:
        super().__init__(message)
        self.task_id = task_id
        self.kind = kind

    @property
    def reason(self) -> str:
        """The reason: the message."""
        return self.message


class TaskTimeout(ExecutionError):
    """A task was not done in time: over `schedule_to_close`, the server's limit, or over one of the worker's.

    Args:
        message: Which limit, in the words of the side that set it.
        task_id: The task's execution id.
        kind: The task's kind.
        limit: ``start_to_close`` or ``heartbeat_timeout``, if a worker of this SDK set it; None if nobody told.
    """

    def __init__(self, message: str, *, task_id: str, kind: str, limit: str | None = None) -> None:
        super().__init__(message)
        self.task_id = task_id
        self.kind = kind
        self.limit = limit


class NonRetryableError(ExecutionError):
    """Raised by a task or by the function of a `ctx.run`: no further attempt is made, whatever is left.

    Example:
        >>> from flovyn import RetryPolicy
        >>> class CardDeclined(NonRetryableError):
        ...     pass
        >>> RetryPolicy(max_attempts=5).allows(1, CardDeclined("no such card"))
        False
    """


class OperationFailed(_Failed):
    """The body of a `ctx.run` raised. The failure is recorded: a replay raises the same.

    Args:
        message: The text of the body's exception.
        name: The operation's name.
        error_type: The type name of the body's exception.
    """

    def __init__(self, message: str, *, name: str, error_type: str | None = None) -> None:
        self.name = name
        super().__init__(message, error_type=error_type)


class ChildWorkflowFailed(_Failed):
    """A child workflow ended with an error.

    Args:
        message: The error text that history has.
        workflow_id: The child's execution id; empty if the server does not tell.
        name: The child's name among the children of its parent.
        kind: The child's kind.
        error_type: The type name of the user's exception, if the failing side told.
    """

    def __init__(self, message: str, *, workflow_id: str, name: str, kind: str, error_type: str | None = None) -> None:
        self.workflow_id = workflow_id
        self.name = name
        self.kind = kind
        super().__init__(message, error_type=error_type)


class ChildWorkflowCancelled(ExecutionError):
    """A child workflow was cancelled before it ended by itself.

    Args:
        message: The reason.
        workflow_id: The child's execution id; empty if the server does not tell.
        name: The child's name among the children of its parent.
        kind: The child's kind.
    """

    def __init__(self, message: str, *, workflow_id: str, name: str, kind: str) -> None:
        super().__init__(message)
        self.workflow_id = workflow_id
        self.name = name
        self.kind = kind

    @property
    def reason(self) -> str:
        """The reason: the message."""
        return self.message


class PromiseRejected(_Failed):
    """Somebody outside has rejected a promise.

    Args:
        message: The error that was given, as text.
        name: The promise's name.
        error_type: The type name of an exception, if the other side told.
    """

    def __init__(self, message: str, *, name: str, error_type: str | None = None) -> None:
        self.name = name
        super().__init__(message, error_type=error_type)


class PromiseTimeout(ExecutionError):
    """Nobody has resolved a promise in the time that the server was to wait for it.

    Args:
        message: Which promise.
        name: The promise's name.
    """

    def __init__(self, message: str, *, name: str) -> None:
        super().__init__(message)
        self.name = name


class QueryFailed(ExecutionError):
    """A query has no answer: the workflow has not begun yet, or the server that was asked knows none.

    Args:
        message: Why.
        workflow_id: The execution that was asked.
        name: The query.
    """

    def __init__(self, message: str, *, workflow_id: str, name: str) -> None:
        super().__init__(message)
        self.workflow_id = workflow_id
        self.name = name


class AllFailed(ExecutionError):
    """Each of the things of which one had to succeed has failed.

    Args:
        errors: What they raised, in the order in which they were given.
    """

    def __init__(self, errors: list[Exception]) -> None:
        texts = "; ".join(f"{type(error).__name__}: {error}" for error in errors)
        super().__init__(f"all {len(errors)} failed: {texts}")
        self.errors: tuple[Exception, ...] = tuple(errors)
