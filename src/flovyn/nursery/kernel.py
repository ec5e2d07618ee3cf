"""The deterministic scheduler: stepped by hand, first in, first out.

The owner of a kernel provides timers and the clock, starts root tasks, and calls `run` until nothing can move. A wait
ends when the owner (or another task) calls `wake`. Nothing here reads a clock, draws a random number, or iterates over
anything whose order could vary.
"""

from __future__ import annotations

import math
import types
from collections import deque
from contextlib import contextmanager
from contextvars import Context, copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, final

from flovyn.errors import DeterminismError
from flovyn.nursery import _host
from flovyn.nursery._burial import Burial
from flovyn.nursery._conditions import wake_one
from flovyn.nursery._current import current_kernel, stepping
from flovyn.nursery._generators import close_generators, unfinished
from flovyn.nursery._scope import Cancelled, CancelScope
from flovyn.nursery._spin import Suspects, foreign_spin, sampled_from
from flovyn.nursery._task import PARKED, Abort, Outcome, TaskState, trap
from flovyn.nursery._watch import Watch

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Iterator

    from flovyn.nursery._task import Done
    from flovyn.nursery._tripwires import Tripwires

__all__ = ["Abort", "CancelScope", "Cancelled", "Kernel", "Outcome", "TaskState", "Timers", "Watch", "current_kernel"]


class Timers(Protocol):
    """What a sleep or a deadline turns into; the owner of a kernel provides it."""

    def start(self, due: float, fire: Callable[[], None], scope: CancelScope | None) -> object:
        """Arrange for `fire` to be called, between steps, once the kernel's clock is at `due` or later.

        Args:
            due: Unix seconds; always finite and later than the kernel's clock.
            fire: To be called at most once, and never after `cancel`.
            scope: The scope whose deadline this is, or None for a sleep.

        Returns:
            A token for `cancel`, anything but None.
        """
        ...

    def cancel(self, token: object) -> None:
        """Nobody waits for this timer any more."""
        ...


