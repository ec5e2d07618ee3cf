"""Asking a workflow to stop.

A worker that cooperates says so with the kinds it registers (``{"cancellation": "scopes"}``): its runs are told and end
themselves. The official workers do not look: their runs are ended here, at once or at their next suspension.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from flovyn.errors import FailedPrecondition
from flovyn.server.engine import events, history

if TYPE_CHECKING:
    from flovyn.server.engine.core import Core
    from flovyn.server.store.runs import RunRow

__all__ = ["cooperates", "request_cancel"]


class _Metadata(msgspec.Struct):
    cancellation: str = ""


_decode: Final = msgspec.json.Decoder(_Metadata).decode


def cooperates(core: Core, run: RunRow) -> bool:
    """Whether the workers of this kind end a run themselves when it is cancelled."""
    metadata = core.store.workers.metadata_of_kind(run.org_id, "workflow", run.kind)
    if not metadata:
        return False
    try:
        return _decode(metadata).cancellation == "scopes"
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False


def request_cancel(core: Core, run: RunRow, *, reason: str, requested_by: str) -> None:
    """Ask a run to stop. Asking again while it is stopping changes nothing.

    Raises:
        FailedPrecondition: It has ended.
    """
    if run.status in history.ENDED:
        raise FailedPrecondition(f"workflow {run.id} cannot be cancelled: it is {run.status}")
    if run.cancel_reason is not None:
        return
    run.cancel_reason = reason
    asked = events.cancellation_requested(reason=reason, requested_by=requested_by)
    with core.transaction():
        history.append(core, run, [asked], external=True)
        if run.status != "RUNNING" and not cooperates(core, run):
            history.end(core, run, "CANCELLED", events.workflow_cancelled(reason))
            return
        history.wake(core, run)
        core.store.runs.save(run)
