"""A kernel that runs by itself: its clock jumps to the next timer whenever nothing else can move."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Any, TypeVar

from flovyn.errors import Deadlock, RunawayWorkflow
from flovyn.nursery._audit import arm_tripwires
from flovyn.nursery._group import callable_name
from flovyn.nursery.kernel import Kernel

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from flovyn.nursery._scope import CancelScope
    from flovyn.nursery._task import Outcome
    from flovyn.nursery._tripwires import Tripwires

__all__ = ["VirtualTime", "run_virtual"]

T = TypeVar("T")


class _Timer:
    __slots__ = ("due", "fire", "number")

    def __init__(self, due: float, number: int, fire: Callable[[], None]) -> None:
        self.due = due
        self.number = number
        self.fire: Callable[[], None] | None = fire

    def __lt__(self, other: _Timer) -> bool:
        return (self.due, self.number) < (other.due, other.number)


class VirtualTime:
    """A kernel and its timers: those due at the same time fire in the order in which they were started.

    Args:
        tripwires: What becomes of code that reaches outside; None if nobody watches.
        step_limit: How many steps the program may make at one moment.

    Attributes:
        kernel: The kernel.
    """

    def __init__(self, *, tripwires: Tripwires | None = None, step_limit: int = 100_000) -> None:
        if tripwires is not None:
            arm_tripwires()
        self.kernel = Kernel(self, step_limit=step_limit, tripwires=tripwires)
        self._timers: list[_Timer] = []
        self._started = 0

    def start(
        self,
        due: float,
        fire: Callable[[], None],
        scope: CancelScope | None,  # noqa: ARG002  # it makes no difference here
    ) -> object:
        """See `Timers.start`."""
        self._started += 1
        timer = _Timer(due, self._started, fire)
        heapq.heappush(self._timers, timer)
        return timer

    def cancel(self, token: object) -> None:
        """See `Timers.cancel`."""
        if isinstance(token, _Timer):
            token.fire = None

    def run_until(self, finished: Callable[[], bool]) -> None:
        """Run, and fire timers whenever nothing else can move, until `finished`.

        When every task waits for ever, the newest wait that can be interrupted raises, until nothing is left to wait
        for: so clean-up runs, and the traceback shows the place.

        Raises:
            Deadlock: That happened.
            RunawayWorkflow: The program never waits. After either of them, a kernel that could not be brought to rest
                is closed.
        """
        stuck: Deadlock | None = None
        interrupts = 0
        try:
            while not self._rests(finished):
                if self._fire():
                    continue
                error = self._deadlock()
                stuck = stuck or error
                interrupts += 1
                tasks = reversed(self.kernel.tasks)
                if interrupts > _INTERRUPTS or not any(self.kernel.interrupt(task, error) for task in tasks):
                    self.kernel.close()
                    break
        except RunawayWorkflow:
            self.kernel.close()
            raise
        if stuck is not None:
            raise stuck

    def _rests(self, finished: Callable[[], bool]) -> bool:
        self.kernel.steps = 0
        self.kernel.run()
        return finished()

    def _fire(self) -> bool:
        """Fire the next timer; False if there is none."""
        while self._timers:
            timer = heapq.heappop(self._timers)
            if timer.fire is not None:
                self.kernel.now = max(self.kernel.now, timer.due)
                timer.fire()
                return True
        return False

    def _deadlock(self) -> Deadlock:
        tasks = "".join(f"\n{task.name}:\n{''.join(task.stack().format())}" for task in self.kernel.tasks)
        return Deadlock(f"every task waits, and nothing can wake one:{tasks}")


_INTERRUPTS = 1000  # for a program that goes on waiting whatever it is told


def run_virtual(func: Callable[..., Awaitable[T]], args: tuple[Any, ...], kwargs: dict[str, Any], **options: Any) -> T:
    """Run `func` to its end over a virtual clock that starts at 0; the options are those of `VirtualTime`.

    Raises:
        Deadlock: Every task waits for ever.
        BaseException: What `func` raises.
    """

    async def main() -> T:
        return await func(*args, **kwargs)

    ended: list[Outcome] = []
    time = VirtualTime(**options)
    time.kernel.start(main(), name=callable_name(func), done=ended.append)
    try:
        time.run_until(lambda: bool(ended))
    finally:
        time.kernel.close()
    outcome = ended.pop()
    if outcome.error is not None:
        raise outcome.error
    value: T = outcome.value
    return value
