"""What workers said about the kinds that they can do. It outlives the workers; each version of a kind has a row."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

    from flovyn.server.store.listing import Window
    from flovyn.server.store.workers import Of

__all__ = ["DefinitionRow", "Definitions"]


@dataclass(frozen=True, slots=True)
class DefinitionRow:
    """One version of a kind, as the latest worker that registered it described it.

    Attributes:
        of: A workflow or a task.
        version: Empty for tasks, which have none.
        tags: A JSON array of texts.
        retry_policy: JSON, if the worker sent any.
        metadata: What else the worker sent, if anything; mostly JSON.
        input_schema: A JSON Schema, if the worker sent one.
        output_schema: Likewise.
        created_at: Epoch milliseconds of the first registration.
        registered_at: Epoch milliseconds of the latest one.
    """

    org_id: str
    of: Of
    kind: str
    version: str
    name: str
    description: str
    timeout_seconds: int | None
    cancellable: int
    tags: bytes
    retry_policy: bytes | None
    metadata: bytes | None
    content_hash: str
    input_schema: bytes | None
    output_schema: bytes | None
    created_at: int
    registered_at: int


class Definitions:
    """The table of definitions."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._execute = connection.execute
        self._executemany = connection.executemany

    def put(self, definitions: Iterable[DefinitionRow]) -> None:
        """Insert them, or replace what an earlier registration said."""
        self._executemany(
            "INSERT INTO definition VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
            "name = excluded.name, description = excluded.description, timeout_seconds = excluded.timeout_seconds, "
            "cancellable = excluded.cancellable, tags = excluded.tags, retry_policy = excluded.retry_policy, "
            "metadata = excluded.metadata, content_hash = excluded.content_hash, input_schema = excluded.input_schema, "
            "output_schema = excluded.output_schema, registered_at = excluded.registered_at",
            [astuple(definition) for definition in definitions],
        )

    def versions(self, org_id: str, of: Of, kind: str) -> list[DefinitionRow]:
        """Every version of a kind, the latest registration first."""
        rows = self._execute(
            "SELECT * FROM definition WHERE org_id = ? AND of = ? AND kind = ? "
            "ORDER BY registered_at DESC, version DESC",
            (org_id, of, kind),
        )
        return [DefinitionRow(*row) for row in rows]

    def kinds(self, org_id: str, of: Of, window: Window) -> list[str]:
        """A page of the kinds, in alphabetical order."""
        query = "SELECT DISTINCT kind FROM definition WHERE org_id = ? AND of = ? ORDER BY kind LIMIT ? OFFSET ?"
        return [row[0] for row in self._execute(query, (org_id, of, *window))]

    def kind_count(self, org_id: str, of: Of) -> int:
        """How many kinds there are on all pages."""
        query = "SELECT COUNT(DISTINCT kind) FROM definition WHERE org_id = ? AND of = ?"
        row: tuple[int] = self._execute(query, (org_id, of)).fetchone()
        return row[0]
