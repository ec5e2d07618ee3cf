"""Watches: told once, in order, at the moment at which a cancellation reaches their place."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from flovyn.nursery import CancelScope
from flovyn.nursery.kernel import Watch, current_kernel
from nursery.driving import Driver, run


class Log(list[str]):
    def tell(self, what: str) -> Any:
        return lambda: self.append(what)


def test_a_watch_is_told_during_the_call_of_cancel() -> None:
    log = Log()

    async def main() -> None:
        with CancelScope() as scope:
            scope.watch(log.tell("told"))
            log.append("before")
            scope.cancel()
            log.append("after")

    run(main)
    assert log == ["before", "told", "after"]


def test_it_is_told_once() -> None:
    log = Log()

    async def main() -> None:
        with CancelScope() as outer, CancelScope() as inner:
            inner.watch(log.tell("told"))
            outer.cancel()
            inner.cancel()
            inner.shield = True
            inner.shield = False

    run(main)
    assert log == ["told"]


def test_a_scope_that_is_cancelled_already_tells_at_once() -> None:
    log = Log()

    async def main() -> None:
        with CancelScope() as scope:
            scope.cancel()
            scope.watch(log.tell("told")).stop()
            log.append("returned")

    run(main)
    assert log == ["told", "returned"]


def test_shields_count() -> None:
    log = Log()

    async def main() -> None:
        with CancelScope() as outer, CancelScope(shield=True) as shield:
            shield.watch(log.tell("told"))
            outer.cancel()
            log.append("shielded")
            shield.shield = False
            log.append("shield down")

    run(main)
    assert log == ["shielded", "told", "shield down"]


def test_a_deadline_tells_between_steps() -> None:
    log = Log()

    async def main() -> None:
        with CancelScope(deadline=5) as scope:
            scope.watch(log.tell("told"))
            await anyio.sleep(10)

    driver = Driver()
    driver.run(main())
    driver.fire()
    assert log == ["told"]
    driver.kernel.run()
    assert log == ["told"]


def test_leaving_the_scope_moves_the_watch_to_the_one_around_it() -> None:
    log = Log()

    async def main() -> None:
        with CancelScope() as outer:
            with CancelScope() as inner:
                inner.watch(log.tell("told"))
            inner.cancel()
            log.append("the one that was left reaches it no more")
            outer.cancel()

    run(main)
    assert log == ["the one that was left reaches it no more", "told"]


def test_leaving_a_shield_inside_a_cancelled_scope_tells() -> None:
    log = Log()

    async def main() -> None:
        with CancelScope() as outer:
            with CancelScope(shield=True) as shield:
                shield.watch(log.tell("told"))
                outer.cancel()
                log.append("leaving")
            log.append("left")

    run(main)
    assert log == ["leaving", "told", "left"]


def test_leaving_the_outermost_scope_tells_nobody() -> None:
    log = Log()
    driver = Driver()
    scope = driver.kernel.create_scope()
    watch = scope.watch(log.tell("told"))
    scope.detach()
    scope.cancel()
    watch.stop()
    assert log == []


def test_a_watch_in_a_started_task_moves_into_its_group_with_it() -> None:
    log = Log()

    async def child(*, task_status: Any) -> None:
        task = current_kernel().current
        assert task is not None
        task.scope.watch(log.tell("told"))
        task_status.started()
        await anyio.sleep_forever()

    async def main() -> None:
        async with anyio.create_task_group() as group:
            with CancelScope() as around_start:
                await group.start(child)
            around_start.cancel()
            log.append("started")
            group.cancel_scope.cancel()
            log.append("cancelled")

    run(main)
    assert log == ["started", "told", "cancelled"]


def test_tasks_and_watches_are_told_in_the_order_in_which_they_were_made() -> None:
    log = Log()

    async def wait(name: str) -> None:
        def abort() -> bool:
            log.append(name)
            return True

        await current_kernel().park(abort)

    async def main() -> None:
        async with anyio.create_task_group() as group:
            scope = group.cancel_scope
            assert isinstance(scope, CancelScope)
            with CancelScope() as inner:
                inner.watch(log.tell("watch 1"))
                group.start_soon(wait, "task 2")
                inner.watch(log.tell("watch 3"))
                scope.watch(log.tell("watch 4"))
                group.start_soon(wait, "task 5")
                inner.watch(log.tell("watch 6"))
                await anyio.wait_all_tasks_blocked()
                group.cancel_scope.cancel()

    run(main)
    assert log == ["watch 1", "task 2", "watch 3", "watch 4", "task 5", "watch 6"]


def test_a_watch_that_has_stopped_is_not_told() -> None:
    log = Log()

    async def main() -> None:
        with CancelScope() as scope:
            watch = scope.watch(log.tell("told"))
            watch.stop()
            watch.stop()
            scope.cancel()

    run(main)
    assert log == []


@pytest.mark.parametrize("how", ["cancel", "leave"])
def test_a_watch_that_is_stopped_by_another_in_the_same_cancellation_is_not_told(how: str) -> None:
    log = Log()
    second: list[Watch] = []

    async def main() -> None:
        with CancelScope() as outer, CancelScope(shield=how == "leave") as inner:

            def first() -> None:
                log.append("first")
                second[0].stop()

            inner.watch(first)
            second.append(inner.watch(log.tell("second")))
            outer.cancel()

    run(main)
    assert log == ["first"]


def test_a_callback_that_raises_a_shield_protects_those_after_it() -> None:
    log = Log()

    async def main() -> None:
        with CancelScope() as outer:
            with CancelScope() as inner:

                def protect() -> None:
                    log.append("first")
                    inner.shield = True

                inner.watch(protect)
                inner.watch(log.tell("second"))
                outer.cancel()
                await checkpoint()
                log.append("not cancelled")

    run(main)
    assert log == ["first", "not cancelled", "second"]


def test_a_watch_knows_that_it_is_reached_before_it_is_told() -> None:
    """A callback earlier in the same cancellation may ask those that come after it."""
    seen: list[tuple[bool, bool]] = []

    async def main() -> None:
        with CancelScope() as outer, CancelScope() as inner:
            first = outer.watch(lambda: seen.append((first.reached, second.reached)))
            second = inner.watch(lambda: seen.append((first.reached, second.reached)))
            seen.append((first.reached, second.reached))
            inner.shield = True
            outer.cancel()
            inner.shield = False
        seen.append((first.reached, second.reached))

    run(main)
    assert seen == [(False, False), (True, False), (True, True), (True, True)]


def test_a_watch_that_was_stopped_is_not_reached() -> None:
    async def main() -> None:
        with CancelScope() as scope:
            watch = scope.watch(pytest.fail)
            watch.stop()
            scope.cancel()
            assert not watch.reached

    run(main)


def test_a_dead_kernel_tells_nobody() -> None:
    log = Log()
    scopes: list[CancelScope] = []

    async def main() -> None:
        with CancelScope() as scope:
            scopes.append(scope)
            scope.watch(log.tell("told"))
            try:
                await anyio.sleep_forever()
            finally:
                log.append("closing")
                scope.watch(log.tell("told, made on a dead kernel"))
                scope.cancel()

    driver = Driver()
    driver.run(main())
    driver.kernel.close()
    scopes[0].cancel()
    assert log == ["closing"]


def test_a_task_that_ends_inside_a_scope_that_it_never_left_tells() -> None:
    log = Log()

    async def child() -> None:
        scope = CancelScope()
        scope.__enter__()
        scope.watch(log.tell("told"))

    driver = Driver()
    driver.run(child())
    assert log == ["told"]


def test_only_a_scope_that_is_entered_can_be_watched() -> None:
    async def main() -> None:
        scope = CancelScope()
        with pytest.raises(RuntimeError, match="entered"):
            scope.watch(pytest.fail)
        with scope:
            pass
        with pytest.raises(RuntimeError, match="not left yet"):
            scope.watch(pytest.fail)

    run(main)
