"""Async generators belong to the task that began them, and are closed in order when it ends."""

from __future__ import annotations

import gc
import logging
from collections.abc import AsyncIterator

import anyio
import pytest
from anyio.lowlevel import checkpoint

from flovyn.nursery import Cancelled
from nursery.driving import Driver, run

log: list[str] = []


@pytest.fixture(autouse=True)
def _empty_log() -> None:
    log.clear()


async def numbers(name: str) -> AsyncIterator[int]:
    try:
        for number in range(100):
            await checkpoint()
            yield number
    finally:
        log.append(name)


async def first(name: str) -> int:
    async for number in numbers(name):
        return number
    raise AssertionError


def test_abandoned_generators_are_closed_in_the_order_in_which_they_were_begun() -> None:
    async def main() -> None:
        for name in "cab":
            await first(name)
        gc.collect()
        log.append("end of the task")

    driver = Driver()
    driver.run(main())
    assert driver.ended[0].error is None
    assert log == ["end of the task", "c", "a", "b"]


def test_each_task_closes_its_own() -> None:
    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(first, "child")
        log.append("group over")

    run(main)
    assert log == ["child", "group over"]


def test_closing_waits_for_nothing() -> None:
    async def stubborn() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            log.append("closing")
            try:
                await anyio.sleep(10)
            except Cancelled as error:
                log.append(str(error))
                raise

    async def main() -> int:
        async for number in stubborn():
            return number
        raise AssertionError

    driver = Driver()
    driver.run(main())
    assert driver.ended[0].value == 1
    assert driver.log == []
    assert log == ["closing", "the task that began this async generator has ended (cancelled by task 'root')"]


def test_an_error_while_closing_is_logged_and_the_outcome_stands(caplog: pytest.LogCaptureFixture) -> None:
    async def broken() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            raise ValueError("broken clean-up")

    async def main() -> int:
        async for number in broken():
            return number
        raise AssertionError

    with caplog.at_level(logging.ERROR, "flovyn.nursery"):
        assert run(main) == 1
    assert [record.message.split(" of ")[0] for record in caplog.records] == [
        f"closing the abandoned async generator {broken.__qualname__} failed"
    ]


def test_generators_that_were_finished_are_forgotten() -> None:
    async def one() -> AsyncIterator[int]:
        yield 1

    async def main() -> None:
        for _ in range(1000):
            async for _number in one():
                pass
        task = driver.kernel.current
        assert task is not None
        assert len(task.generators) < 64

    driver = Driver()
    driver.run(main())
    assert driver.ended[0].error is None


def test_a_generator_that_another_task_is_iterating_lives_on() -> None:
    async def main() -> list[int]:
        seen: list[int] = []
        shared = numbers("shared")

        async def begin() -> None:
            await anext(shared)

        async def go_on() -> None:
            await checkpoint()
            async for number in shared:
                seen.append(number)
                if number == 4:
                    break

        async with anyio.create_task_group() as group:
            group.start_soon(begin)
            group.start_soon(go_on)
        return seen

    assert run(main) == [1, 2, 3, 4]
    assert log == ["shared"]
