"""Every exception a user of Flovyn can meet, split by who has to act on it.

* `UsageError`: the caller's mistake; fix the call.
* `DeterminismError`: workflow code left the deterministic world, or disagrees with its history.
* `ServerError`: the server understood the call and refused it, one class for each kind of refusal.
* `TransportError`: the call never got a (sensible) answer.
* `ExecutionError`: durable work ended badly; the error tells how, and its cause is what the other side said.

Suspension is not an exception: a workflow that waits is simply not resumed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

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
    "QueryFailed",
    "RemoteError",
    "ResourceExhausted",
    "RunawayWorkflow",
    "ServerError",
    "ServerUnavailable",
    "TaskCancelled",
    "TaskFailed",
    "TaskTimeout",
    "TokenRefused",
    "TransportError",
    "Unauthenticated",
    "Unimplemented",
    "UsageError",
    "WorkflowCancelled",
    "WorkflowFailed",
]


E = TypeVar("E", bound="FlovynError")


class FlovynError(Exception):
    """Base of everything this package raises on purpose.

    Its members can be pickled, and keep their attributes; of their causes, those that are of this package.

    Args:
        message: What was wrong, with which value, and what to do about it.

    Example:
        >>> NotFound("workflow 7 is unknown")
        NotFound('workflow 7 is unknown')
        >>> TaskFailed("ValueError: no", task_id="t-1", kind="charge", error_type="ValueError", attempts=3)
        TaskFailed('ValueError: no', task_id='t-1', kind='charge', retryable=True, error_type='ValueError', attempts=3)
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    def __repr__(self) -> str:
        # Not `self.message`: a subclass of a user may be made without this constructor.
        told = [repr(vars(self).get("message", str(self)))]
        told += [f"{key}={value!r}" for key, value in vars(self).items() if key not in _UNTOLD and value not in _NOTHING]
        return f"{type(self).__name__}({', '.join(told)})"

    def __reduce__(self) -> tuple[Callable[..., FlovynError], tuple[Any, ...]]:
        # Not by the constructor, whose keyword arguments the standard way forgets; and causes are forgotten by it, too.
        cause = self.__cause__ if isinstance(self.__cause__, FlovynError) else None
        return _restored, (type(self), self.args, vars(self), cause)


_UNTOLD = frozenset({"message", "traceback", "__notes__"})
_NOTHING: Sequence[object] = (None, "", ())


def _restored(kind: type[E], args: tuple[Any, ...], state: dict[str, Any], cause: FlovynError | None) -> E:
    error = kind.__new__(kind, *args)
    vars(error).update(state)
    error.__cause__ = cause
    return error


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


class TokenRefused(Unauthenticated):
    """The token endpoint of an OAuth2 provider gives no token.

    Args:
        message: Which endpoint, and what it said.
        error: Its error code, such as ``invalid_client``.
        description: Its text about that, if it gave one.
    """

    def __init__(self, message: str, *, error: str, description: str | None = None) -> None:
        super().__init__(message)
        self.error = error
        self.description = description


class Unimplemented(ServerError):
    """The server does not offer this call."""

    status = "UNIMPLEMENTED"


class ResourceExhausted(ServerError):
    """The server does not take so much: a message is over its limit, or there are too many of them."""

    status = "RESOURCE_EXHAUSTED"


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
        self, message: str, *, type: str, traceback: str | None = None, members: Sequence[RemoteError] = ()  # noqa: A002
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

    def __init__(
        self, message: str, *, workflow_id: str, name: str, kind: str, error_type: str | None = None
    ) -> None:
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
