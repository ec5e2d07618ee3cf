"""`start()` and `task_status`, and handles."""

from __future__ import annotations

from collections.abc import Coroutine
from contextvars import ContextVar, copy_context
from typing import Any

import anyio
import pytest
from anyio import TaskCancelled, TaskFailed, TaskHandle, TaskNotFinished
from anyio.abc import TaskStatus
from anyio.lowlevel import checkpoint

from flovyn.nursery import Cancelled, CancelScope
from nursery.driving import run

# --- start ----------------------------------------------------------------------------------


def test_start_waits_for_started_and_returns_its_value() -> None:
    async def main() -> list[Any]:
        log: list[Any] = []

        async def server(port: int, *, task_status: TaskStatus[int]) -> None:
            await anyio.sleep(3)
            task_status.started(port)
            await anyio.sleep(10)
            log.append(("server", anyio.current_time()))

        async with anyio.create_task_group() as group:
            log.append((await group.start(server, 80), anyio.current_time()))
        return log

    assert run(main) == [(80, 3), ("server", 13)]


def test_a_child_that_fails_before_started_fails_start_and_not_the_group() -> None:
    async def main() -> str:
        async def server(*, task_status: TaskStatus[None]) -> None:
            await anyio.sleep(1)
            raise ValueError("port taken")

        async with anyio.create_task_group() as group:
            with pytest.raises(ValueError, match="port taken") as caught:
                await group.start(server)
            await checkpoint()
            assert caught.value.__context__ is None
        assert not group.cancel_scope.cancel_called
        return "fine"

    assert run(main) == "fine"


def test_a_child_that_fails_after_started_fails_the_group() -> None:
    async def server(*, task_status: TaskStatus[None]) -> None:
        task_status.started()
        raise ValueError("later")

    async def main() -> None:
        async with anyio.create_task_group() as group:
            await group.start(server)
            await anyio.sleep_forever()

    with pytest.raises(ExceptionGroup) as caught:
        run(main)
    assert repr(caught.value.exceptions) == "(ValueError('later'),)"


def test_a_child_that_ends_without_started_is_an_error() -> None:
    async def server(*, task_status: TaskStatus[None]) -> None:
        await checkpoint()

    async def main() -> None:
        async with anyio.create_task_group() as group:
            with pytest.raises(RuntimeError, match="child exited without calling task_status.started"):
                await group.start(server)

    run(main)


def test_started_twice_is_an_error() -> None:
    async def server(*, task_status: TaskStatus[None]) -> None:
        task_status.started()
        with pytest.raises(RuntimeError, match="called 'started' twice"):
            task_status.started()

    async def main() -> None:
        async with anyio.create_task_group() as group:
            await group.start(server)

    run(main)


def test_started_before_there_is_a_task() -> None:
    def server(*, task_status: TaskStatus[str]) -> Coroutine[Any, Any, None]:
        task_status.started("early")
        return anyio.sleep(5)

    async def main() -> tuple[Any, float]:
        async with anyio.create_task_group() as group:
            value = await group.start(server)
            assert anyio.current_time() == 0
        return value, anyio.current_time()

    assert run(main) == ("early", 5)


def test_start_is_cancelled_with_its_child() -> None:
    async def main() -> list[str]:
        log: list[str] = []

        async def server(*, task_status: TaskStatus[None]) -> None:
            try:
                await anyio.sleep_forever()
            finally:
                log.append("child")

        async with anyio.create_task_group() as group:
            with anyio.move_on_after(2) as scope:
                await group.start(server)
            log.append(f"caught {scope.cancelled_caught} at {anyio.current_time():.0f}")
        assert not group.cancel_scope.cancel_called
        return log

    assert run(main) == ["child", "caught True at 2"]


def test_after_started_the_child_is_out_of_reach_of_the_callers_scope() -> None:
    async def main() -> list[str]:
        log: list[str] = []

        async def server(*, task_status: TaskStatus[None]) -> None:
            with CancelScope(deadline=100):
                async with anyio.create_task_group() as inner:
                    inner.start_soon(anyio.sleep, 6)
                    task_status.started()
            log.append(f"server ended at {anyio.current_time():.0f}")

        async with anyio.create_task_group() as group:
            with anyio.move_on_after(2) as scope:
                await group.start(server)
                await anyio.sleep_forever()
            assert scope.cancelled_caught
            log.append("caller went on")
        return log

    assert run(main) == ["caller went on", "server ended at 6"]


def test_after_started_the_child_is_in_reach_of_the_group() -> None:
    async def main() -> list[str]:
        log: list[str] = []

        async def server(*, task_status: TaskStatus[None]) -> None:
            with CancelScope():
                task_status.started()
                try:
                    await anyio.sleep_forever()
                finally:
                    log.append("cancelled")

        async with anyio.create_task_group() as group:
            await group.start(server)
            await checkpoint()
            group.cancel_scope.cancel()
        return log

    assert run(main) == ["cancelled"]


