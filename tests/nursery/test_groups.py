"""Task groups: who waits for whom, which errors leave, in which shape."""

from __future__ import annotations

import gc
from typing import Any, cast

import anyio
import pytest
from anyio.lowlevel import checkpoint

from flovyn.errors import DeterminismError
from flovyn.nursery import Cancelled, CancelScope
from nursery.driving import Driver, run


def tree(error: BaseException) -> Any:
    """An exception as something that compares."""
    if isinstance(error, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", error)
        return [tree(inner) for inner in group.exceptions]
    return "Cancelled" if isinstance(error, Cancelled) else repr(error)


async def fail(delay: float, text: str) -> None:
    await anyio.sleep(delay)
    raise ValueError(text)


async def fail_when_cancelled(text: str) -> None:
    try:
        await anyio.sleep_forever()
    finally:
        raise ValueError(text)


def test_the_group_waits_for_its_children() -> None:
    async def main() -> float:
        async with anyio.create_task_group() as group:
            for delay in (5, 20, 10):
                group.start_soon(anyio.sleep, delay)
        return anyio.current_time()

    assert run(main) == 20


def test_one_failure_cancels_the_siblings_and_the_body_and_leaves_as_a_group() -> None:
    async def main() -> list[str]:
        log: list[str] = []

        async def child() -> None:
            try:
                await anyio.sleep_forever()
            finally:
                log.append("child")

        with pytest.raises(ExceptionGroup) as caught:
            async with anyio.create_task_group() as group:
                group.start_soon(child)
                group.start_soon(fail, 1, "no")
                try:
                    await anyio.sleep_forever()
                finally:
                    log.append("body")
        assert caught.value.message == "unhandled errors in a TaskGroup"
        assert tree(caught.value) == ["ValueError('no')"]
        assert caught.value.__context__ is None
        return log

    assert run(main) == ["body", "child"]


def test_errors_leave_in_the_order_in_which_they_were_raised() -> None:
    async def main() -> Any:
        with pytest.raises(ExceptionGroup) as caught:
            async with anyio.create_task_group() as group:
                group.start_soon(fail_when_cancelled, "second")
                group.start_soon(fail, 2, "first")
                group.start_soon(fail_when_cancelled, "third")
                group.start_soon(anyio.sleep_forever)
        return tree(caught.value)

    assert run(main) == ["ValueError('first')", "ValueError('second')", "ValueError('third')"]


def test_groups_nest_in_the_error() -> None:
    async def inner(text: str) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(fail, 1, text)
            group.start_soon(fail_when_cancelled, text + "!")

    async def main() -> Any:
        with pytest.raises(ExceptionGroup) as caught:
            async with anyio.create_task_group() as group:
                group.start_soon(inner, "a")
                group.start_soon(inner, "b")
                raise KeyError("body")
        return tree(caught.value)

    # the body's error cancels both before their timers fire
    assert run(main) == ["KeyError('body')", ["ValueError('a!')"], ["ValueError('b!')"]]


def test_the_error_of_a_group_of_a_cancelled_scope_keeps_the_cancelled_exceptions_until_the_scope() -> None:
    async def main() -> tuple[Any, Any, bool]:
        with pytest.raises(ExceptionGroup) as outside:
            with CancelScope() as scope:
                try:
                    async with anyio.create_task_group() as group:
                        group.start_soon(fail_when_cancelled, "clean-up failed")
                        group.start_soon(anyio.sleep_forever)
                        await checkpoint()
                        scope.cancel()
                except BaseExceptionGroup as inside:
                    shape = tree(inside)
                    raise
        return shape, tree(outside.value), scope.cancelled_caught

    assert run(main) == (
        ["ValueError('clean-up failed')", "Cancelled"],
        ["ValueError('clean-up failed')"],
        True,
    )


def test_nothing_but_cancelled_exceptions_leave_as_one() -> None:
    async def main() -> str:
        with CancelScope() as scope:
            try:
                async with anyio.create_task_group() as group:
                    group.start_soon(anyio.sleep_forever)
                    group.start_soon(anyio.sleep_forever)
                    await checkpoint()
                    scope.cancel("enough")
            except Cancelled as error:
                reason = str(error.reason)
                raise
        assert scope.cancelled_caught
        return reason

    assert run(main) == "enough"


def test_the_reason_of_a_cancellation_reaches_tasks_that_wait_again() -> None:
    async def main() -> list[str | None]:
        reasons: list[str | None] = []

        async def child() -> None:
            for _ in range(2):
                try:
                    await anyio.sleep_forever()
                except Cancelled as error:
                    reasons.append(error.reason)
            raise Cancelled

        with CancelScope() as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(child)
                await checkpoint()
                scope.cancel("enough")
                await checkpoint()
        return reasons

    assert run(main) == ["enough", "enough"]


def test_a_cancelled_group_is_silent() -> None:
    async def main() -> bool:
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.sleep_forever)
            group.cancel("enough")
            await anyio.sleep_forever()
        return group.cancel_scope.cancelled_caught

    assert run(main) is True


