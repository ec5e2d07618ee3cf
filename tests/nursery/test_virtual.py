"""The nursery alone: `anyio.run(main, backend="flovyn")` over a virtual clock."""

from __future__ import annotations

import time

import anyio
import anyio._core._eventloop as registry
import anyio.lowlevel
import pytest

from flovyn.errors import Deadlock, RunawayWorkflow
from flovyn.nursery import CancelScope
from nursery.driving import run


def test_a_year_passes_at_once() -> None:
    async def main() -> float:
        await anyio.sleep(365 * 86_400)
        return anyio.current_time()

    began = time.perf_counter()
    assert run(main) == 365 * 86_400
    assert time.perf_counter() - began < 1


def test_arguments_and_errors_pass() -> None:
    async def main(left: int, right: int) -> float:
        return left / right

    assert anyio.run(main, 6, 3, backend="flovyn") == 2
    with pytest.raises(ZeroDivisionError):
        anyio.run(main, 1, 0, backend="flovyn")


def test_there_are_no_options() -> None:
    with pytest.raises(TypeError):
        anyio.run(anyio.sleep, 1, backend="flovyn", backend_options={"speed": 2})


def test_the_backend_is_registered_where_anyio_looks() -> None:
    assert registry.get_async_backend("flovyn").__name__ == "FlovynBackend"


def test_waiting_for_nothing_is_a_deadlock_that_cleans_up_and_says_where() -> None:
    log: list[str] = []

    async def waits_here() -> None:
        try:
            await anyio.Event().wait()
        finally:
            with CancelScope(shield=True):
                await anyio.sleep(10)
            log.append("clean-up")

    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(waits_here, name="the waiter")

    with pytest.raises(Deadlock) as caught:
        run(main)
    assert log == ["clean-up"]
    assert caught.value.message.startswith("every task waits, and nothing can wake one:\n")
    assert "\nthe waiter:\n" in caught.value.message
    assert "in waits_here\n    await anyio.Event().wait()" in caught.value.message


def test_a_deadlock_in_the_clean_up_ends_too() -> None:
    async def main() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            with CancelScope(shield=True):
                await anyio.sleep_forever()

    with pytest.raises(Deadlock):
        run(main)


def test_a_spin_ends() -> None:
    async def main() -> None:
        while True:
            await anyio.lowlevel.checkpoint()

    with pytest.raises(RunawayWorkflow):
        run(main)


def test_a_long_run_with_timers_is_no_spin() -> None:
    async def main() -> int:
        for _ in range(110_000):
            await anyio.sleep(1)
        return 1

    assert run(main) == 1
