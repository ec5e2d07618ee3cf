"""What all tasks of a worker share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    import anyio

    from flovyn.serde.chain import CodecChain
    from flovyn.task import Resources
    from flovyn.wire.transport import Transport
    from flovyn.worker.claimed import ClaimedTask
    from flovyn.worker.report import Ledger
    from flovyn.worker.reports import Reporter
    from flovyn.worker.statistics import Gauges

__all__ = ["TaskKit"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskKit:
    """What a task needs of its worker.

    Args:
        transport: Carries the calls.
        codecs: What decodes inputs.
        reporter: Tells the server how tasks end.
        ledger: Notes how they ended.
        gauges: Counts what runs.
        threads: For bodies in threads.
        resources: What the lifespan has brought.
        heartbeat_interval: Seconds between two heartbeats of a task.
        abandon_after: Seconds for which a body may go on once it is cancelled.
        given_up: Told of a task of which only a body is left that does not end.
    """

    transport: Transport
    codecs: CodecChain
    reporter: Reporter
    ledger: Ledger
    gauges: Gauges
    threads: anyio.CapacityLimiter
    resources: Resources
    heartbeat_interval: float
    abandon_after: float
    given_up: Callable[[ClaimedTask], None]
