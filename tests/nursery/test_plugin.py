"""AnyIO's pytest plugin on the virtual clock: fixtures, tests, failures."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextvars import ContextVar

import anyio
import anyio.lowlevel
import pytest

from flovyn.errors import Deadlock, RunawayWorkflow
from flovyn.nursery import CancelScope
from flovyn.nursery._runner import VirtualTestRunner

pytestmark = pytest.mark.anyio
variable: ContextVar[str] = ContextVar("variable")


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "flovyn"


@pytest.fixture
async def served() -> AsyncIterator[list[str]]:
    """A fixture with a task group around the test."""
    log: list[str] = []

    async def tick() -> None:
        while True:
            await anyio.sleep(10)
            log.append(f"{anyio.current_time() - began:.0f}")

    began = anyio.current_time()
    variable.set("from the fixture")
    async with anyio.create_task_group() as group:
        group.start_soon(tick)
        yield log
        group.cancel_scope.cancel()
    log.append("over")


@pytest.fixture
async def plain() -> float:
    await anyio.sleep(1)
    return anyio.current_time()


async def test_time_is_virtual(anyio_backend_name: str) -> None:
    assert anyio_backend_name == "flovyn"
    began = anyio.current_time()
    await anyio.sleep(10_000)
    assert anyio.current_time() == began + 10_000


async def test_fixtures_run_along_and_share_context_variables(served: list[str], plain: float) -> None:
    assert plain == anyio.current_time()
    assert variable.get() == "from the fixture"
    await anyio.sleep(25)
    assert served == ["10", "20"]


async def boom() -> None:
    await anyio.sleep(1)
    raise ValueError("no")


async def stuck() -> None:
    with anyio.CancelScope(shield=True):
        await anyio.Event().wait()


async def stuck_for_good() -> None:
    while True:
        try:
            await anyio.Event().wait()
        except Deadlock:
            pass


async def spins() -> None:
    while True:
        await anyio.lowlevel.checkpoint()


async def skips() -> None:
    pytest.skip("not today")


async def one_yield_too_many() -> AsyncGenerator[int, None]:
    yield 1
    yield 2


async def leaves_a_scope_open() -> None:
    CancelScope().__enter__()
    CancelScope().__enter__()


class TestRunner:
    """The runner by hand, for what a passing test cannot show."""

    def test_failures_are_raised_and_the_next_test_runs(self) -> None:
        with VirtualTestRunner() as runner:
            with pytest.raises(ValueError, match="no"):
                runner.run_test(boom, {})
            with pytest.raises(pytest.skip.Exception):
                runner.run_test(skips, {})
            runner.run_test(leaves_a_scope_open, {})
            runner.run_test(anyio.sleep, {"delay": 5})

    def test_a_deadlock_fails_the_test(self) -> None:
        with VirtualTestRunner() as runner:
            with pytest.raises(Deadlock):
                runner.run_test(anyio.sleep_forever, {})
            runner.run_test(anyio.sleep, {"delay": 5})
            with pytest.raises(Deadlock):
                runner.run_test(stuck, {})
            with pytest.raises(Deadlock):
                runner.run_test(stuck_for_good, {})
            runner.run_test(anyio.sleep, {"delay": 5})

    def test_a_spin_fails_the_test(self) -> None:
        with VirtualTestRunner() as runner:
            with pytest.raises(RunawayWorkflow):
                runner.run_test(spins, {})
            runner.run_test(anyio.sleep, {"delay": 5})

    def test_a_fixture_yields_once(self) -> None:
        with VirtualTestRunner() as runner:
            fixture = iter(runner.run_asyncgen_fixture(one_yield_too_many, {}))
            assert next(fixture) == 1
            with pytest.raises(RuntimeError, match="did not stop"):
                next(fixture)

    def test_it_knows_whether_it_runs(self) -> None:
        async def main() -> None:
            assert runner.is_running()

        with VirtualTestRunner() as runner:
            assert not runner.is_running()
            runner.run_test(main, {})
            assert not runner.is_running()
