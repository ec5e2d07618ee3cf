"""Cancels at random points leave nothing behind: no task, no stream, no slot, no timer, nothing on the server.

Each run does some things at once that would never end, and is ended at a random moment: from outside, once or twice, by
itself, by way of one of its tasks, or together with who waits for it.
"""

from __future__ import annotations

import gc
import random
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from flovyn import (
    RetryPolicy,
    SyncTaskContext,
    TaskContext,
    WorkflowCancelled,
    WorkflowContext,
    WorkflowFailed,
    task,
    workflow,
)
from flovyn.errors import FailedPrecondition
from flovyn.server.engine import Caller
from flovyn.server.engine.history import ENDED
from flovyn.server.engine.invariants import violations
from flovyn.task.pump import Pump
from flovyn.testing import Environment, environment
from flovyn.wire import methods
from flovyn.wire.messages.flovyn import v1 as pb
from flovyn.worker.attempt import Attempt
from flovyn.worker.claimed import ClaimedTask

pytestmark = pytest.mark.anyio

AT_ONCE = 20
WORKFLOW_SLOTS, TASK_SLOTS = 10, 20  # the defaults of a worker, which an environment keeps


# --- what never ends ------------------------------------------------------------------------------


@task
async def waiting(ctx: TaskContext) -> None:
    await anyio.sleep_forever()


@task
async def speaking(ctx: TaskContext) -> None:
    while True:
        ctx.log("INFO", "still here")
        ctx.report_progress(0.5)
        await ctx.stream_token("word")
        await ctx.set("k", 1)
        await anyio.sleep(0.001)


@task
def computing(ctx: SyncTaskContext) -> None:
    while True:
        ctx.check_cancellation()
        time.sleep(0.001)


@task(retry=RetryPolicy(max_attempts=1_000, initial_interval=0.005, multiplier=1))
async def failing(ctx: TaskContext) -> None:
    raise ValueError(ctx.attempt)


@task(start_to_close=0.005, retry=RetryPolicy(max_attempts=1_000, initial_interval=0.001, multiplier=1))
async def late(ctx: TaskContext) -> None:
    await anyio.sleep_forever()


@workflow
async def leaf(ctx: WorkflowContext) -> None:
    try:
        await ctx.wait_for_signal("never")
    finally:
        with anyio.CancelScope(shield=True):
            await ctx.schedule(cleaning)


async def sleeping(ctx: WorkflowContext) -> None:
    await ctx.sleep(10**6)


async def bounded(ctx: WorkflowContext) -> None:
    with anyio.fail_after(10**6):
        await ctx.wait_for_signal("never")


async def promised(ctx: WorkflowContext) -> None:
    await ctx.promise(f"link {ctx.random()}", expires_after=10**6)


async def operating(ctx: WorkflowContext) -> None:
    # An operation is short, and a cancel from elsewhere is seen when it is over.
    await ctx.run("turn", anyio.sleep, 0.01)
    await ctx.sleep(10**6)


async def scheduling(ctx: WorkflowContext) -> None:
    await ctx.schedule(ctx.new_random().choice([waiting, speaking, failing, late]))


async def in_a_thread(ctx: WorkflowContext) -> None:
    await ctx.schedule(computing)


async def handing_on(ctx: WorkflowContext) -> None:
    await ctx.schedule(waiting.options(on_cancel="wait"))


async def with_a_child(ctx: WorkflowContext) -> None:
    await ctx.schedule_workflow(leaf)


ENDLESS: list[Callable[[WorkflowContext], Coroutine[Any, Any, None]]] = [
    sleeping,
    bounded,
    promised,
    operating,
    scheduling,
    scheduling,
    in_a_thread,
    handing_on,
    with_a_child,
]


# --- what ends it ---------------------------------------------------------------------------------


@task
async def cleaning(ctx: TaskContext) -> None: ...


async def turns(number: int) -> None:
    for _ in range(number):
        await anyio.lowlevel.checkpoint()


@workflow
async def storm(ctx: WorkflowContext, own: int) -> str:
    """Does some of it at once; ends by itself after so many turns of the event loop, unless that is negative."""
    source = ctx.new_random()
    try:
        async with anyio.create_task_group() as tg:
            for _ in range(source.randint(1, 3)):
                tg.start_soon(source.choice(ENDLESS), ctx)
            if own >= 0:
                await ctx.run("turns", turns, own)
                tg.cancel_scope.cancel()
    finally:
        with anyio.CancelScope(shield=True):
            await ctx.schedule(cleaning)
    return "ended"


class Storm:
    """Starts runs and ends them."""

    def __init__(self, env: Environment, seed: int) -> None:
        self.env = env
        self.source = random.Random(seed)
        self.ends: Counter[str] = Counter()

    async def run(self, count: int) -> None:
        limiter = anyio.CapacityLimiter(AT_ONCE)

        async def one() -> None:
            async with limiter:
                await self.one()

        async with anyio.create_task_group() as tg:
            for _ in range(count):
                tg.start_soon(one)

    async def one(self) -> None:
        way = self.source.choice(["itself", "asked", "forced", "task", "waiting"])
        handle = await self.env.client.start(storm, self.source.randrange(40) if way == "itself" else -1)
        await self.pause()
        if way == "waiting":
            with anyio.CancelScope() as scope:
                async with anyio.create_task_group() as tg:
                    tg.start_soon(handle.result)
                    await self.pause()
                    scope.cancel()
        if way == "task":
            await self.cancel_a_task(await handle.history())
        if way != "itself":
            self.cancel(handle.id)
        if way == "forced":
            await self.pause()
            self.cancel(handle.id)
        await handle.history()  # a call, so that the server acts on what was asked from inside
        try:
            self.ends[await handle.result()] += 1
        except WorkflowCancelled:
            self.ends["cancelled"] += 1
        except WorkflowFailed as failed:
            assert (way, failed.error_type) == ("task", "TaskCancelled")
            self.ends["failed"] += 1
        self.ends[way] += 1

    async def pause(self) -> None:
        """For some turns of the event loop, or for some milliseconds."""
        if self.source.random() < 0.5:
            await turns(self.source.randrange(60))
        else:
            await anyio.sleep(self.source.random() * 0.02)

    def cancel(self, run: str) -> None:
        try:
            self.env.engine.request_cancel(Caller(self.env.org_id, 0), run, reason="enough")
        except FailedPrecondition:
            pass  # it has ended

    async def cancel_a_task(self, history: list[Any]) -> None:
        scheduled = [event.data["taskExecutionId"] for event in history if event.type == "TASK_SCHEDULED"]
        if scheduled:
            request = pb.CancelTaskRequest(task_execution_id=self.source.choice(scheduled))
            try:
                await self.env.client.transport.unary(methods.CANCEL_TASK, request)
            except FailedPrecondition:
                pass


