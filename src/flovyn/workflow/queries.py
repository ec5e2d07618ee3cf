"""Answering a query from the instance of a workflow, without moving the run on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flovyn.errors import PayloadError, QueryFailed, UsageError
from flovyn.nursery import Tripwires, arm_tripwires
from flovyn.replay import Execution, Reenactment
from flovyn.replay.tripwires import watching
from flovyn.workflow.context import WorkflowContext

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from flovyn.definitions import Handler, Workflow
    from flovyn.replay import Event, RunInfo

__all__ = ["Revived", "answer"]


class Revived:
    """A run whose history is re-enacted to ask it something, and for nothing else: nothing of it reaches a server.

    Code that reaches outside is treated as a worker treats it.

    Args:
        workflow: The definition.
        info: What the run is told about itself.
    """

    __slots__ = ("_execution",)

    def __init__(self, workflow: Workflow[..., Any], info: RunInfo) -> None:
        arm_tripwires()
        tripwires = watching([workflow], Tripwires())
        self._execution = Execution(workflow, info, WorkflowContext, tripwires=tripwires)

    def load(self, events: Iterable[Event]) -> None:
        """Read on in the history.

        Raises:
            HistoryGap: These events do not follow the last one read.
            DeterminismViolation: A worker without markers wrote some of them, behind activations that have one.
        """
        self._execution.load(events)

    def slices(self) -> Iterator[None]:
        """Re-enact what was read, up to the last event that an activation has seen; yields for the host to breathe.

        Raises:
            DeterminismError: The code disagrees with the history, reaches outside, or does not come to rest.
        """
        return Reenactment(self._execution).slices()

    def answer(self, name: str, args: bytes) -> bytes:
        """Answer a query from where the run stands now; see `answer`."""
        return answer(self._execution, name, args)

    def close(self) -> None:
        """End the program's coroutines."""
        self._execution.close()


def answer(execution: Execution, name: str, args: bytes) -> bytes:
    """Answer a query from where the run stands now.

    Args:
        execution: The run; what history has of it has been re-enacted.
        name: The query.
        args: Its arguments, as JSON: nothing or null for none, the value for one, an object by name for several.

    Returns:
        The answer, as JSON.

    Raises:
        UsageError: The workflow has no such query, or the query tried to change something.
        QueryFailed: The workflow has not begun.
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
        identity = execution.info.workflow_id
        raise QueryFailed(f"workflow {identity} cannot be asked yet: it has not begun", workflow_id=identity, name=name)
    try:
        positional, named = handler.signature.decode(args)
    except PayloadError as error:
        raise PayloadError(f"query {name!r}: {error.message}", path=error.path) from None
    # Like a step: the host is out of reach.
    with execution.read_only, execution.kernel.activation():
        value = getattr(instance, handler.method)(*positional, **named)
    return handler.signature.output.encode(value)
