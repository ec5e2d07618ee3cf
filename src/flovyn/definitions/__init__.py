"""Workflows and tasks as definitions: their code, what they are called on the wire, and how their payloads are read.

Nothing here is global: a definition is known to those it is handed to, and to nobody else.
"""

from __future__ import annotations

from flovyn.definitions.classes import ClassParts, Handler, marked_name, query, signal
from flovyn.definitions.definition import Definition
from flovyn.definitions.effects import Effect, effect
from flovyn.definitions.foreign import task_by_kind, workflow_by_kind
from flovyn.definitions.names import Name, Promise, Query, Signal, StateKey, checked_name
from flovyn.definitions.options import OnCancel
from flovyn.definitions.retry import RetryPolicy, is_final
from flovyn.definitions.task_code import TaskClass
from flovyn.definitions.tasks import AnyTask, SyncTask, Task, task, task_of
from flovyn.definitions.workflows import AnyWorkflow, Workflow, WorkflowClass, definition_of, options, workflow

__all__ = [
    "AnyTask",
    "AnyWorkflow",
    "ClassParts",
    "Definition",
    "Effect",
    "Handler",
    "Name",
    "OnCancel",
    "Promise",
    "Query",
    "RetryPolicy",
    "Signal",
    "StateKey",
    "SyncTask",
    "Task",
    "TaskClass",
    "Workflow",
    "WorkflowClass",
    "checked_name",
    "definition_of",
    "effect",
    "is_final",
    "marked_name",
    "options",
    "query",
    "signal",
    "task",
    "task_by_kind",
    "task_of",
    "workflow",
    "workflow_by_kind",
]
