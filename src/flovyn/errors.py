"""Every exception a user of Flovyn can meet, split by who has to act on it.

* `UsageError`: the caller's mistake; fix the call.
* `DeterminismError`: workflow code left the deterministic world, or disagrees with its history.
* `ServerError`: the server understood the call and refused it, one class for each kind of refusal.
* `TransportError`: the call never got a (sensible) answer.
* `ExecutionError`: durable work ended badly; the error tells how, with what the other side said.

Suspension is not an exception: a workflow that waits is simply not resumed.
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "AllFailed",
    "AlreadyExists",
    "ChildWorkflowCancelled",
    "ChildWorkflowFailed",
    "CodecError",
    "ConfigurationError",
    "ConnectionLost",
    "DeadlineExceeded",
    "Deadlock",
    "DefinitionError",
    "DeterminismError",
    "DeterminismViolation",
    "DeterminismWarning",
    "ExecutionError",
    "FailedPrecondition",
    "FlovynError",
    "InvalidArgument",
    "MalformedHistory",
    "MalformedMessage",
    "NonRetryableError",
    "NotFound",
    "OperationFailed",
    "PayloadError",
    "PayloadTooLarge",
    "PermissionDenied",
    "PromiseRejected",
    "PromiseTimeout",
    "RunawayWorkflow",
    "ServerError",
    "ServerUnavailable",
    "TaskCancelled",
    "TaskFailed",
    "TaskTimeout",
    "TransportError",
    "Unauthenticated",
    "Unimplemented",
    "UsageError",
    "WorkflowCancelled",
    "WorkflowFailed",
]


class FlovynError(Exception):
    """Base of everything this package raises on purpose.

    Args:
        message: What was wrong, with which value, and what to do about it.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


# --- the caller's mistake -------------------------------------------------------------------


class UsageError(FlovynError):
    """The call itself was wrong; nothing was sent."""


class ConfigurationError(UsageError):
    """A URL, a token, an option or a combination of them cannot work."""


class DefinitionError(UsageError):
    """A `@workflow` or `@task` cannot be defined, registered or called that way."""


class PayloadError(UsageError):
    """A value cannot be written as, or read from, a payload.

    Args:
        message: What did not fit.
        path: Where in the value, as the codec names it (``$.items[2].price``), if known.
    """

    def __init__(self, message: str, *, path: str | None = None) -> None:
        super().__init__(message)
        self.path = path


class CodecError(PayloadError):
    """A codec could not encode a payload, or what was encoded cannot be decoded here.

    Nothing is wrong with the workflow or the task whose payload it is: another worker, or this one with another
    configuration, may be able to read it.

    Args:
        message: What is missing or failed; never anything of the payload.
        codec: The name of the codec.
        key: The id of the key that it takes, for a codec that encrypts.
    """

    def __init__(self, message: str, *, codec: str | None = None, key: str | None = None) -> None:
        super().__init__(message)
        self.codec = codec
        self.key = key


class PayloadTooLarge(UsageError):
    """A message is over the size limit of this side.

    Args:
        message: Which message, how large, and which option raises the limit.
        size: Its size in bytes.
        limit: The limit in bytes.
    """

    def __init__(self, message: str, *, size: int, limit: int) -> None:
        super().__init__(message)
        self.size = size
        self.limit = limit


class MalformedHistory(UsageError):
    """What was to be replayed is no history that can be read.

    Args:
        message: What is wrong.
        source: The file it came from, or whatever else it is known by, if anything.
        place: Where in it, such as ``events[3].sequenceNumber``, if that is known.
    """

    def __init__(self, message: str, *, source: str | None = None, place: str | None = None) -> None:
        super().__init__(": ".join(part for part in (source, place, message) if part))
        self.source = source
        self.place = place


class Deadlock(UsageError):
    """Under virtual time, every task waits and nothing can wake one; the message shows where each of them stands."""


# --- determinism ----------------------------------------------------------------------------


class DeterminismError(FlovynError):
    """Workflow code reached outside the deterministic world; the message names what to use instead."""


class DeterminismViolation(DeterminismError):
    """The code of a workflow disagrees with its recorded history.

    Args:
        message: The disagreement, in the platform's own words.
        expected: What history has, if anything.
        got: What the code did, if anything.
    """

    def __init__(self, message: str, *, expected: str | None = None, got: str | None = None) -> None:
        super().__init__(message)
        self.expected = expected
        self.got = got


class DeterminismWarning(UserWarning):
    """Workflow code read a clock or drew a random number; the message names what to use instead."""


class RunawayWorkflow(DeterminismError):
    """A workflow took more scheduler steps than allowed without coming to rest."""


# --- the server's refusal -------------------------------------------------------------------


class ServerError(FlovynError):
    """The server refused the call.

    Args:
        message: The server's own text.
        status: The name of the gRPC status, such as ``NOT_FOUND``.
    """

    status: str = "UNKNOWN"

    def __init__(self, message: str, *, status: str | None = None) -> None:
        super().__init__(message)
        if status is not None:
            self.status = status


