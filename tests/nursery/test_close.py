"""Eviction: every coroutine ends, none moves on, and nothing is left to complain."""

from __future__ import annotations

import gc
import sys
import warnings
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any

import anyio
import pytest
from anyio.abc import TaskStatus
from anyio.lowlevel import checkpoint

from flovyn.nursery import Cancelled, CancelScope
from flovyn.nursery.kernel import current_kernel
from nursery.driving import Driver

log: list[str] = []


@pytest.fixture(autouse=True)
def no_complaints() -> Iterator[None]:
    """Whatever is left over is collected here, where a complaint would fail the test."""
    log.clear()
    gc.freeze()  # what is there already need not be looked at
    complaints: list[Any] = []
    before, sys.unraisablehook = sys.unraisablehook, complaints.append
    try:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            yield
            gc.collect()
    finally:
        sys.unraisablehook = before
        gc.unfreeze()
    assert [str(complaint.exc_value) for complaint in complaints] == []
    assert [str(warning.message) for warning in warned] == []


async def plain() -> None:
    try:
        await anyio.sleep(10)
    finally:
        log.append("finally")


async def waits_in_finally() -> None:
    try:
        await anyio.sleep(10)
    finally:
        log.append("before")
        try:
            await anyio.sleep(1)
        finally:
            log.append("inner")
            await checkpoint()
        log.append("never")


async def swallows_everything() -> None:
    for number in range(3):
        try:
            await anyio.sleep(10)
        except BaseException:
            log.append(f"swallowed {number}")
    log.append("returned")


async def never_gives_up() -> None:
    while True:
        try:
            await anyio.sleep(10)
        except BaseException:
            pass


async def never_gives_up_deep_inside() -> None:
    async def child() -> None:
        await never_gives_up()

    async with anyio.create_task_group() as group:
        handles = [group.create_task(child()), group.create_task(never_gives_up())]
        try:
            await handles[0]
        finally:
            await never_gives_up()


async def keeps_the_error() -> None:
    kept: list[BaseException] = []
    while True:
        try:
            await anyio.sleep(10)
        except BaseException as error:
            kept.append(error)  # a cycle: the traceback holds this frame


async def raises_instead() -> None:
    try:
        await anyio.sleep(10)
    finally:
        raise ValueError("instead")


async def exits_instead() -> None:
    try:
        await anyio.sleep(10)
    finally:
        raise SystemExit(3)


async def in_a_group() -> None:
    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(plain)
        await waits_in_finally()


async def starts_more() -> None:
    async with anyio.create_task_group() as group:
        try:
            await anyio.sleep(10)
        finally:
            group.start_soon(plain)
            group.cancel_scope.cancel()
            handle = group.create_task(anyio.sleep(5))
            log.append(handle.status.name)


async def with_scopes() -> None:
    with anyio.move_on_after(5) as scope, anyio.fail_after(6), CancelScope(shield=True):
        try:
            await anyio.sleep(10)
        finally:
            scope.deadline = 7
            scope.cancel()
            scope.shield = True
            log.append(f"{scope.cancel_called}")
            current_kernel().check()
            log.append("check does not raise")


async def with_primitives() -> None:
    lock, condition, event = anyio.Lock(), anyio.Condition(), anyio.Event()
    send, receive = anyio.create_memory_object_stream[int](0)

    async def hold() -> None:
        async with lock:
            await event.wait()

    async def notify() -> None:
        async with condition:
            await condition.wait()

    async def consume() -> None:
        async for _ in receive:
            pass

    with send, receive:
        async with anyio.create_task_group() as group:
            for func in (hold, hold, notify, notify, consume):
                group.start_soon(func)
            try:
                await anyio.sleep(10)
            finally:
                event.set()


async def in_start() -> None:
    async def server(*, task_status: TaskStatus[None]) -> None:
        try:
            await anyio.sleep(10)
        finally:
            task_status.started()

    async with anyio.create_task_group() as group:
        await group.start(server)


async def generator_waits() -> AsyncIterator[int]:
    try:
        yield 1
    finally:
        log.append("generator")
        await anyio.sleep(10)


async def generator_never_gives_up() -> AsyncIterator[int]:
    try:
        yield 1
    finally:
        await never_gives_up()


async def with_generators() -> None:
    async for _ in generator_waits():
        break
    async for _ in generator_never_gives_up():
        break
    async for _ in generator_waits():
        await anyio.sleep(10)


