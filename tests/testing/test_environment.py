"""A server, a worker and a client under a clock that the test moves: what passes, and what holds the time."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest

from flovyn import (
    Promise,
    PromiseTimeout,
    TaskContext,
    TaskTimeout,
    Worker,
    WorkflowCancelled,
    WorkflowContext,
    WorkflowFailed,
    WorkflowHandle,
    task,
    workflow,
)
from flovyn.errors import ConfigurationError, UsageError
from flovyn.serde.codecs import ZlibCodec
from flovyn.server.engine.invariants import violations
from flovyn.testing import Environment, VirtualClock, environment
from flovyn.wire import methods
from flovyn.wire.messages.flovyn import v1 as pb

pytestmark = pytest.mark.anyio

START = datetime(2030, 1, 31, 12, tzinfo=UTC)
MONTH = timedelta(days=30)
LIMIT_S = 20


@asynccontextmanager
async def running(**options: Any) -> AsyncGenerator[Environment]:
    with anyio.fail_after(LIMIT_S):
        async with environment(start=START, **options) as env:
            yield env
            assert violations(env.engine) == []


async def signal(env: Environment, handle: WorkflowHandle[Any], name: str = "go") -> None:
    request = pb.SignalWorkflowRequest(
        org_id=env.org_id, workflow_execution_id=handle.id, signal_name=name, signal_value=b"1"
    )
    await env.client.transport.unary(methods.SIGNAL_WORKFLOW, request)


async def has(handle: WorkflowHandle[Any], kind: str) -> None:
    """Wait until the history has such an event."""
    while kind not in [event.type for event in await handle.history()]:
        await anyio.sleep(0.001)


@task
async def greet(ctx: TaskContext, name: str) -> str:
    return f"hello {name}"


@workflow
async def sleeper(ctx: WorkflowContext, seconds: float) -> tuple[datetime, datetime]:
    began = ctx.current_time()
    await ctx.sleep(seconds)
    return began, ctx.current_time()


@workflow
async def monthly(ctx: WorkflowContext, name: str) -> list[str]:
    said = [await ctx.schedule(greet, name)]
    await ctx.sleep(MONTH)
    return [*said, await ctx.schedule(greet, name)]


@workflow
async def patient(ctx: WorkflowContext) -> str:
    with anyio.move_on_after(86_400):
        await ctx.wait_for_signal("go")
        return "in time"
    return "too late"


@pytest.mark.parametrize("network", [False, True], ids=["memory", "network"])
async def test_a_month_takes_no_time(network: bool) -> None:
    async with running(workflows=[monthly], tasks=[greet], network=network) as env:
        assert (env.url is not None) is network
        really = anyio.current_time()
        handle = await env.client.start(monthly, "ann")
        assert await handle.result() == ["hello ann", "hello ann"]
        assert anyio.current_time() - really < 5
        assert env.clock.now == START + MONTH


async def test_time_is_exact() -> None:
    async with running(workflows=[sleeper]) as env:
        for seconds in (0, 0.001, 1, 86_400 * 365):
            began = env.clock.now
            handle = await env.client.start(sleeper, seconds)
            assert await handle.result() == (began, began + timedelta(seconds=seconds))
        assert env.clock() == round(env.clock.now.timestamp() * 1000)


async def test_time_stands_still_while_the_test_does_something_else() -> None:
    async with running(workflows=[patient]) as env:
        handle = await env.client.start(patient)
        await has(handle, "TIMER_STARTED")
        await anyio.sleep(0.05)
        assert env.clock.now == START
        await signal(env, handle)
        assert await handle.result() == "in time"
        assert env.clock.now == START
        late = await env.client.start(patient)
        assert await late.result() == "too late"
        assert env.clock.now == START + timedelta(days=1)


async def test_waiting_for_one_workflow_does_not_pass_the_time_of_another() -> None:
    async with running(workflows=[sleeper, monthly], tasks=[greet]) as env:
        long = await env.client.start(sleeper, 86_400)
        for _ in range(5):
            short = await env.client.start(sleeper, 0)
            await short.result()
        assert env.clock.now == START
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(long.result)
            tasks.start_soon((await env.client.start(monthly, "bob")).result)
        assert env.clock.now == START + MONTH


@workflow
async def guarded(ctx: WorkflowContext) -> str:
    with anyio.move_on_after(1):
        return await ctx.schedule(slow)
    return "too slow"


@task
async def slow(ctx: TaskContext) -> str:
    await anyio.sleep(0.05)
    return "done"


@workflow
async def guarded_operation(ctx: WorkflowContext) -> str:
    async def body() -> str:
        await anyio.sleep(0.05)
        return "done"

    with anyio.move_on_after(1):
        return await ctx.run("slow", body)
    return "too slow"


async def test_work_that_is_under_way_holds_the_time() -> None:
    async with running(workflows=[guarded, guarded_operation], tasks=[slow]) as env:
        assert await (await env.client.start(guarded)).result() == "done"
        assert await (await env.client.start(guarded_operation)).result() == "done"
        assert env.clock.now == START


@workflow
async def in_no_time(ctx: WorkflowContext) -> str:
    await ctx.sleep(0)
    return "done"


@workflow
async def waits_for_held(ctx: WorkflowContext) -> None:
    await ctx.schedule(held)


@task
async def held(ctx: TaskContext) -> None:
    await anyio.sleep_forever()


async def test_it_does_not_hold_what_is_due_at_once() -> None:
    async with running(workflows=[in_no_time, waits_for_held], tasks=[held]) as env:
        await env.client.start(waits_for_held)
        while not env.worker.statistics().running_tasks:
            await anyio.sleep(0.001)
        with anyio.fail_after(5):
            assert await (await env.client.start(in_no_time)).result() == "done"
        assert env.clock.now == START


async def test_time_is_moved_by_hand_and_stops_at_every_timer() -> None:
    async with running(workflows=[sleeper, ticker]) as env:
        first, second = [await env.client.start(sleeper, seconds) for seconds in (10, 20)]
        await env.clock.advance(9.999)
        assert not await ended(first)
        await env.clock.advance(timedelta(milliseconds=1))
        assert await ended(first)
        assert not await ended(second)
        await env.clock.advance_to(START + timedelta(seconds=20))
        assert await ended(second)
        assert await second.result() == (START, START + timedelta(seconds=20))
        clock = await env.client.start(ticker)
        began = env.clock.now
        await env.clock.advance(timedelta(days=1))
        ticks = [event for event in await clock.history() if event.type == "TIMER_FIRED"]
        assert len(ticks) == 24
        assert env.clock.now == began + timedelta(days=1)


async def ended(handle: WorkflowHandle[Any]) -> bool:
    return (await handle.history())[-1].type == "WORKFLOW_COMPLETED"


@workflow
async def ticker(ctx: WorkflowContext) -> None:
    while True:
        await ctx.sleep(3_600)


@task(schedule_to_close=timedelta(minutes=1))
async def hang(ctx: TaskContext) -> None:
    await anyio.sleep_forever()


@workflow
async def hangs(ctx: WorkflowContext) -> str:
    try:
        await ctx.schedule(hang)
    except TaskTimeout as failure:
        return failure.message
    return "never"


async def test_time_can_pass_over_a_body_that_hangs() -> None:
    async with running(workflows=[hangs], tasks=[hang]) as env:
        handle = await env.client.start(hangs)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(handle.result)  # it alone would wait for the body for ever
            while not env.worker.statistics().running_tasks:
                await anyio.sleep(0.001)
            await env.clock.advance(59, wait_for_work=False)
            assert not await ended(handle)
            await env.clock.advance(1, wait_for_work=False)
        assert "timed out" in (await handle.result()).lower()
        while env.worker.statistics().running_tasks:  # it learns of it by its heartbeat
            await anyio.sleep(0.01)


async def test_time_passes_inside_a_block_that_says_so() -> None:
    reached = anyio.Event()

    @task
    async def reach(ctx: TaskContext) -> None:
        reached.set()

    @workflow
    async def later(ctx: WorkflowContext) -> None:
        await ctx.sleep(3_600)
        await ctx.schedule(reach)
        await ctx.sleep(3_600)

    async with running(workflows=[later], tasks=[reach]) as env:
        await env.client.start(later)
        with anyio.move_on_after(0.05):
            await reached.wait()
        assert env.clock.now == START
        with env.clock.passing():
            await reached.wait()
        assert START + timedelta(hours=1) <= env.clock.now <= START + timedelta(hours=2)


@workflow
async def asks_late(ctx: WorkflowContext) -> bool:
    await ctx.sleep(3_600)
    return await ctx.promise(Promise[bool]("approval"))


async def test_waiting_for_what_a_workflow_does_lets_time_pass() -> None:
    async with running(workflows=[asks_late, sleeper]) as env:
        handle = await env.client.start(asks_late)
        await handle.resolve(Promise[bool]("approval"), True)
        assert env.clock.now == START + timedelta(hours=1)
        assert await handle.result() is True
        sleeping = await env.client.start(sleeper, 3_600)
        with anyio.fail_after(LIMIT_S):
            last = [event.type async for event in sleeping.follow()][-1]
        assert (last, env.clock.now) == ("WORKFLOW_COMPLETED", START + timedelta(hours=2))


@task
async def number(ctx: TaskContext, value: int) -> int:
    return value


@workflow
async def cleans_up(ctx: WorkflowContext) -> None:
    try:
        await ctx.sleep(86_400)
    finally:
        with anyio.CancelScope(shield=True):
            await ctx.sleep(60)
            ctx.set("reason", ctx.cancel_reason)


@pytest.mark.parametrize("network", [False, True])
async def test_what_goes_over_rest_is_there_too(network: bool) -> None:
    async with running(workflows=[cleans_up, sleeper], tasks=[number], network=network) as env:
        handle = await env.client.start(cleans_up)
        await has(handle, "WORKFLOW_SUSPENDED")
        await handle.cancel("enough")
        with pytest.raises(WorkflowCancelled, match="^enough$"):
            await handle.result()
        assert env.clock.now == START + timedelta(minutes=1)
        assert (await handle.describe()).status == "CANCELLED"
        assert await handle.query_server("reason") == "enough"
        assert [found.id async for found in env.client.workflows()] == [handle.id]
        later = env.client.submit_options(scheduled_at=START + timedelta(days=1))
        submitted = await later.submit(number, 7)
        assert (await submitted.describe()).status == "PENDING"
        assert env.clock.now == START + timedelta(minutes=1)
        assert await submitted.result() == 7
        assert env.clock.now == START + timedelta(days=1)


async def test_rest_without_its_packages_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flovyn.testing.environments.web.missing_packages", lambda: ["starlette"])
    async with running(workflows=[sleeper]) as env:
        with pytest.raises(ConfigurationError, match=r"^REST in an environment needs starlette: pip install 'flovyn\["):
            await anext(env.client.workflows())


@workflow
async def family(ctx: WorkflowContext) -> list[Any]:
    link = ctx.create_promise(Promise[bool]("approval"), expires_after=timedelta(days=3))
    child = ctx.schedule_workflow_async(sleeper, 86_400)
    try:
        await link.wait()
    except PromiseTimeout:
        return [ctx.current_time(), *await child.result()]
    return []


async def test_promises_and_children_have_the_same_time() -> None:
    async with running(workflows=[family, sleeper]) as env:
        handle = await env.client.start(family)
        day = timedelta(days=1)
        assert await handle.result() == [str_of(START + 3 * day), str_of(START), str_of(START + day)]


def str_of(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")


async def test_keys_expire_by_it() -> None:
    async with running(workflows=[sleeper]) as env:
        options = env.client.options(idempotency_key="k", idempotency_key_ttl=timedelta(hours=1))
        first = await options.start(sleeper, 0)
        await first.result()
        await env.clock.advance(3_599)
        assert (await options.start(sleeper, 0)).id == first.id
        await env.clock.advance(1)
        assert (await options.start(sleeper, 0)).id != first.id


async def test_what_a_file_keeps_goes_on_when_it_is_opened_again(tmp_path: Path) -> None:
    path = str(tmp_path / "flovyn.db")
    async with running(workflows=[sleeper], db=path) as env:
        handle = await env.client.start(sleeper, 3_600)
        await has(handle, "TIMER_STARTED")
    with anyio.fail_after(LIMIT_S):
        async with environment(workflows=[sleeper], db=path, start=START + timedelta(hours=5)) as env:
            again = env.client.handle(sleeper, handle.id)
            assert await again.result() == (START, START + timedelta(hours=5))


async def test_work_of_a_worker_that_is_gone_is_free_after_a_second() -> None:
    begun = anyio.Event()
    attempts: list[int] = []

    @task(kind="once")
    async def once(ctx: TaskContext) -> str:
        attempts.append(ctx.attempt)
        if len(attempts) == 1:
            begun.set()
            await anyio.sleep_forever()
        return "done"

    @workflow
    async def runs_once(ctx: WorkflowContext) -> str:
        return await ctx.schedule(once)

    async with running(workflows=[runs_once]) as env:
        handle = await env.client.start(runs_once)
        async with anyio.create_task_group() as tasks:
            await tasks.start(Worker(env.client, tasks=[once]).run)
            await begun.wait()
            tasks.cancel_scope.cancel()
        async with Worker(env.client, tasks=[once]):
            assert await handle.result() == "done"
        assert env.clock.now == START + timedelta(seconds=1)
    assert attempts == [1, 2]


async def test_a_test_that_waits_for_what_may_never_come_is_told_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("flovyn.testing.environments.clock._STALL_S", 0.05)

    @workflow
    async def waits(ctx: WorkflowContext) -> None:
        await ctx.wait_for_signal("go")

    async with running(workflows=[waits]) as env:
        handle = await env.client.start(waits)
        stranger = await env.client.start(patient)
        with anyio.move_on_after(0.3):
            await handle.result()
        await signal(env, handle)
        await handle.result()
    (told,) = [record.getMessage() for record in caplog.records if record.name == "flovyn.testing"]
    assert told.splitlines() == [
        "time stands still: nothing can run, no timer is due, and the test waits; what has not ended is",
        f"waits {handle.id}: Waiting for signal",
        f"patient {stranger.id} is in queue 'default', which no worker polls for it",
    ]


async def test_payloads_go_through_codecs() -> None:
    async with running(workflows=[monthly], tasks=[greet], codecs=[ZlibCodec(larger_than=100)]) as env:
        handle = await env.client.start(monthly, "x" * 500)
        assert await handle.result() == ["hello " + "x" * 500] * 2
        (run,) = env.engine.core.store.runs.all()
        assert b"xxxxx" not in env.engine.core.store.runs.frames(run.n)


async def test_a_violation_fails_the_workflow() -> None:
    @workflow
    async def reaches_out(ctx: WorkflowContext) -> None:
        await anyio.to_thread.run_sync(print)

    async with running(workflows=[reaches_out]) as env:
        handle = await env.client.start(reaches_out)
        with pytest.raises(WorkflowFailed, match="run_sync"):
            await handle.result()


async def test_an_environment_without_a_worker() -> None:
    async with running() as env:
        with pytest.raises(UsageError, match="this environment has no worker"):
            _ = env.worker
        assert repr(env) == "<Environment in memory at 2030-01-31T12:00:00+00:00>"
        handle = await env.client.start(patient)
        async with Worker(env.client, workflows=[patient]):
            assert await handle.result() == "too late"
        assert repr(env.clock) == "<VirtualClock 2030-02-01T12:00:00+00:00>"


async def test_wrong_use_of_the_clock_is_said() -> None:
    naive = datetime(2030, 1, 31, 12)
    with pytest.raises(UsageError, match="start needs a time zone"):
        async with environment(start=naive):
            pass
    with pytest.raises(UsageError, match="a server's time begins with 1970"):
        VirtualClock(datetime(1969, 12, 31, tzinfo=UTC))
    with pytest.raises(
        UsageError, match=r"^this clock belongs to no environment: use env\.clock, inside the environment's block$"
    ):
        await VirtualClock(START).advance(1)
    async with running() as env:
        with pytest.raises(UsageError, match="time does not go backwards: advance by .* is negative"):
            await env.clock.advance(-1)
        with pytest.raises(UsageError, match="time does not go backwards: 2030-01-31T11:59:59"):
            await env.clock.advance_to(START - timedelta(seconds=1))
        with pytest.raises(UsageError, match="at needs a time zone"):
            await env.clock.advance_to(naive)
        await env.clock.advance(0)
        assert env.clock.now == START


async def test_what_the_block_raises_leaves_it_as_it_is() -> None:
    with pytest.raises(KeyError, match="mine"):
        async with running(workflows=[ticker]) as env:
            await env.client.start(ticker)
            raise KeyError("mine")


async def test_what_jumps_in_time_is_worked_off_in_order() -> None:
    """A hundred sleepers of different lengths wake one after the other, whatever order they began in."""
    woken: list[float] = []

    @task
    async def note(ctx: TaskContext, seconds: float) -> None:
        woken.append(seconds)

    @workflow
    async def noted(ctx: WorkflowContext, seconds: float) -> None:
        await ctx.sleep(seconds)
        await ctx.schedule(note, seconds)

    lengths = [float((number * 37) % 101) for number in range(30)]
    async with running(workflows=[noted], tasks=[note]) as env:
        handles = [await env.client.start(noted, seconds) for seconds in lengths]
        async with anyio.create_task_group() as tasks:
            for handle in handles:
                tasks.start_soon(handle.result)
        assert woken == sorted(lengths)
