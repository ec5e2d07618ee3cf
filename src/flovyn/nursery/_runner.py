"""AnyIO's pytest plugin over a virtual clock: `anyio_backend = "flovyn"`."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, TypeVar, final

from anyio.abc import TestRunner

from flovyn.nursery._current import stepping
from flovyn.nursery._task import Outcome
from flovyn.nursery._virtual import VirtualTime

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterable
    from types import TracebackType

    from flovyn.nursery._task import TaskState

__all__ = ["VirtualTestRunner"]

T = TypeVar("T")


class _Call:
    __slots__ = ("awaitable", "outcome")

    def __init__(self, awaitable: Awaitable[Any]) -> None:
        self.awaitable = awaitable
        self.outcome: list[Outcome] = []


@final
class VirtualTestRunner(TestRunner):
    """Runs fixtures and tests in one task, one after the other, so that they share context variables.

    Args:
        options: Those of `VirtualTime`.
    """

    def __init__(self, **options: Any) -> None:
        self._options = options
        self._time = VirtualTime(**options)
        self._calls: deque[_Call] = deque()
        self._task: TaskState | None = None

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        self._time.kernel.close()

    def is_running(self) -> bool:
        """Whether a test or fixture is making a step now."""
        return stepping.kernel is self._time.kernel

    def run_asyncgen_fixture(
        self, fixture_func: Callable[..., AsyncGenerator[T, Any]], kwargs: dict[str, Any]
    ) -> Iterable[T]:
        """Run a fixture that yields once."""
        generator = fixture_func(**kwargs)
        yield self._call(generator.asend(None))
        try:
            self._call(generator.asend(None))
        except StopAsyncIteration:
            return
        self._call(generator.aclose())
        raise RuntimeError("Async generator fixture did not stop")

    def run_fixture(self, fixture_func: Callable[..., Coroutine[Any, Any, T]], kwargs: dict[str, Any]) -> T:
        """Run a fixture that returns."""
        return self._call(fixture_func(**kwargs))

    def run_test(self, test_func: Callable[..., Coroutine[Any, Any, Any]], kwargs: dict[str, Any]) -> None:
        """Run a test."""
        self._call(test_func(**kwargs))

    def _call(self, awaitable: Awaitable[T]) -> T:
        kernel = self._time.kernel
        call = _Call(awaitable)
        self._calls.append(call)
        if self._task is None:
            self._task = kernel.start(self._serve(), name="tests and fixtures", done=_no_more)
        else:
            kernel.wake(self._task)
        try:
            self._time.run_until(lambda: bool(call.outcome))
        finally:
            if kernel.dead:  # the next test starts afresh
                self._time, self._task = VirtualTime(**self._options), None
        (outcome,) = call.outcome
        if outcome.error is not None:
            raise outcome.error
        value: T = outcome.value
        return value

    async def _serve(self) -> None:
        kernel = self._time.kernel
        while True:
            while self._calls:
                await _run(self._calls.popleft())
            await kernel.wait_woken()


async def _run(call: _Call) -> None:
    value, error = None, None
    try:
        value = await call.awaitable
    except BaseException as raised:  # noqa: BLE001  # it is raised where the plugin waits for it
        error = raised
    call.outcome.append(Outcome(value, error))


def _no_more(outcome: Outcome) -> None:
    """The task that serves never ends by itself."""