PROGRAMS: list[tuple[Callable[[], Coroutine[Any, Any, None]], list[str]]] = [
    (plain, ["finally"]),
    (waits_in_finally, ["before", "inner"]),
    (swallows_everything, ["swallowed 0", "swallowed 1", "swallowed 2", "returned"]),
    (never_gives_up, []),
    (never_gives_up_deep_inside, []),
    (keeps_the_error, []),
    (raises_instead, []),
    (exits_instead, []),
    (in_a_group, ["finally", "finally", "finally", "before", "inner"]),
    (starts_more, ["PENDING"]),
    (with_scopes, ["False", "check does not raise"]),
    (with_primitives, []),
    (in_start, []),
    (with_generators, ["generator", "generator"]),
]


@pytest.mark.parametrize(("program", "expected"), PROGRAMS, ids=[program.__name__ for program, _ in PROGRAMS])
def test_close_ends_it_without_moving_it(program: Callable[[], Coroutine[Any, Any, None]], expected: list[str]) -> None:
    driver = Driver()
    driver.run(program())
    timers = list(driver.log)
    driver.kernel.close()
    assert log == expected
    assert driver.log == timers
    assert driver.ended == []
    assert driver.kernel.tasks == ()
    assert driver.kernel.dead


@pytest.mark.parametrize(("program", "expected"), PROGRAMS, ids=[program.__name__ for program, _ in PROGRAMS])
def test_close_before_the_first_step(program: Callable[[], Coroutine[Any, Any, None]], expected: list[str]) -> None:
    driver = Driver()
    driver.task(program())
    driver.kernel.close()
    assert log == []
    assert driver.log == []


@pytest.mark.parametrize(("program", "expected"), PROGRAMS, ids=[program.__name__ for program, _ in PROGRAMS])
def test_close_between_two_steps(program: Callable[[], Coroutine[Any, Any, None]], expected: list[str]) -> None:
    for steps in range(1, 8):
        driver = Driver()
        driver.task(program())
        driver.kernel.run(steps)
        timers = list(driver.log)
        driver.kernel.close()
        assert driver.log == timers
        assert driver.ended == []


def test_children_are_closed_before_their_parents() -> None:
    async def child(name: str) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            log.append(name)

    async def main() -> None:
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(child, "a")
                group.start_soon(child, "b")
        finally:
            log.append("parent")

    driver = Driver()
    driver.run(main())
    driver.kernel.close()
    assert log == ["b", "a", "parent"]


def test_a_dead_kernel_ignores_everything() -> None:
    driver = Driver()
    scope = driver.kernel.create_scope()
    task = driver.task(plain(), scope=scope)
    driver.kernel.run()
    (_, fire, _) = driver.armed[1]
    driver.kernel.close()
    driver.kernel.close()
    scope.cancel()
    fire()
    driver.kernel.wake(task, "too late")
    driver.task(plain())
    assert driver.kernel.run() is True
    assert not scope.cancel_called
    assert driver.ended == []
    assert log == ["finally"]


def test_the_owner_sees_that_it_is_dead_in_every_finally() -> None:
    async def main() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            log.append(f"dead: {current_kernel().dead}")

    driver = Driver()
    driver.run(main())
    driver.kernel.close()
    assert log == ["dead: True"]


def test_nothing_is_cancelled_by_an_eviction() -> None:
    async def main() -> None:
        try:
            await anyio.sleep_forever()
        except Cancelled:
            log.append("cancelled")
            raise

    driver = Driver()
    driver.run(main())
    driver.kernel.close()
    assert log == []


def test_what_refuses_to_end_and_is_referred_to_elsewhere_is_never_finalised() -> None:
    """Outside a step its next wait would fail, and again, for ever: the collector would never return."""
    kept: list[object] = []

    async def main() -> None:
        async with anyio.create_task_group() as group:
            kept.append(group.create_task(never_gives_up()))

    driver = Driver()
    driver.run(main())
    driver.kernel.close()
    kept.clear()
    del driver
    gc.collect()


def test_ctrl_c_passes() -> None:
    async def main() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            raise KeyboardInterrupt

    driver = Driver()
    driver.run(main())
    with pytest.raises(KeyboardInterrupt):
        driver.kernel.close()


def test_closing_many_is_quick_enough_to_be_an_eviction() -> None:
    async def main() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(1000):
                group.start_soon(anyio.sleep, 10)

    driver = Driver()
    driver.run(main())
    driver.kernel.close()
    assert driver.kernel.tasks == ()
