"""First in, first out: the whole trace of a program is a fact."""

from __future__ import annotations

import subprocess
import sys

import anyio
from anyio.lowlevel import checkpoint

from nursery.driving import run


def test_children_take_turns_in_the_order_in_which_they_were_started() -> None:
    async def main() -> list[str]:
        log: list[str] = []

        async def child(name: str) -> None:
            for number in range(3):
                log.append(f"{name}{number}")
                await checkpoint()

        async with anyio.create_task_group() as group:
            for name in "abc":
                group.start_soon(child, name)
            log.append("body")
        log.append("over")
        return log

    assert run(main) == ["body", "a0", "b0", "c0", "a1", "b1", "c1", "a2", "b2", "c2", "over"]


def test_a_child_started_by_a_child_comes_after_everything_that_is_ready() -> None:
    async def main() -> list[str]:
        log: list[str] = []

        async def leaf(name: str) -> None:
            log.append(name)

        async def branch(name: str) -> None:
            group.start_soon(leaf, name + "1")
            group.start_soon(leaf, name + "2")
            log.append(name)

        async with anyio.create_task_group() as group:
            group.start_soon(branch, "a")
            group.start_soon(branch, "b")
        return log

    assert run(main) == ["a", "b", "a1", "a2", "b1", "b2"]


def test_timers_of_one_moment_fire_in_the_order_in_which_they_were_started() -> None:
    async def main() -> list[tuple[str, float]]:
        log: list[tuple[str, float]] = []

        async def child(name: str, *delays: float) -> None:
            for delay in delays:
                await anyio.sleep(delay)
            log.append((name, anyio.current_time()))

        async with anyio.create_task_group() as group:
            group.start_soon(child, "two hops", 1, 2)
            group.start_soon(child, "late", 4)
            group.start_soon(child, "one hop", 3)
            group.start_soon(child, "early", 2)
        return log

    # "one hop" started its timer for 3 at time 0, "two hops" at time 1
    assert run(main) == [("early", 2), ("one hop", 3), ("two hops", 3), ("late", 4)]


def test_cancellation_reaches_tasks_in_the_order_in_which_they_were_started_whatever_their_scopes() -> None:
    async def main() -> list[str]:
        log: list[str] = []

        async def child(name: str, depth: int) -> None:
            if depth:
                with anyio.CancelScope():
                    await child(name, depth - 1)
                return
            try:
                await anyio.sleep_forever()
            finally:
                log.append(name)

        async with anyio.create_task_group() as group:
            for name, depth in (("a", 3), ("b", 0), ("c", 2), ("d", 1)):
                group.start_soon(child, name, depth)
            await anyio.wait_all_tasks_blocked()
            group.cancel_scope.cancel()
        return log

    assert run(main) == ["a", "b", "c", "d"]


def test_empty_group_lets_everybody_make_a_step() -> None:
    async def main() -> list[str]:
        log: list[str] = []

        async def other() -> None:
            log.append("other")

        async with anyio.create_task_group() as group:
            group.start_soon(other)
            async with anyio.create_task_group():
                log.append("inside")
            log.append("outside")
        return log

    assert run(main) == ["inside", "other", "outside"]


def test_wait_all_tasks_blocked_goes_on_when_nothing_is_ready_first_come_first_served() -> None:
    async def main() -> list[str]:
        log: list[str] = []

        async def busy() -> None:
            for number in range(3):
                log.append(f"busy{number}")
                await checkpoint()

        async def waiter(name: str) -> None:
            await anyio.wait_all_tasks_blocked()
            log.append(name)

        async with anyio.create_task_group() as group:
            group.start_soon(waiter, "first")
            group.start_soon(busy)
            group.start_soon(waiter, "second")
        return log

    assert run(main) == ["busy0", "busy1", "busy2", "first", "second"]


def test_running_tasks_are_listed_and_numbered_in_the_order_of_their_start() -> None:
    async def main() -> list[tuple[int, int | None, str | None]]:
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.sleep, 1, name="x")
            group.start_soon(anyio.sleep, 1, name="y")
            tasks = [(task.id, task.parent_id, task.name) for task in anyio.get_running_tasks()]
            assert tasks[0][0] == anyio.get_current_task().id
        return tasks

    assert run(main) == [(1, None, f"{__name__}.{main.__qualname__}"), (2, 1, "x"), (3, 1, "y")]


PROGRAM = """
import anyio, flovyn.nursery
class Named:
    def __init__(self, name): self.name = name
async def main():
    log = []
    async def child(i):
        with anyio.CancelScope():
            async with lock, limiter:
                await anyio.sleep(i % 3)
                log.append(i)
            event.set()
            await event.wait()
            try: await anyio.sleep_forever()
            finally: log.append(-i)
    lock, event, limiter = anyio.Semaphore(4), anyio.Event(), anyio.CapacityLimiter(3)
    async with anyio.create_task_group() as group:
        for i in range(1, 20): group.start_soon(child, i)
        await anyio.sleep(30)
        group.cancel_scope.cancel()
    return log, [t.name for t in anyio.get_running_tasks()]
print(anyio.run(main, backend="flovyn"))
"""


def test_the_order_does_not_depend_on_the_hash_seed() -> None:
    outputs = {
        subprocess.run(
            [sys.executable, "-c", PROGRAM], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("0", "1", "4242")
    }
    assert len(outputs) == 1
    assert outputs.pop().startswith("([")
