"""Orders under fire: workers are killed at random moments, and every order comes out right."""

from __future__ import annotations

import random
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import anyio
import pytest

import flovyn
from examples.order import Item, Order, Parcel, Payment, Receipt, place_order
from system.processes import ServerProcess, kill, server, worker

pytestmark = pytest.mark.anyio


def order(number: int) -> tuple[Order, Receipt]:
    """An order, and what becomes of it; every third has an item that is sold out."""
    name, items = f"o-{number}", [Item("tea", 450), Item("cup", 700, in_stock=number % 3 != 0)]
    payment = Payment(f"pay-{name}", 1150)
    parcels = [Parcel("tea", f"{name}/tea"), Parcel("cup", f"{name}/cup")]
    ordered = Order(name, items, cooling_off=0.1)
    return ordered, Receipt(name, payment, [], refunded=True) if number % 3 == 0 else Receipt(name, payment, parcels)


async def watch(client: flovyn.Client, number: int) -> None:
    """Place an order and check everything about how it ended."""
    ordered, receipt = order(number)
    handle = await client.options(idempotency_key=ordered.id).start(place_order, ordered)
    assert await handle.result() == receipt
    history = await handle.history()
    assert [event.sequence for event in history] == list(range(1, len(history) + 1))
    ended = Counter(event.data["taskExecutionId"] for event in history if event.type == "TASK_COMPLETED")
    assert set(ended.values()) <= {1}
    assert [event.type for event in history].count("WORKFLOW_COMPLETED") == 1


async def under_fire(backend: str, directory: Path, *, seed: int, kills: int, orders: int) -> None:
    """Place orders one batch after the other, with two workers of which one is killed again and again."""
    source = random.Random(seed)
    (directory / "gate").touch()
    done = anyio.Event()

    async def replace_workers(at: ServerProcess) -> None:
        for _ in range(kills):
            async with worker(backend, at, directory) as process:
                await anyio.sleep(source.uniform(0, 0.8))
                await kill(process)
        done.set()

    async with AsyncExitStack() as stack:
        at = await stack.enter_async_context(server(directory / "db"))
        client = await stack.enter_async_context(flovyn.connect(at.url, org_id=at.org_id, token=at.token))
        await stack.enter_async_context(worker(backend, at, directory))
        async with anyio.create_task_group() as killers:
            killers.start_soon(replace_workers, at)
            number = 0
            while number < orders or not done.is_set():
                async with anyio.create_task_group() as batch:
                    for _ in range(10):
                        batch.start_soon(watch, client, number)
                        number += 1


@pytest.fixture
def backend(anyio_backend: tuple[str, dict[str, Any]]) -> str:
    """The backend of the workers' processes: the one of the test."""
    name, options = anyio_backend
    return f"{name}+uvloop" if options.get("use_uvloop") else name


async def test_orders_come_out_right_while_workers_are_killed(backend: str, tmp_path: Path) -> None:
    with anyio.fail_after(90):
        await under_fire(backend, tmp_path, seed=1, kills=2, orders=10)


@pytest.mark.deep
@pytest.mark.parametrize("seed", range(5))
async def test_orders_come_out_right_while_many_workers_are_killed(backend: str, seed: int, tmp_path: Path) -> None:
    with anyio.fail_after(600):
        await under_fire(backend, tmp_path, seed=seed, kills=20, orders=100)
