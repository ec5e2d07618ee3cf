"""What a worker is doing right now, in numbers that are all zero when it is gone."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Generator

__all__ = ["Gauges", "WorkerStatistics"]

Gauge = Literal["running_workflows", "running_tasks", "open_polls", "internal_tasks"]


@dataclass(frozen=True, slots=True)
class WorkerStatistics:
    """A moment of a worker.

    Attributes:
        running_workflows: Activations of workflows under way.
        running_tasks: Tasks under way, until their outcome is reported.
        open_polls: Polls that wait for the server's answer.
        internal_tasks: Tasks of the worker itself: pollers, heartbeats, watchdogs.
        abandoned_tasks: Tasks that were abandoned and whose body runs still. One in a thread may outlive the worker.
    """

    running_workflows: int
    running_tasks: int
    open_polls: int
    internal_tasks: int
    abandoned_tasks: int = 0


class Gauges:
    """The live numbers behind `WorkerStatistics`."""

    __slots__ = ("_values",)

    def __init__(self) -> None:
        self._values: dict[Gauge, int] = {
            "running_workflows": 0,
            "running_tasks": 0,
            "open_polls": 0,
            "internal_tasks": 0,
        }

    def add(self, gauge: Gauge, change: int) -> None:
        """Move a gauge, for what does not end where it began."""
        self._values[gauge] += change

    @contextmanager
    def count(self, gauge: Gauge) -> Generator[None]:
        """Raise a gauge by one for the length of a block."""
        self.add(gauge, 1)
        try:
            yield
        finally:
            self.add(gauge, -1)

    def read(self, *, abandoned_tasks: int) -> WorkerStatistics:
        """The numbers of this moment."""
        return WorkerStatistics(**self._values, abandoned_tasks=abandoned_tasks)
