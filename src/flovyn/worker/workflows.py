"""Claiming workflows that can go on, and having them go on."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final, NoReturn

import anyio

from flovyn.errors import FlovynError, ServerError, TransportError
from flovyn.wire import methods
from flovyn.wire.messages.flovyn import v1 as pb
from flovyn.wire.raw import RAW_EVENTS
from flovyn.worker.claims import claim_of, claim_of_more, wanting
from flovyn.worker.report import WorkItem

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from flovyn.wire.transport import Transport
    from flovyn.worker.execution import Executions
    from flovyn.worker.polling import PollIdentity
    from flovyn.worker.report import Ledger
    from flovyn.worker.slots import Slot
    from flovyn.worker.statistics import Gauges

__all__ = ["ClaimedWorkflow", "WorkflowRunner"]

logger: logging.Logger = logging.getLogger("flovyn.worker")

_WITH_HISTORY: Final = {"flovyn-history": str(256 * 1024)}
"""Asks for the history together with the workflow, if it is not larger than this. A server need not know of it."""

_SHOW_EVERY: Final = 1.0
"""Seconds after which a server is told of an activation that is still under way."""


class ClaimedWorkflow:
    """One activation of a workflow that is this worker's, until it is submitted or lost."""

    __slots__ = ("claim", "polled", "scope", "since")

    def __init__(self, polled: pb.WorkflowExecution, claim: Mapping[str, str]) -> None:
        self.polled: pb.WorkflowExecution = polled
        self.claim: Mapping[str, str] = claim
        self.scope: anyio.CancelScope = anyio.CancelScope()
        self.since: float = anyio.current_time()


class WorkflowRunner:
    """Claims activations and runs each in a scope of its own."""

    __slots__ = ("_executions", "_gauges", "_identity", "_kinds", "_ledger", "_running", "_stopping", "_transport")

    def __init__(
        self,
        transport: Transport,
        executions: Executions,
        kinds: Sequence[str],
        *,
        identity: PollIdentity,
        ledger: Ledger,
        gauges: Gauges,
    ) -> None:
        self._transport = transport
        self._executions = executions
        self._kinds = list(kinds)
        self._identity = identity
        self._ledger = ledger
        self._gauges = gauges
        self._stopping: str | None = None
        self._running: dict[ClaimedWorkflow, None] = {}

    async def poll(self, at_most: int) -> list[ClaimedWorkflow]:
        """Ask the server once for so many workflows that can go on."""
        reply = await self._transport.unary(
            methods.POLL_WORKFLOW,
            pb.PollRequest(
                worker_id=self._identity.worker_id,
                org_id=self._identity.org_id,
                queue=self._identity.queue,
                timeout_seconds=self._identity.seconds,
                workflow_capabilities=self._kinds,
            ),
            metadata=_WITH_HISTORY | wanting(at_most),
        )
        polled = reply.message.workflow_execution
        if polled is None:
            return []
        more = [ClaimedWorkflow(other, claim_of_more(other.claim)) for other in reply.message.more]
        return [ClaimedWorkflow(polled, claim_of(reply.metadata)), *more]

    def lose_all(self, reason: str) -> None:
        """End all activations: the server has given the workflows to others."""
        for claimed in self._running:
            claimed.scope.cancel(reason)

    def stop_all(self, reason: str) -> None:
        """End all activations, and each that is still to begin."""
        self._stopping = reason
        self.lose_all(reason)

    async def show_claims(self) -> NoReturn:
        """Tell the server of activations that take long that they are in good hands, until cancelled.

        Else it would give away one that came with its history, in case the answer to the poll was lost; and one that
        was claimed over a connection that was lost meanwhile.
        """
        while True:
            await anyio.sleep(_SHOW_EVERY)
            before = anyio.current_time() - _SHOW_EVERY
            for claimed in [*self._running]:
                if claimed.since <= before and claimed.claim:
                    await self._show(claimed)

    async def _show(self, claimed: ClaimedWorkflow) -> None:
        request = pb.GetEventsRequest(workflow_execution_id=claimed.polled.id)
        try:
            await self._transport.unary(RAW_EVENTS, request, metadata=claimed.claim)
        except FlovynError as error:
            # Whether the server is away is the session's business.
            logger.debug("the claim of workflow %s could not be shown: %s", claimed.polled.id, error)

    async def run(self, claimed: ClaimedWorkflow, slot: Slot) -> None:
        """Run one activation."""
        await slot.held()
        self._running[claimed] = None
        if self._stopping is not None:
            claimed.scope.cancel(self._stopping)
        reason: str | None = None
        try:
            with self._gauges.count("running_workflows"), claimed.scope:
                await self._executions.execute(claimed.polled, claimed.claim)
            if claimed.scope.cancelled_caught:
                reason = self._stopping or "it was lost"
        except (ServerError, TransportError) as error:
            # Nothing is lost: the server hands the workflow out again once it misses us.
            logger.warning("workflow %s (%s) was interrupted: %s", claimed.polled.id, claimed.polled.kind, error)
            reason = str(error)
        finally:
            del self._running[claimed]
        item = WorkItem("workflow", claimed.polled.kind, claimed.polled.id, reason)
        (self._ledger.finished if reason is None else self._ledger.cancelled)(item)
