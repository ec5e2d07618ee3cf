"""What a workflow's code is given: its context, handles, and ways to do several things at once."""

from __future__ import annotations

from flovyn.workflow.combinators import Err, Ok, Settled, join_all, join_n, join_settled, select, select_ok
from flovyn.workflow.compensation import Compensation, compensation
from flovyn.workflow.context import WorkflowContext
from flovyn.workflow.handles import ChildHandle, TaskHandle
from flovyn.workflow.promises import PromiseHandle

__all__ = [
    "ChildHandle",
    "Compensation",
    "Err",
    "Ok",
    "PromiseHandle",
    "Settled",
    "TaskHandle",
    "WorkflowContext",
    "compensation",
    "join_all",
    "join_n",
    "join_settled",
    "select",
    "select_ok",
]