def test_a_cancellation_does_not_cut_the_wait_for_shielded_children_short() -> None:
    async def main() -> tuple[float, bool]:
        async def child() -> None:
            with CancelScope(shield=True):
                await anyio.sleep(10)

        with anyio.move_on_after(1) as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(child)
        # nothing was interrupted: a group is never itself the source of a cancellation
        return anyio.current_time(), scope.cancelled_caught

    assert run(main) == (10, False)


def test_the_body_may_start_children_until_the_last_has_ended() -> None:
    async def main() -> list[str]:
        log: list[str] = []

        async def chain(length: int) -> None:
            await anyio.sleep(1)
            log.append(f"{length}@{anyio.current_time():.0f}")
            if length:
                group.start_soon(chain, length - 1)

        async with anyio.create_task_group() as group:
            group.start_soon(chain, 2)
        with pytest.raises(RuntimeError, match="not active"):
            group.start_soon(chain, 1)
        with pytest.raises(RuntimeError, match="not active"):
            await group.start(anyio.sleep, 1)
        return log

    assert run(main) == ["2@1", "1@2", "0@3"]


def test_a_group_is_entered_once_and_before_it_is_used() -> None:
    async def main() -> None:
        group = anyio.create_task_group()
        with pytest.raises(RuntimeError, match="not active"):
            group.start_soon(checkpoint)
        async with group:
            with pytest.raises(RuntimeError, match="more than once"):
                await group.__aenter__()

    run(main)


def test_a_group_that_is_over_takes_no_child_even_before_its_host_has_noticed() -> None:
    async def main() -> list[str]:
        log: list[str] = []
        event = anyio.Event()

        async def last() -> None:
            event.set()

        async def other() -> None:
            await event.wait()
            with pytest.raises(RuntimeError, match="not active"):
                inner.start_soon(anyio.sleep, 1)
            log.append("refused")

        async with anyio.create_task_group() as outer:
            async with anyio.create_task_group() as inner:
                outer.start_soon(other)
                await checkpoint()
                inner.start_soon(last)
        return log

    assert run(main) == ["refused"]


def test_only_coroutines_are_tasks() -> None:
    async def main() -> None:
        async with anyio.create_task_group() as group:
            with pytest.raises(TypeError, match="expected a coroutine, got int"):
                group.create_task(1)  # type: ignore[arg-type]
            with pytest.raises(TypeError, match="to return a coroutine"):
                group.start_soon(len, ())  # type: ignore[arg-type]

    run(main)


def test_a_group_of_another_workflow_is_out_of_reach() -> None:
    groups: list[anyio.abc.TaskGroup] = []

    async def owner() -> None:
        async with anyio.create_task_group() as group:
            groups.append(group)
            await anyio.sleep_forever()

    async def intruder() -> None:
        text = "^this task group belongs to another workflow: workflows share nothing, use a promise or a signal$"
        with pytest.raises(DeterminismError, match=text):
            groups[0].start_soon(checkpoint)

    first, second = Driver(), Driver()
    first.run(owner())
    second.run(intruder())
    assert second.ended[0].error is None
    first.kernel.close()


def test_base_exceptions_of_children_leave_too() -> None:
    class Stop(BaseException):
        pass

    async def child() -> None:
        raise Stop

    async def main() -> Any:
        with pytest.raises(BaseExceptionGroup) as caught:
            async with anyio.create_task_group() as group:
                group.start_soon(child)
                group.start_soon(anyio.sleep_forever)
        return tree(caught.value)

    assert run(main) == ["Stop()"]


def test_the_error_of_a_task_shows_the_users_frames_first() -> None:
    async def main() -> list[str]:
        with pytest.raises(ExceptionGroup) as caught:
            async with anyio.create_task_group() as group:
                group.start_soon(fail, 0, "here")
        error = caught.value.exceptions[0]
        names: list[str] = []
        traceback = error.__traceback__
        while traceback is not None:
            names.append(traceback.tb_frame.f_code.co_name)
            traceback = traceback.tb_next
        return names

    assert run(main) == ["_run_coro", "fail"]


def test_errors_leave_no_cycles_behind() -> None:
    class Own(ValueError):
        pass

    async def child() -> None:
        raise Own

    async def main() -> None:
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(child)
                await anyio.sleep_forever()
        except ExceptionGroup as group_error:
            error = group_error.exceptions[0]
            del group_error
        gc.collect()
        assert [type(referrer) for referrer in gc.get_referrers(error)] == []

    gc.collect()
    gc.disable()
    try:
        run(main)
    finally:
        gc.enable()


def test_ten_thousand_children() -> None:
    async def main() -> int:
        done: list[int] = []

        async def child(number: int) -> None:
            await anyio.sleep(number % 7)
            done.append(number)

        async with anyio.create_task_group() as group:
            for number in range(10_000):
                group.start_soon(child, number)
        assert done == sorted(done, key=lambda number: (number % 7, number))
        return len(done)

    assert run(main) == 10_000
