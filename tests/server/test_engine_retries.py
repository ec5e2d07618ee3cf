"""Runs that have failed and go on: what they are told of the time in which they counted as ended."""

from __future__ import annotations

import pytest

from flovyn.errors import FailedPrecondition, InvalidArgument, NotFound
from server.world import (
    World,
    child_id,
    complete,
    create_promise,
    fail,
    schedule,
    schedule_child,
    start_timer,
    suspend,
    task_id,
)


def retry(world: World, run: str, note: str = "again", org: str = "org-1") -> None:
    world.engine.retries.retry(world.caller(org=org), run, note=note, requested_by="ada")
    world.sound()


def test_a_failed_run_is_in_its_queue_again_and_its_history_goes_on() -> None:
    world = World()
    run = world.start()
    world.activate(fail())
    world.now += 5
    retry(world, run)
    assert [(ready.of, ready.kind) for ready in world.engine.take_ready()][-1] == ("workflow", "order")
    assert world.status(run) == "PENDING"
    (kept,) = world.engine.views.run(world.caller(), run).retries
    assert (kept.sequence, kept.at, kept.note, kept.requested_by) == (2, world.now, "again", "ada")
    assert world.activate(fail("again")) == run
    retry(world, run, "once more")
    assert world.activate(complete()) == run
    world.sound()
    ends = ["WORKFLOW_STARTED", "WORKFLOW_EXECUTION_FAILED", "WORKFLOW_EXECUTION_FAILED", "WORKFLOW_COMPLETED"]
    assert world.types(run) == ends


def test_tasks_that_were_cancelled_with_it_are_told_of() -> None:
    world = World()
    run = world.start()
    world.activate(schedule(0), schedule(1), suspend())
    claimed = world.claim_task()
    assert claimed is not None
    world.engine.tasks.complete(world.caller(claim=claimed[1]), claimed[0], b"1")
    world.activate(fail())
    retry(world, run)
    assert world.history(run)[-2:] == [
        ("TASK_CANCELLED", {"taskExecutionId": task_id(1), "kind": "charge", "reason": "Task cancelled"}),
        (
            "TASK_FAILED",
            {"taskExecutionId": task_id(1), "error": "Task cancelled", "kind": "charge", "retryable": False},
        ),
    ]
    world.activate(complete())
    world.sound()


def test_timers_are_armed_again_and_those_that_came_due_meanwhile_fire_at_once() -> None:
    world = World()
    run = world.start()
    world.activate(start_timer("a", 10), start_timer("b", 1_000), start_timer("c", 60_000), suspend())
    world.advance(20)
    world.activate(fail())
    world.advance(2_000)
    assert world.types(run).count("TIMER_FIRED") == 1
    retry(world, run)
    world.advance(0)
    fired = [data["timerId"] for event, data in world.history(run) if event == "TIMER_FIRED"]
    assert fired == ["a", "b"]
    world.advance(60_000)
    fired = [data["timerId"] for event, data in world.history(run) if event == "TIMER_FIRED"]
    assert fired == ["a", "b", "c"]


def test_promises_can_be_settled_again() -> None:
    world = World()
    run = world.start()
    world.activate(create_promise("a"), create_promise("b", timeout_ms=100), suspend())
    world.signal(run)
    world.activate(fail())
    promise = world.promise_id(run, "a")
    with pytest.raises(FailedPrecondition):
        world.engine.promises.resolve(world.caller(), promise, b"1")
    world.advance(200)
    retry(world, run)
    world.advance(0)
    assert world.types(run)[-1] == "PROMISE_TIMEOUT"
    assert world.engine.promises.resolve(world.caller(), promise, b"1") is True
    world.sound()


@pytest.mark.parametrize(
    ("how", "event", "data"),
    [
        (complete(b'{"a":1}'), "CHILD_WORKFLOW_COMPLETED", {"output": {"a": 1}}),
        (fail("oh"), "CHILD_WORKFLOW_FAILED", {"error": "oh"}),
        (None, "CHILD_WORKFLOW_FAILED", {"error": "Child workflow cancelled", "reason": "too late"}),
    ],
    ids=["completed", "failed", "cancelled"],
)
def test_the_ends_of_children_are_told_that_came_while_it_counted_as_ended(
    how: object, event: str, data: dict[str, object]
) -> None:
    world = World()
    run = world.start()
    world.activate(schedule_child(0), schedule_child(1), suspend())
    assert world.activate(suspend()) == child_id(0)
    assert world.activate(suspend()) == child_id(1)
    world.signal(run)
    assert world.activate(fail()) == run
    if how is None:
        world.request_cancel(child_id(0))
    else:
        world.signal(child_id(0))
        world.activate(how)  # type: ignore[arg-type]
    assert "CHILD_WORKFLOW" not in world.types(run)[-1]
    retry(world, run)
    told, seen = world.history(run)[-1]
    assert (told, {name: seen[name] for name in data}, seen["childExecutionId"]) == (event, data, child_id(0))
    world.signal(child_id(1))
    world.activate(suspend("retried"))
    world.activate(complete())
    assert world.types(run)[-1] == "CHILD_WORKFLOW_COMPLETED"
    world.sound()


@pytest.mark.parametrize("crash", ["crash", "restart"])
def test_a_retry_survives(crash: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    world = World(str(tmp_path_factory.mktemp("db") / "a.db"))
    run = world.start()
    world.activate(schedule(), suspend())
    world.signal(run)
    world.activate(fail())
    retry(world, run)
    getattr(world, crash)()
    world.sound()
    assert world.activate(complete()) == run


def test_what_cannot_be_retried() -> None:
    world = World()
    run = world.start()
    with pytest.raises(FailedPrecondition, match=f"workflow {run} cannot be retried: it is PENDING, not FAILED"):
        retry(world, run)
    with pytest.raises(NotFound):
        retry(world, run, org="org-2")
    world.activate(schedule_child(), suspend())
    world.activate(fail())
    with pytest.raises(FailedPrecondition, match=f"its parent {run} was told that it failed; retry that one"):
        retry(world, child_id(0))
    world.activate(fail())
    with pytest.raises(InvalidArgument, match="note has 16385 characters; at most 16384 are allowed"):
        retry(world, run, "n" * 16_385)
    retry(world, run)
    world.cooperate()
    world.request_cancel(run)
    world.activate(fail())
    with pytest.raises(FailedPrecondition, match="it was asked to stop before it failed"):
        retry(world, run)
