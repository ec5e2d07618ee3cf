"""What task bodies are given: their context, in the event loop or in a thread."""

from __future__ import annotations

from flovyn.task.cancellation import CancelCause, Cancellation
from flovyn.task.context import TaskContext
from flovyn.task.desk import Desk, LogLevel
from flovyn.task.facts import TaskFacts
from flovyn.task.pump import Pump
from flovyn.task.resources import Resources
from flovyn.task.threads import Bridge, SyncTaskContext
from flovyn.task.wire import WireDesk

__all__ = [
    "Bridge",
    "CancelCause",
    "Cancellation",
    "Desk",
    "LogLevel",
    "Pump",
    "Resources",
    "SyncTaskContext",
    "TaskContext",
    "TaskFacts",
    "WireDesk",
]
