"""Every exception a user of Flovyn can meet, split by who has to act on it.

* `UsageError`: the caller's mistake; fix the call.
* `DeterminismError`: workflow code left the deterministic world, or disagrees with its history.
* `ServerError`: the server understood the call and refused it, one class for each kind of refusal.
* `TransportError`: the call never got a (sensible) answer.
* `ExecutionError`: durable work ended badly; the error tells how, and its cause is what the other side said.

Suspension is not an exception: a workflow that waits is simply not resumed.
"""

from __future__ import annotations

from flovyn.errors.base import FlovynError
from flovyn.errors.determinism import (
    DeterminismError,
    DeterminismViolation,
    DeterminismWarning,
    RunawayWorkflow,
)
from flovyn.errors.execution import (
    AllFailed,
    ChildWorkflowCancelled,
    ChildWorkflowFailed,
    ExecutionError,
    NonRetryableError,
    OperationFailed,
    PromiseRejected,
    PromiseTimeout,
    QueryFailed,
    RemoteError,
    TaskCancelled,
    TaskFailed,
    TaskTimeout,
    WorkflowCancelled,
    WorkflowFailed,
    WorkflowTimedOut,
)
from flovyn.errors.server import (
    AlreadyExists,
    ConnectionLost,
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    MalformedMessage,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    ServerError,
    ServerUnavailable,
    TokenRefused,
    TransportError,
    Unauthenticated,
    Unimplemented,
)
from flovyn.errors.usage import (
    CodecError,
    ConfigurationError,
    Deadlock,
    DefinitionError,
    MalformedHistory,
    PayloadError,
    PayloadTooLarge,
    UsageError,
)

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
    "WorkflowTimedOut",
]

# Tracebacks and pickles name them by where users find them, in whichever module they are written down.
for _name in __all__:
    globals()[_name].__module__ = __name__
