"""Claiming, reporting, retries, deadlines, cancelling."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from flovyn.errors import FailedPrecondition, InvalidArgument, NotFound
from flovyn.server.engine import Ready
from server.world import World, schedule, suspend, task_id

FINAL = 'no such card\n[flovyn:error {"type":"CardError","message":"no such card","retryable":false}]'


@pytest.fixture
def world() -> World:
    world = World()
    world.start()
    return world


def run_of(world: World) -> str:
    return world.store.runs.all()[0].id


def claimed_token(world: World, **where: str | int) -> str:
    claimed = world.claim_task(**where)  # type: ignore[arg-type]
    assert claimed is not None
    return claimed[1]


def test_a_claim_carries_what_the_worker_needs(world: World) -> None:
    world.activate(schedule(0, payload=b'{"a": 1}'), suspend())
    claimed = world.engine.tasks.claim(world.caller(), world.poller("task"))
    assert claimed is not None
    assert (claimed.task.id, claimed.task.kind, claimed.task.queue) == (task_id(0), "charge", "default")
    assert (claimed.payload, claimed.run_id, claimed.task.execution_count) == (b'{"a": 1}', run_of(world), 1)
    assert world.claim_task() is None
    world.sound()


def test_a_result_is_told_to_the_run_and_wakes_it(world: World) -> None:
    world.activate(schedule(0), suspend())
    token = claimed_token(world)
    world.engine.take_ready()
    world.engine.tasks.complete(world.caller(claim=token), task_id(0), b'{"paid":1}')
    assert world.history(run_of(world))[-1] == (
        "TASK_COMPLETED",
        {"taskExecutionId": task_id(0), "output": {"paid": 1}, "kind": "charge"},
    )
    assert world.engine.take_ready() == [Ready("workflow", "org-1", "default", "order")]
    assert world.attempts() == [(1, "COMPLETED", None)]
    world.sound()


def test_a_result_that_is_not_json_is_refused_and_the_claim_stays(world: World) -> None:
    world.activate(schedule(0), suspend())
    token = claimed_token(world)
    with pytest.raises(InvalidArgument, match="output is not JSON"):
        world.engine.tasks.complete(world.caller(claim=token), task_id(0), b"nope")
    assert world.task_status() == "RUNNING"
    world.engine.tasks.complete(world.caller(claim=token), task_id(0), b"")
    assert world.history(run_of(world))[-1][1]["output"] is None


def test_max_retries_counts_retries_and_the_last_failure_is_told(world: World) -> None:
    world.activate(schedule(0, max_retries=2), suspend())
    run = run_of(world)
    for attempt in (1, 2, 3):
        assert world.types(run)[-1] == "WORKFLOW_SUSPENDED"
        world.engine.tasks.fail(world.caller(claim=claimed_token(world)), task_id(0), f"no {attempt}")
        world.sound()
    assert world.history(run)[-1] == (
        "TASK_FAILED",
        {"taskExecutionId": task_id(0), "error": "no 3", "kind": "charge", "retryable": True},
    )
    assert world.attempts() == [(1, "FAILED", "no 1"), (2, "FAILED", "no 2"), (3, "FAILED", "no 3")]
    assert world.claim_task() is None


def test_the_default_is_three_retries(world: World) -> None:
    world.activate(schedule(0), suspend())
    for _ in range(4):
        world.engine.tasks.fail(world.caller(claim=claimed_token(world)), task_id(0), "no")
    assert world.task_status() == "FAILED"


def test_an_error_that_says_it_is_final_is_not_retried(world: World) -> None:
    world.activate(schedule(0), suspend())
    world.engine.tasks.fail(world.caller(claim=claimed_token(world)), task_id(0), FINAL)
    assert world.history(run_of(world))[-1] == (
        "TASK_FAILED",
        {"taskExecutionId": task_id(0), "error": FINAL, "kind": "charge", "retryable": False},
    )


@pytest.mark.parametrize(
    "text", ["[flovyn:error nonsense]", '[flovyn:error {"retryable":true}]', FINAL + "\nand more", "[flovyn:error "]
)
def test_any_other_text_is_retried(world: World, text: str) -> None:
    world.activate(schedule(0), suspend())
    world.engine.tasks.fail(world.caller(claim=claimed_token(world)), task_id(0), text)
    assert world.task_status() == "PENDING"


def test_a_deadline_ends_a_pending_and_a_running_task_for_good(world: World) -> None:
    world.activate(schedule(0, timeout_ms=100), schedule(1, timeout_ms=200), suspend())
    token = claimed_token(world)
    world.advance(99)
    assert world.task_status(0) == "RUNNING"
    world.advance(1)
    assert world.task_status(0) == "FAILED"
    told = {"taskExecutionId": task_id(0), "error": "Task timed out", "kind": "charge", "retryable": False}
    assert world.history(run_of(world))[-1] == ("TASK_FAILED", told)
    assert world.attempts(0) == [(1, "TIMEOUT", "Task timed out")]
    with pytest.raises(FailedPrecondition, match="has ended already: it is FAILED"):
        world.engine.tasks.complete(world.caller(claim=token), task_id(0), b"1")
    world.advance(100)
    assert world.history(run_of(world))[-1] == ("TASK_FAILED", {**told, "taskExecutionId": task_id(1)})
    assert world.attempts(1) == []
    world.sound()


def test_a_deadline_is_what_the_clock_waits_for(world: World) -> None:
    world.advance(0)
    world.activate(schedule(0, timeout_ms=100), suspend())
    assert world.engine.next_at == world.now + 100


def test_heartbeats_do_not_move_the_deadline(world: World) -> None:
    world.activate(schedule(0, timeout_ms=100), suspend())
    token = claimed_token(world)
    for _ in range(9):
        world.advance(11)
        world.engine.tasks.heartbeat(world.caller(claim=token), task_id(0))
    world.advance(1)
    with pytest.raises(FailedPrecondition, match="has ended already: it is FAILED"):
        world.engine.tasks.heartbeat(world.caller(claim=token), task_id(0))


@pytest.mark.parametrize("claimed", [True, False])
def test_a_cancel_is_told_in_both_spellings(world: World, claimed: bool) -> None:
    world.activate(schedule(0), suspend())
    token = claimed_token(world) if claimed else None
    world.engine.tasks.cancel(world.caller(), task_id(0))
    run = run_of(world)
    assert world.history(run)[-2:] == [
        ("TASK_CANCELLED", {"taskExecutionId": task_id(0), "kind": "charge", "reason": "Task cancelled"}),
        (
            "TASK_FAILED",
            {"taskExecutionId": task_id(0), "error": "Task cancelled", "kind": "charge", "retryable": False},
        ),
    ]
    assert world.status(run) == "PENDING"
    assert world.attempts() == ([(1, "CANCELLED", "it was cancelled")] if claimed else [])
    world.engine.tasks.cancel(world.caller(), task_id(0))
    lates: list[Callable[[], None]] = [
        lambda: world.engine.tasks.heartbeat(world.caller(claim=token), task_id(0)),
        lambda: world.engine.tasks.complete(world.caller(claim=token), task_id(0), b"1"),
        lambda: world.engine.tasks.fail(world.caller(claim=token), task_id(0), "no"),
    ]
    for late in lates:
        with pytest.raises(FailedPrecondition, match=f"task {task_id(0)} was cancelled: it was cancelled"):
            late()
    assert len(world.history(run)) == 5
    world.sound()


def test_what_has_ended_cannot_be_cancelled(world: World) -> None:
    world.activate(schedule(0), suspend())
    world.engine.tasks.complete(world.caller(claim=claimed_token(world)), task_id(0), b"1")
    with pytest.raises(FailedPrecondition, match="cannot be cancelled: it is COMPLETED"):
        world.engine.tasks.cancel(world.caller(), task_id(0))


def test_a_task_that_is_unknown_or_unclaimed_is_refused(world: World) -> None:
    world.activate(schedule(0), suspend())
    with pytest.raises(NotFound, match="task 'nope' is unknown"):
        world.engine.tasks.complete(world.caller(), "nope", b"1")
    with pytest.raises(FailedPrecondition, match="is not claimed by anybody: it is PENDING"):
        world.engine.tasks.complete(world.caller(), task_id(0), b"1")


def test_tasks_are_handed_out_in_the_order_of_their_creation(world: World) -> None:
    world.activate(*(schedule(n, kind=f"k{n % 3}") for n in range(6)), suspend())
    assert [claimed[0] for _ in range(6) if (claimed := world.claim_task())] == [task_id(n) for n in range(6)]