class InvalidArgument(ServerError):
    """A field of the request does not make sense to the server."""

    status = "INVALID_ARGUMENT"


class NotFound(ServerError):
    """The server knows no such execution, task, promise or worker."""

    status = "NOT_FOUND"


class AlreadyExists(ServerError):
    """What was to be created is there already."""

    status = "ALREADY_EXISTS"


class FailedPrecondition(ServerError):
    """The thing exists, but not in a state that allows the call (ended, cancelled, claimed by another)."""

    status = "FAILED_PRECONDITION"


class PermissionDenied(ServerError):
    """The token is good, but not for this."""

    status = "PERMISSION_DENIED"


class Unauthenticated(ServerError):
    """The server does not accept the token."""

    status = "UNAUTHENTICATED"


class Unimplemented(ServerError):
    """The server does not offer this call."""

    status = "UNIMPLEMENTED"


class DeadlineExceeded(ServerError):
    """The server gave up on the call."""

    status = "DEADLINE_EXCEEDED"


# --- the connection -------------------------------------------------------------------------


class TransportError(FlovynError):
    """No sensible answer came; the message says whether the call may have taken effect."""


class ServerUnavailable(TransportError):
    """The server could not be reached, or said that it cannot serve now. The call had no effect."""


class ConnectionLost(TransportError):
    """The connection broke while the call was under way. The call may have taken effect."""


class MalformedMessage(TransportError):
    """The peer sent bytes that are not a valid message of the protocol."""


# --- how durable work ended -----------------------------------------------------------------


class ExecutionError(FlovynError):
    """A workflow or a task did not end with a value."""


class WorkflowFailed(ExecutionError):
    """The workflow ended with an error.

    Args:
        message: The error text that history has.
        workflow_id: The execution.
        kind: The workflow's kind, if known.
        error_type: The type name of the user's exception, if the failing side told.
        details: Everything else that the failing side told (cause chain, traceback), as JSON data.
    """

    def __init__(
        self,
        message: str,
        *,
        workflow_id: str,
        kind: str | None = None,
        error_type: str | None = None,
        details: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.workflow_id = workflow_id
        self.kind = kind
        self.error_type = error_type
        self.details: dict[str, Any] = details or {}


class WorkflowCancelled(ExecutionError):
    """The workflow was cancelled.

    Args:
        message: The reason that was given.
        workflow_id: The execution.
    """

    def __init__(self, message: str, *, workflow_id: str) -> None:
        super().__init__(message)
        self.workflow_id = workflow_id


class TaskFailed(ExecutionError):
    """A task ended with an error, after all its attempts.

    Args:
        message: The error text that history has.
        task_id: The task's execution id.
        kind: The task's kind.
        retryable: Whether the failing side thought that another attempt could help.
        error_type: The type name of the user's exception, if the failing side told.
        details: Everything else that the failing side told (cause chain, traceback), as JSON data.
    """

    def __init__(
        self,
        message: str,
        *,
        task_id: str,
        kind: str,
        retryable: bool = True,
        error_type: str | None = None,
        details: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.task_id = task_id
        self.kind = kind
        self.retryable = retryable
        self.error_type = error_type
        self.details: dict[str, Any] = details or {}


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


class OperationFailed(ExecutionError):
    """The body of a `ctx.run` raised. The failure is recorded: a replay raises the same.

    Args:
        message: The text of the body's exception.
        name: The operation's name.
        error_type: The type name of the body's exception.
        details: Its cause chain and traceback, as JSON data.
    """

    def __init__(
        self, message: str, *, name: str, error_type: str | None = None, details: dict[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.name = name
        self.error_type = error_type
        self.details: dict[str, Any] = details or {}


class ChildWorkflowFailed(ExecutionError):
    """A child workflow ended with an error.

    Args:
        message: The error text that history has.
        workflow_id: The child's execution id; empty if the server does not tell.
        name: The child's name among the children of its parent.
        kind: The child's kind.
        error_type: The type name of the user's exception, if the failing side told.
        details: Everything else that the failing side told (cause chain, traceback), as JSON data.
    """

    def __init__(
        self,
        message: str,
        *,
        workflow_id: str,
        name: str,
        kind: str,
        error_type: str | None = None,
        details: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.workflow_id = workflow_id
        self.name = name
        self.kind = kind
        self.error_type = error_type
        self.details: dict[str, Any] = details or {}


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


class PromiseRejected(ExecutionError):
    """Somebody outside has rejected a promise.

    Args:
        message: The error that was given, as text.
        name: The promise's name.
        error_type: The type name of an exception, if the other side told.
        details: Everything else that the other side told, as JSON data.
    """

    def __init__(
        self, message: str, *, name: str, error_type: str | None = None, details: dict[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.name = name
        self.error_type = error_type
        self.details: dict[str, Any] = details or {}


class PromiseTimeout(ExecutionError):
    """Nobody has resolved a promise in the time that the server was to wait for it.

    Args:
        message: Which promise.
        name: The promise's name.
    """

    def __init__(self, message: str, *, name: str) -> None:
        super().__init__(message)
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
