"""`wait_until`: a condition that holds lets exactly one task go on."""

from __future__ import annotations

import contextvars
from collections.abc import Callable

import anyio
import pytest
import sniffio
from anyio.lowlevel import checkpoint

from flovyn.errors import RunawayWorkflow
from flovyn.nursery import Cancelled, CancelScope, current_time
from flovyn.nursery.kernel import current_kernel
from nursery.driving import Driver, run


async def until(predicate: Callable[[], bool]) -> None:
    await current_kernel().wait_until(predicate)


def test_one_waiter_goes_on_and_the_rest_are_examined_anew() -> None:
    """The condition of the second is made false by the first; all woken together, both would take the only seat."""
    log: list[str] = []
    seats = 0

    async def sit(name: str) -> None:
        nonlocal seats
        await until(lambda: seats > 0)
        seats -= 1
        log.append(f"{name} sits, {seats} left")

    async def main() -> None:
        nonlocal seats
        async with anyio.create_task_group() as group:
            for name in "abc":
                group.start_soon(sit, name)
            await anyio.wait_all_tasks_blocked()
            seats = 1
            await anyio.sleep(1)
            log.append("later")
            seats = 2

    run(main)
    assert log == ["a sits, 0 left", "later", "b sits, 1 left", "c sits, 0 left"]


def test_the_one_that_was_woken_runs_to_rest_before_the_next_is_examined() -> None:
    log: list[str] = []
    flag = False

    async def wait(name: str) -> None:
        await until(lambda: flag)
        for step in range(3):
            log.append(f"{name}{step}")
            await checkpoint()

    async def main() -> None:
        nonlocal flag
        async with anyio.create_task_group() as group:
            group.start_soon(wait, "a")
            group.start_soon(wait, "b")
            await anyio.wait_all_tasks_blocked()
            flag = True

    run(main)
    assert log == ["a0", "a1", "a2", "b0", "b1", "b2"]


def test_conditions_are_examined_in_the_order_in_which_they_began_to_wait() -> None:
    log: list[str] = []
    flag = False

    async def wait(name: str, delay: float) -> None:
        await anyio.sleep(delay)
        await until(lambda: flag)
        log.append(name)

    async def main() -> None:
        nonlocal flag
        async with anyio.create_task_group() as group:
            for name, delay in (("third", 3), ("first", 1), ("second", 2)):
                group.start_soon(wait, name, delay)
            await anyio.sleep(5)
            flag = True

    run(main)
    assert log == ["first", "second", "third"]


def test_a_condition_that_holds_on_entry_is_a_checkpoint() -> None:
    log: list[str] = []

    async def other() -> None:
        log.append("other")

    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(other)
            await until(lambda: True)
            log.append("main")

    run(main)
    assert log == ["other", "main"]


def test_a_condition_that_a_sibling_destroys_during_that_checkpoint_does_not_hold() -> None:
    flag = True

    async def other() -> None:
        nonlocal flag
        flag = False
        await anyio.sleep(5)
        flag = True

    async def main() -> float:
        async with anyio.create_task_group() as group:
            group.start_soon(other)
            await until(lambda: flag)
        return current_time()

    assert run(main) == 5


def test_conditions_come_before_those_who_wait_for_all_others() -> None:
    log: list[str] = []
    flag = False

    async def blocked() -> None:
        await anyio.wait_all_tasks_blocked()
        log.append("all blocked")

    async def condition() -> None:
        await until(lambda: flag)
        log.append("condition")

    async def main() -> None:
        nonlocal flag
        async with anyio.create_task_group() as group:
            group.start_soon(blocked)
            group.start_soon(condition)
            flag = True

    run(main)
    assert log == ["condition", "all blocked"]


def test_the_owner_may_make_a_condition_true_between_runs() -> None:
    flag = False
    driver = Driver()
    driver.run(until(lambda: flag))
    assert driver.kernel.run() is True
    assert driver.ended == []
    flag = True
    driver.kernel.run()
    assert [outcome.error for outcome in driver.ended] == [None]


