"""Every sort of body, over a real connection, with a real server behind it."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import anyio
import pytest

import flovyn
from flovyn import (
    Client,
    RetryPolicy,
    StateKey,
    SyncTaskContext,
    TaskContext,
    TaskFailed,
    TaskTimeout,
    Worker,
    WorkflowContext,
    task,
    workflow,
)
from flovyn.server import Server, serve
from worker.fakes import until

pytestmark = pytest.mark.anyio

DONE = StateKey[list[int]]("done")


@dataclass(frozen=True)
class Page:
    number: int
    text: str


@dataclass
class Printer:
    pages: list[str]


@asynccontextmanager
async def world(**options: Any) -> AsyncGenerator[tuple[Server, Client]]:
    """A server, and a worker that works for it."""
    with anyio.fail_after(30):
        async with serve() as server, flovyn.connect(server.url, org_id=server.org_id, token=server.token) as client:
            async with Worker(client, **options):
                yield server, client


@task
async def in_the_loop(ctx: TaskContext, page: Page) -> str:
    await anyio.lowlevel.checkpoint()
    return page.text.upper()


@task
def in_a_thread(ctx: SyncTaskContext, page: Page, *, times: int = 1) -> list[Page]:
    return [page] * times


@task
class InAClass:
    """Makes an instance for each attempt."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    async def run(self, ctx: TaskContext, number: int) -> list[int]:
        self.seen.append(number)
        return self.seen


@workflow
async def all_sorts(ctx: WorkflowContext) -> tuple[str, list[Page], list[int], list[int]]:
    page = Page(1, "one")
    first = ctx.schedule_async(InAClass, 1)
    return (
        await ctx.schedule(in_the_loop, page),
        await ctx.schedule(in_a_thread, page, times=2),
        await first,
        await ctx.schedule(InAClass, 2),
    )


async def test_functions_threads_and_classes_are_scheduled_alike() -> None:
    async with world(workflows=[all_sorts], tasks=[in_the_loop, in_a_thread, InAClass]) as (_, client):
        result = await (await client.start(all_sorts)).result()
    assert result == ("ONE", [Page(1, "one"), Page(1, "one")], [1], [2])


@task
async def loads(ctx: TaskContext, rows: int) -> tuple[int, list[int]]:
    """Fails after each row but the last; what it has done stands in its state."""
    done = await ctx.get(DONE, [])
    begun = await ctx.last_heartbeat(int)
    assert begun == (len(done) or None)
    done.append(ctx.attempt)
    await ctx.set(DONE, done)
    ctx.heartbeat(len(done))
    ctx.report_progress(len(done) / rows, f"row {len(done)}")
    ctx.log("INFO", f"row {len(done)} of {rows}")
    if len(done) < rows:
        raise ConnectionError("the database went away")
    return ctx.attempt, done


@task(kind="loads_with_a_policy", retry=RetryPolicy(max_attempts=9, initial_interval=0.001))
def loads_in_a_thread(ctx: SyncTaskContext, rows: int) -> tuple[int, list[int]]:
    done = ctx.get(DONE, [])
    assert ctx.last_heartbeat(int) == (len(done) or None)
    done.append(ctx.attempt)
    ctx.set(DONE, done)
    ctx.heartbeat(len(done))
    ctx.report_progress(len(done) / rows, f"row {len(done)}")
    ctx.log("INFO", f"row {len(done)} of {rows}")
    if len(done) < rows:
        raise ConnectionError("the database went away")
    return ctx.attempt, done


@workflow
async def load(ctx: WorkflowContext, rows: int, threads: bool) -> tuple[int, list[int]]:
    return await (ctx.schedule(loads_in_a_thread, rows) if threads else ctx.schedule(loads, rows))


@pytest.mark.parametrize("threads", [False, True], ids=["the server's attempts", "the worker's, in a thread"])
async def test_a_later_attempt_goes_on_where_an_earlier_one_stopped(threads: bool) -> None:
    async with world(workflows=[load], tasks=[loads, loads_in_a_thread]) as (server, client):
        assert await (await client.start(load, 3, threads)).result() == (3, [1, 2, 3])
        notes = server.engine.core.store.notes
        progress = notes.progress(1)
        assert progress is not None
        assert (progress.progress, progress.details) == (1.0, "row 3")
        assert [(line.level, line.message) for line in notes.lines(1)] == [
            ("INFO", f"row {number} of 3") for number in (1, 2, 3)
        ]


@task(start_to_close=0.05, retry=RetryPolicy(max_attempts=1))
async def slow(ctx: TaskContext) -> None:
    await anyio.sleep_forever()


