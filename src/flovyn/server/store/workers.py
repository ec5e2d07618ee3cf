"""Registered workers and what they can do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

    from flovyn.server.store.listing import Window

__all__ = ["Of", "WorkerRow", "Workers"]

Of = Literal["workflow", "task"]


@dataclass(frozen=True, slots=True)
class WorkerRow:
    """One registered worker.

    Attributes:
        id: The UUID that the server gave it.
        name: The name under which it registered, unique within its organisation.
        host: Where it runs, as it says.
        process: Its process there, as it says.
        registered_at: Epoch milliseconds of the last registration.
        seen_at: Epoch milliseconds of the last registration or heartbeat.
        team_id: The team that it says it belongs to.
        metadata: What else it says about itself, if anything; mostly JSON.
    """

    id: str
    org_id: str
    name: str
    version: str
    type: str
    host: str
    process: str
    registered_at: int
    seen_at: int
    team_id: str | None = None
    metadata: bytes | None = None


class Workers:
    """The tables of workers and their capabilities."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._execute = connection.execute
        self._executemany = connection.executemany

    def find(self, org_id: str, name_or_id: str) -> WorkerRow | None:
        """The worker of that name, or of that UUID: the official workers poll under either."""
        row = self._execute("SELECT * FROM worker WHERE org_id = ? AND name = ?", (org_id, name_or_id)).fetchone()
        if row is None:
            row = self._execute("SELECT * FROM worker WHERE id = ? AND org_id = ?", (name_or_id, org_id)).fetchone()
        return None if row is None else WorkerRow(*row)

    def put(self, worker: WorkerRow) -> None:
        """Insert the worker, or replace the one of its id."""
        self._execute(
            "INSERT OR REPLACE INTO worker VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                worker.id,
                worker.org_id,
                worker.name,
                worker.version,
                worker.type,
                worker.host,
                worker.process,
                worker.registered_at,
                worker.seen_at,
                worker.team_id,
                worker.metadata,
            ),
        )

    def page(self, org_id: str, window: Window) -> list[WorkerRow]:
        """Some of the workers, by name."""
        query = "SELECT * FROM worker WHERE org_id = ? ORDER BY name LIMIT ? OFFSET ?"
        return [WorkerRow(*row) for row in self._execute(query, (org_id, *window))]

    def count(self, org_id: str) -> int:
        """How many workers there are."""
        row: tuple[int] = self._execute("SELECT COUNT(*) FROM worker WHERE org_id = ?", (org_id,)).fetchone()
        return row[0]

    def seen(self, worker_id: str, now: int) -> None:
        """Remember a heartbeat."""
        self._execute("UPDATE worker SET seen_at = ? WHERE id = ?", (now, worker_id))

    def put_capabilities(self, worker_id: str, capabilities: Iterable[tuple[Of, str, bytes]]) -> None:
        """Replace everything that the worker said it can do by these (of what, kind, metadata)."""
        self._execute("DELETE FROM capability WHERE worker_id = ?", (worker_id,))
        self._executemany(
            "INSERT OR REPLACE INTO capability VALUES (?, ?, ?, ?)",
            [(worker_id, of, kind, metadata) for of, kind, metadata in capabilities],
        )

    def kinds(self, worker_id: str, of: Of) -> tuple[str, ...]:
        """The kinds that the worker registered, in alphabetical order."""
        rows = self._execute(
            "SELECT kind FROM capability WHERE worker_id = ? AND of = ? ORDER BY kind", (worker_id, of)
        ).fetchall()
        return tuple(row[0] for row in rows)

    def metadata_of_kind(self, org_id: str, of: Of, kind: str) -> bytes | None:
        """The metadata with which the latest registration described a kind."""
        row = self._execute(
            "SELECT c.metadata FROM capability c JOIN worker w ON w.id = c.worker_id "
            "WHERE c.kind = ? AND c.of = ? AND w.org_id = ? ORDER BY w.registered_at DESC LIMIT 1",
            (kind, of, org_id),
        ).fetchone()
        return None if row is None else row[0]
