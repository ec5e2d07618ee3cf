"""The time of an environment, which stands still unless it is told to pass."""

from __future__ import annotations

import logging
import math
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Never

import anyio

from flovyn.errors import UsageError
from flovyn.testing.environments.stall import open_workflows

if TYPE_CHECKING:
    from collections.abc import Generator

    from anyio.abc import TaskStatus

    from flovyn.server.shell import Shell
    from flovyn.testing.environments.rest import Rest

__all__ = ["VirtualClock"]

logger: logging.Logger = logging.getLogger("flovyn.testing")

_STALL_S = 1.0
"""Seconds after which a test that waits for what may never come is told so."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


class VirtualClock:
    """The clock of an environment's server, and so of the workflows that run there.

    It stands still, and jumps. While somebody waits for the result of a workflow (or is inside `passing`) it jumps by
    itself from one timer to the next, each time when nothing can run any more. `advance` and `advance_to` move it by
    hand, stopping at every timer on the way.

    Environments make these.

    Args:
        start: The time at first; aware of its time zone.

    Raises:
        UsageError: It has no time zone, or lies before 1970.
    """

    def __init__(self, start: datetime) -> None:
        self._now = _milliseconds("start", start)
        self._passing = 0
        self._wanted = anyio.Event()
        self._shell: Shell | None = None
        self._rest: Rest | None = None

    def __repr__(self) -> str:
        return f"<VirtualClock {self.now.isoformat()}>"

    def __call__(self) -> int:
        """The time in epoch milliseconds."""
        return self._now

    @property
    def now(self) -> datetime:
        """The time, in UTC."""
        return _EPOCH + timedelta(milliseconds=self._now)

    async def advance(self, by: timedelta | float, *, wait_for_work: bool = True) -> None:
        """Let so much time pass.

        It stops at every timer and deadline on the way, and goes on when nothing can run any more. When it returns,
        what became due has been worked off as well.

        Args:
            by: How much; a number means seconds.
            wait_for_work: Whether time stands still while a task or a `ctx.run` body is under way, however long that
                really takes. If not, time passes over it: that is how a deadline reaches a body that hangs.

        Raises:
            UsageError: It is negative.

        Example:
            ```python
            await env.clock.advance(timedelta(days=30))
            ```
        """
        if not isinstance(by, timedelta):
            by = timedelta(seconds=by)
        if by < timedelta():
            raise UsageError(f"time does not go backwards: advance by {by} is negative")
        await self.advance_to(self.now + by, wait_for_work=wait_for_work)

    async def advance_to(self, at: datetime, *, wait_for_work: bool = True) -> None:
        """Let time pass until a moment; see `advance`.

        Args:
            at: The moment; aware of its time zone.
            wait_for_work: See `advance`.

        Raises:
            UsageError: It has no time zone, or lies in the past.
        """
        target = _milliseconds("at", at)
        if target < self._now:
            raise UsageError(f"time does not go backwards: {at.isoformat()} is before {self.now.isoformat()}")
        shell, rest = self._attached()
        while True:
            await rest.reached(with_work=wait_for_work)
            due = self._next(shell)  # from here to the jump nobody else gets a turn
            self._jump(shell, min(due, target))
            if due > target:
                break
        await rest.reached(with_work=wait_for_work)

    @contextmanager
    def passing(self) -> Generator[None]:
        """Let time pass by itself for as long as the block runs, whenever nothing can run.

        Waiting for a workflow by its handle does so already. This is for whatever else a workflow brings
        about, such as an event that a task sets.

        Example:
            ```python
            with env.clock.passing():
                await shipped.wait()
            ```
        """
        self._passing += 1
        self._wanted.set()
        try:
            yield
        finally:
            self._passing -= 1
            if not self._passing:
                self._wanted = anyio.Event()

    def attach(self, shell: Shell, rest: Rest) -> None:
        """Say whose time it is. Called once, by the environment."""
        self._shell = shell
        self._rest = rest

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> Never:
        """Let time pass, for ever, while somebody waits for that. Called by the environment."""
        shell, rest = self._attached()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._do_what_is_due, shell)
            task_status.started()
            await self._pass(shell, rest)
        raise AssertionError("time passes until it is cancelled")

    async def _do_what_is_due(self, shell: Shell) -> Never:
        """What is due now waits for no time to pass, so no work that is under way holds it."""
        while True:
            written = shell.written
            if shell.engine.core.due_at <= self._now:
                self._jump(shell, self._now)
            await written.wait()

    async def _pass(self, shell: Shell, rest: Rest) -> Never:
        while True:
            await self._wanted.wait()
            await rest.reached(with_work=True)
            if not self._passing:
                continue
            due = self._next(shell)
            if due < math.inf:
                self._jump(shell, due)
            else:
                await self._stand_still(shell)

    async def _stand_still(self, shell: Shell) -> None:
        """Wait until something happens that did not come from here: all that is left is up to the test."""
        written = shell.written
        with anyio.move_on_after(_STALL_S):
            await written.wait()
            return
        text = "time stands still: nothing can run, no timer is due, and the test waits; what has not ended is\n%s"
        logger.warning(text, open_workflows(shell.engine))
        await written.wait()

    def _attached(self) -> tuple[Shell, Rest]:
        if self._shell is None or self._rest is None:
            raise UsageError("this clock belongs to no environment: use env.clock, inside the environment's block")
        return self._shell, self._rest

    def _next(self, shell: Shell) -> float:
        """When something happens by itself: a timer, a deadline, or that work is freed whose connection has closed."""
        return min(shell.engine.next_due(), shell.engine.core.leases.next_adrift())

    def _jump(self, shell: Shell, to: float) -> None:
        by = max(0, int(to) - self._now)
        self._now += by
        engine = shell.engine
        engine.core.leases.shift(by)
        while True:  # one tick handles a batch
            engine.tick()
            if self._next(shell) > self._now:
                break
        shell.settle()


def _milliseconds(name: str, at: datetime) -> int:
    if at.tzinfo is None:
        raise UsageError(f"{name} needs a time zone: datetime(..., tzinfo=UTC), not {at!r}")
    if at < _EPOCH:
        raise UsageError(f"{name} is {at.isoformat()}; a server's time begins with 1970")
    return -(-(at - _EPOCH) // _MILLISECOND)
