"""Opening files: ours, nobody's, somebody else's, a newer one, one in use."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

import anyio
import msgspec
import pytest

from flovyn.errors import ConfigurationError, ServerUnavailable
from flovyn.server.auth import Key, Keys
from flovyn.server.engine import events
from flovyn.server.shell import Shell
from flovyn.server.store import Store, schema
from flovyn.server.store.keys import Target
from flovyn.server.store.listing import Window, Wish
from flovyn.wire.coding import encode
from flovyn.wire.messages.flovyn import v1 as pb
from server.world import ORG, TIMEOUT_MS, World, complete, suspend, task_id

if TYPE_CHECKING:
    from flovyn.server.acceptor import Call


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


def damage(path: Path, *, whole: bool) -> None:
    """Write over pages in the middle of a file."""
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(size // 2 // 4096 * 4096)
        file.write(b"\xa5" * (size // 4 if whole else 4096))


@pytest.mark.parametrize("whole", [True, False])
def test_a_damaged_file_is_refused_and_left_alone(tmp_path: Path, whole: bool) -> None:
    path = tmp_path / "damaged.db"
    world = World(str(path))
    for number in range(200):
        world.start(key=f"key-{number}", payload=b'"' + b"x" * 2_000 + b'"')
    world.store.close()
    damage(path, whole=whole)
    before = path.read_bytes()
    assert f"the database file {str(path)!r} is damaged (" in refusal(path)
    assert path.read_bytes() == before


def test_damage_that_shows_while_the_server_runs_is_said(tmp_path: Path) -> None:
    path = tmp_path / "damaged.db"
    world = World(str(path))
    runs = [world.start(payload=b'"' + b"x" * 50_000 + b'"') for _ in range(100)]
    world.restart()  # the cache forgets
    damage(path, whole=True)
    shell = Shell(world.engine, Keys([Key("t", ORG, "Worker")]))

    async def read(call: Any, run: str) -> bytes:
        return world.engine.workflows.events(world.caller(), run)

    async def ask() -> list[str]:
        said: list[str] = []
        for run in runs:
            try:
                await shell.answering(read)(cast("Call", None), run)
            except ServerUnavailable as error:
                said.append(error.message)
        return said

    said = anyio.run(ask)
    assert said
    assert all("the server's database file is damaged (" in message for message in said)


def test_a_fault_of_ours_is_not_taken_for_one_of_the_file() -> None:
    world = World()
    with pytest.raises(sqlite3.IntegrityError), world.store.transaction():
        world.store.database.connection.execute("INSERT INTO run_input VALUES (1, NULL)")


@pytest.mark.parametrize("version", range(1, len(schema.MIGRATIONS)))
def test_a_file_of_an_older_schema_goes_on_where_it_was(tmp_path: Path, version: int) -> None:
    """The tables of that time have a row; what was under way then ends now."""
    path = tmp_path / "old.db"
    connection = sqlite3.connect(path)
    for number, migration in enumerate(schema.MIGRATIONS[:version], start=1):
        connection.executescript(migration)
        connection.execute(f"PRAGMA user_version = {number}")
    connection.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
    fill_old(connection)
    connection.commit()
    connection.close()
    world = World(str(path))
    assert world.store.database.connection.execute("PRAGMA user_version").fetchone() == (len(schema.MIGRATIONS),)
    run = world.run(str(UUID(int=0xB001)))
    assert (run.status, run.kind, run.sequence, run.parent) == ("WAITING", "order", 3, None)
    assert world.types(run.id) == ["WORKFLOW_STARTED", "TASK_SCHEDULED", "TIMER_STARTED"]
    assert world.start(key="once") == run.id
    worker = world.store.workers.find(ORG, "w")
    assert worker is not None
    assert world.store.workers.kinds(worker.id, "task") == ("charge",)
    claimed = world.claim_task()
    assert claimed is not None
    assert claimed[0] == task_id(0)
    assert world.store.tasks.all()[0].execution_count == 2
    world.engine.tasks.complete(world.caller(claim=claimed[1]), claimed[0], b"1")
    world.advance(60_000)
    assert sorted(world.types(run.id)[3:]) == ["TASK_COMPLETED", "TIMER_FIRED"]
    world.activate(complete())


def fill_old(connection: sqlite3.Connection) -> None:
    """A run that waits for a task and a timer, in the columns that every schema has had."""
    execute = connection.execute
    run, now = str(UUID(int=0xB001)), 999_000
    execute(
        "INSERT INTO run (n, id, org_id, kind, queue, priority_ms, created_at, position, status, sequence, "
        "external_sequence, claim_sequence, contested) VALUES (1, ?, ?, 'order', 'default', 0, ?, ?, 'WAITING', 3, 1, "
        "1, 0)",
        (run, ORG, now, now),
    )
    execute("INSERT INTO run_input VALUES (1, X'7b7d')")
    scheduled = events.task_scheduled(
        task_id(0), kind="charge", payload=msgspec.Raw(b"{}"), queue="default", max_retries=None, timeout_ms=None
    )
    started = events.workflow_started(kind="order", payload=msgspec.Raw(b"{}"), metadata={})
    timer = events.timer_started("t", duration_ms=31_000, fire_at_ms=1_030_000)
    for number, event in enumerate((started, scheduled, timer), start=1):
        message = pb.WorkflowEvent(sequence_number=number, event_type=event.type, event_data=event.data)
        frame = encode(pb.GetEventsResponse(events=[message]))
        row = (1, number, event.type, now, frame, len(frame) - len(event.data))
        execute("INSERT INTO event (run, sequence, type, created_at, frame, data_at) VALUES (?, ?, ?, ?, ?, ?)", row)
    position = "position" in {row[1] for row in execute("PRAGMA table_info(task)")}
    columns, values = (", position", f", {now}") if position else ("", "")
    execute(
        "INSERT INTO task (n, id, org_id, kind, queue, run, created_at, max_retries, status, execution_count, "
        f"contested{columns}) VALUES (1, ?, ?, 'charge', 'default', 1, ?, 3, 'PENDING', 1, 0{values})",
        (task_id(0), ORG, now),
    )
    execute("INSERT INTO task_input VALUES (1, X'7b7d')")
    execute("INSERT INTO attempt VALUES (1, 1, 'w', ?, ?, 'FAILED', 'no')", (now, now))
    execute("INSERT INTO timer VALUES (1, 't', 1030000)")
    execute(
        "INSERT INTO worker (id, org_id, name, version, type, host, process, registered_at, seen_at) "
        "VALUES ('worker-1', ?, 'w', '1', 'UNIFIED', 'h', '1', ?, ?)",
        (ORG, now, now),
    )
    execute("INSERT INTO capability VALUES ('worker-1', 'task', 'charge', X''), ('worker-1', 'workflow', 'order', X'')")
    known = {row[1] for row in execute("PRAGMA table_info(idempotency_key)")}
    target = "target_id" if "target_id" in known else "run_id"
    execute(
        f"INSERT INTO idempotency_key (org_id, key, {target}, expires_at) VALUES (?, 'once', ?, 9000000)", (ORG, run)
    )


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
    with pytest.raises(ServerUnavailable, match="cannot use its database at the moment: .* full"):
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
