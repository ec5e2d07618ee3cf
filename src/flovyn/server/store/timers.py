"""Durable timers. One that has fired or was cancelled keeps its row without a time, so its id is never armed again."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3

__all__ = ["Timers"]


class Timers:
    """The table of timers, by run and the id that the workflow gave."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._execute = connection.execute

    def arm(self, run: int, timer_id: str, fire_at: int) -> bool:
        """Arm a timer; False, and nothing happens, if the run has had one of that id."""
        cursor = self._execute("INSERT OR IGNORE INTO timer VALUES (?, ?, ?)", (run, timer_id, fire_at))
        return cursor.rowcount == 1

    def disarm(self, run: int, timer_id: str) -> bool:
        """Take the time from an armed timer; False if there is none."""
        cursor = self._execute(
            "UPDATE timer SET fire_at = NULL WHERE run = ? AND timer_id = ? AND fire_at IS NOT NULL", (run, timer_id)
        )
        return cursor.rowcount == 1

    def due(self, now: int, limit: int) -> list[tuple[int, str]]:
        """Run and id of the timers whose time has come, the earliest first."""
        return self._execute(
            "SELECT run, timer_id FROM timer WHERE fire_at IS NOT NULL AND fire_at <= ? ORDER BY fire_at LIMIT ?",
            (now, limit),
        ).fetchall()

    def next_due(self) -> int | None:
        """When the next timer fires."""
        return self._execute("SELECT MIN(fire_at) FROM timer WHERE fire_at IS NOT NULL").fetchone()[0]  # type: ignore[no-any-return]

    def forget_run(self, run: int) -> None:
        """Drop all timers of a run that has ended."""
        self._execute("DELETE FROM timer WHERE run = ?", (run,))

    def armed(self) -> list[tuple[int, str]]:
        """Run and id of every armed timer."""
        return self._execute("SELECT run, timer_id FROM timer WHERE fire_at IS NOT NULL").fetchall()
