"""Deadlines and sleeps: which timers are started, which are cancelled, when what expires."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable

import anyio
import pytest
from anyio.lowlevel import checkpoint

from flovyn.nursery import Cancelled, CancelScope
from nursery.driving import Driver, run


def test_a_deadline_starts_a_timer_and_leaving_cancels_it() -> None:
    async def main() -> None:
        with anyio.move_on_after(10) as scope:
            assert scope.deadline == 110
            await checkpoint()
        assert not scope.cancel_called

    driver = Driver(now=100)
    driver.run(main())
    assert driver.log == [("start", 110), ("cancel", 110)]
    assert driver.ended[0].error is None


def test_the_timer_is_given_the_scope_whose_deadline_it_is() -> None:
    scopes: list[CancelScope] = []

    async def main() -> None:
        with CancelScope(deadline=10) as scope:
            scopes.append(scope)
            await anyio.sleep(20)

    driver = Driver()
    driver.run(main())
    (deadline_token, (_, _, given)), (_, (_, _, none)) = driver.armed.items()
    scope = scopes[0]
    assert given is scope
    assert none is None
    assert scope.timer_token == deadline_token
    driver.fire()
    assert scope.timer_token is None
    driver.kernel.run()
    assert driver.log == [("start", 10), ("start", 20), ("fire", 10), ("cancel", 20)]
    assert scope.cancelled_caught


def test_nothing_expires_before_its_timer_fires() -> None:
    async def main() -> bool:
        with CancelScope(deadline=10) as scope:
            await anyio.Event().wait()
        return scope.cancel_called

    driver = Driver()
    driver.run(main())
    driver.kernel.now = 1000
    driver.kernel.run()
    scope = next(iter(driver.armed.values()))[2]
    assert scope is not None
    assert not scope.cancel_called
    assert driver.ended == []
    assert driver.finish() is True


@pytest.mark.parametrize("deadline", [-math.inf, 0, 99.5, 100])
def test_a_deadline_in_the_past_cancels_on_entry_and_starts_no_timer(deadline: float) -> None:
    async def main() -> None:
        with CancelScope(deadline=deadline) as scope:
            assert scope.cancel_called
            await anyio.sleep(5)
        assert scope.cancelled_caught

    driver = Driver(now=100)
    driver.run(main())
    assert driver.ended[0].error is None
    assert driver.log == []


@pytest.mark.parametrize("wait", [checkpoint(), anyio.sleep_until(5), checkpoint()], ids=["0", "past", "checkpoint"])
def test_a_sleep_that_is_over_is_a_checkpoint(wait: Awaitable[None]) -> None:
    log: list[str] = []

    async def main() -> None:
        await wait
        log.append("slept")

    async def other() -> None:
        log.append("other")

    driver = Driver(now=10)
    driver.task(main())
    driver.run(other())
    assert log == ["other", "slept"]
    assert driver.log == []


def test_an_infinite_sleep_starts_no_timer() -> None:
    driver = Driver()
    driver.run(anyio.sleep_forever())
    assert driver.log == []
    assert driver.ended == []
    driver.kernel.close()


def test_a_cancelled_sleep_cancels_its_timer() -> None:
    async def main() -> None:
        with CancelScope() as scope:
            scopes.append(scope)
            await anyio.sleep(50)

    scopes: list[CancelScope] = []
    driver = Driver()
    driver.run(main())
    scopes[0].cancel()
    assert driver.log == [("start", 50), ("cancel", 50)]
    driver.kernel.run()
    assert driver.ended[0].error is None


def test_nothing_is_started_where_everything_is_cancelled() -> None:
    async def main() -> None:
        with CancelScope() as outer:
            outer.cancel()
            with CancelScope(deadline=10) as inner:
                with pytest.raises(Cancelled):
                    await anyio.sleep(5)
                inner.deadline = 20
                with CancelScope(shield=True):
                    await anyio.sleep(30)

    driver = Driver()
    driver.run(main())
    assert driver.log == [("start", 30)]
    assert driver.finish() is None


def test_a_deadline_held_back_by_a_cancellation_counts_once_a_shield_is_raised() -> None:
    async def main() -> float:
        with CancelScope() as outer, CancelScope(deadline=10) as inner:
            outer.cancel()
            inner.shield = True
            await anyio.sleep(100)
        assert inner.cancelled_caught
        return anyio.current_time()

    assert run(main) == 10


def test_changing_a_deadline_starts_the_timer_anew() -> None:
    async def main() -> float:
        with CancelScope(deadline=10) as scope:
            scope.deadline = 30
            scope.deadline = 30
            await checkpoint()
            scope.deadline = math.inf
            await checkpoint()
            scope.deadline = 20
            await anyio.sleep(100)
        return anyio.current_time()

    driver = Driver()
    driver.run(main())
    assert driver.log == [
        ("start", 10), ("cancel", 10), ("start", 30), ("cancel", 30), ("start", 20), ("start", 100),
    ]  # fmt: skip
    assert driver.finish() == 20


def test_setting_a_deadline_in_the_past_expires_at_once() -> None:
    async def main() -> bool:
        with CancelScope(deadline=10) as scope:
            scope.deadline = -1
            assert scope.cancel_called
            await anyio.sleep(5)
        scope.deadline = 50  # left: it means nothing any more
        return scope.cancelled_caught

    driver = Driver()
    driver.run(main())
    assert driver.finish() is True
    assert driver.log == [("start", 10), ("cancel", 10)]


def test_a_deadline_set_before_entering_counts_on_entry() -> None:
    async def main() -> float:
        scope = CancelScope()
        scope.deadline = 7
        await anyio.sleep(1)
        with scope:
            await anyio.sleep(100)
        return anyio.current_time()

    assert run(main) == 7


def test_cancelling_a_scope_ends_its_timer() -> None:
    async def main() -> None:
        with CancelScope(deadline=10) as scope:
            scope.cancel()
            scope.deadline = 20

    driver = Driver()
    driver.run(main())
    assert driver.log == [("start", 10), ("cancel", 10)]


def test_fail_after_raises_when_its_deadline_cut_the_block_short() -> None:
    async def main() -> float:
        with pytest.raises(TimeoutError), anyio.fail_after(3):
            await anyio.sleep(10)
        with anyio.fail_after(3) as scope:
            scope.cancel()
            await checkpoint()
        with anyio.fail_after(0, shield=True) as scope, pytest.raises(Cancelled):
            await checkpoint()
        return anyio.current_time()

    assert run(main) == 3


@pytest.mark.parametrize("nested", [(5, 10, 5), (10, 5, 5)], ids=["outer", "inner"])
def test_the_earlier_of_two_deadlines_wins(nested: tuple[float, float, float]) -> None:
    async def main() -> tuple[float, bool, bool]:
        with CancelScope(deadline=nested[0]) as outer:
            with CancelScope(deadline=nested[1]) as inner:
                await anyio.sleep(100)
            await checkpoint()
        return anyio.current_time(), outer.cancelled_caught, inner.cancelled_caught

    assert run(main) == (nested[2], nested[0] < nested[1], nested[1] < nested[0])


def test_the_clock_is_where_the_owner_put_it() -> None:
    async def main(seen: Callable[[float], None]) -> None:
        seen(anyio.current_time())
        await anyio.sleep(10)
        seen(anyio.current_time())

    times: list[float] = []
    driver = Driver(now=1_700_000_000)
    driver.run(main(times.append))
    driver.kernel.now = 1_700_000_123.5
    driver.fire()
    driver.kernel.run()
    assert times == [1_700_000_000, 1_700_000_123.5]


def test_a_negative_sleep_is_refused() -> None:
    async def main() -> None:
        for delay in (-1, math.nan):
            with pytest.raises(ValueError, match="non-negative"):
                await anyio.sleep(delay)

    run(main)
