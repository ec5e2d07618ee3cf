"""Promises: what a workflow waits for and somebody outside settles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3

__all__ = ["PromiseRow", "Promises"]


@dataclass(slots=True)
class PromiseRow:
    """One promise.

    Attributes:
        n: Its number in this store.
        id: The UUID by which it is settled.
        run: Number of the run that created it.
        name: What the workflow calls it, unique within the run.
        deadline_at: When it times out, in epoch milliseconds, if ever.
        status: PENDING, RESOLVED, REJECTED, TIMEOUT, or CLOSED once its run has ended without it.
    """

    n: int
    id: str
    org_id: str
    run: int
    name: str
    created_at: int
    deadline_at: int | None
    status: str


class Promises:
    """The table of promises."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._execute = connection.execute

    def insert(self, promise: PromiseRow) -> None:
        """Store a new promise and give it its number."""
        cursor = self._execute(
            "INSERT INTO promise VALUES (NULL, ?, ?, ?, ?, ?, ?, ?)",
            (
                promise.id,
                promise.org_id,
                promise.run,
                promise.name,
                promise.created_at,
                promise.deadline_at,
                promise.status,
            ),
        )
        promise.n = cursor.lastrowid or 0

    def save(self, promise: PromiseRow) -> None:
        """Store what can change of a promise."""
        self._execute("UPDATE promise SET status = ? WHERE n = ?", (promise.status, promise.n))

    def find(self, promise_id: str) -> PromiseRow | None:
        """The promise of that id."""
        return _promise(self._execute("SELECT * FROM promise WHERE id = ?", (promise_id,)).fetchone())

    def named(self, run: int, name: str) -> PromiseRow | None:
        """The run's promise of that name."""
        return _promise(self._execute("SELECT * FROM promise WHERE run = ? AND name = ?", (run, name)).fetchone())

    def overdue(self, now: int, limit: int) -> list[PromiseRow]:
        """The pending promises whose deadline has come, the earliest first."""
        rows = self._execute(
            "SELECT * FROM promise WHERE deadline_at IS NOT NULL AND status = 'PENDING' AND deadline_at <= ? "
            "ORDER BY deadline_at, n LIMIT ?",
            (now, limit),
        )
        return [PromiseRow(*row) for row in rows]

    def next_deadline(self) -> int | None:
        """When the next pending promise times out."""
        row: tuple[int | None] = self._execute(
            "SELECT MIN(deadline_at) FROM promise WHERE deadline_at IS NOT NULL AND status = 'PENDING'"
        ).fetchone()
        return row[0]

    def close_run(self, run: int) -> None:
        """Close what is pending of a run that has ended."""
        self._execute("UPDATE promise SET status = 'CLOSED' WHERE run = ? AND status = 'PENDING'", (run,))

    def reopen_run(self, run: int) -> None:
        """Open again what was closed when its run ended, for the run goes on after all."""
        self._execute("UPDATE promise SET status = 'PENDING' WHERE run = ? AND status = 'CLOSED'", (run,))

    def all(self) -> list[PromiseRow]:
        """Every promise."""
        return [PromiseRow(*row) for row in self._execute("SELECT * FROM promise ORDER BY n")]


def _promise(row: tuple[object, ...] | None) -> PromiseRow | None:
    return None if row is None else PromiseRow(*row)  # type: ignore[arg-type]
