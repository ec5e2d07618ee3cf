"""A Trio application, tested as Trio applications are: pytest-trio, Trio's own nurseries and cancel scopes."""

from __future__ import annotations

import pytest
import trio

import flovyn
from examples.order import Item, Order, Parcel, Payment, Receipt, charge, place_order, refund, ship
from flovyn import TaskContext, Worker, WorkerStatistics, WorkflowContext, nursery, task, workflow
from flovyn.server import serve

IDLE = WorkerStatistics(running_workflows=0, running_tasks=0, open_polls=0, internal_tasks=0)


@pytest.mark.trio
async def test_a_worker_is_a_task_in_a_trio_nursery() -> None:
    with trio.fail_after(20):
        async with serve() as server, flovyn.connect(server.url, org_id=server.org_id, token=server.token) as client:
            async with trio.open_nursery() as host:
                worker = await host.start(Worker(client, workflows=[place_order], tasks=[charge, refund, ship]).run)
                handle = await client.start(place_order, Order("o-1", [Item("tea", 450)], cooling_off=0.1))
                assert await handle.result() == Receipt("o-1", Payment("pay-o-1", 450), [Parcel("tea", "o-1/tea")])
                worker.stop()
            assert worker.statistics() == IDLE


@pytest.mark.trio
async def test_a_task_that_is_cancelled_on_the_server_sees_trios_own_cancelled() -> None:
    seen: list[str] = []

    @task
    async def endless(ctx: TaskContext) -> None:
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            seen.append(str(ctx.cancel_reason))
            raise

    @workflow
    async def impatient(ctx: WorkflowContext) -> str:
        with nursery.move_on_after(0.2) as scope:
            await ctx.schedule(endless)
        return "cancelled" if scope.cancelled_caught else "done"

    with trio.fail_after(20):
        async with serve() as server, flovyn.connect(server.url, org_id=server.org_id, token=server.token) as client:
            async with Worker(client, workflows=[impatient], tasks=[endless]):
                handle = await client.start(impatient)
                assert await handle.result() == "cancelled"
    assert seen == ["cancelled by its workflow"]


@pytest.mark.trio
async def test_cancelling_a_wait_leaves_the_workflow_alone() -> None:
    @workflow
    async def patient(ctx: WorkflowContext) -> str:
        await nursery.sleep(0.5)
        return "done"

    with trio.fail_after(20):
        async with serve() as server, flovyn.connect(server.url, org_id=server.org_id, token=server.token) as client:
            async with Worker(client, workflows=[patient]):
                handle = await client.start(patient)
                with trio.move_on_after(0.1) as scope:
                    await handle.result()
                assert scope.cancelled_caught
                assert await handle.result() == "done"
