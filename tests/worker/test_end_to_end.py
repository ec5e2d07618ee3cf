"""Client, worker and embedded server over real connections."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import anyio
import pytest

import flovyn
from flovyn import Client, TaskContext, Worker, WorkerStatistics, WorkflowContext, task, workflow
from flovyn.server import Server, serve
from worker.fakes import until

pytestmark = pytest.mark.anyio

NOTHING = WorkerStatistics(running_workflows=0, running_tasks=0, open_polls=0, internal_tasks=0)


@dataclass(frozen=True)
class Item:
    name: str
    price: int


@dataclass(frozen=True)
class Receipt:
    names: list[str]
    total: int


@task
async def price_of(ctx: TaskContext, item: Item) -> int:
    if item.price < 0:
        raise ValueError(f"{item.name} has no price")
    return item.price


@workflow
async def sum_up(ctx: WorkflowContext, items: list[Item]) -> Receipt:
    async with anyio.create_task_group() as group:
        prices = [group.create_task(ctx.schedule(price_of, item)) for item in items]
    paid = [price.return_value for price in prices]  # pyright: ignore[reportPossiblyUnboundVariable]
    return Receipt([item.name for item in items], sum(paid))


@workflow
async def one_price(ctx: WorkflowContext, item: Item) -> int:
    return await ctx.schedule(price_of, item)


@asynccontextmanager
async def connected(server: Server, **options: Any) -> AsyncGenerator[Client]:
    async with flovyn.connect(server.url, org_id=server.org_id, token=server.token, **options) as client:
        yield client


def working(client: Client) -> Worker:
    return Worker(client, workflows=[one_price, sum_up], tasks=[price_of])


async def test_workflow_and_tasks_run_in_one_worker() -> None:
    with anyio.fail_after(20):
        async with serve() as server, connected(server) as client:
            worker = Worker(client, workflows=[sum_up], tasks=[price_of])
            async with worker:
                handle = await client.start(sum_up, [Item("tea", 3), Item("pot", 20)])
                assert await handle.result() == Receipt(["tea", "pot"], 23)
                kinds = [event.type for event in await handle.history()]
            assert worker.statistics() == NOTHING
            assert (kinds[0], kinds[-1]) == ("WORKFLOW_STARTED", "WORKFLOW_COMPLETED")
            assert kinds.count("TASK_COMPLETED") == 2
        assert set(vars_of(server.statistics())) == {0}


def vars_of(record: Any) -> list[Any]:
    return [getattr(record, name) for name in record.__dataclass_fields__]


async def test_failure_of_a_task_reaches_the_client_with_its_type() -> None:
    with anyio.fail_after(20):
        async with serve() as server, connected(server) as client, working(client):
            handle = await client.start(one_price, Item("air", -1))
            with pytest.raises(flovyn.WorkflowFailed, match="air has no price") as caught:
                await handle.result()
    assert caught.value.error_type == "TaskFailed"


async def test_one_idempotency_key_starts_once() -> None:
    with anyio.fail_after(20):
        async with serve() as server, connected(server) as client:
            once = client.options(idempotency_key="order-7")
            first, second = await once.start(one_price, Item("tea", 3)), await once.start(one_price, Item("tea", 3))
            assert first.id == second.id
            async with Worker(client, workflows=[one_price], tasks=[price_of]):
                assert await second.result() == 3


async def test_unknown_execution_is_not_found() -> None:
    with anyio.fail_after(20):
        async with serve() as server, connected(server) as client:
            with pytest.raises(flovyn.NotFound):
                await client.handle(one_price, "0d9f8a3e-1c52-4d7b-9f6e-2a1b3c4d5e6f").result()


async def test_body_of_a_cancelled_task_is_cancelled_at_once() -> None:
    ended: list[str | None] = []
    began = anyio.Event()

    @task
    async def endless(ctx: TaskContext) -> None:
        began.set()
        try:
            await anyio.sleep_forever()
        finally:
            ended.append(ctx.cancel_reason)

    @workflow
    async def impatient(ctx: WorkflowContext) -> str:
        with anyio.move_on_after(0.3):
            await ctx.schedule(endless)
        return "moved on"

    with anyio.fail_after(20):
        async with serve() as server, connected(server) as client:
            worker = Worker(client, workflows=[impatient], tasks=[endless], task_heartbeat_interval=30)
            async with worker:
                handle = await client.start(impatient)
                await began.wait()
                assert await handle.result() == "moved on"
                await until(lambda: not worker.statistics().running_tasks)
    assert ended == ["cancelled by its workflow"]
