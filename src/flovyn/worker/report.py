"""What became of the work that was under way when a worker ended."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias

__all__ = ["Ledger", "WorkItem", "WorkSort", "WorkerReport"]

WorkSort: TypeAlias = Literal["workflow", "task"]


@dataclass(frozen=True, slots=True)
class WorkItem:
    """A piece of work.

    Attributes:
        sort: Whether it was an activation of a workflow, or a task.
        kind: The kind of the workflow or task.
        id: Its execution id.
        reason: Why it was cut short; None if it was not.
    """

    sort: WorkSort
    kind: str
    id: str
    reason: str | None = None

    def __str__(self) -> str:
        return f"{self.sort} {self.kind} {self.id}" + (f" ({self.reason})" if self.reason else "")


@dataclass(frozen=True, slots=True)
class WorkerReport:
    """What became of the work that was under way when a worker was told to end.

    Attributes:
        finished: What ended by itself, and the server knows how: with a value or an error.
        cancelled: What was cut short, or whose end the server could not be told of; the server gives it to others.
        abandoned: Tasks whose body went on though it was cancelled, each with what happened to it. One in a thread may
            be running still.
    """

    finished: tuple[WorkItem, ...] = ()
    cancelled: tuple[WorkItem, ...] = ()
    abandoned: tuple[WorkItem, ...] = ()

    def __str__(self) -> str:
        parts: list[str] = []
        for name in ("finished", "cancelled", "abandoned"):
            items: tuple[WorkItem, ...] = getattr(self, name)
            listed = f": {', '.join(map(str, items))}" if items and name != "finished" else ""
            parts.append(f"{len(items)} {name}{listed}")
        return "; ".join(parts)


class Body(Protocol):
    """A body that was abandoned."""

    @property
    def is_running(self) -> bool:
        """Whether it is running still."""
        ...


@dataclass(slots=True)
class Ledger:
    """Writes the report. Before the worker is told to end, only bodies that were abandoned are noted."""

    ending: bool = False
    _finished: list[WorkItem] = field(default_factory=list[WorkItem])
    _cancelled: list[WorkItem] = field(default_factory=list[WorkItem])
    _abandoned: list[tuple[Body, WorkItem]] = field(default_factory=list[tuple[Body, WorkItem]])

    def begin(self) -> None:
        """The worker is told to end."""
        if not self.ending:
            self._forget_ended()
            self.ending = True

    def finished(self, item: WorkItem) -> None:
        if self.ending:
            self._finished.append(item)

    def cancelled(self, item: WorkItem) -> None:
        if self.ending:
            self._cancelled.append(item)

    def abandoned(self, body: Body, item: WorkItem) -> None:
        if not self.ending:
            self._forget_ended()  # or the list would grow with the life of the worker
        self._abandoned.append((body, item))

    @property
    def running(self) -> int:
        """How many bodies that were abandoned are running still."""
        return sum(body.is_running for body, _ in self._abandoned)

    def report(self) -> WorkerReport:
        """The report, once nothing is under way any more."""
        items = tuple(item for _, item in self._abandoned)
        return WorkerReport(tuple(self._finished), tuple(self._cancelled), items)

    def _forget_ended(self) -> None:
        self._abandoned = [(body, item) for body, item in self._abandoned if body.is_running]
