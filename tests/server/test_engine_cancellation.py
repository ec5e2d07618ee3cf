"""Asking a workflow to stop: cooperating workers end it themselves, for the others the server does."""

from __future__ import annotations

from pathlib import Path

import pytest

from flovyn.errors import FailedPrecondition
from flovyn.server import limits
from server.world import World, cancel, cancel_child, child_id, complete, schedule_child, suspend


def test_a_cooperating_run_is_told_and_ends_itself() -> None:
    world = World()
    world.cooperate()
    run = world.start()
    world.activate(suspend())
    world.request_cancel(run)
    assert world.history(run)[-1] == ("CANCELLATION_REQUESTED", {"reason": "too late", "requestedBy": "me"})
    assert world.status(run) == "PENDING"
    world.activate(suspend())
    assert world.status(run) == "WAITING"
    world.sound()


def test_a_second_request_ends_a_cooperating_run_at_once_also_while_it_works() -> None:
    world = World()
    world.cooperate()
    run = world.start()
    world.request_cancel(run)
    claimed = world.claim()
    assert claimed is not None
    world.request_cancel(run, "now")
    assert world.types(run) == ["WORKFLOW_STARTED", "CANCELLATION_REQUESTED", "WORKFLOW_CANCELLED"]
    assert world.history(run)[-1][1] == {"reason": "too late"}
    with pytest.raises(FailedPrecondition, match="has ended already: it is CANCELLED"):
        world.submit(run, complete(), claim=claimed[1])
    with pytest.raises(FailedPrecondition, match="cannot be cancelled: it is CANCELLED"):
        world.request_cancel(run)
    world.sound()


def test_a_cooperating_run_that_takes_too_long_is_ended_also_after_a_restart(tmp_path: Path) -> None:
    world = World(str(tmp_path / "a.db"))
    world.cooperate()
    slow, quick = world.start(), world.start()
    world.activate(suspend())
    world.request_cancel(slow)
    world.request_cancel(quick)
    world.activate(suspend())
    world.activate(complete())
    world.restart()
    world.advance(limits.CANCEL_GRACE_MS - 1)
    assert world.status(slow) == "WAITING"
    world.advance(1)
    assert world.history(slow)[-1] == ("WORKFLOW_CANCELLED", {"reason": "too late"})
    assert world.types(quick)[-1] == "WORKFLOW_COMPLETED"


def test_a_kind_that_cannot_be_cancelled_is_left_alone() -> None:
    world = World()
    world.cooperate(b'{"cancellation":"never"}')
    world.cooperate(kind="parent", name="another")
    run, parent = world.start(), world.start("parent")
    for _ in range(2):
        with pytest.raises(FailedPrecondition, match=f"{run} cannot be cancelled: its kind 'order' is not cancellable"):
            world.request_cancel(run)
    assert world.types(run) == ["WORKFLOW_STARTED"]
    world.activate(complete())
    world.activate(schedule_child(0), suspend())
    world.activate(cancel_child(0), suspend())
    world.request_cancel(parent)
    world.request_cancel(parent)
    assert "CANCELLATION_REQUESTED" not in world.types(child_id(0))
    assert world.types(parent)[-1] == "WORKFLOW_CANCELLED"
    world.sound()


@pytest.mark.parametrize("cooperating", [True, False])
def test_whoever_ends_a_run_passes_the_request_on_to_its_children(cooperating: bool) -> None:
    world = World()
    if cooperating:
        world.cooperate(kind="parent")
    parent = world.start("parent")
    world.activate(schedule_child(0), schedule_child(1), suspend())
    world.activate(schedule_child(2), suspend())
    world.activate(complete())
    world.request_cancel(parent)
    if cooperating:
        assert [world.status(child_id(n)) for n in (0, 1, 2)] == ["WAITING", "COMPLETED", "PENDING"]
        assert world.activate(cancel()) == parent
        assert [world.status(child_id(n)) for n in (0, 1, 2)] == ["WAITING", "COMPLETED", "PENDING"]
    else:
        assert [world.status(child_id(n)) for n in (0, 1, 2)] == ["CANCELLED", "COMPLETED", "CANCELLED"]
        asked = dict(world.history(child_id(2)))["CANCELLATION_REQUESTED"]
        assert asked == {"reason": "too late", "requestedBy": "me"}
    assert world.types(parent)[-1] == "WORKFLOW_CANCELLED"
    world.sound()


def test_a_forced_end_asks_the_children_which_may_take_their_time() -> None:
    world = World()
    world.cooperate()
    parent = world.start()
    world.activate(schedule_child(0), schedule_child(1, kind="other"), suspend())
    world.request_cancel(parent)
    assert world.types(child_id(0)) == ["WORKFLOW_STARTED"]
    world.request_cancel(parent)
    assert world.history(child_id(0))[-1] == (
        "CANCELLATION_REQUESTED",
        {"reason": "too late", "requestedBy": parent},
    )
    assert world.status(child_id(0)) == "PENDING"
    assert world.status(child_id(1)) == "CANCELLED"
    world.sound()


def test_a_request_that_comes_while_the_run_works_is_seen_next() -> None:
    world = World()
    world.cooperate()
    run = world.start()
    claimed = world.claim()
    assert claimed is not None
    world.request_cancel(run)
    world.submit(run, suspend(), claim=claimed[1])
    assert world.status(run) == "PENDING"
    world.activate(cancel("stopped"))
    assert world.history(run)[-1] == ("WORKFLOW_CANCELLED", {"reason": "stopped"})
    world.sound()


@pytest.mark.parametrize("metadata", [b"", b"{}", b"nonsense", b'{"cancellation":"no"}'])
def test_a_run_of_other_workers_is_ended_at_once_or_at_its_next_suspension(metadata: bytes) -> None:
    world = World()
    world.cooperate(metadata)
    waiting, running = world.start(), world.start()
    world.activate(suspend())
    claimed = world.claim()
    assert claimed is not None
    world.request_cancel(waiting)
    assert world.types(waiting)[-2:] == ["CANCELLATION_REQUESTED", "WORKFLOW_CANCELLED"]
    world.request_cancel(running)
    assert world.status(running) == "RUNNING"
    world.submit(running, suspend(), claim=claimed[1])
    assert world.history(running)[-1] == ("WORKFLOW_CANCELLED", {"reason": "too late"})
    assert world.status(running) == "CANCELLED"
    world.sound()


def test_what_was_registered_last_says_whether_a_kind_cooperates() -> None:
    world = World()
    for number, (metadata, status) in enumerate([(b'{"cancellation":"scopes"}', "PENDING"), (b"", "CANCELLED")]):
        world.now += 1
        world.cooperate(metadata, name=f"w{number}")
        run = world.start()
        world.request_cancel(run)
        assert world.status(run) == status


def test_a_run_that_has_ended_cannot_be_cancelled() -> None:
    world = World()
    run = world.start()
    world.activate(complete())
    with pytest.raises(FailedPrecondition, match=f"workflow {run} cannot be cancelled: it is COMPLETED"):
        world.request_cancel(run)
