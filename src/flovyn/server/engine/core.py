"""What all parts of the engine share: the store, the clock, the source of ids, and what became ready."""

from __future__ import annotations

import math
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from flovyn.server.engine.leases import Leases
    from flovyn.server.store import Store
    from flovyn.server.store.workers import Of

__all__ = ["Caller", "Core", "Ready"]


@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes a call.

    Attributes:
        org_id: The organisation that its token belongs to.
        link: The connection it came over; a number that this server never uses twice.
        claim: The fencing token that it echoes, if any.
    """

    org_id: str
    link: int
    claim: str | None = None


@dataclass(frozen=True, slots=True)
class Ready:
    """One piece of work that a poller could have now."""

    of: Of
    org_id: str
    queue: str
    kind: str


class Core:
    """The engine's surroundings, all of them handed in.

    Args:
        store: Where everything is kept.
        clock: The time in epoch milliseconds; it never goes backwards.
        new_id: A fresh lower-case UUID with each call.
        leases: Who holds what.
    """

    def __init__(self, store: Store, *, clock: Callable[[], int], new_id: Callable[[], str], leases: Leases) -> None:
        self.store = store
        self.clock = clock
        self.new_id = new_id
        self.leases = leases
        self.due_at: float = math.inf
        self._ready: list[Ready] = []
        self._ended: list[str] = []
        self._released: list[str] = []

    @contextmanager
    def transaction(self) -> Generator[None]:
        """All changes inside happen together; what became ready, ended or was released counts only if they did."""
        before, ended_before = len(self._ready), len(self._ended)
        self._released.clear()
        try:
            with self.store.transaction():
                yield
        except BaseException:
            del self._ready[before:]
            del self._ended[ended_before:]
            raise
        for token in self._released:
            self.leases.release(token)

    def release(self, token: str | None) -> None:
        """Let go of a claim, once the transaction is written."""
        if token is not None:
            self._released.append(token)

    def make_ready(self, of: Of, org_id: str, queue: str, kind: str) -> None:
        """Say that a piece of work can be polled."""
        self._ready.append(Ready(of, org_id, queue, kind))

    def take_ready(self) -> list[Ready]:
        """What became ready since this was last asked, in order."""
        ready, self._ready = self._ready, []
        return ready

    def tell_end(self, run_id: str) -> None:
        """Say that a run has ended."""
        self._ended.append(run_id)

    def take_ended(self) -> list[str]:
        """The runs that have ended since this was last asked, in order."""
        ended, self._ended = self._ended, []
        return ended

    def due(self, at: int) -> None:
        """Say that the time of something comes at this moment."""
        self.due_at = min(self.due_at, at)
