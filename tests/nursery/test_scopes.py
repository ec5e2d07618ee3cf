"""Cancel scopes: level cancellation, shields, what is caught where."""

from __future__ import annotations

import math
from typing import Any

import anyio
import pytest
from anyio.lowlevel import cancel_shielded_checkpoint, checkpoint, checkpoint_if_cancelled

from flovyn.errors import DeterminismError
from flovyn.nursery import Cancelled, CancelScope
from nursery.driving import Driver, run


def test_every_checkpoint_raises_until_the_scope_is_left() -> None:
    async def main() -> int:
        caught = 0
        with CancelScope() as scope:
            scope.cancel()
            for _ in range(5):
                try:
                    await checkpoint()
                except Cancelled:
                    caught += 1
            for wait in (anyio.sleep(1), anyio.sleep_forever(), anyio.Event().wait(), checkpoint_if_cancelled()):
                with pytest.raises(Cancelled):
                    await wait
        assert scope.cancel_called
        assert not scope.cancelled_caught
        await checkpoint()
        return caught

    assert run(main) == 5


def test_the_innermost_scope_that_is_cancelled_and_not_reached_from_outside_catches() -> None:
    async def main() -> list[bool]:
        with CancelScope() as outer, CancelScope() as middle, CancelScope() as inner:
            inner.cancel()
            middle.cancel()
            await checkpoint()
        return [outer.cancelled_caught, middle.cancelled_caught, inner.cancelled_caught]

    assert run(main) == [False, True, False]


def test_cancel_before_entering_takes_effect_inside() -> None:
    async def main() -> tuple[bool, float]:
        scope = CancelScope(deadline=5)
        scope.cancel("too early")
        assert scope.cancel_called
        with scope:
            await anyio.sleep(100)
        assert scope.cancel_reason == "too early"
        return scope.cancelled_caught, anyio.current_time()

    assert run(main) == (True, 0)


def test_nothing_raised_nothing_caught() -> None:
    async def main() -> tuple[bool, bool]:
        with CancelScope() as scope:
            scope.cancel()
        return scope.cancel_called, scope.cancelled_caught

    assert run(main) == (True, False)


def test_shield_keeps_cancellation_out_but_not_its_own() -> None:
    async def main() -> list[float]:
        times: list[float] = []
        with CancelScope() as outer:
            outer.cancel()
            with CancelScope(shield=True):
                await anyio.sleep(10)
                times.append(anyio.current_time())
            with CancelScope(shield=True, deadline=15) as shielded:
                await anyio.sleep(10)
            assert shielded.cancelled_caught
            times.append(anyio.current_time())
            await anyio.sleep(10)
            times.append(-1)
        assert outer.cancelled_caught
        return times

    assert run(main) == [10, 15]


def test_lowering_a_shield_delivers_what_it_held_back() -> None:
    async def main() -> list[str]:
        log: list[str] = []

        async def child() -> None:
            try:
                await anyio.sleep_forever()
            except Cancelled:  # swallowed, for an error of a child would cancel the group
                log.append("cancelled")

        with CancelScope() as outer, CancelScope(shield=True) as shield:
            async with anyio.create_task_group() as group:
                group.start_soon(child)
                await checkpoint()
                outer.cancel()
                await cancel_shielded_checkpoint()
                log.append("still shielded")
                await checkpoint()
                shield.shield = False
                with pytest.raises(Cancelled):
                    await checkpoint()
                shield.shield = True
                await checkpoint()  # raising the shield again stops the cancellation, as in Trio
                log.append("shielded again")
        return log

    assert run(main) == ["still shielded", "cancelled", "shielded again"]


def test_shield_must_be_a_bool() -> None:
    async def main() -> None:
        with CancelScope() as scope, pytest.raises(TypeError, match="shield must be a bool"):
            scope.shield = 1  # type: ignore[assignment]

    run(main)


def test_deadline_must_be_a_number() -> None:
    with pytest.raises(ValueError, match="NaN"):
        CancelScope(deadline=math.nan)
    scope = CancelScope()
    with pytest.raises(ValueError, match="NaN"):
        scope.deadline = math.nan


def test_the_exception_says_who_and_why() -> None:
    async def main() -> list[str]:
        texts: list[str] = []

        async def child(scope: CancelScope) -> None:
            with scope:
                try:
                    await anyio.sleep_forever()
                except Cancelled as error:
                    texts.append(str(error))
                    raise

        async with anyio.create_task_group() as group:
            reasoned, plain, late = CancelScope(), CancelScope(), CancelScope(deadline=3)
            for scope in (reasoned, plain, late):
                group.start_soon(child, scope)
            await checkpoint()
            anyio.get_current_task()
            reasoned.cancel("no more money")
            reasoned.cancel("a second reason changes nothing")
            plain.cancel()
        assert reasoned.cancel_reason == "no more money"
        assert plain.cancel_reason is None
        assert late.cancel_reason == "deadline"
        return texts

    by = f"(cancelled by task '{__name__}.{main.__qualname__}')"
    assert run(main) == [f"no more money {by}", f"cancelled {by}", "deadline"]


def test_the_reason_of_the_scope_that_reaches_the_task_counts() -> None:
    async def main() -> str | None:
        with CancelScope() as outer, CancelScope(), CancelScope():
            outer.cancel("from far away")
            try:
                await checkpoint()
            except Cancelled as error:
                reason = error.reason
                raise
        return reason

    assert run(main) == "from far away"


