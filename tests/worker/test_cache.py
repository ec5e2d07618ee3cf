"""What is kept between activations, and for how long."""

from __future__ import annotations

from typing import cast

import anyio
import pytest

from flovyn.replay import Execution
from flovyn.worker.cache import Cached, ExecutionCache
from worker.fakes import until

pytestmark = pytest.mark.anyio


class FakeRun:
    """Notes when it is evicted."""

    def __init__(self, name: str, log: list[tuple[str, float]]) -> None:
        self.name = name
        self.log = log

    def close(self) -> None:
        self.log.append((self.name, anyio.current_time()))


def cached(name: str, log: list[tuple[str, float]]) -> Cached:
    return Cached(cast("Execution", FakeRun(name, log)), b"")


async def test_the_one_that_was_not_used_for_the_longest_goes_first() -> None:
    log: list[tuple[str, float]] = []
    cache = ExecutionCache(2)
    for name in ("a", "b"):
        cache.keep(name, cached(name, log))
    used = cache.take("a")
    assert used is not None
    assert cache.take("a") is None
    cache.keep("a", used)
    cache.keep("c", cached("c", log))
    assert [name for name, _ in log] == ["b"]
    cache.keep("a", cached("another a", log))
    assert [name for name, _ in log] == ["b", "a"]
    cache.close()
    assert [name for name, _ in log] == ["b", "a", "c", "another a"]


async def test_each_goes_when_it_was_not_used_for_so_long() -> None:
    log: list[tuple[str, float]] = []
    cache = ExecutionCache(10, age=0.1)
    async with anyio.create_task_group() as tg:
        tg.start_soon(cache.keep_young)
        await anyio.wait_all_tasks_blocked()  # it sleeps already, on an empty cache
        began = anyio.current_time()
        for name in ("a", "b", "c"):
            cache.keep(name, cached(name, log))
        await anyio.sleep(0.05)
        used = cache.take("b")
        assert used is not None
        again = anyio.current_time()
        cache.keep("b", used)
        await until(lambda: len(log) == 3)
        tg.cancel_scope.cancel()
    assert [name for name, _ in log] == ["a", "c", "b"]
    assert log[0][1] - began >= 0.098  # uvloop counts whole milliseconds
    assert log[2][1] - again >= 0.098