def test_the_clock_may_make_a_condition_true() -> None:
    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.sleep, 3)
            group.start_soon(anyio.sleep, 7)
            await until(lambda: current_time() > 5)
            seen.append(current_time())

    seen: list[float] = []
    run(main)
    assert seen == [7]


def test_a_predicate_is_a_part_of_a_step_of_its_task() -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="host")
    seen: list[object] = []

    async def main() -> None:
        variable.set("task")
        task = current_kernel().current

        def predicate() -> bool:
            here = current_kernel().current is task, variable.get(), sniffio.current_async_library()
            seen.append(here)
            return len(seen) == 3

        await until(predicate)

    driver = Driver()
    driver.run(main())
    assert driver.ended == []
    driver.kernel.run()
    assert seen == [(True, "task", "flovyn")] * 3
    assert [outcome.error for outcome in driver.ended] == [None]
    assert variable.get() == "host"
    assert driver.kernel.current is None


def test_an_error_of_a_predicate_is_raised_in_its_own_task() -> None:
    log: list[str] = []
    broken = False

    def predicate() -> bool:
        if broken:
            raise ValueError("no")
        return False

    async def wait() -> None:
        with pytest.raises(ValueError, match="no"):
            await until(predicate)
        log.append("raised here")

    async def main() -> None:
        nonlocal broken
        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            broken = True
            await anyio.sleep(1)
            log.append("and not here")

    run(main)
    assert log == ["raised here", "and not here"]


def test_an_error_of_a_predicate_on_entry_is_raised_too() -> None:
    def predicate() -> bool:
        raise ValueError("no")

    async def main() -> None:
        with pytest.raises(ValueError, match="no"):
            await until(predicate)

    run(main)


def test_a_cancellation_ends_the_wait_and_the_condition_is_forgotten() -> None:
    asked: list[float] = []

    def predicate() -> bool:
        asked.append(current_time())
        return False

    async def main() -> bool:
        with anyio.move_on_after(5) as scope:
            await until(predicate)
        await anyio.sleep(10)
        return scope.cancelled_caught

    assert run(main) is True
    assert set(asked) == {0.0}


def test_in_a_cancelled_scope_nothing_is_examined() -> None:
    async def main() -> None:
        with CancelScope() as scope:
            scope.cancel()
            with pytest.raises(Cancelled):
                await until(pytest.fail)

    run(main)


def test_a_dead_kernel_examines_nothing() -> None:
    asked = 0

    def predicate() -> bool:
        nonlocal asked
        asked += 1
        return False

    async def main() -> None:
        try:
            await until(predicate)
        finally:
            await until(pytest.fail)

    driver = Driver()
    driver.run(main())
    before = asked
    driver.kernel.close()
    assert driver.kernel.run() is True
    assert asked == before


def test_waiting_without_end_for_what_always_holds_is_a_spin() -> None:
    async def main() -> None:
        while True:
            await until(lambda: True)

    driver = Driver(step_limit=100)
    driver.task(main())
    with pytest.raises(RunawayWorkflow):
        driver.kernel.run()
    driver.kernel.close()


def test_slices_change_nothing() -> None:
    def trace(limit: int | None) -> list[str]:
        log: list[str] = []
        tokens = 0

        def any_left() -> bool:
            return tokens > 0

        async def take(name: str) -> None:
            nonlocal tokens
            for _ in range(2):
                await until(any_left)
                tokens -= 1
                log.append(name)
                await checkpoint()

        async def main() -> None:
            nonlocal tokens
            async with anyio.create_task_group() as group:
                for name in "abc":
                    group.start_soon(take, name)
                for _ in range(6):
                    await anyio.wait_all_tasks_blocked()
                    tokens += 1

        driver = Driver()
        driver.task(main())
        while not driver.kernel.run(limit):
            pass
        return log

    assert trace(None) == trace(1) == trace(2) == trace(5)
    assert sorted(trace(None)) == list("aabbcc")