@final
class Kernel:
    """A scheduler for one workflow.

    Attributes:
        now: The clock in Unix seconds; only the owner writes it, and moves it to at least the due time of a timer
            before that timer fires.
        steps: Steps made since the owner last set it to 0.
        step_limit: `run` raises when `steps` would exceed it.
        tripwires: What becomes of code that reaches outside in a step; None if nobody watches. `arm_tripwires` has to
            be called once a process for most of them.
        private: Whether nobody outside may touch what belongs to its tasks: neither wake one nor cancel anything, and
            the owner only inside `activation`.
        current: The task that is making a step.
        dead: Whether `close` was called: nothing moves any more, and nothing may be recorded.

    Example:
        >>> class NoTimers:
        ...     def start(self, due, fire, scope): raise NotImplementedError
        ...     def cancel(self, token): ...
        >>> async def add(a, b):
        ...     return a + b
        >>> kernel = Kernel(NoTimers())
        >>> task = kernel.start(add(1, 2), name="add", done=lambda outcome: print(outcome.value))
        >>> kernel.run()
        3
        True
    """

    __slots__ = (
        "__weakref__",
        "_blocked",
        "_conditions",
        "_numbers",
        "_ready",
        "_suspects",
        "_tasks",
        "current",
        "dead",
        "now",
        "private",
        "step_limit",
        "steps",
        "timers",
        "tripwires",
    )

    def __init__(
        self,
        timers: Timers,
        *,
        now: float = 0.0,
        step_limit: int = 100_000,
        tripwires: Tripwires | None = None,
        private: bool = False,
    ) -> None:
        self.timers: Timers = timers
        self.private: bool = private
        self.tripwires: Tripwires | None = tripwires
        self.now: float = now
        self.step_limit: int = step_limit
        self.steps: int = 0
        self.current: TaskState | None = None
        self.dead: bool = False
        self._ready: deque[TaskState] = deque()
        self._tasks: dict[TaskState, None] = {}
        self._blocked: dict[TaskState, None] = {}  # tasks that wait until all others wait
        self._conditions: dict[TaskState, Callable[[], bool]] = {}  # tasks that wait until something is true
        self._suspects: Suspects | None = None
        self._numbers = 0

    # --- starting ---------------------------------------------------------------------------

    def create_scope(self, *, deadline: float = math.inf, shield: bool = False) -> CancelScope:
        """A scope for root tasks; it is active at once; the owner may `detach` it at the end."""
        scope = CancelScope(deadline=deadline, shield=shield)
        scope.attach(self, None)
        return scope

    def start(
        self,
        coro: Coroutine[Any, Any, Any],
        *,
        name: str,
        scope: CancelScope | None = None,
        done: Callable[[Outcome], None],
        context: Context | None = None,
    ) -> TaskState:
        """Start a root task.

        Args:
            coro: What it runs.
            name: For people.
            scope: Where it stands, by default in a scope of its own.
            done: Called at its end, with what it returned or raised (a cancelled exception that escaped, too).
            context: Its context variables, by default a copy of the caller's.
        """
        return self.spawn(
            coro,
            name,
            self.create_scope() if scope is None else scope,
            lambda _task, outcome: done(outcome),
            context=context,
        )

    def spawn(
        self,
        coro: Coroutine[Any, Any, Any],
        name: str,
        scope: CancelScope,
        done: Done,
        *,
        context: Context | None = None,
        parent: TaskState | None = None,
        inner: Coroutine[Any, Any, Any] | None = None,
    ) -> TaskState:
        """Start a task inside `scope`; it makes its first step after everything that is ready now."""
        context = copy_context() if context is None else context
        task = TaskState(self, self.next_number(), coro, name, scope, context, done, parent=parent, inner=inner)
        if self.dead:
            coro.close()
            if inner is not None:
                inner.close()
        else:
            scope.admit(task)
            self._tasks[task] = None
            self._ready.append(task)
        return task

    def next_number(self) -> int:
        """The number of the next task or watch."""
        self._numbers += 1
        return self._numbers

    @property
    def tasks(self) -> tuple[TaskState, ...]:
        """The tasks that have not ended, in the order in which they were started."""
        return tuple(self._tasks)

    # --- stepping ---------------------------------------------------------------------------

    def run(self, limit: int | None = None) -> bool:
        """Step until nothing is ready.

        Args:
            limit: At most this many steps.

        Returns:
            True if nothing is ready, False if the limit came first.

        Raises:
            RunawayWorkflow: `step_limit` steps were made since `steps` was last reset; the message has the stack of the
                task that made most of the last ones. Nothing is lost, so the owner decides what becomes of the tasks.
        """
        if self.current is not None:
            raise RuntimeError("a kernel cannot be run from inside one of its own steps")
        if not (self._ready or self._conditions or self._blocked):
            return True
        before = None if stepping.kernel is self else _host.hide(self)
        try:
            return self._run(limit)
        finally:
            self.current = None
            if before is not None:
                _host.restore(before)

    @contextmanager
    def activation(self) -> Generator[None]:
        """Hide the host's event loop for several calls of `run`; by itself each call does, for some microseconds.

        No host code that needs its loop may run inside.
        """
        if stepping.kernel is self:
            yield
            return
        before = _host.hide(self)
        try:
            yield
        finally:
            _host.restore(before)

    def _run(self, limit: int | None) -> bool:
        ready = self._ready
        last = self.step_limit if limit is None else min(self.steps + limit, self.step_limit)
        sampled = sampled_from(self.step_limit)
        while ready or self._any_ready():
            steps = self.steps
            if steps >= last:
                if steps >= self.step_limit:
                    raise (self._suspects or Suspects()).error(steps, self._tasks)
                return False
            if steps < sampled:
                self._suspects = None
                self._step(min(last, sampled) - steps)
            else:
                suspects = self._suspects = self._suspects or Suspects()
                suspects.note(ready[0])
                self._step(1)
            self.current = None
        return True

    def _step(self, allowed: int) -> None:
        """The hot loop: at most `allowed` steps."""
        ready = self._ready
        made = 0
        try:
            while ready and made < allowed:
                made += 1
                self.current = task = ready.popleft()
                value, task.value = task.value, None
                outcome: Outcome | None = None
                try:
                    request = task.context.run(task.coro.send, value)
                except StopIteration as stop:
                    outcome = Outcome(stop.value, None)
                except BaseException as error:  # noqa: BLE001  # it is the task's, whatever it is
                    outcome = Outcome(None, _trimmed(error))
                else:
                    if request is PARKED:
                        continue
                    outcome = self._refuse(task, request)
                # Outside the except blocks, so that nothing raised from here on is chained to the task's own error.
                if outcome is not None:
                    self._end(task, outcome)
                    outcome = None  # no frame of ours keeps an error alive
        finally:
            self.steps += made

    def _refuse(self, task: TaskState, request: object) -> Outcome | None:
        """Throw an error in where the task awaited something foreign, until it awaits something of ours."""
        for _ in range(_FOREIGN_AWAITS):
            error = _host.describe_foreign(request)
            try:
                request = task.context.run(task.coro.throw, error)
            except StopIteration as stop:
                return Outcome(stop.value, None)
            except BaseException as raised:  # noqa: BLE001  # likewise
                return Outcome(None, _trimmed(raised))
            finally:
                del error
            if request is PARKED:
                return None
        raise foreign_spin(task, _FOREIGN_AWAITS)

    def _end(self, task: TaskState, outcome: Outcome) -> None:
        if task.generators and task.ending is None and (left := unfinished(task.generators)):
            # The task goes on for as long as it takes to close what it abandoned; its outcome stands already.
            task.ending = outcome
            task.coro, task.inner, task.generators = close_generators(task, left), None, []
            self._ready.append(task)
            return
        if task.ending is not None:
            outcome, task.ending = task.ending, None
        del self._tasks[task]
        task.scope.dismiss(task)
        task.done(task, outcome)

    def _any_ready(self) -> bool:
        """When nothing is ready: make one ready whose condition holds, or else those that waited for just this."""
        if self._conditions:
            wake_one(self._conditions)
        if self._blocked and not self._ready:
            blocked, self._blocked = self._blocked, {}
            for task in blocked:
                self.wake(task)
        return bool(self._ready)

    # --- waiting ----------------------------------------------------------------------------

    async def park(self, abort: Abort) -> Any:
        """Wait until `wake` is called for the current task.

        Args:
            abort: Called when a cancellation wants to end the wait. True: the wait ends now, with the cancelled
                exception. False: it goes on, and `abort` is asked again only if the task is cancelled anew (after a
                shield was raised, say).

        Returns:
            The value given to `wake`.

        Raises:
            Cancelled: The task is cancelled (at entry, without a call of `abort`, or by `abort`).
            BaseException: The error given to `wake`.
        """
        task = self._current()
        if self.dead or task.scope.effectively_cancelled:
            await self._not_now(task)
        task.parked, task.abort = True, abort
        return await trap(task)

    async def wait_woken(self, abort: Abort | None = None) -> Any:
        """Like `park`, but being cancelled already is no reason not to wait; without `abort` nothing ends the wait."""
        task = self._current()
        if self.dead:
            await _grave()
        task.parked, task.abort = True, abort
        return await trap(task)

    def wake(self, task: TaskState, value: object = None, error: BaseException | None = None) -> None:
        """Make a parked task ready.

        Args:
            task: A task that is parked now.
            value: What its wait returns.
            error: What its wait raises instead.

        Raises:
            DeterminismError: The kernel is private, and this is the host's code.
        """
        if self.dead:
            return
        if self.private and stepping.kernel is not self:
            self.keep_out()
        if not task.parked:
            raise RuntimeError(f"{task!r} is not parked, so it cannot be woken")
        task.parked, task.abort, task.value, task.error = False, None, value, error
        self._ready.append(task)

    @property
    def is_active(self) -> bool:
        """Whether this thread is in one of its activations: in a step, or between two with nothing of the host's."""
        return stepping.kernel is self

    def keep_out(self) -> None:
        """Refuse a call that comes from outside: no replay would see it.

        Raises:
            DeterminismError: The kernel is private, and this is the host's code.
        """
        if self.private and not self.is_active and not self.dead:
            raise DeterminismError(
                "this object belongs to a workflow, and what code outside does with it leaves no trace in history: let "
                "the function that ctx.run calls return a value, and act on it in the workflow; others send a signal"
            )

    async def checkpoint(self) -> None:
        """Let every task that is ready make a step, then raise if the current one is cancelled."""
        task = self._current()
        if self.dead:
            await _grave()
        self._ready.append(task)
        await trap(task)
        if task.scope.effectively_cancelled:
            raise task.scope.cancelled_error()

    async def cancel_shielded_checkpoint(self) -> None:
        """Let every task that is ready make a step."""
        task = self._current()
        if self.dead:
            await _grave()
        self._ready.append(task)
        await trap(task)

    async def checkpoint_if_cancelled(self) -> None:
        """Raise if the current task is cancelled, after a step of everybody else, so that no loop can spin unseen."""
        task = self._current()
        if task.scope.effectively_cancelled:
            await self._not_now(task)

    async def sleep(self, delay: float) -> None:
        """Wait for a timer; a checkpoint if `delay` is 0, for ever if it is infinite.

        Raises:
            ValueError: It is negative or not a number.
        """
        if not delay > 0:
            if delay != 0:
                raise ValueError("delay must be a non-negative number")
            await self.checkpoint()
            return
        if delay == math.inf:
            await self.park(_always)
            return
        task = self._current()
        if self.dead or task.scope.effectively_cancelled:
            await self._not_now(task)
        cancel = self.timers.cancel
        token = self.timers.start(self.now + delay, partial(self.wake, task), None)

        def abort() -> bool:
            cancel(token)
            return True

        task.parked, task.abort = True, abort
        await trap(task)

    async def wait_all_blocked(self) -> None:
        """Wait until nothing else can move."""
        await self.checkpoint_if_cancelled()
        task = self._current()

        def abort() -> bool:
            del self._blocked[task]
            return True

        self._blocked[task] = None
        await self.wait_woken(abort)

    async def wait_until(self, predicate: Callable[[], bool]) -> None:
        """Wait until a condition holds.

        It is examined at once, and then whenever nothing else is ready. Of several that hold, only that of the task
        that has waited longest is let go on, until nothing is ready again; then all are examined anew. So between
        the moment at which the condition was found to hold and the next step of the task nothing else happens.

        Args:
            predicate: Called as a part of a step of the current task; it only looks, and does not wait.

        Raises:
            Cancelled: The task is cancelled.
            BaseException: What `predicate` raises.
        """
        await self.checkpoint_if_cancelled()
        task = self._current()
        if self.dead:
            await _grave()
        if predicate():
            await self.checkpoint()
            if predicate():
                return

        def abort() -> bool:
            del self._conditions[task]
            return True

        self._conditions[task] = predicate
        await self.wait_woken(abort)

    async def _not_now(self, task: TaskState) -> None:
        """Instead of a wait: for ever on a dead kernel, else a step of everybody else and the cancelled exception."""
        if self.dead:
            await _grave()
        error = task.scope.cancelled_error()
        try:
            self._ready.append(task)
            await trap(task)
            raise error
        finally:
            del error

    def _current(self) -> TaskState:
        task = self.current
        if task is None or stepping.kernel is not self:
            raise RuntimeError("only a task of this kernel can wait in it, and only in its own step")
        return task

    # --- cancelling -------------------------------------------------------------------------

    def check(self) -> None:
        """Raise `Cancelled` if the current task is cancelled. Code that may loop uses `checkpoint_if_cancelled`."""
        scope = self._current().scope
        if scope.effectively_cancelled and not self.dead:
            raise scope.cancelled_error()

    def is_cancelled(self, task: TaskState) -> bool:
        """Whether checkpoints of the task raise."""
        return task.scope.effectively_cancelled

    def reaching(self, task: TaskState) -> Iterator[CancelScope]:
        """The scopes whose cancellation reaches the task, innermost first, up to and including the first shield."""
        scope: CancelScope | None = task.scope
        while scope is not None:
            yield scope
            scope = None if scope.shield else scope.parent

    def deliver(self, task: TaskState) -> None:
        """Tell a task that it is cancelled now; it hears it only if it waits and its `abort` agrees."""
        abort = task.abort
        if abort is None or self.dead or not task.scope.effectively_cancelled:
            return
        if abort() and task.parked:
            self.wake(task, error=task.scope.cancelled_error())

    def interrupt(self, task: TaskState, error: BaseException) -> bool:
        """End a task's wait with an error, if it is one that a cancellation could end; whether it was."""
        abort = task.abort
        if abort is None or not abort() or not task.parked:
            return False
        self.wake(task, error=error)
        return True

    # --- async generators and the end -------------------------------------------------------

    def adopt_generator(self, generator: AsyncGenerator[Any, Any]) -> None:
        """An async generator was begun: it belongs to the task that did it."""
        task = self.current
        if task is None or not isinstance(generator, types.AsyncGeneratorType):
            return
        if len(task.generators) >= task.prune_at:
            task.generators = unfinished(task.generators)
            task.prune_at = 2 * len(task.generators) + 16
        task.generators.append(generator)

    def close(self) -> None:
        """Evict: end every coroutine without letting it move on.

        From now on every wait waits for ever, nothing is started, cancelled or woken, and timers are left alone. The
        coroutines are closed, the newest first, so plain code in their `finally` blocks does run. One that refuses to
        end is dropped after a bounded number of attempts.
        """
        if self.current is not None:
            raise RuntimeError("a kernel cannot be closed from inside one of its own steps")
        if self.dead:
            return
        self.dead = True
        self._ready.clear()
        self._blocked.clear()
        self._conditions.clear()
        with self.activation():
            try:
                with Burial() as burial:
                    for task in reversed(self._tasks):
                        self.current = task
                        burial.bury(task)
            finally:
                self.current = None
                self._tasks.clear()


_FOREIGN_AWAITS = 1000  # how often in a row one step may await something foreign, catching the error each time


@types.coroutine
def _grave() -> Generator[object, None, None]:
    while True:
        yield PARKED


def _always() -> bool:
    return True


def _trimmed(error: BaseException) -> BaseException:
    """Without the frame of the scheduler, which tells a reader nothing."""
    traceback = error.__traceback__
    return error.with_traceback(None if traceback is None else traceback.tb_next)
