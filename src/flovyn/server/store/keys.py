"""Idempotency keys: a name that a caller gave to a start, so that repeating the start finds the first one."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3

__all__ = ["Keys"]


class Keys:
    """The table of idempotency keys, unique within an organisation."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._execute = connection.execute

    def find(self, org_id: str, key: str, now: int) -> str | None:
        """The run that an unexpired key stands for."""
        row = self._execute(
            "SELECT run_id FROM idempotency_key WHERE org_id = ? AND key = ? AND expires_at > ?", (org_id, key, now)
        ).fetchone()
        return None if row is None else row[0]

    def put(self, org_id: str, key: str, run_id: str, expires_at: int) -> None:
        """Let the key stand for this run, whatever it stood for before."""
        self._execute("INSERT OR REPLACE INTO idempotency_key VALUES (?, ?, ?, ?)", (org_id, key, run_id, expires_at))

    def drop_run(self, run_id: str) -> None:
        """Forget every key of a run."""
        self._execute("DELETE FROM idempotency_key WHERE run_id = ?", (run_id,))

    def purge(self, now: int) -> None:
        """Forget every expired key."""
        self._execute("DELETE FROM idempotency_key WHERE expires_at <= ?", (now,))
