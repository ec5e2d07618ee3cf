"""Idempotency keys: a name that a caller gave to what it created, so that repeating the call finds the first one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    import sqlite3

__all__ = ["Keys", "Target", "TargetOf"]

TargetOf = Literal["workflow", "task", "promise"]


class Target(NamedTuple):
    """What a key stands for."""

    of: TargetOf
    id: str


class Keys:
    """The table of idempotency keys, unique within an organisation whatever they stand for."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._execute = connection.execute

    def find(self, org_id: str, key: str, now: int) -> Target | None:
        """What an unexpired key stands for."""
        row = self._execute(
            "SELECT of, target_id FROM idempotency_key WHERE org_id = ? AND key = ? AND expires_at > ?",
            (org_id, key, now),
        ).fetchone()
        return None if row is None else Target(*row)

    def put(self, org_id: str, key: str, target: Target, expires_at: int) -> None:
        """Let the key stand for this, whatever it stood for before."""
        self._execute(
            "INSERT OR REPLACE INTO idempotency_key (org_id, key, of, target_id, expires_at) VALUES (?, ?, ?, ?, ?)",
            (org_id, key, target.of, target.id, expires_at),
        )

    def drop(self, target: Target) -> None:
        """Forget every key of something."""
        self._execute("DELETE FROM idempotency_key WHERE target_id = ? AND of = ?", (target.id, target.of))

    def purge(self, now: int) -> None:
        """Forget every expired key."""
        self._execute("DELETE FROM idempotency_key WHERE expires_at <= ?", (now,))

    def all(self) -> list[tuple[str, Target]]:
        """Every key with what it stands for, expired ones too."""
        rows = self._execute("SELECT key, of, target_id FROM idempotency_key")
        return [(key, Target(of, target_id)) for key, of, target_id in rows]
