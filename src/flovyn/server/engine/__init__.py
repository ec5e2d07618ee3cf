"""The engine: pure transitions over a store and an injected clock. No I/O of its own, no waiting, no randomness.

Every method is one step: it happens completely or, when it raises, not at all. What is ready to be polled afterwards is
in `Engine.take_ready`, what has ended in `Engine.take_ended`, and `Engine.next_at` says when `Engine.tick` has
something to do; acting on these is the shell's part.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from flovyn.server import limits
from flovyn.server.engine import cancellation, events, fencing, history
from flovyn.server.engine.core import Caller, Core, Ready
from flovyn.server.engine.described import Definitions, Described
from flovyn.server.engine.leases import Leases
from flovyn.server.engine.notes import Notes
from flovyn.server.engine.promises import Promises
from flovyn.server.engine.queries import Queries
from flovyn.server.engine.retrying import Retries
from flovyn.server.engine.scheduling import TaskWanted
from flovyn.server.engine.signals import Signalled, Signals
from flovyn.server.engine.starting import Start
from flovyn.server.engine.tasks import ClaimedTask, Tasks
from flovyn.server.engine.views import Views
from flovyn.server.engine.workers import Poller, Workers
from flovyn.server.engine.workflows import ClaimedRun, Started, Workflows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from flovyn.server.engine.leases import Claim
    from flovyn.server.store import Store
    from flovyn.server.store.orgs import OrgRow

__all__ = [
    "Caller",
    "ClaimedRun",
    "ClaimedTask",
    "Described",
    "Engine",
    "Poller",
    "Ready",
    "Signalled",
    "Start",
    "Started",
    "TaskWanted",
]


class Engine:
    """A Flovyn server without its surroundings.

    Args:
        store: Where everything is kept. Work that was claimed when it was last open is claimed still: its owners have
            the usual time to show up.
        clock: The time in epoch milliseconds; it never goes backwards.
        new_id: A fresh lower-case UUID with each call.
        worker_timeout_ms: How long a worker may be silent before it has lost its claims.
        patience_ms: The same for workers that echo no tokens: they are heard of less often; as long if left out.
    """

    def __init__(
        self,
        store: Store,
        *,
        clock: Callable[[], int],
        new_id: Callable[[], str],
        worker_timeout_ms: int = limits.WORKER_TIMEOUT_MS,
        patience_ms: int | None = None,
    ) -> None:
        leases = Leases(worker_timeout_ms, worker_timeout_ms if patience_ms is None else patience_ms)
        core = Core(store, clock=clock, new_id=new_id, leases=leases)
        self.core = core
        self.workflows: Workflows = Workflows(core)
        self.tasks: Tasks = Tasks(core)
        self.queries: Queries = Queries(core, self.workflows)
        self.notes: Notes = Notes(core, self.tasks)
        self.signals: Signals = Signals(core, self.workflows)
        self.promises: Promises = Promises(core)
        self.workers: Workers = Workers(core)
        self.definitions: Definitions = Definitions(core)
        self.retries: Retries = Retries(core, self.workflows)
        self.views: Views = Views(core, self.workflows, self.tasks)
        self._purge_at = clock()
        core.due(self._purge_at)  # the timers that came due while nobody was here
        self._restore()

    def sync(self, orgs: Iterable[OrgRow]) -> None:
        """Remember the organisations that are served, under their names of today."""
        with self.core.transaction():
            for org in orgs:
                self.core.store.orgs.put(replace(org, created_at=self.core.clock()))

    def reload(self) -> None:
        """Believe the store and nothing else: what was done last could not be written. Every connection stays known."""
        core = self.core
        kept = {claim.token for claim in self._stored_claims()}
        for claim in list(core.leases.claims()):
            if claim.token not in kept:
                core.leases.release(claim.token)
        self._restore()
        core.take_ready()
        core.take_ended()
        core.due(core.clock())
        self._purge_at = core.clock()

    def _restore(self) -> None:
        """Give those who have claimed something the usual time to show up."""
        for claim in self._stored_claims():
            self.core.leases.restore(claim, self.core.clock())

    def _stored_claims(self) -> list[Claim]:
        store = self.core.store
        claims = [fencing.claim_of("workflow", run) for run in store.runs.claimed()]
        return claims + [fencing.claim_of("task", task) for task in store.tasks.claimed()]

    # --- what the shell reacts to -----------------------------------------------------------

    def take_ready(self) -> list[Ready]:
        """The work that became ready since this was last asked, in order."""
        return self.core.take_ready()

    def take_ended(self) -> list[str]:
        """The runs that have ended since this was last asked, in order."""
        return self.core.take_ended()

    @property
    def next_at(self) -> float:
        """When `tick` has something to do, in epoch milliseconds: never later than that, at times earlier."""
        return min(self.core.due_at, self.core.leases.check_at, self._purge_at)

    def next_due(self) -> float:
        """When the next timer or deadline comes, exactly, in epoch milliseconds; infinity if there is none."""
        store = self.core.store
        ahead = (
            store.timers.next_due(),
            store.tasks.next_deadline(),
            store.tasks.next_scheduled(),
            store.promises.next_deadline(),
            store.runs.next_cancel_due(),
        )
        return min((at for at in ahead if at is not None), default=math.inf)

    def tick(self) -> None:
        """Do what the time has come for: timers, deadlines, lapsed leases, expired keys."""
        core, store = self.core, self.core.store
        now = core.clock()
        self._free_lapsed(now)
        if core.due_at <= now:
            self._fire(now)
            core.due_at = self.next_due()
        if self._purge_at <= now:
            with core.transaction():
                store.keys.purge(now)
            self._purge_at = now + limits.EXPIRED_KEYS_PURGE_MS

    def _fire(self, now: int) -> None:
        core, store = self.core, self.core.store
        timers = store.timers.due(now, limits.TICK_BATCH)
        with core.transaction():
            for n, timer_id in timers:
                store.timers.disarm(n, timer_id)
                run = store.runs.get(n)
                history.append(core, run, [events.timer_fired(timer_id)], external=True)
                history.wake(core, run)
                store.runs.save(run)
            for n in store.tasks.scheduled(now, limits.TICK_BATCH):
                self.tasks.begin(store.tasks.get(n))
            for n in store.tasks.overdue(now, limits.TICK_BATCH):
                task = store.tasks.get(n)
                if task.status not in history.ENDED:  # it may have ended with the one that it follows just now
                    self.tasks.time_out(task)
            for promise in store.promises.overdue(now, limits.TICK_BATCH):
                self.promises.time_out(promise)
            for n in store.runs.cancel_overdue(now, limits.TICK_BATCH):
                run = store.runs.get(n)
                if run.status not in history.ENDED:  # it may have ended with its parent just now
                    cancellation.force(core, run)

    def _free_lapsed(self, now: int) -> None:
        core, store = self.core, self.core.store
        lapsed = core.leases.lapsed(now)
        if not lapsed:
            return
        core.leases.check_at, check_at = now, core.leases.check_at  # until it is written, it is still to be done
        with core.transaction():
            for claim in lapsed:
                core.release(claim.token)
                if claim.of == "workflow":
                    run = store.runs.get(claim.n)
                    run.status = "PENDING"
                    store.runs.save(run)
                    core.make_ready("workflow", run.org_id, run.queue, run.kind)
                else:
                    task = store.tasks.get(claim.n)
                    task.status = "PENDING"
                    store.tasks.save(task)
                    core.make_ready("task", task.org_id, task.queue, task.kind)
        core.leases.check_at = check_at

    # --- connections ------------------------------------------------------------------------

    def call_begun(self, caller: Caller) -> None:
        """Any call at all is a sign that the client at the other end lives."""
        self.core.leases.touch(caller.link, self.core.clock())

    def poll_begun(self, caller: Caller) -> None:
        """A poll is being held open over this connection, which keeps its claims."""
        self.core.leases.touch(caller.link, self.core.clock()).polls += 1

    def poll_ended(self, caller: Caller) -> None:
        """A poll is held open no longer."""
        self.core.leases.poll_ended(caller.link, self.core.clock())

    def disconnected(self, link: int) -> None:
        """A connection closed; what was claimed over it will be freed soon."""
        self.core.leases.disconnect(link, self.core.clock())

    # --- cancellation -----------------------------------------------------------------------

    def request_cancel(self, caller: Caller, run_id: str, *, reason: str, requested_by: str = "") -> None:
        """Ask a workflow to stop; a second request ends it, whatever it is doing.

        Raises:
            NotFound: There is no such execution in the caller's organisation.
            FailedPrecondition: It has ended.
        """
        run = self.workflows.find(caller, run_id)
        with self.core.transaction():
            cancellation.request(self.core, run, reason=reason, requested_by=requested_by)
