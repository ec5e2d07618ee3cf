"""Asking a workflow to stop: cooperating workers end it themselves, for the others the server does."""

from __future__ import annotations

import pytest

from flovyn.errors import FailedPrecondition
from server.world import World, cancel, complete, suspend


def request(world: World, run: str, reason: str = "too late") -> None:
    world.engine.request_cancel(world.caller(), run, reason=reason, requested_by="me")


def cooperate(world: World, metadata: bytes = b'{"cancellation":"scopes"}', name: str = "w") -> None:
    world.engine.workers.register(
        world.caller(),
        name=name,
        version="1",
        worker_type="WORKFLOW",
        host="h",
        process="1",
        workflows={"order": metadata},
        tasks={},
    )


def test_a_cooperating_run_is_told_and_ends_itself() -> None:
    world = World()
    cooperate(world)
    run = world.start()
    world.activate(suspend())
    request(world, run)
    assert world.history(run)[-1] == ("CANCELLATION_REQUESTED", {"reason": "too late", "requestedBy": "me"})
    assert world.status(run) == "PENDING"
    request(world, run, "again")
    world.activate(suspend())
    assert world.status(run) == "WAITING"
    assert world.types(run).count("CANCELLATION_REQUESTED") == 1
    world.sound()


def test_a_request_that_comes_while_the_run_works_is_seen_next() -> None:
    world = World()
    cooperate(world)
    run = world.start()
    claimed = world.claim()
    assert claimed is not None
    request(world, run)
    world.submit(run, suspend(), claim=claimed[1])
    assert world.status(run) == "PENDING"
    world.activate(cancel("stopped"))
    assert world.history(run)[-1] == ("WORKFLOW_CANCELLED", {"reason": "stopped"})
    world.sound()


@pytest.mark.parametrize("metadata", [b"", b"{}", b"nonsense", b'{"cancellation":"no"}'])
def test_a_run_of_other_workers_is_ended_at_once_or_at_its_next_suspension(metadata: bytes) -> None:
    world = World()
    cooperate(world, metadata)
    waiting, running = world.start(), world.start()
    world.activate(suspend())
    claimed = world.claim()
    assert claimed is not None
    request(world, waiting)
    assert world.types(waiting)[-2:] == ["CANCELLATION_REQUESTED", "WORKFLOW_CANCELLED"]
    request(world, running)
    assert world.status(running) == "RUNNING"
    world.submit(running, suspend(), claim=claimed[1])
    assert world.history(running)[-1] == ("WORKFLOW_CANCELLED", {"reason": "too late"})
    assert world.status(running) == "CANCELLED"
    world.sound()


def test_what_was_registered_last_says_whether_a_kind_cooperates() -> None:
    world = World()
    for number, (metadata, status) in enumerate([(b'{"cancellation":"scopes"}', "PENDING"), (b"", "CANCELLED")]):
        world.now += 1
        cooperate(world, metadata, name=f"w{number}")
        run = world.start()
        request(world, run)
        assert world.status(run) == status


def test_a_run_that_has_ended_cannot_be_cancelled() -> None:
    world = World()
    run = world.start()
    world.activate(complete())
    with pytest.raises(FailedPrecondition, match=f"workflow {run} cannot be cancelled: it is COMPLETED"):
        request(world, run)