def test_started_inside_a_cancelled_start_leaves_the_child_where_it_is() -> None:
    async def main() -> list[str]:
        log: list[str] = []

        async def server(*, task_status: TaskStatus[None]) -> None:
            try:
                await anyio.sleep_forever()
            finally:
                task_status.started()
                with CancelScope(shield=True):
                    await anyio.sleep(5)
                log.append("child")

        async with anyio.create_task_group() as group:
            with anyio.move_on_after(1) as scope:
                await group.start(server)
            log.append(f"{scope.cancelled_caught} at {anyio.current_time():.0f}")
        return log

    assert run(main) == ["child", "True at 6"]


def test_the_group_stays_open_while_a_start_is_under_way() -> None:
    async def main() -> list[str]:
        log: list[str] = []

        async def server(*, task_status: TaskStatus[None]) -> None:
            await anyio.sleep(5)
            task_status.started()
            await anyio.sleep(5)
            log.append(f"server {anyio.current_time():.0f}")

        async def starter(group: anyio.abc.TaskGroup) -> None:
            await group.start(server)
            log.append(f"started {anyio.current_time():.0f}")

        async with anyio.create_task_group() as outer:
            async with anyio.create_task_group() as inner:
                outer.start_soon(starter, inner)
                await checkpoint()
            log.append(f"inner over {anyio.current_time():.0f}")
        return log

    assert run(main) == ["started 5", "server 10", "inner over 10"]


def test_start_of_something_that_is_no_coroutine_function() -> None:
    async def main() -> None:
        async with anyio.create_task_group() as group:
            with pytest.raises(TypeError, match="to return a coroutine"):
                await group.start(lambda task_status: 5)  # type: ignore[arg-type,return-value]

    run(main)


# --- handles --------------------------------------------------------------------------------


async def add(left: int, right: int) -> int:
    await anyio.sleep(1)
    return left + right


async def fail() -> None:
    await anyio.sleep(1)
    raise ValueError("no")


def test_handles_give_the_values() -> None:
    async def main() -> list[int]:
        async with anyio.create_task_group() as group:
            handles = [group.create_task(add(number, 1)) for number in range(3)]
            assert await handles[1] == 2
            started = group.start_soon(add, 5, 5)
        return [handle.return_value for handle in [*handles, started]]

    assert run(main) == [1, 2, 3, 10]


def test_the_life_of_a_handle() -> None:
    async def main() -> None:
        async with anyio.create_task_group() as group:
            good, cancelled = group.create_task(add(1, 1)), group.create_task(anyio.sleep_forever())
            assert good.status is TaskHandle.Status.PENDING
            with pytest.raises(TaskNotFinished):
                _ = good.return_value
            cancelled.cancel()
            assert cancelled.status is TaskHandle.Status.CANCELLING
            await good.wait()
            await cancelled.wait()
            assert [good.status, cancelled.status] == [TaskHandle.Status.FINISHED, TaskHandle.Status.CANCELLED]
            with pytest.raises(TaskCancelled):
                await cancelled
        assert not group.cancel_scope.cancel_called

    run(main)


def test_awaiting_a_handle_of_a_task_that_failed() -> None:
    async def main() -> None:
        with pytest.raises(ExceptionGroup) as caught:
            async with anyio.create_task_group() as group:
                handle = group.create_task(fail())
                with CancelScope(shield=True), pytest.raises(TaskFailed) as failed:
                    await handle
        assert failed.value.__cause__ is caught.value.exceptions[0] is handle.exception

    run(main)


def test_start_returns_a_handle_if_asked() -> None:
    async def server(*, task_status: TaskStatus[str]) -> int:
        task_status.started("up")
        await anyio.sleep(1)
        return 7

    async def main() -> None:
        async with anyio.create_task_group() as group:
            handle = await group.start(server, return_handle=True)
            assert handle.name == f"{__name__}.{server.__qualname__}"
            assert handle.start_value == "up"
            assert await handle == 7

    run(main)


def test_names_are_those_of_functions_unless_given() -> None:
    async def main() -> list[str]:
        async with anyio.create_task_group() as group:
            handles = [
                group.start_soon(add, 1, 1),
                group.create_task(add(1, 1)),
                group.create_task(add(1, 1), name="sum"),
                group.start_soon(add, 1, 1, name=5),
            ]
        return [handle.name for handle in handles]

    assert run(main) == [f"{__name__}.add", f"{__name__}.add", "sum", "5"]


def test_a_task_in_a_given_context() -> None:
    variable: ContextVar[str] = ContextVar("variable", default="unset")

    async def read() -> str:
        return variable.get()

    async def main() -> list[str]:
        context = copy_context()
        context.run(variable.set, "given")
        async with anyio.create_task_group() as group:
            handles = [group.create_task(read(), context=context), group.create_task(read())]
        return [handle.return_value for handle in handles]

    assert run(main) == ["given", "unset"]


def test_a_task_whose_handle_is_cancelled_before_its_first_step_still_makes_it() -> None:
    async def main() -> list[str]:
        log: list[str] = []

        async def child() -> None:
            log.append("first step")
            with pytest.raises(Cancelled):
                await checkpoint()
            log.append("checkpoint")

        async with anyio.create_task_group() as group:
            group.create_task(child()).cancel()
        return log

    assert run(main) == ["first step", "checkpoint"]
