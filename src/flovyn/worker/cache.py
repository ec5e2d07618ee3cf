"""Suspended runs that are kept alive, so that the next activation need not re-enact them. Only speed depends on it."""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NoReturn

import anyio

if TYPE_CHECKING:
    from flovyn.replay import Execution

__all__ = ["Cached", "ExecutionCache"]

_LONGEST_SLEEP: Final = 3_600.0
"""Not every event loop can sleep for an infinite time."""


@dataclass(frozen=True, slots=True)
class Cached:
    """A run with the bytes of the history that it has applied."""

    execution: Execution
    applied: bytes


@dataclass(frozen=True, slots=True)
class _Kept:
    cached: Cached
    since: float


class ExecutionCache:
    """A bounded number of runs, for a bounded time; the one that was not used for the longest goes first.

    Args:
        size: How many.
        age: Seconds that a run is kept without being used.
    """

    __slots__ = ("_age", "_runs", "_size")

    def __init__(self, size: int, *, age: float = math.inf) -> None:
        self._size = size
        self._age = age
        self._runs: OrderedDict[str, _Kept] = OrderedDict()  # in the order in which they were last used

    def take(self, workflow_id: str) -> Cached | None:
        """Take a run out; whoever has it closes it, or puts it back."""
        kept = self._runs.pop(workflow_id, None)
        return None if kept is None else kept.cached

    def keep(self, workflow_id: str, cached: Cached) -> None:
        """Put a run in; it may push another one out, which is evicted."""
        other = self.take(workflow_id)
        if other is not None:  # this worker was handed the run again before it was done with it
            other.execution.close()
        self._runs[workflow_id] = _Kept(cached, anyio.current_time())
        while len(self._runs) > self._size:
            self._evict_oldest()

    async def keep_young(self) -> NoReturn:
        """Evict runs as they get too old, until cancelled."""
        while True:
            seconds = self._expire()
            await anyio.sleep(min(seconds, _LONGEST_SLEEP))

    def close(self) -> None:
        """Evict all."""
        while self._runs:
            self._evict_oldest()

    def _expire(self) -> float:
        """Evict the oldest run if it is too old by now; returns how many seconds to wait before the next look."""
        oldest = next(iter(self._runs.values()), None)
        if oldest is None:
            return self._age
        remaining = oldest.since + self._age - anyio.current_time()
        if remaining <= 0:
            self._evict_oldest()
        return max(0.0, remaining)

    def _evict_oldest(self) -> None:
        self._runs.popitem(last=False)[1].cached.execution.close()
