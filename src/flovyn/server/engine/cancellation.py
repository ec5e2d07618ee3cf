"""Asking a workflow to stop.

A worker that cooperates says so with the kinds it registers (``{"cancellation": "scopes"}``): its runs are told and end
themselves, unless they are asked a second time or take too long. The official workers do not look: their runs are ended
here, at once or at their next suspension. Runs of a kind that is not to be cancelled (``"never"``) are left alone.
Whoever ends a run passes the request on to its children: the run itself if it cooperates, the server otherwise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from flovyn.errors import FailedPrecondition
from flovyn.server import limits
from flovyn.server.engine import events, history

if TYPE_CHECKING:
    from flovyn.server.engine.core import Core
    from flovyn.server.store.runs import RunRow

__all__ = ["ask", "cooperates", "force", "request"]


class _Metadata(msgspec.Struct):
    cancellation: str = ""


_decode: Final = msgspec.json.Decoder(_Metadata).decode


def cooperates(core: Core, run: RunRow) -> bool:
    """Whether the workers of this kind end a run themselves when it is cancelled."""
    return _said(core, run) == "scopes"


def _said(core: Core, run: RunRow) -> str:
    """What the workers of this kind say about cancellation."""
    metadata = core.store.workers.metadata_of_kind(run.org_id, "workflow", run.kind)
    if not metadata:
        return ""
    try:
        return _decode(metadata).cancellation
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""


def request(core: Core, run: RunRow, *, reason: str, requested_by: str) -> None:
    """Ask a run to stop; asked a second time it is ended.

    Part of the caller's transaction.

    Raises:
        FailedPrecondition: It has ended, or is of a kind that cannot be cancelled.
    """
    if run.status in history.ENDED:
        raise FailedPrecondition(f"workflow {run.id} cannot be cancelled: it is {run.status}")
    if _said(core, run) == "never":
        raise FailedPrecondition(f"workflow {run.id} cannot be cancelled: its kind {run.kind!r} is not cancellable")
    if run.cancel_reason is not None:
        force(core, run)
    else:
        ask(core, run, reason=reason, requested_by=requested_by)


def ask(core: Core, run: RunRow, *, reason: str, requested_by: str) -> None:
    """Ask a run that has not ended to stop. Asking again, or asking one that cannot be cancelled, changes nothing.

    Part of the caller's transaction.
    """
    waiting = [run.n]
    for n in waiting:  # each read anew: the end of another may have told it something
        asked = run if n == run.n else core.store.runs.get(n)
        can_be_asked = asked.cancel_reason is None and asked.status not in history.ENDED
        can_be_asked = can_be_asked and _said(core, asked) != "never"
        if can_be_asked and _tell(core, asked, reason, requested_by):
            waiting += core.store.runs.open_children(n)


def force(core: Core, run: RunRow) -> None:
    """End a run that was asked to stop, and ask its children, for it does that no more.

    Part of the caller's transaction.
    """
    reason = run.cancel_reason or ""
    _end(core, run, reason)
    for n in core.store.runs.open_children(run.n):
        ask(core, core.store.runs.get(n), reason=reason, requested_by=run.id)


def _tell(core: Core, run: RunRow, reason: str, requested_by: str) -> bool:
    """Whether the run has ended, so that its children are left to the server."""
    run.cancel_reason = reason
    asked = events.cancellation_requested(reason=reason, requested_by=requested_by)
    history.append(core, run, [asked], external=True)
    if run.status != "RUNNING" and not cooperates(core, run):
        _end(core, run, reason)
        return True
    run.cancel_due_at = core.clock() + limits.CANCEL_GRACE_MS
    core.due(run.cancel_due_at)
    history.wake(core, run)
    core.store.runs.save(run)
    return False


def _end(core: Core, run: RunRow, reason: str) -> None:
    history.end(core, run, history.Closing("CANCELLED", events.workflow_cancelled(reason), error=reason))
