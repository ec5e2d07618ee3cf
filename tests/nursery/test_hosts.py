"""A kernel that steps inside asyncio and Trio: neither is reached, and both find everything as they left it."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
import traceback
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import anyio
import pytest
import sniffio
import trio
from anyio.lowlevel import checkpoint

from flovyn.errors import DeterminismError, RunawayWorkflow
from flovyn.nursery import CancelScope
from nursery.driving import Driver

pytestmark = pytest.mark.anyio


def snapshot() -> dict[str, Any]:
    """What of the host a step could disturb."""
    try:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
    except RuntimeError:
        loop = task = None  # type: ignore[assignment]
    return {
        "library": sniffio.current_async_library(),
        "loop": loop,
        "task": task,
        "trio": trio.lowlevel.current_task() if trio.lowlevel.in_trio_task() else None,
        "generator hooks": sys.get_asyncgen_hooks(),
    }


async def workflow() -> list[Any]:
    seen: list[Any] = [sniffio.current_async_library()]
    async with anyio.create_task_group() as group:
        handles = [group.create_task(anyio.sleep(10)) for _ in range(3)]
        with anyio.move_on_after(5) as scope:
            await anyio.sleep_forever()
    seen.append((scope.cancelled_caught, anyio.current_time(), [handle.status.name for handle in handles]))
    return seen


async def fails() -> None:
    await checkpoint()
    raise ValueError("no")


async def spins() -> None:
    while True:
        await checkpoint()


async def test_a_workflow_runs_inside_the_host_and_leaves_it_as_it_was() -> None:
    with anyio.fail_after(5):
        before = snapshot()
        driver = Driver(now=100)
        assert driver.finish_of(workflow()) == ["flovyn", (True, 110, ["FINISHED"] * 3)]
        assert snapshot() == before
        await checkpoint()


async def test_the_host_is_as_it_was_after_errors() -> None:
    with anyio.fail_after(5):
        before = snapshot()
        failing, spinning = Driver(), Driver(step_limit=100)
        failing.run(fails())
        assert snapshot() == before
        spinning.task(spins())
        with pytest.raises(RunawayWorkflow):
            spinning.kernel.run()
        assert snapshot() == before
        spinning.kernel.close()
        assert snapshot() == before
        with pytest.raises(ZeroDivisionError), failing.kernel.activation():
            _ = 1 / 0
        assert snapshot() == before
        await checkpoint()


async def test_the_host_goes_on_between_activations() -> None:
    with anyio.fail_after(5):
        driver = Driver()
        driver.run(workflow())
        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(checkpoint)
        before = snapshot()
        while not driver.ended:
            driver.fire()
            driver.kernel.run()
            await checkpoint()
        assert snapshot() == before


async def test_a_host_scope_does_not_reach_inside_nor_the_other_way() -> None:
    with anyio.fail_after(5):
        with anyio.CancelScope() as host_scope:
            host_scope.cancel()
            driver = Driver()
            assert driver.finish_of(workflow())[1][0] is True
            with pytest.raises(anyio.get_cancelled_exc_class()):
                await checkpoint()
            raise_nothing = True
        assert raise_nothing


async def generator(log: list[str]) -> AsyncIterator[int]:
    try:
        for number in range(3):
            yield number
            await checkpoint()
    finally:
        log.append("closed")


async def test_async_generators_of_host_and_workflow_keep_apart() -> None:
    log: list[str] = []

    async def main() -> int:
        async for number in generator(log):
            return number
        raise AssertionError

    with anyio.fail_after(5):
        host_log: list[str] = []
        hosts_own = generator(host_log)
        assert await anext(hosts_own) == 0
        driver = Driver()
        driver.run(main())
        assert log == ["closed"]
        assert host_log == []
        assert [number async for number in hosts_own] == [1, 2]
        assert host_log == ["closed"]


async def test_a_generator_of_the_host_that_dies_in_a_step_is_closed_by_the_host() -> None:
    """Never in the step: what it awaits in its `finally` is the host's."""
    log: list[str] = []

    async def hosts_own() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            log.append(sniffio.current_async_library())

    async def main() -> None:
        holder.clear()
        gc.collect()
        log.append("end of the step")

    with anyio.fail_after(5):
        holder = [hosts_own()]
        assert await anext(holder[0]) == 1
        if sniffio.current_async_library() == "trio":
            # Trio warns, since its own task let go of it unfinished.
            with pytest.warns(ResourceWarning, match="Async generator"):
                Driver().run(main())
                await anyio.sleep(0)
                await anyio.wait_all_tasks_blocked()
        else:
            Driver().run(main())
        await anyio.wait_all_tasks_blocked()
        assert log == ["end of the step", sniffio.current_async_library()]