@task(heartbeat_timeout=0.05, retry=RetryPolicy(max_attempts=1))
def still(ctx: SyncTaskContext) -> None:
    while True:
        ctx.check_cancellation()
        time.sleep(0.002)


@workflow
async def waits_for(ctx: WorkflowContext, kind: str) -> tuple[str, str | None]:
    try:
        await (ctx.schedule(slow) if kind == "slow" else ctx.schedule(still))
    except TaskTimeout as late:
        return late.message, late.limit
    raise AssertionError


@pytest.mark.parametrize(
    ("kind", "limit", "text"),
    [
        ("slow", "start_to_close", "no end within its start_to_close of 0.05 s"),
        ("still", "heartbeat_timeout", "no heartbeat within its heartbeat_timeout of 0.05 s"),
    ],
)
async def test_limits_reach_the_workflow_by_type(kind: str, limit: str, text: str) -> None:
    async with world(workflows=[waits_for], tasks=[slow, still]) as (_, client):
        result = await (await client.start(waits_for, kind)).result()
    assert result == (f"Task execution timed out: {text}", limit)


@task(retry=RetryPolicy(max_attempts=1))
async def raises_timeout(ctx: TaskContext) -> None:
    raise TimeoutError("Task execution timed out: the body's own")


@workflow
async def sees(ctx: WorkflowContext) -> str:
    try:
        await ctx.schedule(raises_timeout)
    except TaskFailed as failed:
        return f"{failed.error_type}: {getattr(failed.__cause__, 'message', None)}"
    raise AssertionError


async def test_a_timeout_of_the_bodys_own_is_its_failure() -> None:
    async with world(workflows=[sees], tasks=[raises_timeout]) as (_, client):
        assert await (await client.start(sees)).result() == "TimeoutError: Task execution timed out: the body's own"


async def test_what_is_not_cancellable_is_finished_though_its_workflow_gave_up() -> None:
    began, release = anyio.Event(), anyio.Event()
    ended: list[bool] = []

    @task(cancellable=False)
    async def pay(ctx: TaskContext) -> str:
        began.set()
        await release.wait()
        ended.append(ctx.is_cancelled)
        return "paid"

    @workflow
    async def gives_up(ctx: WorkflowContext) -> str:
        with anyio.move_on_after(0.1):
            await ctx.schedule(pay)
        await ctx.wait_for_signal("end")
        return "gave up"

    async with world(workflows=[gives_up], tasks=[pay]) as (server, client):
        handle = await client.start(gives_up)
        await began.wait()
        await until(lambda: server.engine.core.store.tasks.get(1).status == "RUNNING")
        with anyio.fail_after(10):
            while "TIMER_FIRED" not in [event.type for event in await handle.history()]:
                await anyio.sleep(0.01)
        release.set()
        await until(lambda: server.engine.core.store.tasks.get(1).status == "COMPLETED")
    assert ended == [False]


async def test_resources_reach_bodies() -> None:
    @task
    async def prints(ctx: TaskContext, text: str) -> int:
        ctx.resource(Printer).pages.append(text)
        return len(ctx.resource(Printer).pages)

    @workflow
    async def publish(ctx: WorkflowContext) -> list[int]:
        return [await ctx.schedule(prints, text) for text in ("a", "b")]

    printer = Printer([])

    @asynccontextmanager
    async def lifespan() -> AsyncGenerator[Printer]:
        yield printer

    async with world(workflows=[publish], tasks=[prints], lifespan=lifespan) as (_, client):
        assert await (await client.start(publish)).result() == [1, 2]
    assert printer.pages == ["a", "b"]


async def test_a_thread_is_cancelled_by_its_workflow_in_the_same_worker() -> None:
    caught: list[Any] = []

    @task
    def computes(ctx: SyncTaskContext) -> None:
        try:
            while True:
                ctx.report_progress(0.5)
                time.sleep(0.002)
        finally:
            caught.append((ctx.cancel_cause, ctx.cancel_reason))

    @workflow
    async def gives_up(ctx: WorkflowContext) -> str:
        with anyio.move_on_after(0.1):
            await ctx.schedule(computes)
        return "gave up"

    # So late that nothing but the workflow's own word can be what ends it.
    async with world(workflows=[gives_up], tasks=[computes], task_heartbeat_interval=20.0) as (_, client):
        assert await (await client.start(gives_up)).result() == "gave up"
        await until(lambda: caught)
    assert caught == [("cancelled", "cancelled by its workflow")]
