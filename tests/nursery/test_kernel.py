"""The kernel by hand: parking, waking, aborting, limits, and what its owner may rely on."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint

from flovyn.errors import DeterminismError, RunawayWorkflow
from flovyn.nursery import Cancelled, CancelScope
from flovyn.nursery.kernel import Kernel, TaskState, current_kernel
from nursery.driving import Driver


class Parked:
    """A task that waits for the owner."""

    def __init__(self, *answers: bool, driver: Driver | None = None) -> None:
        self.driver = driver or Driver()
        self.answers = list(answers)
        self.asked = 0
        self.scope: CancelScope | None = None
        self.task = self.driver.run(self.body())

    def abort(self) -> bool:
        self.asked += 1
        return self.answers.pop(0)

    async def body(self) -> Any:
        with CancelScope() as self.scope:
            return await current_kernel().park(self.abort)


def test_a_parked_task_goes_on_with_the_value_it_is_woken_with() -> None:
    parked = Parked()
    parked.driver.kernel.wake(parked.task, 42)
    assert parked.driver.ended == []
    parked.driver.kernel.run()
    assert parked.driver.ended[0].value == 42


def test_a_parked_task_raises_the_error_it_is_woken_with() -> None:
    parked = Parked()
    error = ValueError("from the owner")
    parked.driver.kernel.wake(parked.task, error=error)
    parked.driver.kernel.run()
    assert parked.driver.ended[0].error is error


def test_abort_that_agrees_ends_the_wait() -> None:
    parked = Parked(True)
    assert parked.scope is not None
    parked.scope.cancel()
    parked.driver.kernel.run()
    assert (parked.asked, parked.scope.cancelled_caught) == (1, True)


def test_abort_that_declines_is_asked_again_only_on_a_new_cancellation() -> None:
    parked = Parked(False, True)
    scope = parked.scope
    assert scope is not None
    scope.cancel()
    scope.cancel()
    parked.driver.kernel.run()
    assert parked.asked == 1
    scope.shield = True  # it is cancelled itself, so nothing changes
    scope.shield = False
    assert parked.asked == 1
    assert parked.driver.ended == []
    parked.driver.kernel.wake(parked.task, "what it waited for")
    parked.driver.kernel.run()
    assert parked.driver.ended[0].value == "what it waited for"


def test_abort_is_asked_again_when_a_shield_was_up_in_between() -> None:
    asked: list[bool] = []

    async def main() -> None:
        with CancelScope() as outer, CancelScope() as inner:
            scopes.extend([outer, inner])

            def abort() -> bool:
                asked.append(len(asked) == 1)
                return asked[-1]

            await current_kernel().park(abort)

    scopes: list[CancelScope] = []
    driver = Driver()
    driver.run(main())
    outer, inner = scopes
    outer.cancel()
    assert asked == [False]
    inner.shield = True
    inner.shield = False
    assert asked == [False, True]
    driver.kernel.run()
    assert outer.cancelled_caught


def test_park_in_a_cancelled_scope_raises_after_a_step_of_everybody_else_and_asks_nobody() -> None:
    log: list[str] = []

    async def main() -> None:
        with CancelScope() as scope:
            scope.cancel()
            try:
                await current_kernel().park(pytest.fail)
            except Cancelled:
                log.append("cancelled")
                raise

    async def other() -> None:
        log.append("other")

    driver = Driver()
    driver.task(main())
    driver.run(other())
    assert log == ["other", "cancelled"]


def test_check_raises_at_once() -> None:
    async def main() -> None:
        kernel = current_kernel()
        kernel.check()
        with CancelScope() as scope:
            scope.cancel("now")
            with pytest.raises(Cancelled, match="now"):
                kernel.check()
            with CancelScope(shield=True):
                kernel.check()

    driver = Driver()
    driver.run(main())
    assert driver.ended[0].error is None
    assert driver.kernel.steps == 1


def test_only_a_parked_task_can_be_woken() -> None:
    parked = Parked()
    parked.driver.kernel.wake(parked.task)
    with pytest.raises(RuntimeError, match="not parked"):
        parked.driver.kernel.wake(parked.task)
    parked.driver.kernel.run()
    with pytest.raises(RuntimeError, match="not parked"):
        parked.driver.kernel.wake(parked.task)


def test_waits_belong_to_the_task_that_is_stepping() -> None:
    kernel = Driver().kernel
    waits = kernel.park(lambda: True), kernel.checkpoint(), kernel.wait_woken()
    for wait in waits:
        with pytest.raises(RuntimeError, match="only a task of this kernel"):
            wait.send(None)
    with pytest.raises(RuntimeError, match="only a task of this kernel"):
        kernel.check()


def test_there_is_no_current_kernel_outside_a_step() -> None:
    with pytest.raises(DeterminismError, match="belongs inside a workflow"):
        current_kernel()


def test_a_kernel_inside_a_step_of_another() -> None:
    log: list[object] = []

    async def inner() -> None:
        log.append(current_kernel() is second.kernel)
        await checkpoint()

    async def outer() -> None:
        log.append(current_kernel() is first.kernel)
        second.run(inner())
        log.append(current_kernel() is first.kernel)
        await checkpoint()

    first, second = Driver(), Driver()
    first.run(outer())
    assert log == [True, True, True]
    assert [outcome.error for outcome in first.ended + second.ended] == [None, None]


def test_a_kernel_does_not_run_inside_itself() -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match="from inside one of its own steps"):
            current_kernel().run()
        with pytest.raises(RuntimeError, match="from inside one of its own steps"):
            current_kernel().close()

    driver = Driver()
    driver.run(main())
    assert driver.ended[0].error is None


def test_roots_share_a_scope_that_the_owner_cancels_from_outside() -> None:
    log: list[str] = []

    async def wait(name: str) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            log.append(name)

    driver = Driver()
    scope = driver.kernel.create_scope()
    for name in "ab":
        driver.task(wait(name), scope=scope)
    driver.kernel.run()
    scope.cancel("the server says so")
    assert log == []
    driver.kernel.run()
    assert log == ["a", "b"]
    # nobody catches for a root: its owner is told
    assert [str(outcome.error) for outcome in driver.ended] == ["the server says so"] * 2
    assert driver.kernel.tasks == ()


def test_a_root_in_a_scope_of_another_task_moves_up_when_that_is_left() -> None:
    log: list[str] = []

    async def guest() -> None:
        with CancelScope():
            try:
                await anyio.sleep_forever()
            finally:
                log.append("cancelled")

    async def main() -> None:
        with CancelScope() as outer:
            with CancelScope() as inner:
                driver.task(guest(), scope=inner)
                driver.task(guest(), scope=inner)
                await checkpoint()
            inner.cancel()
            await checkpoint()
            log.append("not by the one that was left")
            outer.cancel()
            await anyio.sleep_forever()

    driver = Driver()
    driver.run(main())
    assert log == ["not by the one that was left", "cancelled", "cancelled"]


def test_a_root_scope_that_is_detached_starts_and_stops_nothing() -> None:
    driver = Driver()
    scope = driver.kernel.create_scope(deadline=10)
    scope.detach()
    assert driver.log == [("start", 10), ("cancel", 10)]
    scope.deadline = 20
    assert driver.log == [("start", 10), ("cancel", 10)]


def test_a_root_scope_may_have_a_deadline() -> None:
    driver = Driver()
    scope = driver.kernel.create_scope(deadline=10)
    driver.task(anyio.sleep(50), scope=scope)
    with pytest.raises(Cancelled, match="deadline"):
        driver.finish()
    assert driver.log == [("start", 10), ("start", 50), ("fire", 10), ("cancel", 50)]


def test_scopes_that_reach_a_task() -> None:
    tasks: list[TaskState] = []
    scopes: list[CancelScope] = []

    async def main() -> None:
        with CancelScope() as far, CancelScope(shield=True) as shield, CancelScope() as near:
            scopes.extend([near, shield, far])
            tasks.append(current_kernel().current)  # type: ignore[arg-type]
            await anyio.sleep_forever()

    driver = Driver()
    driver.run(main())
    assert list(driver.kernel.reaching(tasks[0])) == scopes[:2]
    scopes[2].cancel()
    assert not driver.kernel.is_cancelled(tasks[0])
    scopes[1].shield = False
    assert driver.kernel.is_cancelled(tasks[0])
    assert list(driver.kernel.reaching(tasks[0]))[:3] == scopes
    driver.kernel.run()


def test_run_in_slices() -> None:
    async def main() -> None:
        for _ in range(10):
            await checkpoint()

    driver = Driver()
    driver.task(main())
    assert [driver.kernel.run(4) for _ in range(3)] == [False, False, True]
    assert driver.kernel.steps == 11
    assert driver.kernel.run(4) is True
    assert driver.ended[0].error is None


def test_slices_change_nothing() -> None:
    def trace(limit: int | None) -> list[str]:
        log: list[str] = []

        async def child(name: str) -> None:
            for _ in range(3):
                log.append(name)
                await checkpoint()
            await anyio.wait_all_tasks_blocked()
            log.append(name + "!")

        async def main() -> None:
            async with anyio.create_task_group() as group:
                for name in "abc":
                    group.start_soon(child, name)

        driver = Driver()
        driver.task(main())
        while not driver.kernel.run(limit):
            pass
        return log

    assert trace(None) == trace(1) == trace(2) == trace(5)


async def never_rests() -> None:
    while True:
        await checkpoint()


def test_a_spin_ends_with_the_stack_of_the_culprit() -> None:
    driver = Driver(step_limit=1000)
    driver.task(never_rests(), name="busy")
    with pytest.raises(RunawayWorkflow) as caught:
        driver.kernel.run()
    assert driver.kernel.steps == 1000
    assert "made 1000 steps without coming to rest" in caught.value.message
    assert "task 'busy'" in caught.value.message
    assert "in never_rests" in caught.value.message
    assert "await checkpoint()" in caught.value.message
    driver.kernel.steps = 0
    assert driver.kernel.run(10) is False  # nothing was lost
    driver.kernel.close()


@pytest.mark.parametrize("step_limit", range(20, 28))
@pytest.mark.parametrize("limit", [None, 1, 7])
def test_the_culprit_is_who_made_most_steps_not_who_is_next(step_limit: int, limit: int | None) -> None:
    """Whoever of the two is next when time is up."""
    event = anyio.Event()

    async def busy() -> None:
        nonlocal event
        while True:
            event.set()
            event = anyio.Event()
            for _ in range(3):
                await checkpoint()

    async def victim() -> None:
        while True:
            await event.wait()

    driver = Driver(step_limit=step_limit)
    driver.task(victim(), name="victim")
    driver.task(busy(), name="busy")
    with pytest.raises(RunawayWorkflow) as caught:
        while not driver.kernel.run(limit):
            pass
    assert "task 'busy' made" in caught.value.message
    assert "in busy" in caught.value.message
    assert driver.kernel.steps == step_limit
    driver.kernel.close()


def test_a_culprit_that_starts_others_is_told_from_them() -> None:
    async def quick() -> None:
        pass

    async def parent() -> None:
        async with anyio.create_task_group() as group:
            while True:
                group.start_soon(quick)
                group.start_soon(quick)
                await checkpoint()

    driver = Driver(step_limit=500)
    driver.task(parent(), name="parent")
    with pytest.raises(RunawayWorkflow, match="task 'parent' made"):
        driver.kernel.run()
    driver.kernel.close()


def test_tasks_that_start_one_another_and_end_are_shown_by_the_newest() -> None:
    async def heir(group: TaskGroup) -> None:
        group.start_soon(heir, group)

    async def parent() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(heir, group, name="the first")

    driver = Driver(step_limit=500)
    driver.task(parent(), name="parent")
    with pytest.raises(RunawayWorkflow) as caught:
        driver.kernel.run()
    assert "the last ones were made by tasks that have ended" in caught.value.message
    assert "heir' is the newest" in caught.value.message
    assert "in heir" in caught.value.message
    driver.kernel.close()


def test_steps_of_an_earlier_activation_are_not_held_against_a_task() -> None:
    async def busy_once() -> None:
        for _ in range(99):
            await checkpoint()
        await anyio.sleep_forever()

    driver = Driver(step_limit=100)
    driver.run(busy_once())
    assert driver.kernel.steps == 100
    driver.task(never_rests(), name="spins later")
    driver.kernel.steps = 0
    with pytest.raises(RunawayWorkflow, match="task 'spins later' made 50"):
        driver.kernel.run()
    driver.kernel.close()


async def swallows() -> None:
    with CancelScope() as scope:
        scope.cancel()
        while True:
            try:
                await anyio.sleep(10)
            except Cancelled:
                pass


async def swallows_in_the_event() -> None:
    event = anyio.Event()
    with CancelScope() as scope:
        scope.cancel()
        while True:
            try:
                await event.wait()
            except Cancelled:
                pass


async def ping_pong() -> None:
    first, second = anyio.Event(), anyio.Event()

    async def play() -> None:
        nonlocal first, second
        while True:
            first.set()
            first = anyio.Event()
            await second.wait()

    async def answer() -> None:
        nonlocal first, second
        while True:
            second.set()
            second = anyio.Event()
            await first.wait()

    async with anyio.create_task_group() as group:
        group.start_soon(play)
        group.start_soon(answer)


@pytest.mark.parametrize("program", [swallows, swallows_in_the_event, ping_pong])
def test_every_spin_is_seen(program: Any) -> None:
    driver = Driver(step_limit=500)
    driver.task(program())
    with pytest.raises(RunawayWorkflow):
        driver.kernel.run()
    driver.kernel.close()


def test_a_live_workflow_may_use_its_limit_up_exactly() -> None:
    async def main() -> None:
        for _ in range(9):
            await checkpoint()

    driver = Driver(step_limit=10)
    driver.run(main())
    assert driver.ended[0].error is None
    assert driver.kernel.steps == 10


def test_activation_keeps_the_host_hidden_between_runs() -> None:
    driver = Driver()
    with driver.kernel.activation():
        assert current_kernel() is driver.kernel
        driver.run(checkpoint())
        driver.run(checkpoint())
        with driver.kernel.activation():
            assert current_kernel() is driver.kernel
        assert current_kernel() is driver.kernel
    with pytest.raises(DeterminismError):
        current_kernel()
    assert len(driver.ended) == 2


def test_a_kernel_with_nothing_to_do_is_at_rest() -> None:
    assert Kernel(Driver()).run() is True


def test_the_stack_of_a_task_shows_where_it_waits() -> None:
    async def deep() -> None:
        await anyio.sleep_forever()

    async def main() -> None:
        await deep()

    driver = Driver()
    task = driver.run(main())
    assert [frame.name for frame in task.stack()][:3] == ["main", "deep", "sleep_forever"]
    driver.kernel.close()
