"""Suspended runs that are kept alive, so that the next activation need not re-enact them. Only speed depends on it."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flovyn.replay import Execution

__all__ = ["Cached", "ExecutionCache"]


@dataclass(frozen=True, slots=True)
class Cached:
    """A run with the bytes of the history that it has applied."""

    execution: Execution
    applied: bytes


class ExecutionCache:
    """A bounded number of runs; the one that was not used for the longest goes first.

    Args:
        size: How many.
    """

    __slots__ = ("_runs", "_size")

    def __init__(self, size: int) -> None:
        self._size = size
        self._runs: OrderedDict[str, Cached] = OrderedDict()

    def take(self, workflow_id: str) -> Cached | None:
        """Take a run out; whoever has it closes it, or puts it back."""
        return self._runs.pop(workflow_id, None)

    def keep(self, workflow_id: str, cached: Cached) -> None:
        """Put a run in; it may push another one out, which is evicted."""
        other = self.take(workflow_id)
        if other is not None:  # this worker was handed the run again before it was done with it
            other.execution.close()
        self._runs[workflow_id] = cached
        while len(self._runs) > self._size:
            self._runs.popitem(last=False)[1].execution.close()

    def close(self) -> None:
        """Evict all."""
        while self._runs:
            self._runs.popitem()[1].execution.close()
