"""Starting workflows and tasks, and learning what becomes of them, from any AnyIO program."""

from __future__ import annotations

from flovyn.client.backoff import Backoff
from flovyn.client.client import Client
from flovyn.client.connecting import connect
from flovyn.client.descriptions import (
    TaskAttempt,
    TaskDescription,
    TaskLogLine,
    TaskStatus,
    TaskSummary,
    WorkflowDescription,
    WorkflowRetry,
    WorkflowStatus,
    WorkflowSummary,
)
from flovyn.client.handle import SignalledStart, WorkflowHandle
from flovyn.client.history import HistoryEvent
from flovyn.client.oauth2 import OAuth2
from flovyn.client.options import ConnectOptions
from flovyn.client.submitted import SubmittedTask

__all__ = [
    "Backoff",
    "Client",
    "ConnectOptions",
    "HistoryEvent",
    "OAuth2",
    "SignalledStart",
    "SubmittedTask",
    "TaskAttempt",
    "TaskDescription",
    "TaskLogLine",
    "TaskStatus",
    "TaskSummary",
    "WorkflowDescription",
    "WorkflowHandle",
    "WorkflowRetry",
    "WorkflowStatus",
    "WorkflowSummary",
    "connect",
]
