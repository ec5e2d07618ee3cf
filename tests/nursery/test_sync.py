"""Events, locks, semaphores, conditions, limiters, memory streams: first come, first served."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest
from anyio import WouldBlock
from anyio.lowlevel import checkpoint

from flovyn.errors import DeterminismError
from nursery.driving import Driver, run


async def in_line(acquire: Callable[[], Awaitable[Any]], release: Callable[[], Any]) -> list[str]:
    """Five tasks want the same; the third is cancelled while it waits."""
    log: list[str] = []

    async def use(name: str) -> None:
        await acquire()
        log.append(name)
        await anyio.sleep(1)
        release()

    async with anyio.create_task_group() as group:
        handles = [group.start_soon(use, name) for name in "abcde"]
        await anyio.sleep(0.5)
        handles[2].cancel()
    return log


def test_a_lock_is_handed_on_in_the_order_of_asking() -> None:
    async def main() -> tuple[list[str], float]:
        lock = anyio.Lock()
        return await in_line(lock.acquire, lock.release), anyio.current_time()

    assert run(main) == (["a", "b", "d", "e"], 4)


def test_a_semaphore_is_handed_out_in_the_order_of_asking() -> None:
    async def main() -> tuple[list[str], float]:
        semaphore = anyio.Semaphore(2)
        return await in_line(semaphore.acquire, semaphore.release), anyio.current_time()

    assert run(main) == (["a", "b", "d", "e"], 2)


def test_a_limiter_lends_in_the_order_of_asking() -> None:
    async def main() -> tuple[list[str], float]:
        limiter = anyio.CapacityLimiter(1)
        return await in_line(limiter.acquire, limiter.release), anyio.current_time()

    assert run(main) == (["a", "b", "d", "e"], 4)


@pytest.mark.parametrize("fast", [False, True])
def test_acquiring_a_free_lock_is_a_schedule_point_unless_fast(fast: bool) -> None:
    async def main() -> list[str]:
        log: list[str] = []

        async def use(name: str) -> None:
            async with anyio.Lock(fast_acquire=fast):
                log.append(name)
            async with anyio.Semaphore(1, fast_acquire=fast):
                log.append(name)

        async with anyio.create_task_group() as group:
            group.start_soon(use, "a")
            group.start_soon(use, "b")
        return log

    assert run(main) == (["a", "a", "b", "b"] if fast else ["a", "b", "a", "b"])


def test_a_lock_cannot_be_jumped() -> None:
    """Between release and the next owner's step nobody else gets the lock."""

    async def main() -> list[str]:
        log: list[str] = []
        lock = anyio.Lock()

        async def waiter() -> None:
            async with lock:
                log.append("waiter")

        async with anyio.create_task_group() as group:
            await lock.acquire()
            group.start_soon(waiter)
            await checkpoint()
            lock.release()
            with pytest.raises(WouldBlock):
                lock.acquire_nowait()
            async with lock:
                log.append("owner again")
        return log

    assert run(main) == ["waiter", "owner again"]


def test_misuse_of_a_lock() -> None:
    async def main() -> None:
        lock = anyio.Lock()
        with pytest.raises(RuntimeError, match="not holding this lock"):
            lock.release()
        async with lock:
            assert lock.statistics().owner == anyio.get_current_task()
            assert lock.locked()
            with pytest.raises(RuntimeError, match="already held"):
                await lock.acquire()
        assert lock.statistics() == anyio.LockStatistics(False, None, 0)

    run(main)


def test_semaphore_bounds() -> None:
    async def main() -> None:
        semaphore = anyio.Semaphore(1, max_value=1)
        with pytest.raises(ValueError, match="too many times"):
            semaphore.release()
        semaphore.acquire_nowait()
        with pytest.raises(WouldBlock):
            semaphore.acquire_nowait()
        assert (semaphore.value, semaphore.max_value) == (0, 1)
        semaphore.release()
        assert semaphore.value == 1

    run(main)


def test_event_wakes_all_in_order() -> None:
    async def main() -> tuple[list[int], int]:
        log: list[int] = []
        event = anyio.Event()

        async def waiter(number: int) -> None:
            await event.wait()
            log.append(number)

        async with anyio.create_task_group() as group:
            for number in range(4):
                group.start_soon(waiter, number)
            await anyio.wait_all_tasks_blocked()
            waiting = event.statistics().tasks_waiting
            event.set()
            event.set()
        await event.wait()
        assert event.is_set()
        return log, waiting

    assert run(main) == ([0, 1, 2, 3], 4)


