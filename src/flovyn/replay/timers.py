"""Durable timers: what a sleep or a deadline inside a workflow turns into."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from flovyn.replay.commands import CancelTimer, StartTimer
from flovyn.replay.recordings import Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Container

    from flovyn.nursery.kernel import CancelScope, Kernel
    from flovyn.replay.journal import Journal

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
        fire: What happens in the program when it fires.
        is_exact: Whether `due` is when it really fires; not if a worker without markers started it, at a time that
            history does not tell.
    """

    __slots__ = ("activation", "due", "fire", "id", "is_exact", "scope", "started")

    def __init__(
        self,
        identity: str,
        started: float,
        due: float,
        activation: int,
        scope: CancelScope | None,
        fire: Callable[[], None],
        *,
        is_exact: bool,
    ) -> None:
        self.id: str = identity
        self.started: float = started
        self.due: float = due
        self.activation: int = activation
        self.scope: CancelScope | None = scope
        self.fire: Callable[[], None] = fire
        self.is_exact: bool = is_exact


class DurableTimers:
    """The kernel's timers, kept in history.

    Attributes:
        doomed: Timers of earlier activations that the program has left, by id, with the activation that left them.
    """

    __slots__ = ("_awaited", "_journal", "_kernel", "_left", "doomed")

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._awaited: dict[str, Timer] = {}
        self._left: dict[str, Timer] = {}
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
        is_exact = True
        if recorded is not None:
            identity = recorded.data.timer_id or ""
            is_exact = recorded.sequence > journal.unmarked_end
        else:
            identity = f"timer-{index}.{journal.salt}"
            journal.commands.append(StartTimer(identity, duration_ms))
        due = max(due, now + duration_ms / 1000)
        timer = Timer(identity, now, due, journal.activation, scope, fire, is_exact=is_exact)
        self._awaited[identity] = timer
        return timer

    def cancel(self, token: object) -> None:
        """The program has left a timer.

        One of an earlier activation is cancelled by `reserved_commands`, by this submission or the next one.
        """
        assert isinstance(token, Timer)
        if self._awaited.pop(token.id, None) is None:
            return
        if token.scope is not None:
            self._left[token.id] = token
        if token.activation < self._journal.activation:
            self.doomed[token.id] = self._journal.activation
        elif self._journal.live:
            self._journal.commands.append(CancelTimer(token.id))

    def fire(self, identity: str) -> None:
        """TIMER_FIRED has come; only the first one counts, and only if the program still waits for the timer."""
        timer = self._awaited.pop(identity, None)
        if timer is not None:
            if timer.is_exact:
                self._kernel.now = max(self._kernel.now, timer.due)
            timer.fire()

    def get(self, identity: str) -> Timer | None:
        """The timer with this id, if the program has started it and it was not let go of."""
        return self._awaited.get(identity) or self._left.get(identity)

    def is_awaited(self, identity: str) -> bool:
        """Whether the program waits for the timer with this id."""
        return identity in self._awaited

    def newest(self) -> Timer | None:
        """Of the timers that the program waits for, the one that was started last."""
        return next(reversed(self._awaited.values()), None)

    def awaited(self) -> list[Timer]:
        """The timers that the program waits for, in the order in which they were started."""
        return list(self._awaited.values())

    def let_go(self) -> None:
        """Forget the timers that the program has left: no operation is under way that one of them might end.

        A scope keeps all the timers that its deadline ever had for as long as one is: a record may name any of them.
        """
        self._left.clear()

    def forget_doomed(self, armed: Container[str]) -> None:
        """Those that are armed no longer need no cancelling."""
        if self.doomed:
            self.doomed = {timer: when for timer, when in self.doomed.items() if timer in armed}
