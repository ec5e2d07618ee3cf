"""Answering a query from the instance of a workflow, without moving the run on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flovyn.errors import PayloadError, UsageError
from flovyn.workflow.context import WorkflowContext

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flovyn.definitions import Handler
    from flovyn.replay import Execution

__all__ = ["answer"]


def answer(execution: Execution, name: str, args: bytes) -> bytes:
    """Answer a query from where the run stands now.

    Args:
        execution: The run; what history has of it has been re-enacted.
        name: The query.
        args: Its arguments, as JSON: nothing or null for none, the value for one, an object by name for several.

    Returns:
        The answer, as JSON.

    Raises:
        UsageError: The workflow has no such query, or has not begun, or the query tried to change something.
        PayloadError: The arguments do not fit, or the answer cannot be written.
        Exception: What the query's method raised.
    """
    parts = execution.workflow.parts
    queries: Mapping[str, Handler] = {} if parts is None else parts.queries
    handler = queries.get(name)
    if handler is None:
        known = f"it answers {', '.join(queries)}" if queries else "it answers none"
        raise UsageError(f"workflow {execution.info.kind!r} has no query {name!r}; {known}")
    context = execution.context
    instance = context.instance if isinstance(context, WorkflowContext) else None
    if instance is None:
        raise UsageError(f"workflow {execution.info.workflow_id} cannot be asked yet: it has not begun")
    try:
        positional, named = handler.signature.decode(args)
    except PayloadError as error:
        raise PayloadError(f"query {name!r}: {error.message}", path=error.path) from None
    # Like a step: the host is out of reach.
    with execution.read_only, execution.kernel.activation():
        value = getattr(instance, handler.method)(*positional, **named)
    return handler.signature.output.encode(value)
