"""The nurseries of one running worker, and the order in which they end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import anyio

from flovyn.wire import methods
from flovyn.wire.payload_transport import PayloadTransport
from flovyn.worker.contact import Contact
from flovyn.worker.execution import Executions
from flovyn.worker.polling import Poller, PollIdentity
from flovyn.worker.registration import registration_request
from flovyn.worker.reports import Reporter
from flovyn.worker.sessions import Sessions
from flovyn.worker.tasks import TaskRunner
from flovyn.worker.workflows import WorkflowRunner

if TYPE_CHECKING:
    from collections.abc import Callable

    from flovyn.wire.transport import Transport
    from flovyn.worker.plan import Plan
    from flovyn.worker.statistics import Gauges

__all__ = ["Tree"]

# How long, once the scopes of what runs are cancelled, the server may still be told of tasks that have just ended.
_FAREWELL: Final = 2.0

# A payload that cannot be decoded concerns the one piece of work that it came with, not the session that polls.
_DECODED_LATER: Final = (methods.POLL_WORKFLOW, methods.POLL_TASK)


class Tree:
    """One run of a worker.

    Work and upkeep are apart. Upkeep is what the connection needs: a session (registration, heartbeat, pollers), and
    the watch over the lease. Work is what was claimed: it outlives sessions, and ends before upkeep does, so that its
    claims are kept alive until the last of it is done.
    """

    def __init__(self, plan: Plan, transport: Transport, gauges: Gauges) -> None:
        self._plan = plan
        bare = transport
        if plan.codecs.names:
            transport = PayloadTransport(transport, plan.codecs, undecoded=_DECODED_LATER)
        self._transport = transport
        self._gauges = gauges
        self._stop = anyio.Event()
        self._contact = Contact()
        options = plan.options
        identity = PollIdentity(plan.name, plan.org_id, plan.queue)
        self._reporter = Reporter(transport, bare=bare, backoff=options.reconnect, lease=options.lease)
        self._tasks = TaskRunner(
            transport,
            plan.tasks,
            codecs=plan.codecs,
            identity=identity,
            reporter=self._reporter,
            heartbeat_interval=options.task_heartbeat_interval,
            gauges=gauges,
        )
        self._executions = Executions(
            transport, plan.workflows, codecs=plan.codecs, cancel_task=self._tasks.cancel, options=options
        )
        self._workflows = WorkflowRunner(
            transport,
            self._executions,
            [workflow.kind for workflow in plan.workflows],
            identity=identity,
            gauges=gauges,
        )
        self._pollers: list[Poller[Any]] = []
        if plan.workflows:
            self._pollers.append(self._poller(self._workflows, options.max_concurrent_workflows))
        if plan.tasks:
            self._pollers.append(self._poller(self._tasks, options.max_concurrent_tasks))

    def stop(self) -> None:
        """Poll no more, and end when what runs is done or its grace is over."""
        self._stop.set()

    async def run(self, ready: Callable[[], None]) -> None:
        """Work until `stop`; `ready` is called once the worker polls, and perhaps again."""
        try:
            async with anyio.create_task_group() as work:
                try:
                    await self._upkeep(work, ready)
                finally:
                    # Here the worker is told to end at once, or has drained: what is left is told why, then cancelled.
                    self._reporter.hurry(_FAREWELL)
                    self._tasks.announce("the worker is stopping")
                    work.cancel_scope.cancel("the worker is stopping")
        finally:
            self._executions.close()

    async def _upkeep(self, work: anyio.abc.TaskGroup, ready: Callable[[], None]) -> None:
        sessions = Sessions(
            self._transport,
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
            await self._stop.wait()
            ready()
            for poller in self._pollers:
                poller.stop()
            with anyio.move_on_after(self._plan.options.grace):
                await self._drained()
            upkeep.cancel_scope.cancel("the worker is stopping")

    async def _drained(self) -> None:
        for poller in self._pollers:
            await poller.drained()

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

    def _poller(self, runner: Any, limit: int) -> Poller[Any]:
        return Poller(runner, limit=limit, contact=self._contact, gauges=self._gauges)
