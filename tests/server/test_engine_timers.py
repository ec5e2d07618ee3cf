"""Timers fire once, at their time, in order, also when nobody was there."""

from __future__ import annotations

from pathlib import Path

import pytest

from flovyn.errors import InvalidArgument
from flovyn.wire.messages.flovyn import v1 as pb
from server.world import World, start_timer, suspend


def cancel_timer(timer_id: str) -> pb.WorkflowCommand:
    command = pb.CancelTimerCommand(timer_id=timer_id)
    return pb.WorkflowCommand(command_type=pb.CommandType.CANCEL_TIMER, cancel_timer=command)


def test_a_timer_fires_at_its_time_and_wakes() -> None:
    world = World()
    run = world.start()
    world.activate(start_timer("timer-0", 1_000), suspend())
    world.advance(0)
    world.now += 999
    world.engine.tick()
    assert world.types(run)[-1] == "WORKFLOW_SUSPENDED"
    assert world.engine.next_at == world.now + 1
    world.now += 1
    world.engine.tick()
    assert world.history(run)[-1] == ("TIMER_FIRED", {"timerId": "timer-0"})
    assert world.status(run) == "PENDING"
    world.advance(5_000)
    assert world.types(run).count("TIMER_FIRED") == 1


def test_timers_of_one_moment_fire_in_the_order_of_their_time() -> None:
    world = World()
    run = world.start()
    world.activate(*(start_timer(f"t{n}", n * 10) for n in (3, 1, 2, 0)), suspend())
    world.now += 100
    world.engine.tick()
    assert [data["timerId"] for event_type, data in world.history(run) if event_type == "TIMER_FIRED"] == [
        "t0",
        "t1",
        "t2",
        "t3",
    ]


def test_a_cancelled_timer_does_not_fire() -> None:
    world = World()
    run = world.start()
    world.activate(start_timer("a", 10), start_timer("b", 20), suspend())
    world.advance(10)
    world.activate(*(cancel_timer(timer_id) for timer_id in "abc"), suspend())
    assert [data["timerId"] for event_type, data in world.history(run) if event_type == "TIMER_CANCELLED"] == ["b"]
    world.advance(1_000)
    assert world.types(run).count("TIMER_FIRED") == 1
    world.sound()


def test_an_id_that_was_cancelled_in_the_submission_that_started_it_is_used_up_too() -> None:
    world = World()
    run = world.start()
    again = start_timer("a", 10), cancel_timer("a")
    world.activate(*again, *again, start_timer("a", 10), start_timer("b", 10), suspend())
    world.sound()
    world.advance(10)
    world.activate(
        start_timer("a", 10), start_timer("b", 10), *(cancel_timer(timer_id) for timer_id in "ab"), suspend()
    )
    world.advance(10)
    ends = [(kind, data["timerId"]) for kind, data in world.history(run) if kind in {"TIMER_CANCELLED", "TIMER_FIRED"}]
    assert ends == [("TIMER_CANCELLED", "a"), ("TIMER_FIRED", "b")]
    world.sound()


def test_a_refused_submission_disarms_nothing() -> None:
    world = World()
    run = world.start()
    world.activate(start_timer("a", 10), start_timer("b", 20), suspend())
    world.advance(10)
    claimed = world.claim()
    assert claimed is not None
    with pytest.raises(InvalidArgument):
        world.submit(run, cancel_timer("b"), start_timer("d", 5), start_timer("c", -1), suspend(), claim=claimed[1])
    assert world.store.timers.armed() == [(1, "b")]


def test_more_timers_than_one_batch_all_fire() -> None:
    world = World()
    run = world.start()
    world.activate(*(start_timer(f"t{n}", 10) for n in range(450)), suspend())
    world.advance(10)
    assert world.types(run).count("TIMER_FIRED") == 450
    world.sound()


def test_what_came_due_while_the_server_was_down_fires_at_once(tmp_path: Path) -> None:
    world = World(str(tmp_path / "flovyn.db"))
    run = world.start()
    world.activate(start_timer("a", 10), start_timer("b", 90_000), suspend())
    world.now += 1_000
    world.restart()
    assert world.engine.next_at <= world.now
    world.engine.tick()
    assert world.history(run)[-1] == ("TIMER_FIRED", {"timerId": "a"})
    world.activate(suspend())
    world.advance(89_000)
    assert world.history(run)[-1] == ("TIMER_FIRED", {"timerId": "b"})
    world.sound()
    world.store.close()
