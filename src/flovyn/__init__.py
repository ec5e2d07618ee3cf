"""Structured-concurrency SDK for Flovyn durable workflows: an ordinary AnyIO program whose scheduler is its history."""

from __future__ import annotations

from flovyn.client import Backoff, Client, HistoryEvent, WorkflowHandle, connect
from flovyn.errors import (
    AlreadyExists,
    ConfigurationError,
    ConnectionLost,
    DeadlineExceeded,
    Deadlock,
    DefinitionError,
    DeterminismError,
    DeterminismViolation,
    ExecutionError,
    FailedPrecondition,
    FlovynError,
    InvalidArgument,
    MalformedHistory,
    MalformedMessage,
    NotFound,
    OperationFailed,
    PayloadError,
    PayloadTooLarge,
    PermissionDenied,
    RunawayWorkflow,
    ServerError,
    ServerUnavailable,
    TaskCancelled,
    TaskFailed,
    TaskTimeout,
    TransportError,
    Unauthenticated,
    Unimplemented,
    UsageError,
    WorkflowCancelled,
    WorkflowFailed,
)
from flovyn.task import TaskContext
from flovyn.wire.options import ChannelOptions
from flovyn.worker import Worker, WorkerStatistics
from flovyn.workflow import WorkflowContext

# isort: split
# The packages `flovyn.task` and `flovyn.workflow` bind their own names here when they are first imported, which has
# happened above. What users mean by these names are the decorators, so they come last.
from flovyn.definitions import Task, Workflow, task, workflow

__all__ = [
    "AlreadyExists",
    "Backoff",
    "ChannelOptions",
    "Client",
    "ConfigurationError",
    "ConnectionLost",
    "DeadlineExceeded",
    "Deadlock",
    "DefinitionError",
    "DeterminismError",
    "DeterminismViolation",
    "ExecutionError",
    "FailedPrecondition",
    "FlovynError",
    "HistoryEvent",
    "InvalidArgument",
    "MalformedHistory",
    "MalformedMessage",
    "NotFound",
    "OperationFailed",
    "PayloadError",
    "PayloadTooLarge",
    "PermissionDenied",
    "RunawayWorkflow",
    "ServerError",
    "ServerUnavailable",
    "Task",
    "TaskCancelled",
    "TaskContext",
    "TaskFailed",
    "TaskTimeout",
    "TransportError",
    "Unauthenticated",
    "Unimplemented",
    "UsageError",
    "Worker",
    "WorkerStatistics",
    "Workflow",
    "WorkflowCancelled",
    "WorkflowContext",
    "WorkflowFailed",
    "WorkflowHandle",
    "connect",
    "task",
    "workflow",
]