def test_condition_notifies_in_order() -> None:
    async def main() -> list[str]:
        log: list[str] = []
        condition = anyio.Condition()

        async def waiter(name: str) -> None:
            async with condition:
                await condition.wait()
                log.append(name)

        async with anyio.create_task_group() as group:
            for name in "abcd":
                group.start_soon(waiter, name)
            await anyio.wait_all_tasks_blocked()
            async with condition:
                condition.notify(2)
            await anyio.wait_all_tasks_blocked()
            log.append("-")
            async with condition:
                condition.notify_all()
        return log

    assert run(main) == ["a", "b", "-", "c", "d"]


def test_limiter_statistics_and_growth() -> None:
    async def main() -> list[str]:
        log: list[str] = []
        limiter = anyio.CapacityLimiter(1)

        async def use(name: str) -> None:
            await limiter.acquire_on_behalf_of(name)
            log.append(name)

        async with anyio.create_task_group() as group:
            for name in "abcd":
                group.start_soon(use, name)
            await anyio.wait_all_tasks_blocked()
            statistics = limiter.statistics()
            assert (statistics.borrowers, statistics.tasks_waiting) == (("a",), 3)
            limiter.total_tokens = 3
            await anyio.wait_all_tasks_blocked()
            assert log == ["a", "b", "c"]
            assert limiter.available_tokens == 0
            limiter.total_tokens = math.inf
        for name in "abcd":
            limiter.release_on_behalf_of(name)
        with pytest.raises(RuntimeError, match="isn't holding any"):
            limiter.release_on_behalf_of("a")
        return log

    assert run(main) == ["a", "b", "c", "d"]


def test_a_limiter_lends_one_token_to_one_borrower() -> None:
    async def main() -> None:
        limiter = anyio.CapacityLimiter(1)
        async with limiter:
            with pytest.raises(RuntimeError, match="already holding"):
                limiter.acquire_nowait()
            async with anyio.create_task_group() as group:
                waiting = group.start_soon(limiter.acquire_on_behalf_of, "x")
                await checkpoint()
                with pytest.raises(RuntimeError, match="already waiting"):
                    await limiter.acquire_on_behalf_of("x")
                waiting.cancel()
        assert limiter.statistics().tasks_waiting == 0
        with pytest.raises(TypeError, match="int or math.inf"):
            limiter.total_tokens = 1.5
        with pytest.raises(ValueError, match=">= 0"):
            limiter.total_tokens = -1

    run(main)


def test_memory_streams_serve_receivers_in_order() -> None:
    async def main() -> list[tuple[str, int]]:
        log: list[tuple[str, int]] = []
        send, receive = anyio.create_memory_object_stream[int](1)

        async def consumer(name: str) -> None:
            async with receive.clone() as stream:
                async for item in stream:
                    log.append((name, item))
                    await anyio.sleep(1)

        async with anyio.create_task_group() as group:
            group.start_soon(consumer, "x")
            group.start_soon(consumer, "y")
            await anyio.wait_all_tasks_blocked()
            receive.close()
            async with send:
                for item in range(5):
                    await send.send(item)
        return log

    assert run(main) == [("x", 0), ("y", 1), ("x", 2), ("y", 3), ("x", 4)]


def test_primitives_made_outside_work_inside() -> None:
    event, lock, semaphore, limiter = anyio.Event(), anyio.Lock(), anyio.Semaphore(1), anyio.CapacityLimiter(1)

    async def main() -> str:
        async with lock, semaphore, limiter:
            event.set()
            await event.wait()
        return "fine"

    assert run(main) == "fine"


def test_workflows_do_not_wait_for_each_other() -> None:
    event = anyio.Event()
    first, second = Driver(), Driver()

    async def waiter() -> None:
        await event.wait()

    async def intruder() -> None:
        with pytest.raises(DeterminismError, match="workflows share nothing"):
            await event.wait()
        with pytest.raises(DeterminismError, match="workflows share nothing"):
            event.set()

    first.run(waiter())
    second.run(intruder())
    assert second.ended[0].error is None
    assert first.ended == []
    first.kernel.close()
