"""One real workflow through every layer, many at once, and nothing left behind."""

from __future__ import annotations

from collections import Counter

import anyio
import pytest

import flovyn
from examples.order import Item, Order, Parcel, Payment, Receipt, charge, place_order, refund, ship
from flovyn import ServerUnavailable, TaskContext, Worker, WorkerStatistics, WorkflowContext, task, workflow
from flovyn.server import Server, serve

pytestmark = pytest.mark.anyio

IDLE = WorkerStatistics(running_workflows=0, running_tasks=0, open_polls=0, internal_tasks=0)


async def test_the_order_that_works_out() -> None:
    with anyio.fail_after(20):
        async with serve() as server, flovyn.connect(server.url, org_id=server.org_id, token=server.token) as client:
            async with Worker(client, workflows=[place_order], tasks=[charge, refund, ship]):
                order = Order("o-1", [Item("tea", 450), Item("cup", 700)], cooling_off=0.2)
                handle = await client.start(place_order, order)
                assert await handle.result() == Receipt(
                    "o-1", Payment("pay-o-1", 1150), [Parcel("tea", "o-1/tea"), Parcel("cup", "o-1/cup")]
                )
                (timer,) = [entry for entry in await handle.history() if entry.type == "TIMER_STARTED"]
                assert timer.data["durationMs"] == 200


async def test_a_failing_item_cancels_its_siblings_on_the_server_and_refunds() -> None:
    stuck = anyio.Event()

    @task(kind="ship")
    async def ship_or_wait(ctx: TaskContext, order_id: str, item: Item) -> Parcel:
        if not item.in_stock:
            raise LookupError(item.sku)
        try:
            await anyio.sleep_forever()
        finally:
            stuck.set()
        raise AssertionError

    with anyio.fail_after(20):
        async with serve() as server, flovyn.connect(server.url, org_id=server.org_id, token=server.token) as client:
            async with Worker(client, workflows=[place_order], tasks=[charge, refund, ship_or_wait]):
                order = Order("o-2", [Item("tea", 450), Item("unicorn", 9, in_stock=False)])
                handle = await client.start(place_order, order)
                assert await handle.result() == Receipt("o-2", Payment("pay-o-2", 459), [], refunded=True)
                await stuck.wait()
                history = await handle.history()
    counts = Counter((entry.type, entry.data.get("kind")) for entry in history if entry.type.startswith("TASK"))
    assert counts["TASK_CANCELLED", "ship"] == 1
    assert counts["TASK_COMPLETED", "refund"] == 1


async def test_two_hundred_workflows_at_once_none_lost_none_twice() -> None:
    runs: Counter[int] = Counter()

    @task
    async def square(ctx: TaskContext, number: int) -> int:
        runs[number] += 1
        return number * number

    @workflow
    async def squares(ctx: WorkflowContext, number: int) -> int:
        return await ctx.schedule(square, number)

    async def one(client: flovyn.Client, number: int) -> None:
        handle = await client.start(squares, number)
        results[number] = await handle.result()

    results: dict[int, int] = {}
    with anyio.fail_after(60):
        async with serve() as server, flovyn.connect(server.url, org_id=server.org_id, token=server.token) as client:
            async with Worker(client, workflows=[squares], tasks=[square]) as worker, anyio.create_task_group() as tg:
                for number in range(200):
                    tg.start_soon(one, client, number)
            assert worker.statistics() == IDLE
    assert results == {number: number * number for number in range(200)}
    assert runs == Counter(range(200))


@task
async def forever(ctx: TaskContext) -> None:
    await anyio.sleep_forever()


@workflow
async def waits_forever(ctx: WorkflowContext) -> None:
    await ctx.schedule(forever)


class Unexpected(Exception):
    """The body's own error."""


async def _busy(client: flovyn.Client, worker: Worker) -> None:
    await client.start(waits_forever)
    while worker.statistics().running_tasks == 0:
        await anyio.sleep(0.01)


async def test_nothing_is_left_behind_when_the_body_raises() -> None:
    with anyio.fail_after(20):
        async with serve() as server, flovyn.connect(server.url, org_id=server.org_id, token=server.token) as client:
            worker = Worker(client, workflows=[waits_forever], tasks=[forever])
            with pytest.raises(Unexpected):
                async with worker:
                    await _busy(client, worker)
                    raise Unexpected
            assert worker.statistics() == IDLE


async def test_nothing_is_left_behind_when_the_server_dies() -> None:
    async def serve_until(up: anyio.abc.ObjectSendStream[Server], gone: anyio.Event) -> None:
        async with serve() as server:
            await up.send(server)
            await gone.wait()

    gone = anyio.Event()
    up, servers = anyio.create_memory_object_stream[Server](1)
    with anyio.fail_after(20), up, servers:
        async with anyio.create_task_group() as tg:
            tg.start_soon(serve_until, up, gone)
            server = await servers.receive()
            async with flovyn.connect(server.url, org_id=server.org_id, token=server.token) as client:
                worker = Worker(client, workflows=[waits_forever], tasks=[forever], grace=0.2)
                async with worker:
                    await _busy(client, worker)
                    gone.set()
                    with pytest.raises(ServerUnavailable):
                        while True:
                            await client.start(waits_forever)
                assert worker.statistics() == IDLE
