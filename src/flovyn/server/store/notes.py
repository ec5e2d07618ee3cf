"""What task bodies write down while they run: state that survives retries, progress, and log lines."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import sqlite3

__all__ = ["LogLine", "Notes", "Progress"]


class Progress(NamedTuple):
    """How far a task says it is, from 0 to 1."""

    progress: float
    details: str
    at: int


class LogLine(NamedTuple):
    """One line that a task logged; lines are numbered from 1, also when the oldest are gone."""

    number: int
    at: int
    level: str
    message: str


class Notes:
    """The tables of task state, progress and logs, all by the task's number."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._execute = connection.execute

    # --- state ------------------------------------------------------------------------------

    def get(self, task: int, key: str) -> bytes | None:
        """The value of a key."""
        row = self._execute("SELECT value FROM task_state WHERE task = ? AND key = ?", (task, key)).fetchone()
        return None if row is None else row[0]

    def put(self, task: int, key: str, value: bytes) -> None:
        """Set a key."""
        self._execute("INSERT OR REPLACE INTO task_state VALUES (?, ?, ?)", (task, key, value))

    def drop(self, task: int, key: str) -> None:
        """Forget a key."""
        self._execute("DELETE FROM task_state WHERE task = ? AND key = ?", (task, key))

    def drop_all(self, task: int) -> None:
        """Forget every key."""
        self._execute("DELETE FROM task_state WHERE task = ?", (task,))

    def keys(self, task: int) -> list[str]:
        """The keys, in order."""
        rows = self._execute("SELECT key FROM task_state WHERE task = ? ORDER BY key", (task,))
        return [row[0] for row in rows]

    # --- progress and logs ------------------------------------------------------------------

    def put_progress(self, task: int, progress: Progress) -> None:
        """Remember how far a task is, in place of what it said before."""
        self._execute("INSERT OR REPLACE INTO task_progress VALUES (?, ?, ?, ?)", (task, *progress))

    def progress(self, task: int) -> Progress | None:
        """How far a task said it is, if it did."""
        row = self._execute("SELECT progress, details, at FROM task_progress WHERE task = ?", (task,)).fetchone()
        return None if row is None else Progress(*row)

    def log(self, task: int, at: int, level: str, message: str, *, keep: int) -> None:
        """Add a line, and let go of the oldest one if there are more than so many."""
        last = self._execute("SELECT MAX(number) FROM task_log WHERE task = ?", (task,)).fetchone()[0] or 0
        self._execute("INSERT INTO task_log VALUES (?, ?, ?, ?, ?)", (task, last + 1, at, level, message))
        self._execute("DELETE FROM task_log WHERE task = ? AND number <= ?", (task, last + 1 - keep))

    def lines(self, task: int) -> list[LogLine]:
        """What a task logged, in order."""
        rows = self._execute("SELECT number, at, level, message FROM task_log WHERE task = ? ORDER BY number", (task,))
        return [LogLine(*row) for row in rows]
