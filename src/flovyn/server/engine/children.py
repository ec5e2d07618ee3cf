"""Children: starting them, by their parent's commands and from outside, and passing on its request to stop."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from flovyn.errors import FailedPrecondition, InvalidArgument
from flovyn.server import limits
from flovyn.server.engine import cancellation, history, starting

if TYPE_CHECKING:
    from flovyn.server.engine.core import Core
    from flovyn.server.engine.starting import Prepared, Start
    from flovyn.server.store.runs import RunRow

__all__ = ["adopt", "cancel", "create", "inherited_queue"]

CANCELLED_BY_PARENT = "its parent workflow asked for it"


def inherited_queue(queue: str, parent: RunRow) -> str:
    """Where a child waits for a worker: with its parent, unless a queue of its own is named."""
    return parent.queue if queue in {"", limits.DEFAULT_QUEUE} else queue


def create(core: Core, parent: RunRow, prepared: Prepared) -> None:
    """Store a child that the parent's program asked for, unless it exists. Part of the caller's transaction.

    Raises:
        InvalidArgument: Its id is taken by a run that is no child of this one.
    """
    taken = core.store.runs.find(prepared.run.id)
    if taken is None:
        starting.create(core, prepared)
    elif taken.parent != parent.n:
        # Its end would never be told to this parent, which would wait for it for ever.
        raise InvalidArgument(f"the child workflow execution id {taken.id} is taken by another workflow")


def adopt(core: Core, parent: RunRow, name: str, wanted: Start) -> str:
    """Start a child that somebody outside asked for, or find the one of that name.

    The parent's program knows nothing of it, so it is not told how it ends. Part of the caller's transaction.

    Returns:
        The child's id.

    Raises:
        FailedPrecondition: The parent has ended.
        InvalidArgument: A value makes no sense; the message names it.
    """
    known = core.store.runs.child(parent.n, name)
    if known is not None:
        return known.id
    if parent.status in history.ENDED:
        raise FailedPrecondition(f"workflow {parent.id} takes no more children: it is {parent.status}")
    prepared = starting.prepare(core, parent.org_id, replace(wanted, parent_id=parent.id))
    prepared.run.parent = parent.n
    prepared.run.child_name = name
    starting.create(core, prepared)
    return prepared.run.id


def cancel(core: Core, parent: int, *, child_id: str, name: str, reason: str) -> None:
    """Ask a child to stop; one that does not exist or has ended is let be. Part of the caller's transaction.

    The parent's row must have been saved, and must not be used any more: it may be told at once that the child ended.
    """
    child = core.store.runs.find(child_id) if child_id else core.store.runs.child(parent, name)
    if child is not None and child.parent == parent and child.status not in history.ENDED:
        requested_by = core.store.runs.get(parent).id
        cancellation.ask(core, child, reason=reason or CANCELLED_BY_PARENT, requested_by=requested_by)
