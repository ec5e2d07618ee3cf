"""When nothing can run: whether time may pass."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

import anyio
import anyio.lowlevel

from flovyn.wire.tally import Tally

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flovyn.server.shell import Shell
    from flovyn.worker import Worker

__all__ = ["Calls", "Counted", "Requests", "Rest"]

_TURNS: Final = 4
"""So many turns of the loop an answer takes, at most, from the server to the next call of whoever waited for it."""

_BUSY_TURNS: Final = 100
"""So many turns something runs before it is looked at less often."""

_SHORTEST, _LONGEST = 0.0005, 0.02


class Calls(Protocol):
    """How many calls there are."""

    @property
    def active_calls(self) -> int: ...

    @property
    def calls_started(self) -> int: ...


class Counted(Protocol):
    """A channel that counts its calls."""

    def statistics(self) -> Calls:
        """What it is doing and has done."""
        ...


class Requests:
    """Counts requests to the REST interface."""

    def __init__(self) -> None:
        self.tally: Tally = Tally()

    @property
    def active_calls(self) -> int:
        return self.tally.active

    @property
    def calls_started(self) -> int:
        return self.tally.started

    def statistics(self) -> Calls:
        """What is under way and has been."""
        return self


class Rest:
    """Knows when nothing can run.

    That is so if every call of the environment's channels is a poll that waits for work (or listens for news of it), if
    none of these has been woken, if the server has nothing left to write, if no worker holds any work, if the
    environment's worker polls for all that it can do, and if every task of the event loop waits for something.

    Args:
        shell: The server.
        channels: Every channel to it, as they are opened.
    """

    def __init__(self, shell: Shell, channels: Sequence[Counted]) -> None:
        self._shell = shell
        self._channels = channels
        self._worker: Worker | None = None
        self._polls = 0

    def watch(self, worker: Worker, polls: int) -> None:
        """Take this worker for busy unless so many of its polls are open."""
        self._worker = worker
        self._polls = polls

    async def reached(self, *, with_work: bool) -> None:
        """Wait until nothing can run.

        Args:
            with_work: Whether work that a worker holds counts as running.
        """
        turns, pause = 0, _SHORTEST
        while not await self._is_reached(with_work=with_work):
            turns += 1
            if turns > _BUSY_TURNS:
                await anyio.sleep(pause)
                pause = min(pause * 2, _LONGEST)

    async def _is_reached(self, *, with_work: bool) -> bool:
        for _ in range(_TURNS):
            if not self._is_quiet(with_work=with_work):
                await anyio.lowlevel.checkpoint()
                return False
            await anyio.lowlevel.checkpoint()
        before = self._calls()
        await anyio.wait_all_tasks_blocked()
        return before == self._calls() and self._is_quiet(with_work=with_work)

    def _is_quiet(self, *, with_work: bool) -> bool:
        shell = self._shell
        parked = len(shell.waiters) + len(shell.news) + len(shell.endings)
        if not shell.rests or sum(channel.statistics().active_calls for channel in self._channels) > parked:
            return False
        if not with_work:
            return True
        return self._is_worker_idle() and not any(claim.link for claim in shell.engine.core.leases.claims())

    def _is_worker_idle(self) -> bool:
        if self._worker is None:
            return True
        now = self._worker.statistics()
        if not now.internal_tasks:  # it has ended
            return True
        return now.open_polls >= self._polls and not now.running_workflows and not now.running_tasks

    def _calls(self) -> int:
        return sum(channel.statistics().calls_started for channel in self._channels)
