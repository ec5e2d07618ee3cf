"""Idempotency keys of tasks: one execution for all that ask for it, and everybody is told how it ended."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flovyn.errors import AlreadyExists, InvalidArgument
from flovyn.server.engine import TaskWanted
from flovyn.server.engine.tasks import Submitted
from server.world import World, complete, schedule, suspend, task_id


@pytest.fixture
def world() -> World:
    return World()


def keyed(number: int, **options: Any) -> Any:
    options.setdefault("idempotency_key", "k")
    return schedule(number, **options)


def ends(world: World, run: str) -> list[tuple[str, Any]]:
    return [(kind, data) for kind, data in world.history(run) if kind in {"TASK_COMPLETED", "TASK_FAILED"}]


def submit(world: World, **options: Any) -> Submitted:
    options = {"kind": "charge", "task_id": world.new_id(), "payload": b"{}", **options}
    wanted = TaskWanted(**options)
    return world.engine.tasks.submit(world.caller(), wanted)


def test_two_workflows_share_one_execution(world: World) -> None:
    first, second = world.start(), world.start()
    world.activate(keyed(0), suspend())
    world.activate(keyed(1), suspend())
    assert (world.task_status(0), world.task_status(1)) == ("PENDING", "FOLLOWING")
    claimed = world.claim_task()
    assert claimed is not None
    assert claimed[0] == task_id(0)
    assert world.claim_task(link=2) is None
    world.engine.tasks.complete(world.caller(claim=claimed[1]), task_id(0), b'"paid"')
    for run, number in ((first, 0), (second, 1)):
        told = {"taskExecutionId": task_id(number), "output": "paid", "kind": "charge"}
        assert ends(world, run) == [("TASK_COMPLETED", told)]
        assert world.status(run) == "PENDING"
    world.sound()


def test_a_task_whose_key_has_completed_is_completed_at_once(world: World) -> None:
    world.start()
    world.activate(keyed(0), suspend())
    claimed = world.claim_task()
    assert claimed is not None
    world.engine.tasks.complete(world.caller(claim=claimed[1]), task_id(0), b"7")
    world.activate(complete())
    second = world.start()
    world.engine.take_ready()
    world.activate(keyed(1), suspend())
    assert world.types(second) == ["WORKFLOW_STARTED", "TASK_SCHEDULED", "TASK_COMPLETED", "WORKFLOW_SUSPENDED"]
    assert ends(world, second)[0][1]["output"] == 7
    assert world.status(second) == "PENDING"
    assert [ready.of for ready in world.engine.take_ready()] == ["workflow"]
    assert submit(world, key="k") == Submitted(task_id(0), key_used=True, key_new=False)
    world.sound()


@pytest.mark.parametrize("how", ["fail", "cancel", "time out"])
def test_a_key_is_free_again_when_its_task_ended_badly(world: World, how: str) -> None:
    first, second = world.start(), world.start()
    world.activate(keyed(0, max_retries=0, timeout_ms=1_000), suspend())
    world.activate(keyed(1), suspend())
    claimed = world.claim_task()
    assert claimed is not None
    if how == "fail":
        world.engine.tasks.fail(world.caller(claim=claimed[1]), task_id(0), "no")
    elif how == "cancel":
        world.engine.tasks.cancel(world.caller(), task_id(0))
    else:
        world.advance(1_000)
    text = {"fail": "no", "cancel": "Task cancelled", "time out": "Task timed out"}[how]
    for run in (first, second):
        assert ends(world, run)[0][1]["error"] == text
    assert world.status(second) == "PENDING"
    world.activate(keyed(2), suspend())
    assert world.task_status(2) == "PENDING"
    world.sound()


def test_a_follower_that_is_cancelled_leaves_the_first_one_alone(world: World) -> None:
    first = world.start()
    world.activate(keyed(0), keyed(1), keyed(2, timeout_ms=500), suspend())
    world.engine.tasks.cancel(world.caller(), task_id(1))
    world.advance(500)
    assert [world.task_status(n) for n in range(3)] == ["PENDING", "CANCELLED", "FAILED"]
    assert [data["taskExecutionId"] for _, data in ends(world, first)] == [task_id(1), task_id(2)]
    world.sound()


def test_the_end_of_a_workflow_cancels_its_tasks_and_those_that_follow_them(world: World) -> None:
    first, second = world.start(), world.start()
    world.activate(keyed(0), keyed(1), suspend())
    world.activate(keyed(2), suspend())
    world.signal(first)
    world.activate(complete())
    assert [world.task_status(n) for n in range(3)] == ["CANCELLED"] * 3
    assert ends(world, second)[0][1]["error"] == "Task cancelled"
    assert ends(world, first) == []
    assert world.status(second) == "PENDING"
    world.sound()


def test_a_follower_ends_with_its_own_workflow(world: World) -> None:
    world.start()
    world.start()
    world.activate(keyed(0), suspend())
    world.activate(keyed(1), complete())
    assert (world.task_status(0), world.task_status(1)) == ("PENDING", "CANCELLED")
    world.sound()


def test_a_deadline_that_two_share_ends_each_once(world: World) -> None:
    run = world.start()
    world.activate(keyed(0, timeout_ms=500), keyed(1, timeout_ms=500), suspend())
    world.advance(1_000)
    assert [data["taskExecutionId"] for _, data in ends(world, run)] == [task_id(0), task_id(1)]
    world.sound()


def test_an_expired_key_starts_another_execution(world: World) -> None:
    world.start()
    world.activate(keyed(0, idempotency_key_ttl_seconds=10), suspend())
    world.start()
    world.now += 10_000
    world.activate(keyed(1), suspend())
    assert world.task_status(1) == "PENDING"
    world.engine.tasks.cancel(world.caller(), task_id(0))
    assert submit(world, key="k").task_id == task_id(1)
    world.sound()


def test_a_key_of_something_else_is_refused(world: World) -> None:
    run = world.start(key="k")
    with pytest.raises(AlreadyExists, match=f"idempotency_key 'k' is taken by workflow {run}"):
        world.activate(keyed(0), suspend())
    with pytest.raises(AlreadyExists, match=f"idempotency_key 'k' is taken by workflow {run}"):
        submit(world, key="k")
    assert world.types(run) == ["WORKFLOW_STARTED"]
    assert world.store.tasks.all() == []


def test_a_task_that_stands_alone_and_one_that_follows_it(world: World) -> None:
    submitted = submit(world, key="k", metadata={"a": "b"})
    assert (submitted.key_used, submitted.key_new) == (False, True)
    run = world.start()
    world.activate(keyed(0), suspend())
    claimed = world.claim_task()
    assert claimed is not None
    assert claimed[0] == submitted.task_id
    world.engine.tasks.complete(world.caller(claim=claimed[1]), submitted.task_id, b"[1]")
    assert ends(world, run)[0][1]["output"] == [1]
    row = world.store.tasks.find(submitted.task_id)
    assert row is not None
    assert (row.status, row.metadata, world.store.tasks.output(row.n)) == ("COMPLETED", b'{"a":"b"}', b"[1]")
    world.sound()


def test_a_task_that_stands_alone_is_tried_again_and_fails(world: World) -> None:
    submitted = submit(world, max_retries=1)
    for _ in range(2):
        claimed = world.claim_task()
        assert claimed is not None
        world.engine.tasks.fail(world.caller(claim=claimed[1]), submitted.task_id, "no")
    row = world.store.tasks.find(submitted.task_id)
    assert row is not None
    assert (row.status, row.end_reason, row.execution_count) == ("FAILED", "no", 2)
    assert submit(world).key_new
    with pytest.raises(InvalidArgument, match="kind is empty"):
        submit(world, kind="")
    world.sound()


def test_a_higher_priority_overtakes(world: World) -> None:
    world.start()
    world.activate(schedule(0), schedule(1, priority_seconds=5), schedule(2, priority_seconds=-5), suspend())
    world.now += 4_000
    late = submit(world).task_id
    claimed = [world.claim_task() for _ in range(4)]
    order = [one[0] for one in claimed if one is not None]
    assert order == [task_id(1), task_id(0), late, task_id(2)]


def test_a_file_of_the_first_schema_keeps_its_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from flovyn.server.store import Store, schema

    path = str(tmp_path / "old.db")
    with monkeypatch.context() as patch:
        patch.setattr("flovyn.server.store.database.MIGRATIONS", schema.MIGRATIONS[:1])
        old = Store(path)
        old.database.connection.execute(
            "INSERT INTO task VALUES (7, ?, 'org-1', 'charge', 'default', 1, 900, NULL, 3, 'PENDING', 1, 950, NULL, "
            "NULL, NULL, 'w', 'h/1', 0)",
            (task_id(0),),
        )
        old.close()
    task = World(path).store.tasks.get(7)
    assert (task.id, task.created_at, task.position, task.max_retries) == (task_id(0), 900, 900, 3)
    assert (task.status, task.execution_count, task.started_at, task.claim_worker) == ("PENDING", 1, 950, "w")