def test_a_scope_is_used_once() -> None:
    async def main() -> None:
        with CancelScope() as scope:
            with pytest.raises(RuntimeError, match="only be used for a single 'with' block"):
                scope.__enter__()
        with pytest.raises(RuntimeError, match="single 'with' block"), scope:
            pass
        with pytest.raises(RuntimeError, match="not active"):
            scope.__exit__(None, None, None)
        await checkpoint()

    run(main)


def test_a_scope_is_left_by_the_task_that_entered_it() -> None:
    async def main() -> None:
        async def leave(scope: CancelScope) -> None:
            with pytest.raises(RuntimeError, match="different task"):
                scope.__exit__(None, None, None)

        with CancelScope() as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(leave, scope)

    run(main)


def test_scopes_left_in_the_wrong_order_are_cut_off() -> None:
    async def main() -> list[str]:
        log: list[str] = []
        with CancelScope() as around:
            outer, inner = CancelScope(), CancelScope(deadline=50)
            outer.__enter__()
            inner.__enter__()
            with pytest.raises(RuntimeError, match="isn't the current tasks's current cancel scope"):
                outer.__exit__(None, None, None)
            await checkpoint()  # what was cut off no longer reaches the task
            log.append("alive")
            assert inner.__exit__(None, None, None) is False
            assert inner.timer_token is None
            around.cancel()
            await checkpoint()
        assert around.cancelled_caught
        return log

    assert run(main) == ["alive"]


def test_a_task_that_ends_inside_a_scope_takes_it_along() -> None:
    async def main() -> None:
        CancelScope(deadline=100).__enter__()

    driver = Driver()
    driver.run(main())
    assert driver.ended[0].error is None
    assert driver.log == [("start", 100), ("cancel", 100)]


def test_children_of_a_group_whose_task_has_ended_are_cancelled() -> None:
    log: list[str] = []

    async def child() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            log.append("cancelled")

    async def main() -> None:
        group = anyio.create_task_group()
        await group.__aenter__()
        group.start_soon(child)
        await checkpoint()

    driver = Driver()
    driver.run(main())
    assert driver.ended[0].error is None
    assert log == ["cancelled"]
    assert driver.kernel.tasks == ()


def test_cancelled_exceptions_are_taken_out_of_a_group_and_the_rest_goes_on() -> None:
    async def main() -> tuple[bool, BaseExceptionGroup[BaseException]]:
        first = ValueError("first")
        with pytest.raises(BaseExceptionGroup) as caught:
            with CancelScope() as scope:
                scope.cancel()
                raise BaseExceptionGroup("mixed", [first, Cancelled(), BaseExceptionGroup("deeper", [Cancelled()])])
        return scope.cancelled_caught, caught.value

    caught, group = run(main)
    assert caught
    assert repr(group) == "ExceptionGroup('mixed', [ValueError('first')])"
    assert group.__context__ is None


def test_a_cancelled_exception_out_of_nowhere_passes() -> None:
    async def main() -> None:
        with CancelScope() as scope:
            try:
                raise Cancelled("mine")
            finally:
                assert not scope.cancelled_caught

    with pytest.raises(Cancelled, match="mine"):
        run(main)


def test_current_effective_deadline() -> None:
    async def main() -> list[float]:
        seen = [anyio.current_effective_deadline()]
        with CancelScope(deadline=10):
            seen.append(anyio.current_effective_deadline())
            with CancelScope(deadline=20):
                seen.append(anyio.current_effective_deadline())
                with CancelScope(deadline=30, shield=True) as shield:
                    seen.append(anyio.current_effective_deadline())
                    shield.cancel()
                    seen.append(anyio.current_effective_deadline())
        return seen

    assert run(main) == [math.inf, 10, 10, 30, -math.inf]


def test_pending_cancellation_of_a_task() -> None:
    async def main() -> list[bool]:
        seen = [anyio.get_current_task().has_pending_cancellation()]
        with CancelScope() as scope:
            scope.cancel()
            seen.append(anyio.get_current_task().has_pending_cancellation())
            with CancelScope(shield=True):
                seen.append(anyio.get_current_task().has_pending_cancellation())
        return seen

    assert run(main) == [False, True, False]


def test_a_cancel_that_comes_after_the_wake_does_not_undo_it() -> None:
    async def main() -> str:
        event = anyio.Event()
        result: list[str] = []

        async def waiter() -> None:
            with scope:
                await event.wait()
                result.append("woken")
                await checkpoint()
                result.append("never")

        scope = CancelScope()
        async with anyio.create_task_group() as group:
            group.start_soon(waiter)
            await checkpoint()
            event.set()
            scope.cancel()
        return ",".join(result)

    assert run(main) == "woken"


def test_entering_a_scope_outside_a_workflow_is_refused() -> None:
    with pytest.raises(DeterminismError, match="belongs inside a workflow"):
        CancelScope().__enter__()


class TooDeep(BaseExceptionGroup[BaseException]):
    """A group with more levels than the interpreter likes."""

    def split(self, *_: Any) -> Any:
        raise RecursionError("too deep")


def test_a_group_that_cannot_be_taken_apart_does_not_keep_its_scope_open() -> None:
    async def main() -> bool:
        with anyio.CancelScope() as outer:
            with pytest.raises(RecursionError, match="too deep"), anyio.CancelScope() as inner:
                inner.cancel()
                try:
                    await checkpoint()
                except Cancelled as cancelled:
                    raise TooDeep("deep", [cancelled]) from None
            await checkpoint()  # of the scope that was left, nothing is felt
        return outer.cancel_called

    assert run(main) is False