async def test_a_generator_of_a_workflow_is_closed_in_a_step_whoever_lets_go_of_it() -> None:
    log: list[str] = []
    holder: list[Any] = []

    async def workflows_own() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            log.append(sniffio.current_async_library())

    async def main() -> None:
        holder.append(workflows_own())
        await anext(holder[0])
        await anyio.sleep(1)

    with anyio.fail_after(5):
        driver = Driver()
        driver.run(main())
        holder.clear()
        gc.collect()
        await checkpoint()
        assert log == []
        driver.fire()
        driver.kernel.run()
        assert log == ["flovyn"]
        await checkpoint()
        assert len(driver.ended) == 1


# --- foreign awaits and calls ---------------------------------------------------------------


class Future:
    """An asyncio future that was made in the host."""

    def __init__(self) -> None:
        self.future: asyncio.Future[None] = asyncio.new_event_loop().create_future()
        self.future.get_loop().close()

    def __await__(self) -> Any:
        return self.future.__await__()


class Alien:
    def __await__(self) -> Any:
        yield self


async def asyncio_future() -> None:
    await Future()  # the line


async def asyncio_sleep() -> None:
    await asyncio.sleep(1)  # the line


async def asyncio_sleep_0() -> None:
    await asyncio.sleep(0)  # the line


async def asyncio_timeout() -> None:
    async with asyncio.timeout(1):  # the line
        await checkpoint()


async def asyncio_wait_for() -> None:
    await asyncio.wait_for(asyncio.Event().wait(), 1)  # the line


async def asyncio_event() -> None:
    await asyncio.Event().wait()  # the line


async def asyncio_call_soon() -> None:
    asyncio.get_running_loop().call_soon(print)  # the line


async def asyncio_run_in_executor() -> None:
    asyncio.get_running_loop().run_in_executor(None, print)  # the line


async def asyncio_current_task() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()  # the line


async def trio_sleep() -> None:
    await trio.sleep(1)  # the line


async def trio_checkpoint() -> None:
    await trio.lowlevel.checkpoint()  # the line


async def trio_event() -> None:
    await trio.Event().wait()  # the line


async def trio_nursery() -> None:
    async with trio.open_nursery():  # the line
        pass


async def trio_scope() -> None:
    with trio.move_on_after(1):  # the line
        await checkpoint()


async def trio_system_task() -> None:
    trio.lowlevel.spawn_system_task(trio.sleep, 0)  # the line


async def trio_token() -> None:
    trio.lowlevel.current_trio_token()  # the line


async def trio_current_time() -> None:
    trio.current_time()  # the line


async def trio_current_effective_deadline() -> None:
    trio.current_effective_deadline()  # the line


async def trio_reschedule() -> None:
    trio.lowlevel.reschedule(None)  # type: ignore[arg-type]  # the line


async def trio_current_task() -> None:
    trio.lowlevel.current_task().parent_nursery  # noqa: B018  # the line


async def alien() -> None:
    await Alien()  # the line


FOREIGN = [
    asyncio_future, asyncio_sleep, asyncio_sleep_0, asyncio_timeout, asyncio_event, asyncio_call_soon,
    asyncio_run_in_executor, asyncio_current_task, trio_sleep, trio_checkpoint, trio_event, trio_nursery, trio_scope,
    trio_system_task, trio_token, trio_current_time, trio_current_effective_deadline, trio_reschedule,
    trio_current_task, alien,
]  # fmt: skip


