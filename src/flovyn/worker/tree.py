"""The nurseries of one running worker, and the order in which they end."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import anyio

from flovyn.wire import methods
from flovyn.wire.payload_transport import PayloadTransport
from flovyn.worker.contact import Contact
from flovyn.worker.execution import Executions
from flovyn.worker.patience import ANSWER_WITHIN
from flovyn.worker.polling import Poller, PollIdentity
from flovyn.worker.registration import registration_request
from flovyn.worker.reports import Reporter
from flovyn.worker.sessions import Sessions
from flovyn.worker.tasks import TaskRunner
from flovyn.worker.workflows import WorkflowRunner

if TYPE_CHECKING:
    from collections.abc import Callable

    from anyio.abc import TaskGroup

    from flovyn.task import Resources
    from flovyn.wire.transport import Transport
    from flovyn.worker.plan import Plan
    from flovyn.worker.report import Ledger
    from flovyn.worker.statistics import Gauges

__all__ = ["Tree"]

# How long, once the scopes of what runs are cancelled, the server may still be told of tasks that have just ended.
_FAREWELL: Final = 2.0

_STOPPING: Final = "the worker is stopping"

# A payload that cannot be decoded concerns the one piece of work that it came with, not the session that polls.
_DECODED_LATER: Final = (methods.POLL_WORKFLOW, methods.POLL_TASK)


class Tree:
    """One run of a worker.

    Work and upkeep are apart. Upkeep is what the connection needs: a session (registration, heartbeat, pollers), and
    the watch over the lease. Work is what was claimed: it outlives sessions, and ends before upkeep does, so that its
    claims are kept alive until the last of it is done.

    Nothing in here is cancelled from outside: it is told to stop, so that whatever ends early knows why.
    """

    def __init__(self, plan: Plan, transport: Transport, resources: Resources, gauges: Gauges, ledger: Ledger) -> None:
        self._plan = plan
        self._bare = bare = transport
        if plan.codecs.names:
            transport = PayloadTransport(transport, plan.codecs, undecoded=_DECODED_LATER)
        self._gauges = gauges
        self._ledger = ledger
        self._stop = anyio.Event()
        self._until = math.inf  # when the grace is over
        self._draining = anyio.CancelScope()
        self._contact = Contact()
        options = plan.options
        identity = PollIdentity(plan.name, plan.org_id, plan.queue)
        self._answer_within = identity.seconds + ANSWER_WITHIN
        self._reporter = Reporter(transport, bare=bare, lease=options.lease)
        self._tasks = TaskRunner(
            transport,
            plan.tasks,
            codecs=plan.codecs,
            identity=identity,
            reporter=self._reporter,
            ledger=ledger,
            resources=resources,
            options=options,
            gauges=gauges,
        )
        self._executions = Executions(
            transport,
            plan.workflows,
            codecs=plan.codecs,
            cancel_task=self._tasks.cancel,
            workflow_ended=self._tasks.workflow_ended,
            options=options,
        )
        self._workflows = WorkflowRunner(
            transport,
            self._executions,
            [workflow.kind for workflow in plan.workflows],
            identity=identity,
            ledger=ledger,
            gauges=gauges,
        )
        self._pollers: list[Poller[Any]] = []
        if plan.workflows:
            self._pollers.append(self._poller(self._workflows, options.max_concurrent_workflows))
        if plan.tasks:
            self._pollers.append(self._poller(self._tasks, options.max_concurrent_tasks))

    def stop(self, grace: float) -> None:
        """Poll no more, and end when what runs is done or its grace is over. A later call can only shorten that."""
        self._until = min(self._until, anyio.current_time() + grace)
        self._draining.deadline = self._until
        self._ledger.begin()
        self._stop.set()

    async def run(self, ready: Callable[[], None]) -> None:
        """Work until `stop`; `ready` is called once the worker polls, and perhaps again."""
        try:
            async with anyio.create_task_group() as work:
                try:
                    await self._upkeep(work, ready)
                finally:
                    self._end()
        finally:
            self._executions.close()

    def _end(self) -> None:
        """What is left of the work is told why, and cancelled."""
        self._ledger.begin()
        self._reporter.hurry(_FAREWELL)
        self._tasks.stop_all(_STOPPING)
        self._workflows.stop_all(_STOPPING)

    async def _upkeep(self, work: TaskGroup, ready: Callable[[], None]) -> None:
        sessions = Sessions(
            self._bare,
            registration_request(
                name=self._plan.name,
                org_id=self._plan.org_id,
                workflows=self._plan.workflows,
                tasks=self._plan.tasks,
            ),
            self._pollers,
            work=work,
            options=self._plan.options,
            contact=self._contact,
            gauges=self._gauges,
            ready=ready,
        )
        async with anyio.create_task_group() as upkeep:
            upkeep.start_soon(sessions.run)
            upkeep.start_soon(self._watch_lease)
            if self._plan.workflows:
                upkeep.start_soon(self._keep_cache_young)
                upkeep.start_soon(self._show_claims)
            await self._stop.wait()
            ready()
            for poller in self._pollers:
                poller.stop()
            with self._draining:
                for poller in self._pollers:
                    await poller.drained()
            upkeep.cancel_scope.cancel(_STOPPING)

    async def _watch_lease(self) -> None:
        lease = self._plan.options.lease
        with self._gauges.count("internal_tasks"):
            while True:
                silence = self._contact.silence()
                if silence >= lease:
                    reason = f"the server has not been heard for {lease:g} s and gives the work to others"
                    self._tasks.lose_all(reason)
                    self._workflows.lose_all(reason)
                # Work that comes later comes by an answer, which begins a new lease.
                await anyio.sleep(lease if silence >= lease else lease - silence)

    async def _keep_cache_young(self) -> None:
        with self._gauges.count("internal_tasks"):
            await self._executions.keep_young()

    async def _show_claims(self) -> None:
        with self._gauges.count("internal_tasks"):
            await self._workflows.show_claims()

    def _poller(self, runner: Any, limit: int) -> Poller[Any]:
        return Poller(
            runner, limit=limit, answer_within=self._answer_within, contact=self._contact, gauges=self._gauges
        )
