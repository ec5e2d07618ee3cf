"""The server's memory: one SQLite file, or none at all (`:memory:`).

Statements live here and nowhere else; what they mean is the engine's business.
"""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING

from flovyn.errors import ServerUnavailable
from flovyn.server.store.database import Database, Durability
from flovyn.server.store.definitions import Definitions
from flovyn.server.store.keys import Keys
from flovyn.server.store.listing import Listing
from flovyn.server.store.notes import Notes
from flovyn.server.store.orgs import Orgs
from flovyn.server.store.promises import Promises
from flovyn.server.store.runs import Runs
from flovyn.server.store.tasks import Tasks
from flovyn.server.store.timers import Timers
from flovyn.server.store.workers import Workers

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

__all__ = ["Durability", "Store", "failure"]


def failure(error: sqlite3.Error) -> ServerUnavailable | None:
    """What a caller is told of something that went wrong with the file; None if the fault is in a statement of ours."""
    if isinstance(error, sqlite3.OperationalError):
        return ServerUnavailable(f"the server cannot use its database at the moment: {error}")
    if type(error) is sqlite3.DatabaseError:
        return ServerUnavailable(f"the server's database file is damaged ({error}); it has to be restored from a copy")
    return None


class Store:
    """All tables behind one transaction.

    Args:
        path: The file, created if there is none, or ``:memory:``.
        durability: ``normal`` survives the death of the process, ``full`` the death of the machine.

    Raises:
        ConfigurationError: The file cannot be opened, is in use, is no database of ours or of a newer schema.
    """

    def __init__(self, path: str, *, durability: Durability = "normal") -> None:
        self.database: Database = Database(path, durability=durability)
        connection = self.database.connection
        self.runs: Runs = Runs(connection)
        self.tasks: Tasks = Tasks(connection)
        self.notes: Notes = Notes(connection)
        self.timers: Timers = Timers(connection)
        self.promises: Promises = Promises(connection)
        self.workers: Workers = Workers(connection)
        self.definitions: Definitions = Definitions(connection)
        self.keys: Keys = Keys(connection)
        self.orgs: Orgs = Orgs(connection)
        self.listing: Listing = Listing(connection)
        self._on_begin: Callable[[], None] | None = None
        self._lost: ServerUnavailable | None = None

    def group(self, on_begin: Callable[[], None]) -> None:
        """Write transactions in groups from now on: what one changes is read by all at once, but kept only by `commit`.

        Args:
            on_begin: Called when a group has begun; whoever grouped must `commit` then, soon.
        """
        self._on_begin = on_begin

    @contextmanager
    def transaction(self) -> Generator[None]:
        """Everything inside is written together, or not at all if an exception leaves the block.

        Raises:
            ServerUnavailable: The file cannot be written now, for instance because the disk is full.
        """
        try:
            if self._on_begin is None:
                with self.database.transaction():
                    yield
                return
            if self._lost is not None:
                raise self._lost
            if not self.database.connection.in_transaction:
                self.database.connection.execute("BEGIN IMMEDIATE")
                self._on_begin()
            with self.database.step():
                yield
        except sqlite3.DatabaseError as error:
            refusal = failure(error)
            if refusal is None:
                raise
            if self._on_begin is not None and not self.database.connection.in_transaction:
                self._lost = refusal  # and with it what others did in this group
            raise refusal from error

    def commit(self) -> None:
        """Keep what the group has changed.

        Raises:
            ServerUnavailable: It cannot be written, or was lost before: nothing of the group has happened.
        """
        lost, self._lost = self._lost, None
        if lost is None:
            try:
                self.database.connection.execute("COMMIT")
            except sqlite3.DatabaseError as error:
                self.database.roll_back()
                raise failure(error) or error from error
        else:
            self.database.roll_back()
            raise lost

    def close(self) -> None:
        """Write the log back into the file and let go of it; what was never committed has not happened."""
        self.database.close()
