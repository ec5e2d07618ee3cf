"""The organisations that this server serves, or has served."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3

__all__ = ["OrgRow", "Orgs"]


@dataclass(frozen=True, slots=True)
class OrgRow:
    """One organisation.

    Attributes:
        id: Its UUID.
        slug: Its short name, for addresses.
        name: Its name, for people.
        tier: What the platform's configuration calls its plan; decides nothing here.
        created_at: Epoch milliseconds of when this server heard of it first.
    """

    id: str
    slug: str
    name: str
    tier: str
    created_at: int


class Orgs:
    """The table of organisations."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._execute = connection.execute

    def put(self, org: OrgRow) -> None:
        """Insert it, or give the one of its id the new names; whoever had its slug before loses it."""
        self._execute("UPDATE org SET slug = id WHERE slug = ? AND id != ?", (org.slug, org.id))
        self._execute(
            "INSERT INTO org VALUES (?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET "
            "slug = excluded.slug, name = excluded.name, tier = excluded.tier",
            (org.id, org.slug, org.name, org.tier, org.created_at),
        )

    def find(self, org_id: str) -> OrgRow | None:
        """The organisation of that id."""
        row = self._execute("SELECT * FROM org WHERE id = ?", (org_id,)).fetchone()
        return None if row is None else OrgRow(*row)
