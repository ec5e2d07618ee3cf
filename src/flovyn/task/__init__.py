"""What task bodies are given: their context, in the event loop or in a thread.

What speaks the protocol for them (`pump`, `wire`) is imported by those who run tasks.
"""

from __future__ import annotations

from flovyn.task.cancellation import CancelCause, Cancellation
from flovyn.task.context import TaskContext
from flovyn.task.desk import Desk, LogLevel
from flovyn.task.facts import TaskFacts
from flovyn.task.resources import Resources
from flovyn.task.threads import Bridge, SyncTaskContext

__all__ = [
    "Bridge",
    "CancelCause",
    "Cancellation",
    "Desk",
    "LogLevel",
    "Resources",
    "SyncTaskContext",
    "TaskContext",
    "TaskFacts",
]
