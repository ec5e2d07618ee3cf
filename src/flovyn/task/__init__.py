"""What a task body is given: its context."""

from __future__ import annotations

from flovyn.task.cancellation import Cancellation
from flovyn.task.context import TaskContext

__all__ = ["Cancellation", "TaskContext"]
