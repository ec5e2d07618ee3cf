"""What a workflow's code is given: its context."""

from __future__ import annotations

from flovyn.workflow.context import WorkflowContext

__all__ = ["WorkflowContext"]
