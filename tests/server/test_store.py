"""Opening files: ours, nobody's, somebody else's, a newer one, one in use."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from flovyn.errors import ConfigurationError, ServerUnavailable
from flovyn.server.store import Store, schema
from flovyn.server.store.keys import Target
from flovyn.server.store.listing import Window, Wish
from server.world import TIMEOUT_MS, World, suspend


def pragma(path: Path, name: str) -> Any:
    connection = sqlite3.connect(path)
    try:
        return connection.execute(f"PRAGMA {name}").fetchone()[0]
    finally:
        connection.close()


def refusal(path: Path | str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        Store(str(path))
    return caught.value.message


def test_a_new_file_gets_the_schema_and_our_mark(tmp_path: Path) -> None:
    path = tmp_path / "new.db"
    Store(str(path)).close()
    assert pragma(path, "user_version") == len(schema.MIGRATIONS)
    assert pragma(path, "application_id") == schema.APPLICATION_ID
    assert pragma(path, "journal_mode") == "wal"
    Store(str(path)).close()


@pytest.mark.parametrize(("durability", "synchronous"), [("normal", 1), ("full", 2)])
def test_durability_is_sqlites_synchronous(tmp_path: Path, durability: Any, synchronous: int) -> None:
    store = Store(str(tmp_path / "a.db"), durability=durability)
    assert store.database.connection.execute("PRAGMA synchronous").fetchone() == (synchronous,)
    store.close()


def test_another_durability_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="durability 'some' is neither 'normal' nor 'full'"):
        Store(":memory:", durability="some")  # type: ignore[arg-type]


def test_a_newer_schema_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "newer.db"
    Store(str(path)).close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    assert f"was written by a newer Flovyn (schema 99, this one knows {len(schema.MIGRATIONS)})" in refusal(path)
    assert pragma(path, "user_version") == 99


def test_a_migration_that_fails_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "old.db"
    Store(str(path)).close()
    broken = (*schema.MIGRATIONS, "CREATE TABLE added (x); CREATE TABLE run (x)")
    monkeypatch.setattr("flovyn.server.store.database.MIGRATIONS", broken)
    assert "table run already exists" in refusal(path)
    assert pragma(path, "user_version") == len(schema.MIGRATIONS)
    fixed = (*schema.MIGRATIONS, "CREATE TABLE added (x)")
    monkeypatch.setattr("flovyn.server.store.database.MIGRATIONS", fixed)
    Store(str(path)).close()
    assert pragma(path, "user_version") == len(fixed)


def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("shopping: milk, eggs\n" * 100)
    assert f"{str(path)!r} is not a database" in refusal(path)
    assert path.read_text().startswith("shopping")


def test_the_database_of_another_program_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE cookies (x)")
    connection.close()
    assert "is a SQLite file of another program" in refusal(path)
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("cookies",)]
    connection.close()


def test_a_place_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    assert "cannot open the database file" in refusal(tmp_path / "missing" / "a.db")
    assert "cannot open the database file" in refusal(tmp_path)


def test_a_file_that_another_server_uses_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flovyn.server.limits.LOCKED_FILE_WAIT_S", 0.05)
    path = tmp_path / "shared.db"
    script = f"from flovyn.server.store import Store; s = Store({str(path)!r}); print('open', flush=True); input()"
    other = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == b"open\n"
        assert "is in use by another process" in refusal(path)
    finally:
        other.kill()
        other.communicate()
    Store(str(path)).close()


def test_a_transaction_that_fails_takes_its_announcements_with_it() -> None:
    world = World()
    with pytest.raises(KeyError), world.engine.core.transaction():
        world.engine.core.make_ready("task", "o", "q", "k")
        world.store.keys.put("o", "k", Target("workflow", "r"), 1)
        raise KeyError
    assert world.engine.take_ready() == []
    assert world.store.keys.find("o", "k", 0) is None


def test_sequence_numbers_are_unique() -> None:
    world = World()
    run = world.start()
    row = world.store.runs.find(run)
    assert row is not None
    events = world.store.runs.events(row.n)
    with pytest.raises(sqlite3.IntegrityError), world.engine.core.transaction():
        world.store.runs.append(row.n, events)


def test_a_full_disk_is_said_and_loses_nothing(tmp_path: Path) -> None:
    world = World(str(tmp_path / "small.db"))
    kept = world.start()
    assert world.claim() is not None
    world.store.database.connection.execute("PRAGMA max_page_count = 1")  # SQLite allows no less than it has
    with pytest.raises(ServerUnavailable, match="cannot write to its database at the moment: .* full"):
        world.start(payload=b'"' + b"x" * 100_000 + b'"')
    world.sound()
    world.store.database.connection.execute("PRAGMA max_page_count = 100000")
    assert world.status(world.start()) == "PENDING"
    world.advance(TIMEOUT_MS)
    assert world.status(kept) == "PENDING"
    world.store.close()


def test_a_report_that_could_not_be_written_leaves_the_claim_to_whoever_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    run = world.start()
    claimed = world.claim()
    assert claimed is not None

    def save(_: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    with monkeypatch.context() as broken:
        broken.setattr(world.store.runs, "save", save)
        with pytest.raises(ServerUnavailable, match="disk I/O error"):
            world.submit(run, suspend(), claim=claimed[1])
    world.start()
    world.sound()
    world.submit(run, suspend(), claim=claimed[1])
    assert world.types(run) == ["WORKFLOW_STARTED", "WORKFLOW_SUSPENDED"]
    world.sound()


def test_what_could_not_be_freed_is_freed_later(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    run = world.start()
    assert world.claim() is not None

    def save(_: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    with monkeypatch.context() as broken:
        broken.setattr(world.store.runs, "save", save)
        world.now += TIMEOUT_MS
        with pytest.raises(ServerUnavailable, match="disk I/O error"):
            world.engine.tick()
    assert world.engine.next_at <= world.now
    world.sound()
    world.engine.tick()
    assert world.status(run) == "PENDING"
    world.sound()


def test_a_file_of_the_second_schema_is_migrated_with_all_that_is_in_it(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    connection = sqlite3.connect(path)
    for migration in schema.MIGRATIONS[:2]:
        connection.executescript(migration)
    connection.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
    connection.executescript("""
        PRAGMA user_version = 2;
        INSERT INTO run (id, org_id, kind, queue, priority_ms, created_at, position, status, sequence,
            external_sequence, claim_sequence, contested) VALUES ('r', 'o', 'k', 'q', 0, 1, 1, 'WAITING', 0, 0, 0, 0);
        INSERT INTO task (id, org_id, kind, queue, created_at, position, max_retries, status, execution_count,
            contested) VALUES ('t', 'o', 'k', 'q', 1, 1, 3, 'PENDING', 0, 0);
        INSERT INTO worker VALUES ('w', 'o', 'name', '1', 'TASK', 'h', 'p', 1, 2);
    """)
    connection.close()
    store = Store(str(path))
    assert pragma_of(store, "user_version") == len(schema.MIGRATIONS)
    (task,), (listed,) = store.listing.tasks("o", Wish(), Window(9)), store.listing.runs("o", Wish(), Window(9))
    assert (task.id, task.scheduled_at, listed.id, listed.cancel_due_at) == ("t", None, "r", None)
    worker = store.workers.find("o", "name")
    assert worker is not None
    assert (worker.seen_at, worker.team_id, worker.metadata) == (2, None, None)
    store.close()


def pragma_of(store: Store, name: str) -> Any:
    return store.database.connection.execute(f"PRAGMA {name}").fetchone()[0]