# --- what is left ---------------------------------------------------------------------------------


def kept() -> Counter[str]:
    """What a worker has in memory for tasks that it was given."""
    gc.collect()
    kinds = (ClaimedTask, Attempt, Pump)
    return Counter(type(each).__name__ for each in gc.get_objects() if type(each) in kinds)


def waited_for(env: Environment) -> dict[str, object]:
    """Everything on the server that somebody could still be waiting for."""
    store = env.engine.core.store
    return {
        "runs": [run.status for run in store.runs.all() if run.status not in ENDED],
        "tasks": [task.status for task in store.tasks.all() if task.status not in ENDED],
        "promises": [promise.name for promise in store.promises.all() if promise.status == "PENDING"],
        "timers": store.timers.armed(),
        "due": env.engine.next_due(),
        "claims": [claim.of for claim in env.engine.core.leases.claims()],
    }


def under_way(env: Environment) -> tuple[object, ...]:
    """What runs here: tasks of the event loop, what the worker counts, and calls."""
    calls: Any = env.client.transport
    return len(anyio.get_running_tasks()), env.worker.statistics(), calls.statistics().active_calls


async def calm(look: Callable[[], object], wanted: object) -> None:
    """Wait until it looks as wanted; what it looks like instead stands in the failure."""
    with anyio.move_on_after(10):
        while look() != wanted:
            await anyio.sleep(0.01)
    assert look() == wanted


class Meeting:
    """Lets those who come go on when so many are there at once."""

    def __init__(self, size: int) -> None:
        self.missing = size
        self.complete = anyio.Event()

    async def come(self) -> None:
        self.missing -= 1
        if not self.missing:
            self.complete.set()
        await self.complete.wait()


async def storm_leaves_nothing(count: int, *, seed: int, network: bool) -> Counter[str]:
    """Let so many runs be cancelled, and look for what is left; returns how they ended."""
    workflows, tasks = Meeting(WORKFLOW_SLOTS), Meeting(TASK_SLOTS)

    @task
    async def meet(ctx: TaskContext) -> None:
        await tasks.come()

    @workflow
    async def meet_with_tasks(ctx: WorkflowContext) -> None:
        handles = [ctx.schedule_async(meet) for _ in range(TASK_SLOTS)]
        for handle in handles:
            await handle

    @workflow
    async def meet_as_workflow(ctx: WorkflowContext) -> None:
        await ctx.run("meet", workflows.come)

    kinds: list[Any] = [storm, leaf, meet_with_tasks, meet_as_workflow]
    bodies = [waiting, speaking, computing, failing, late, cleaning, meet]
    before = kept()
    async with environment(workflows=kinds, tasks=bodies, network=network) as env:
        await env.client.handle(storm, (await env.client.start(storm, 0)).id).result()
        with anyio.fail_after(5):
            while env.worker.statistics().running_tasks:  # the one that it has just given up
                await anyio.sleep(0.001)
        await anyio.wait_all_tasks_blocked()
        calm_before, nothing = under_way(env), waited_for(env)
        here = Storm(env, seed)
        await here.run(count)
        with env.clock.passing():  # children may outlive who started them by a moment
            await calm(lambda: waited_for(env), nothing)
        await calm(lambda: under_way(env), calm_before)
        await calm(kept, before)
        # Every slot is there still: each of these ends only if all of them run at once.
        with anyio.fail_after(10):
            await (await env.client.start(meet_with_tasks)).result()
            handles = [await env.client.start(meet_as_workflow) for _ in range(WORKFLOW_SLOTS)]
            for handle in handles:
                await handle.result()
        if count <= 200:  # it compares everything with everything
            assert violations(env.engine) == []
    assert kept() == before
    return here.ends


@pytest.mark.parametrize(("count", "network"), [(100, False), (30, True)], ids=["in memory", "over sockets"])
async def test_cancels_at_random_points_leave_nothing(count: int, network: bool) -> None:
    with anyio.fail_after(60):
        ends = await storm_leaves_nothing(count, seed=1, network=network)
    assert ends["ended"] + ends["cancelled"] + ends["failed"] == count
    assert min(ends[way] for way in ("itself", "asked", "forced", "task", "waiting", "ended", "cancelled")) > 0


@pytest.mark.deep
@pytest.mark.parametrize(("count", "network"), [(10_000, False), (1_000, True)], ids=["in memory", "over sockets"])
async def test_ten_thousand_cancels_at_random_points_leave_nothing(count: int, network: bool) -> None:
    with anyio.fail_after(1_800):
        ends = await storm_leaves_nothing(count, seed=2, network=network)
    assert ends["ended"] + ends["cancelled"] + ends["failed"] == count
