"""Who may still report on a piece of work.

A claim's token settles it. It stays good after the lease has lapsed, for as long as nobody else has claimed the work:
a worker that was only cut off then finishes what it holds instead of doing it twice. A caller without a token (the
official workers know none) is believed unless the work was claimed again since.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flovyn.errors import FailedPrecondition
from flovyn.server.engine.history import ENDED
from flovyn.server.engine.leases import Claim

if TYPE_CHECKING:
    from flovyn.server.engine.core import Caller, Core
    from flovyn.server.store.runs import RunRow
    from flovyn.server.store.tasks import TaskRow
    from flovyn.server.store.workers import Of

__all__ = ["admit", "claim_of"]


def admit(core: Core, of: Of, row: RunRow | TaskRow, caller: Caller) -> None:
    """Let a report through only if it comes from whoever holds the work.

    Raises:
        FailedPrecondition: The work has ended, is not claimed, or was claimed again since.
    """
    what = f"{of} {row.id}"
    if row.status in ENDED:
        raise FailedPrecondition(f"{what} has ended already: it is {row.status}")
    if row.claim_token is None:
        raise FailedPrecondition(f"{what} is not claimed by anybody: it is {row.status}")
    if caller.claim is not None:
        if caller.claim != row.claim_token:
            raise FailedPrecondition(f"{what} was claimed again since: this report comes too late")
        core.leases.show_token(caller.claim, caller.link, core.clock())
    elif row.contested:
        claim = core.leases.of_work(of, row.n)
        if claim is None or not core.leases.is_holder(claim, caller.link):
            raise FailedPrecondition(f"{what} was claimed again since: this report comes too late")


def claim_of(of: Of, row: RunRow | TaskRow) -> Claim:
    """The lease's view of a row that is claimed."""
    return Claim(
        of=of,
        n=row.n,
        token=row.claim_token or "",
        worker=(row.org_id, row.claim_worker or ""),
        process=row.claim_process,
    )
