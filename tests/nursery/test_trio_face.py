"""The same nursery under Trio's names."""

from __future__ import annotations

import math
from typing import Any

import anyio
import pytest

from flovyn import nursery as trio
from flovyn.errors import DeterminismError
from nursery.driving import run


def test_a_program_for_trio() -> None:
    async def child(log: list[Any], name: str, delay: float) -> None:
        await trio.sleep(delay)
        log.append((name, trio.current_time()))

    async def server(*, task_status: Any) -> None:
        task_status.started("up")
        await trio.sleep_forever()

    async def main() -> list[Any]:
        log: list[Any] = []
        async with trio.open_nursery() as nursery:
            assert isinstance(nursery, trio.Nursery)
            nursery.start_soon(child, log, "slow", 5, name="slow one")
            nursery.start_soon(child, log, "fast", 2)
            log.append(await nursery.start(server))
            assert nursery.parent_task is not None
            assert nursery.child_tasks[0].name == "slow one"
            with trio.move_on_after(3) as scope:
                await trio.sleep_forever()
            assert scope.cancelled_caught
            await trio.sleep_until(6)
            await trio.checkpoint()
            nursery.cancel_scope.cancel()
        return log

    assert run(main) == ["up", ("fast", 2), ("slow", 5)]


def test_time_limits() -> None:
    async def main() -> float:
        with pytest.raises(TimeoutError), trio.fail_after(2):
            await trio.sleep(10)
        with pytest.raises(TimeoutError), trio.fail_at(3, shield=True) as scope:
            assert scope.shield
            assert trio.current_effective_deadline() == 3
            await trio.sleep(10)
        with trio.fail_after(10) as scope:
            scope.cancel()
            await trio.checkpoint()
        with trio.move_on_at(4, shield=True):
            await trio.sleep(10)
        assert trio.current_effective_deadline() == math.inf
        return trio.current_time()

    assert run(main) == 4


@pytest.mark.parametrize("seconds", [-1, math.nan])
def test_negative_times_are_refused(seconds: float) -> None:
    async def main() -> None:
        with pytest.raises(ValueError, match="`seconds`"):
            await trio.sleep(seconds)
        with pytest.raises(ValueError, match="`seconds`"):
            trio.move_on_after(seconds)
        with pytest.raises(ValueError, match="`seconds`"), trio.fail_after(seconds):
            pass

    run(main)


def test_both_faces_show_the_same_objects() -> None:
    async def main() -> None:
        assert type(anyio.CancelScope()) is trio.CancelScope
        assert type(anyio.create_task_group()) is trio.Nursery
        assert type(anyio.Event()) is trio.Event
        assert type(anyio.Lock()) is trio.Lock
        assert type(anyio.Semaphore(1)) is trio.Semaphore
        assert type(anyio.CapacityLimiter(1)) is trio.CapacityLimiter
        assert anyio.get_cancelled_exc_class() is trio.Cancelled

    run(main)


@pytest.mark.parametrize("call", [trio.current_time, trio.current_effective_deadline, lambda: trio.move_on_after(1)])
def test_outside_a_workflow_the_error_is_clear(call: Any) -> None:
    with pytest.raises(DeterminismError, match="this call belongs inside a workflow, and none is being stepped"):
        call()
