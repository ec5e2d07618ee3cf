"""A logger that says everything once, however often the code is run again."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from flovyn.replay import Execution

    Adapter: TypeAlias = logging.LoggerAdapter[logging.Logger]
else:
    Adapter = logging.LoggerAdapter

__all__ = ["WorkflowLogger"]


class WorkflowLogger(Adapter):
    """Logs for one execution, under ``flovyn.workflow.<kind>``; silent while the past is re-enacted.

    Each record has the attributes `workflow_execution_id`, `workflow_kind` and `org_id`.
    """

    def __init__(self, execution: Execution) -> None:
        info = execution.info
        # One logger for a kind, not one for an execution: the logging module never forgets one.
        super().__init__(
            logging.getLogger(f"flovyn.workflow.{info.kind}"),
            {"workflow_execution_id": info.workflow_id, "workflow_kind": info.kind, "org_id": info.org_id},
        )
        self._execution = execution

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802 - logging's own name
        """Whether a record of that level is made now."""
        execution = self._execution
        return not (execution.replaying or execution.kernel.dead) and super().isEnabledFor(level)

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """Add the ids to what the caller gives as `extra`."""
        kwargs["extra"] = {**(self.extra or {}), **(kwargs.get("extra") or {})}
        return msg, kwargs