@pytest.mark.parametrize("program", FOREIGN, ids=[program.__name__ for program in FOREIGN])
async def test_what_is_foreign_raises_at_the_users_own_line(program: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with anyio.fail_after(5):
        before = snapshot()
        driver = Driver()
        driver.run(program())
        error = driver.ended[0].error
        assert isinstance(error, DeterminismError), error
        user = traceback.extract_tb(error.__traceback__)[0]
        assert user.line is not None
        assert user.line.endswith("# the line")
        library = program.__name__.partition("_")[0]
        assert library in error.message.lower()
        assert "ctx.run or a task" in error.message
        assert snapshot() == before
        await checkpoint()


async def test_logging_inside_a_step_is_nobodys_business(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        logging.getLogger("workflow").warning("in the middle of a step")

    with anyio.fail_after(5):
        driver = Driver()
        driver.run(main())
        assert driver.ended[0].error is None
        assert [record.message for record in caplog.records] == ["in the middle of a step"]
        await checkpoint()


async def test_a_foreign_await_can_be_caught_and_the_workflow_goes_on() -> None:
    async def main() -> list[str]:
        log: list[str] = []
        for _ in range(3):
            try:
                await asyncio.sleep(0)
            except DeterminismError:
                log.append("caught")
        await anyio.sleep(1)
        return log

    with anyio.fail_after(5):
        assert Driver().finish_of(main()) == ["caught"] * 3
        await checkpoint()


async def test_a_foreign_await_for_ever_is_a_spin() -> None:
    async def main() -> None:
        while True:
            try:
                await Alien()
            except DeterminismError:
                pass

    with anyio.fail_after(5):
        driver = Driver()
        driver.task(main())
        with pytest.raises(RunawayWorkflow):
            driver.kernel.run()
        driver.kernel.close()
        await checkpoint()


async def test_no_other_loop_starts_inside_a_step() -> None:
    def start_asyncio() -> None:
        coroutine = checkpoint()
        try:
            asyncio.run(coroutine)
        finally:
            coroutine.close()

    async def main() -> None:
        with pytest.raises(RuntimeError, match="running event loop"):
            start_asyncio()
        with pytest.raises(RuntimeError, match="from inside a run"):
            trio.run(checkpoint)
        for backend in ("asyncio", "trio", "flovyn"):
            with pytest.raises(RuntimeError, match="Already running flovyn"):
                anyio.run(checkpoint, backend=backend)

    with anyio.fail_after(5):
        driver = Driver()
        driver.run(main())
        assert driver.ended[0].error is None
        await checkpoint()


async def test_a_trio_scope_of_the_host_cannot_be_cancelled_from_inside() -> None:
    if sniffio.current_async_library() != "trio":
        pytest.skip("Trio's own")
    with trio.CancelScope(deadline=trio.current_time() + 50) as scope:
        driver = Driver()

        async def main() -> None:
            scope.cancel()

        driver.run(main())
        assert isinstance(driver.ended[0].error, DeterminismError)
        await checkpoint()


async def test_no_task_of_trio_is_woken_from_inside() -> None:
    if sniffio.current_async_library() != "trio":
        pytest.skip("Trio's own")
    event = trio.Event()

    async def main() -> None:
        event.set()

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(event.wait)
            await anyio.wait_all_tasks_blocked()
            driver = Driver()
            driver.run(main())
            assert isinstance(driver.ended[0].error, DeterminismError)
            await checkpoint()
            group.cancel_scope.cancel()


async def test_many_activations_leave_nothing_behind() -> None:
    async def main() -> None:
        with CancelScope(deadline=100):
            for _ in range(200):
                await anyio.sleep(0.1)

    with anyio.fail_after(5):
        before = snapshot()
        driver = Driver()
        driver.finish_of(main())
        assert snapshot() == before
        assert driver.armed == {}
        assert driver.kernel.tasks == ()
        await checkpoint()
