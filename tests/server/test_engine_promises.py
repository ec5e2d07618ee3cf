"""Promises: one of each name, settled once, by whoever comes first; nobody is left waiting."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flovyn.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from flovyn.server.store import Store
from flovyn.wire.messages.flovyn import v1 as pb
from server.world import World, complete, create_promise, resolve_promise, schedule, suspend


@pytest.fixture
def world() -> World:
    return World()


def test_a_promise_is_created_and_resolved(world: World) -> None:
    run = world.start()
    world.activate(create_promise("approval", timeout_ms=60_000, idempotency_key="k"), suspend())
    promise = world.promise_id(run)
    assert world.history(run)[1] == (
        "PROMISE_CREATED",
        {"promiseId": promise, "promiseName": "approval", "timeoutMs": 60_000, "idempotencyKey": "k"},
    )
    assert world.status(run) == "WAITING"
    world.engine.take_ready()
    assert world.engine.promises.resolve(world.caller(), promise, b'{"ok":true}') is True
    assert world.history(run)[-1] == (
        "PROMISE_RESOLVED",
        {"promiseId": promise, "promiseName": "approval", "value": {"ok": True}},
    )
    assert world.status(run) == "PENDING"
    assert [ready.kind for ready in world.engine.take_ready()] == ["order"]
    world.advance(120_000)
    assert world.types(run).count("PROMISE_TIMEOUT") == 0
    world.sound()


def test_a_promise_is_rejected(world: World) -> None:
    run = world.start()
    world.activate(create_promise(), suspend())
    promise = world.promise_id(run)
    assert world.engine.promises.reject(world.caller(), promise, "not you") is True
    assert world.history(run)[-1] == (
        "PROMISE_REJECTED",
        {"promiseId": promise, "promiseName": "approval", "error": "not you"},
    )
    world.sound()


def test_only_the_first_settlement_counts_and_a_later_one_is_no_error(world: World) -> None:
    run = world.start()
    world.activate(create_promise(), suspend())
    promise = world.promise_id(run)
    engine, caller = world.engine.promises, world.caller()
    assert engine.resolve(caller, promise, b"") is True
    before = world.history(run)
    assert before[-1][1]["value"] is None
    assert engine.resolve(caller, promise, b"2") is False
    assert engine.reject(caller, promise, "late") is False
    assert world.history(run) == before


def test_a_settlement_while_the_run_works_is_not_lost(world: World) -> None:
    run = world.start()
    world.activate(create_promise(), schedule(), suspend())
    world.engine.tasks.cancel(world.caller(), world.store.tasks.all()[0].id)
    claimed = world.claim()
    assert claimed is not None
    world.engine.promises.resolve(world.caller(), world.promise_id(run), b"1")
    world.submit(run, suspend(), claim=claimed[1])
    assert world.status(run) == "PENDING"
    world.sound()


def test_a_promise_times_out_at_its_time_also_when_nobody_was_there(tmp_path: Path) -> None:
    world = World(str(tmp_path / "a.db"))
    run = world.start()
    world.activate(create_promise("a", timeout_ms=1_000), create_promise("b", timeout_ms=500), suspend())
    world.advance(499)
    assert world.status(run) == "WAITING"
    world.advance(1)
    assert world.history(run)[-1] == (
        "PROMISE_TIMEOUT",
        {"promiseId": world.promise_id(run, "b"), "promiseName": "b"},
    )
    assert world.status(run) == "PENDING"
    world.restart()
    world.advance(10_000)
    assert world.types(run)[-2:] == ["PROMISE_TIMEOUT", "PROMISE_TIMEOUT"]
    assert world.engine.promises.resolve(world.caller(), world.promise_id(run, "a"), b"1") is False
    world.sound()


def test_the_same_name_is_the_same_promise(world: World) -> None:
    run = world.start()
    world.activate(create_promise(), suspend())
    world.engine.promises.resolve(world.caller(), world.promise_id(run), b"1")
    world.activate(create_promise(), create_promise("other"), suspend())
    created = [data["promiseId"] for event_type, data in world.history(run) if event_type == "PROMISE_CREATED"]
    assert created[0] == created[1] != created[2]
    world.sound()


def test_two_runs_have_promises_of_one_name(world: World) -> None:
    first, second = world.start(), world.start()
    world.activate(create_promise(), suspend())
    world.activate(create_promise(), suspend())
    world.engine.promises.resolve(world.caller(), world.promise_id(second), b"1")
    assert (world.status(first), world.status(second)) == ("WAITING", "PENDING")


def test_a_run_that_ends_closes_its_promises(world: World) -> None:
    run = world.start()
    world.activate(create_promise("open", timeout_ms=10), create_promise("done"), suspend())
    world.engine.promises.resolve(world.caller(), world.promise_id(run, "done"), b"1")
    world.activate(complete())
    with pytest.raises(FailedPrecondition, match="cannot be settled any more: its workflow has ended"):
        world.engine.promises.resolve(world.caller(), world.promise_id(run, "open"), b"1")
    assert world.engine.promises.resolve(world.caller(), world.promise_id(run, "done"), b"1") is False
    world.advance(1_000)
    assert world.types(run)[-1] == "WORKFLOW_COMPLETED"
    world.sound()


def test_a_workflow_resolves_its_own_promise_by_name_or_id(world: World) -> None:
    run = world.start()
    world.activate(create_promise("a"), create_promise("b"), resolve_promise("a", b"7"), suspend())
    assert world.types(run)[-2:] == ["PROMISE_RESOLVED", "WORKFLOW_SUSPENDED"]
    assert world.status(run) == "WAITING"
    world.engine.promises.resolve(world.caller(), world.promise_id(run, "b"), b"1")
    world.activate(resolve_promise(world.promise_id(run, "b")), suspend())
    assert world.types(run).count("PROMISE_RESOLVED") == 2
    world.sound()


@pytest.mark.parametrize(
    ("command", "error", "text"),
    [
        (create_promise("p", timeout_ms=-1), InvalidArgument, "commands[0].create_promise.timeout_ms is -1; "),
        (create_promise("p", idempotency_key=""), InvalidArgument, "create_promise.idempotency_key is empty"),
        (
            create_promise("p", idempotency_key="k", idempotency_key_ttl_seconds=0),
            InvalidArgument,
            "commands[0].create_promise.idempotency_key_ttl_seconds is 0; it must be between 1 and 2592000",
        ),
        (create_promise("p" * 256), InvalidArgument, "commands[0].create_promise.promise_id has 256 characters"),
        (resolve_promise("p", b"{"), InvalidArgument, "commands[0].resolve_promise.value is not JSON"),
        (resolve_promise("p"), InvalidArgument, "commands[0].resolve_promise.promise_id 'p' is no promise of this"),
        (create_promise("p", idempotency_key="taken"), AlreadyExists, "idempotency_key 'taken' is taken by workflow "),
    ],
)
def test_a_fault_in_a_command_changes_nothing(
    world: World, command: pb.WorkflowCommand, error: type[Exception], text: str
) -> None:
    run = world.start()
    claimed = world.claim()
    assert claimed is not None
    world.start(kind="other", key="taken")
    with pytest.raises(error) as caught:
        world.submit(run, command, suspend(), claim=claimed[1])
    assert text in str(caught.value)
    assert world.types(run) == ["WORKFLOW_STARTED"]
    assert world.store.promises.all() == []


def test_a_workflow_cannot_resolve_the_promise_of_another(world: World) -> None:
    run = world.start()
    world.activate(create_promise(), suspend())
    world.start()
    with pytest.raises(InvalidArgument, match="is no promise of this workflow"):
        world.activate(resolve_promise(world.promise_id(run)), suspend())
    assert world.store.promises.all()[0].status == "PENDING"


def test_a_key_belongs_to_one_promise_until_it_expires(world: World) -> None:
    def create(name: str) -> pb.WorkflowCommand:
        return create_promise(name, idempotency_key="k", idempotency_key_ttl_seconds=10)

    run = world.start()
    world.activate(create("a"), create("a"), suspend())
    world.engine.promises.resolve(world.caller(), world.promise_id(run, "a"), b"1")
    with pytest.raises(AlreadyExists, match="idempotency_key 'k' is taken by promise " + world.promise_id(run, "a")):
        world.activate(create("b"), suspend())
    with pytest.raises(AlreadyExists, match="is taken by promise"):
        world.start(key="k")
    world.advance(10_000)
    world.activate(create("b"), suspend())
    world.sound()


@pytest.mark.parametrize("org", ["org-1", "org-2"])
def test_an_unknown_promise_and_that_of_another_organisation_look_the_same(world: World, org: str) -> None:
    run = world.start()
    world.activate(create_promise(), suspend())
    promise = world.promise_id(run) if org == "org-2" else "nope"
    engine: Any = world.engine.promises
    for settle, value in ((engine.resolve, b"1"), (engine.reject, "no")):
        with pytest.raises(NotFound, match=f"promise '{promise}' is unknown"):
            settle(world.caller(org=org), promise, value)
    with pytest.raises(InvalidArgument, match="value is not JSON"):
        engine.resolve(world.caller(), promise, b"{")


def test_a_file_of_the_first_schema_keeps_its_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from flovyn.server.store import schema

    path = str(tmp_path / "old.db")
    with monkeypatch.context() as patch:
        patch.setattr("flovyn.server.store.database.MIGRATIONS", schema.MIGRATIONS[:1])
        old = Store(path)
        old.database.connection.execute("INSERT INTO idempotency_key VALUES ('org-1', 'k', 'run-1', 9000000)")
        old.close()
    world = World(path)
    assert world.start(key="k") == "run-1"
    run = world.start(key="other")
    assert world.start(key="other") == run
