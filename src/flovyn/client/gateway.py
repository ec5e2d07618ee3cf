"""The ways to the server that a client and its handles share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flovyn.client.calls import Calls
    from flovyn.client.executions import Executions
    from flovyn.client.promises import Promises
    from flovyn.client.queries import Queries
    from flovyn.client.signals import Signals
    from flovyn.client.tasks import Tasks
    from flovyn.client.watch import Watch

__all__ = ["Gateway"]


@dataclass(frozen=True, slots=True)
class Gateway:
    """Everything that can be asked of the server.

    Attributes:
        org_id: The organisation.
        calls: Calls over gRPC, whose payloads go through the codecs.
        watch: Histories.
        executions: Workflows, over REST.
        tasks: Tasks that stand alone.
        signals: Signals.
        promises: Promises.
        queries: Queries.
    """

    org_id: str
    calls: Calls
    watch: Watch
    executions: Executions
    tasks: Tasks
    signals: Signals
    promises: Promises
    queries: Queries
