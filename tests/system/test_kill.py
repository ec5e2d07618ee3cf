"""The example survives `kill -9` of the worker, and of the server, between two steps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest

import flovyn
from examples.order import Item, Order, Parcel, Payment, Receipt, place_order
from flovyn import HistoryEvent, WorkflowHandle
from system.processes import kill, lines, server, until, worker

pytestmark = pytest.mark.anyio

ORDER = Order("o-1", [Item("tea", 450), Item("cup", 700)], cooling_off=0.5)
RECEIPT = Receipt("o-1", Payment("pay-o-1", 1150), [Parcel("tea", "o-1/tea"), Parcel("cup", "o-1/cup")])


@pytest.fixture
def backend(anyio_backend: tuple[str, dict[str, Any]]) -> str:
    """The backend of the worker's process: the one of the test."""
    name, options = anyio_backend
    return f"{name}+uvloop" if options.get("use_uvloop") else name


async def event(handle: WorkflowHandle[Receipt], kind: str) -> Sequence[HistoryEvent]:
    """Wait until the history has an event of this kind."""
    while True:
        history = await handle.history()
        if any(entry.type == kind for entry in history):
            return history
        await anyio.sleep(0.01)


async def test_a_killed_worker_is_replaced_in_the_middle_of_a_step(backend: str, tmp_path: Path) -> None:
    with anyio.fail_after(60):
        async with server(tmp_path / "db") as at, flovyn.connect(at.url, org_id=at.org_id, token=at.token) as client:
            async with worker(backend, at, tmp_path) as first:
                handle = await client.start(place_order, ORDER)
                await until(tmp_path, "shipping tea")
                await until(tmp_path, "shipping cup")
                await kill(first)
            async with worker(backend, at, tmp_path):
                (tmp_path / "gate").touch()
                killed = anyio.current_time()
                assert await handle.result() == RECEIPT
                # The connection closed, so the tasks are free after a second: nobody waits for a lease of five.
                assert anyio.current_time() - killed < 4.5
    effects = lines(tmp_path)
    assert effects.count("charge o-1") == 1
    assert (effects.count("shipped tea"), effects.count("shipped cup")) == (1, 1)


async def test_a_worker_killed_while_a_timer_runs_is_not_missed(backend: str, tmp_path: Path) -> None:
    (tmp_path / "gate").touch()
    with anyio.fail_after(60):
        async with server(tmp_path / "db") as at, flovyn.connect(at.url, org_id=at.org_id, token=at.token) as client:
            async with worker(backend, at, tmp_path) as first:
                handle = await client.start(place_order, ORDER)
                await event(handle, "TIMER_STARTED")
                await kill(first)
            await event(handle, "TIMER_FIRED")
            async with worker(backend, at, tmp_path):
                assert await handle.result() == RECEIPT
    assert [line for line in lines(tmp_path) if line != "ready"].count("charge o-1") == 1


@pytest.mark.parametrize("moment", ["shipping", "cooling off"])
async def test_a_killed_server_is_restarted_on_its_file(backend: str, moment: str, tmp_path: Path) -> None:
    with anyio.fail_after(60):
        async with server(tmp_path / "db") as at, flovyn.connect(at.url, org_id=at.org_id, token=at.token) as client:
            async with worker(backend, at, tmp_path):
                handle = await client.start(place_order, ORDER)
                if moment == "shipping":
                    await until(tmp_path, "shipping tea")
                else:
                    (tmp_path / "gate").touch()
                    await event(handle, "TIMER_STARTED")
                await kill(at.process)
                async with server(tmp_path / "db", port=at.port):
                    (tmp_path / "gate").touch()
                    assert await handle.result() == RECEIPT
                    history = await handle.history()
    assert [entry.sequence for entry in history] == list(range(1, len(history) + 1))
    assert [entry.type for entry in history].count("TASK_COMPLETED") == 3
    assert lines(tmp_path).count("charge o-1") == 1
