"""Pages of long tables, the newest row first.

The indices that these queries name hold every column that is filtered by, so a page, and the count beside it, reads
only the index of one organisation however rare what is looked for is: some five milliseconds for 100 000 executions.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from flovyn.server.store.notes import LogLine
from flovyn.server.store.runs import RunRow
from flovyn.server.store.tasks import AttemptRow, TaskRow

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

__all__ = ["Listing", "Window", "Wish"]


class Window(NamedTuple):
    """Which part of a list."""

    limit: int
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Wish:
    """Which executions.

    Attributes:
        kind: Of this kind only.
        statuses: In one of these statuses only; empty means any.
        queue: Of this queue only.
    """

    kind: str | None = None
    statuses: Sequence[str] = ()
    queue: str | None = None

    def values(self, org_id: str) -> dict[str, str | None]:
        """The values of `_WANTED`."""
        statuses = json.dumps(list(self.statuses)) if self.statuses else None
        return {"org_id": org_id, "kind": self.kind, "queue": self.queue, "statuses": statuses}


_WANTED: Final = """
    org_id = :org_id AND (:kind IS NULL OR kind = :kind) AND (:queue IS NULL OR queue = :queue)
    AND (:statuses IS NULL OR status IN (SELECT value FROM json_each(:statuses)))
"""
_RUNS: Final = f"FROM run INDEXED BY run_listed WHERE {_WANTED}"
_TASKS: Final = f"FROM task INDEXED BY task_listed WHERE run IS NULL AND {_WANTED}"
_PAGE: Final = "ORDER BY n DESC LIMIT :limit OFFSET :offset"


class Listing:
    """Reads pages of runs and tasks."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._execute = connection.execute

    # --- runs -------------------------------------------------------------------------------

    def runs(self, org_id: str, wish: Wish, window: Window) -> list[RunRow]:
        """A page of the runs."""
        page = f"SELECT n AS listed {_RUNS} {_PAGE}"
        query = f"SELECT run.* FROM ({page}) JOIN run ON run.n = listed ORDER BY listed DESC"  # noqa: S608 - constants
        rows = self._execute(query, wish.values(org_id) | window._asdict())
        return [RunRow(*row) for row in rows]

    def run_count(self, org_id: str, wish: Wish) -> int:
        """How many runs there are on all pages."""
        return self._count(f"SELECT COUNT(*) {_RUNS}", wish.values(org_id))

    def children(self, parent: int, window: Window) -> list[RunRow]:
        """A page of a run's children, the oldest first."""
        rows = self._execute("SELECT * FROM run WHERE parent = ? ORDER BY n LIMIT ? OFFSET ?", (parent, *window))
        return [RunRow(*row) for row in rows]

    def child_count(self, parent: int) -> int:
        """How many children there are on all pages."""
        return self._count("SELECT COUNT(*) FROM run WHERE parent = ?", (parent,))

    # --- tasks ------------------------------------------------------------------------------

    def tasks(self, org_id: str, wish: Wish, window: Window) -> list[TaskRow]:
        """A page of the tasks that stand alone."""
        page = f"SELECT n AS listed {_TASKS} {_PAGE}"
        query = f"SELECT task.* FROM ({page}) JOIN task ON task.n = listed ORDER BY listed DESC"  # noqa: S608 - constants
        rows = self._execute(query, wish.values(org_id) | window._asdict())
        return [TaskRow(*row) for row in rows]

    def task_count(self, org_id: str, wish: Wish) -> int:
        """How many tasks there are on all pages."""
        return self._count(f"SELECT COUNT(*) {_TASKS}", wish.values(org_id))

    def tasks_of_run(self, run: int, window: Window) -> list[TaskRow]:
        """A page of the tasks of a run, the oldest first."""
        rows = self._execute("SELECT * FROM task WHERE run = ? ORDER BY n LIMIT ? OFFSET ?", (run, *window))
        return [TaskRow(*row) for row in rows]

    def task_of_run_count(self, run: int) -> int:
        """How many tasks of a run there are on all pages."""
        return self._count("SELECT COUNT(*) FROM task WHERE run = ?", (run,))

    def attempts(self, task: int, window: Window) -> list[AttemptRow]:
        """A page of a task's finished attempts, the oldest first."""
        query = "SELECT * FROM attempt WHERE task = ? ORDER BY attempt LIMIT ? OFFSET ?"
        return [AttemptRow(*row) for row in self._execute(query, (task, *window))]

    def attempt_count(self, task: int) -> int:
        """How many finished attempts there are on all pages."""
        return self._count("SELECT COUNT(*) FROM attempt WHERE task = ?", (task,))

    def log_lines(self, task: int, window: Window) -> list[LogLine]:
        """A page of what a task logged, the oldest line first."""
        query = "SELECT number, at, level, message FROM task_log WHERE task = ? ORDER BY number LIMIT ? OFFSET ?"
        return [LogLine(*row) for row in self._execute(query, (task, *window))]

    def log_line_count(self, task: int) -> int:
        """How many lines of a task are kept."""
        return self._count("SELECT COUNT(*) FROM task_log WHERE task = ?", (task,))

    def _count(self, query: str, values: dict[str, str | None] | tuple[int]) -> int:
        row: tuple[int] = self._execute(query, values).fetchone()
        return row[0]
