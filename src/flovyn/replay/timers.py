"""Durable timers: what a sleep or a deadline inside a workflow turns into."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from flovyn.replay.commands import CancelTimer, StartTimer
from flovyn.replay.journal import Journal, Kind

if TYPE_CHECKING:
    from collections.abc import Callable

    from flovyn.nursery.kernel import CancelScope, Kernel

__all__ = ["DurableTimers", "Timer"]

_LONGEST_MS: Final = 100 * 365 * 86_400_000
"""A century. No server keeps a timer for longer, and whoever asks for more means for ever."""


class Timer:
    """One timer of the program.

    Attributes:
        id: Its id on the server.
        started: When it was started, Unix seconds on the workflow's clock.
        due: When it fires, likewise.
        activation: The number of the activation that started it.
        scope: The scope whose deadline it guards; None for a sleep.
        wanted: Whether the program still waits for it.
    """

    __slots__ = ("_fire", "activation", "due", "fired", "id", "scope", "started", "wanted")

    def __init__(
        self,
        identity: str,
        started: float,
        due: float,
        activation: int,
        scope: CancelScope | None,
        fire: Callable[[], None],
    ) -> None:
        self.id: str = identity
        self.started: float = started
        self.due: float = due
        self.activation: int = activation
        self.scope: CancelScope | None = scope
        self.wanted: bool = True
        self.fired: bool = False
        self._fire = fire

    def fire(self) -> None:
        """TIMER_FIRED has come; only the first one counts."""
        if not self.fired:
            self.fired = True
            if self.wanted:
                self.wanted = False
                self._fire()


class DurableTimers:
    """The kernel's timers, kept in history.

    Attributes:
        doomed: Timers of earlier activations that the program has left, by id, with the activation that left them.
    """

    __slots__ = ("_journal", "_kernel", "_timers", "doomed")

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._timers: dict[str, Timer] = {}
        self.doomed: dict[str, int] = {}

    def bind(self, kernel: Kernel) -> None:
        """The clock and the timers know each other; the kernel is made second."""
        self._kernel = kernel

    def start(self, due: float, fire: Callable[[], None], scope: CancelScope | None) -> Timer:
        """Arm a timer.

        Raises:
            DeterminismViolation: History has no timer here.
        """
        journal, now = self._journal, self._kernel.now
        # The server counts whole milliseconds: rounded up, so that no timer is early. The inner rounding takes away
        # what floats of 1.7e9 seconds cannot hold, or 60 s would be 60_001 ms now and then.
        duration_ms = max(1, math.ceil(round(min((due - now) * 1000, _LONGEST_MS), 2)))
        index = journal.calls(Kind.TIMER)
        recorded = journal.call(Kind.TIMER, f"a timer of {duration_ms} ms")
        if recorded is not None:
            identity = recorded.data.timer_id or ""
        else:
            identity = f"timer-{index}.{journal.salt}"
            journal.commands.append(StartTimer(identity, duration_ms))
        timer = Timer(identity, now, max(due, now + duration_ms / 1000), journal.activation, scope, fire)
        self._timers[identity] = timer
        return timer

    def cancel(self, token: object) -> None:
        """The program has left a timer.

        One of an earlier activation is cancelled by the next submission, when the decision stands in history: a fork
        that does not come to count can then have cancelled nothing.
        """
        assert isinstance(token, Timer)
        if token.fired or not token.wanted:
            return
        token.wanted = False
        if token.activation < self._journal.activation:
            self.doomed[token.id] = self._journal.activation
        elif self._journal.live:
            self._journal.commands.append(CancelTimer(token.id))

    def get(self, identity: str) -> Timer | None:
        """The timer with this id, if the program has started it."""
        return self._timers.get(identity)

    def awaited(self) -> list[Timer]:
        """The timers that the program waits for, in the order in which they were started."""
        return [timer for timer in self._timers.values() if timer.wanted]

    def forget(self, identity: str) -> None:
        """Drop a timer that nothing can name any more."""
        self._timers.pop(identity, None)
