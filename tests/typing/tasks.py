"""Tasks of every sort and their contexts, and what type checkers make of them; see test_typing.py."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, assert_type

import anyio
from definitions import Order, Page, charge

from flovyn import (
    Client,
    FixedReconnect,
    Outage,
    StateKey,
    SyncTaskContext,
    Task,
    TaskContext,
    TaskHandle,
    Worker,
    WorkerReport,
    WorkflowContext,
    task,
    task_of,
)
from flovyn.definitions import AnyTask

SEEN = StateKey[list[str]]("seen")


@task
def shrink(ctx: SyncTaskContext, order: Order) -> Page[Order]:
    return Page([order], None)


@task(queue="gpu", heartbeat_timeout=5, cancellable=False, streaming=True, version="2.0.0")
def grow(ctx: SyncTaskContext) -> bytes:
    return b""


@task
class Resize:
    def __init__(self) -> None:
        self.pages = 0

    async def run(self, ctx: TaskContext, order: Order, *, width: int = 1) -> Page[Order]:
        return Page([order], None)


@task(kind="enlarge")
class Enlarge:
    async def run(self, ctx: TaskContext) -> bytes:
        return b""


@task  # E: mypy[arg-type] pyright[reportArgumentType,reportCallIssue,reportUntypedFunctionDecorator]
async def no_context() -> None: ...


def plain_functions() -> None:
    """They are called without `await`, and scheduled like any other."""
    context = SyncTaskContext(task_execution_id="t", kind="shrink", attempt=2)
    assert_type(shrink(context, Order("o", [])), Page[Order])
    assert_type(grow(context), bytes)
    assert_type(grow.options(queue="cpu"), Task[[], bytes])
    shrink(context)  # E: mypy[call-arg] pyright[reportCallIssue]
    SyncTaskContext(task_execution_id="t", kind="shrink", attempt="2")  # E: mypy[arg-type] pyright[reportArgumentType]


def classes() -> None:
    assert_type(Resize(), Resize)
    assert_type(Resize().pages, int)
    assert_type(task_of(Resize).decode_output(b"{}"), Page[Order])
    assert_type(task_of(Enlarge), Task[[], bytes])
    tasks: list[AnyTask[..., Any]] = [charge, shrink, Resize, Enlarge]
    print(tasks)


async def schedules(ctx: WorkflowContext, order: Order, tg: anyio.abc.TaskGroup) -> None:
    assert_type(await ctx.schedule(shrink, order), Page[Order])
    assert_type(await ctx.schedule(grow), bytes)
    assert_type(await ctx.schedule(Resize, order, width=3), Page[Order])
    assert_type(await ctx.schedule(Enlarge), bytes)
    assert_type(await ctx.schedule(task_of(Enlarge).options(queue="q")), bytes)
    assert_type(ctx.schedule_async(Resize, order), TaskHandle[Page[Order]])
    assert_type(tg.create_task(ctx.schedule(Resize, order)).return_value, Page[Order])
    assert_type(tg.create_task(ctx.schedule(shrink, order)).return_value, Page[Order])
    await ctx.schedule(Resize, "o")  # E: mypy[arg-type] pyright[reportArgumentType]
    await ctx.schedule(Resize, order, height=3)  # E: mypy[call-arg] pyright[reportCallIssue]
    await ctx.schedule(shrink, "o")  # E: mypy[arg-type] pyright[reportArgumentType]


async def in_the_loop(ctx: TaskContext) -> None:
    assert_type(await ctx.get(SEEN), list[str] | None)
    assert_type(await ctx.get(SEEN, []), list[str])
    assert_type(await ctx.get(SEEN, ()), list[str] | tuple[()])
    assert_type(await ctx.get("seen"), Any)
    assert_type(await ctx.state_keys(), list[str])
    assert_type(await ctx.last_heartbeat(int), int | None)
    assert_type(await ctx.last_heartbeat(), Any)
    assert_type(ctx.resource(Order), Order)
    assert_type(ctx.log("INFO", "a line"), None)
    await ctx.set(SEEN, ["a"])
    ctx.log("LOUD", "a line")  # E: mypy[arg-type] pyright[reportArgumentType]
    await ctx.set(SEEN, "a")  # E: mypy[misc] pyright[reportArgumentType,reportCallIssue]


def in_a_thread(ctx: SyncTaskContext) -> None:
    assert_type(ctx.get(SEEN), list[str] | None)
    assert_type(ctx.get(SEEN, []), list[str])
    assert_type(ctx.get(SEEN, 0), list[str] | int)
    assert_type(ctx.last_heartbeat(int), int | None)
    assert_type(ctx.resource(Order), Order)
    ctx.set(SEEN, 1)  # E: mypy[misc] pyright[reportArgumentType,reportCallIssue]


@asynccontextmanager
async def lifespan() -> AsyncGenerator[tuple[Order, int]]:
    yield Order("o", []), 3


def give_up(outage: Outage) -> float | None:
    return None


async def workers(client: Client) -> None:
    async with Worker(client, tasks=[charge, shrink, Resize], lifespan=lifespan, reconnect=give_up) as worker:
        assert_type(worker.report, WorkerReport | None)
    Worker(client, tasks=[Enlarge], reconnect=FixedReconnect(1, max_attempts=3))
    Worker(client, tasks=[Order])  # E: mypy[list-item] pyright[reportArgumentType]
    Worker(client, tasks=[charge], reconnect=3)  # E: mypy[arg-type] pyright[reportArgumentType]
