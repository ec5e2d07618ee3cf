"""The operations nursery: runs the bodies of `ctx.run` for one activation, and moves the activation on."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Final

import anyio

from flovyn.replay.records import Answer, Deadline
from flovyn.worker import attempts

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

    from flovyn.replay import Activation, Operation
    from flovyn.replay.timers import Timer

__all__ = ["drive"]

_SLICE_SECONDS: Final = 0.003
"""How long an activation may hold the host's loop before others get a turn."""


_SHARE_SECONDS: Final = 10.0
"""After this long no further body is started: what has been recorded by then is submitted, the rest follows at once."""


async def drive(activation: Activation) -> None:
    """Run an activation to its end.

    Raises:
        DeterminismError: The code disagrees with its history, reached outside, or does not come to rest.
    """
    bodies = _Bodies(activation)
    await _move_on(activation)
    if activation.finished:
        return  # most activations call no `ctx.run`: no nursery is opened for them
    fault: BaseException | None = None
    async with anyio.create_task_group() as operations:
        try:
            while not activation.finished:
                bodies.start(operations)
                await bodies.one_ended()
                if bodies.elapsed() >= _SHARE_SECONDS:
                    activation.exhaust()
                await _move_on(activation)
                bodies.refresh()
        except Exception as error:  # noqa: BLE001 - not swallowed
            # Raised behind the block: what the program did wrong must not arrive in a group of ours.
            fault = error
        # What still runs here was given up by the program, or belongs to a run that is at fault.
        operations.cancel_scope.cancel()
    if fault is not None:
        raise fault


async def _move_on(activation: Activation) -> None:
    since = time.perf_counter()
    for _ in activation.slices():
        if time.perf_counter() - since > _SLICE_SECONDS:
            await anyio.lowlevel.checkpoint()
            since = time.perf_counter()


class _Body:
    """A body that runs.

    Attributes:
        operation: Its operation.
        scope: What ends it.
        guard: The timer of the deadline that will, as far as the program has decided until now.
    """

    __slots__ = ("guard", "operation", "scope")

    def __init__(self, operation: Operation) -> None:
        self.operation = operation
        self.scope = anyio.CancelScope()
        self.guard: Timer | None = None


class _Bodies:
    """The bodies that run for one activation."""

    __slots__ = ("_activation", "_began", "_deadlines", "_ended", "_running")

    def __init__(self, activation: Activation) -> None:
        self._activation = activation
        self._began = anyio.current_time()
        self._deadlines: dict[Timer, float] = {}
        self._running: dict[_Body, None] = {}
        self._ended = anyio.Event()

    def elapsed(self) -> float:
        """Seconds since the activation began."""
        return anyio.current_time() - self._began

    def start(self, operations: TaskGroup) -> None:
        """Start the bodies that the program waits for now."""
        for operation in self._activation.starting:
            body = _Body(operation)
            self._running[body] = None
            self._guard(body)
            operations.start_soon(self._run, body)
        self._activation.starting.clear()

    async def one_ended(self) -> None:
        """Wait until at least one more body has ended."""
        await self._ended.wait()
        self._ended = anyio.Event()

    def refresh(self) -> None:
        """The program may have cancelled a body, or moved the deadline of a scope around one."""
        for body in self._running:
            if body.operation.given_up:
                body.scope.cancel()
            elif not body.scope.cancel_called:  # or it is over already, and by the deadline as it was
                self._guard(body)

    def _guard(self, body: _Body) -> None:
        body.guard = min(body.operation.guards(), key=self._deadline, default=None)
        body.scope.deadline = math.inf if body.guard is None else self._deadline(body.guard)

    def _deadline(self, timer: Timer) -> float:
        deadline = self._deadlines.get(timer)
        if deadline is None:
            remaining = self._activation.remaining(timer, self.elapsed())
            deadline = self._deadlines[timer] = anyio.current_time() + remaining
        return deadline

    async def _run(self, body: _Body) -> None:
        answer: Answer | None = None
        try:
            with body.scope:
                answer = await attempts.answer(body.operation)
        finally:
            del self._running[body]
        if answer is None and body.guard is not None:
            answer = Deadline(body.guard.id)
        if answer is not None:
            self._activation.complete(body.operation, answer)
        self._ended.set()
