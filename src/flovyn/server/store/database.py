"""Opening the file, its schema, and transactions."""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal, get_args

from flovyn.errors import ConfigurationError
from flovyn.server import limits
from flovyn.server.store.schema import APPLICATION_ID, MIGRATIONS

if TYPE_CHECKING:
    from collections.abc import Generator

__all__ = ["Database", "Durability"]

Durability = Literal["normal", "full"]

_CACHED_STATEMENTS = 256


class Database:
    """One connection, for one thread, that owns its file for as long as it is open.

    Args:
        path: The file, created if there is none, or ``:memory:``.
        durability: ``normal``: a commit survives the death of this process but perhaps not that of the machine;
            ``full``: every commit waits for the disk.

    Raises:
        ConfigurationError: The file cannot be opened, is in use, is no database of ours or of a newer schema.
    """

    def __init__(self, path: str, *, durability: Durability = "normal") -> None:
        if durability not in get_args(Durability):
            raise ConfigurationError(f"durability {durability!r} is neither 'normal' nor 'full'")
        if not path:  # SQLite would take a file that it deletes
            raise ConfigurationError("a server needs a database file; `:memory:` keeps nothing")
        self.path = path
        try:
            self.connection: sqlite3.Connection = sqlite3.connect(
                path, isolation_level=None, timeout=limits.LOCKED_FILE_WAIT_S, cached_statements=_CACHED_STATEMENTS
            )
        except (sqlite3.Error, ValueError) as error:  # the latter for a name that no file can have
            raise ConfigurationError(f"cannot open the database file {path!r}: {error}") from error
        try:
            self._prepare(durability)
        except sqlite3.Error as error:
            self.connection.close()
            raise ConfigurationError(_explain(path, error)) from error
        except ConfigurationError:
            self.connection.close()
            raise

    def _prepare(self, durability: Durability) -> None:
        execute = self.connection.execute
        # The leases are in memory, so two servers on one file would hand out the same work: the file is locked whole.
        execute("PRAGMA locking_mode = EXCLUSIVE")
        version: int = execute("PRAGMA user_version").fetchone()[0]
        self._refuse_foreign(version)
        execute("PRAGMA journal_mode = WAL")
        self._refuse_damaged()
        execute(f"PRAGMA synchronous = {'FULL' if durability == 'full' else 'NORMAL'}")
        with self.transaction():
            for number, migration in enumerate(MIGRATIONS[version:], start=version + 1):
                for statement in migration.split(";"):
                    execute(statement)
                execute(f"PRAGMA user_version = {number}")
            execute(f"PRAGMA application_id = {APPLICATION_ID}")

    def _refuse_foreign(self, version: int) -> None:
        execute = self.connection.execute
        application: int = execute("PRAGMA application_id").fetchone()[0]
        has_tables = execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone() is not None
        if has_tables and application != APPLICATION_ID:
            raise ConfigurationError(
                f"{self.path!r} is a SQLite file of another program; name a new file, or one that a Flovyn server wrote"
            )
        if version > len(MIGRATIONS):
            raise ConfigurationError(
                f"{self.path!r} was written by a newer Flovyn (schema {version}, this one knows {len(MIGRATIONS)}); "
                "upgrade flovyn, or name another file"
            )

    def _refuse_damaged(self) -> None:
        # A second for each gigabyte or so: cheap beside what comes of going on with half a file.
        (said,) = self.connection.execute("PRAGMA quick_check(1)").fetchone()
        if said != "ok":
            raise ConfigurationError(_damaged(self.path, said))

    @contextmanager
    def transaction(self) -> Generator[None]:
        """Everything inside is written together, or not at all if an exception leaves the block."""
        execute = self.connection.execute
        execute("BEGIN IMMEDIATE")
        try:
            yield
            execute("COMMIT")
        except BaseException:
            self.roll_back()
            raise

    @contextmanager
    def step(self) -> Generator[None]:
        """A part of the transaction that is open: it can fail and leave the rest as it was."""
        execute = self.connection.execute
        execute("SAVEPOINT step")
        try:
            yield
            execute("RELEASE step")
        except BaseException:
            if self.connection.in_transaction:  # a full disk makes SQLite roll back all of it by itself
                execute("ROLLBACK TO step")
                execute("RELEASE step")
            raise

    def roll_back(self) -> None:
        """Undo the transaction that is open, if SQLite has not done so."""
        if self.connection.in_transaction:
            self.connection.execute("ROLLBACK")

    def close(self) -> None:
        """Write the log back into the file and let go of it."""
        self.connection.close()


def _explain(path: str, error: sqlite3.Error) -> str:
    if error.sqlite_errorname in {"SQLITE_BUSY", "SQLITE_LOCKED"}:
        return f"the database file {path!r} is in use by another process; stop that server, or name another file"
    if error.sqlite_errorname == "SQLITE_NOTADB":
        return f"{path!r} is not a database: {error}"
    if error.sqlite_errorname.startswith("SQLITE_CORRUPT"):
        return _damaged(path, error)
    return f"cannot use the database file {path!r}: {error}"


def _damaged(path: str, what: object) -> str:
    return f"the database file {path!r} is damaged ({what}); restore it from a copy, or name another file"
