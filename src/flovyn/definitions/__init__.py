"""Workflows and tasks as definitions: a function, what it is called on the wire, and how its payloads are read.

Nothing here is global: a definition is known to those it is handed to, and to nobody else.
"""

from __future__ import annotations

from flovyn.definitions.definition import Definition
from flovyn.definitions.tasks import Task, task
from flovyn.definitions.workflows import Workflow, workflow

__all__ = ["Definition", "Task", "Workflow", "task", "workflow"]
