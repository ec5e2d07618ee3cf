"""What task bodies write down, and what of a workflow's state can be asked for."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from flovyn.errors import FailedPrecondition, FlovynError, InvalidArgument, NotFound
from flovyn.server import limits
from flovyn.server.engine import Caller
from flovyn.server.engine.notes import Notes
from server.world import World, clear_state, complete, schedule, set_state, suspend, task_id


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def held(world: World) -> Caller:
    """Who holds the task of a workflow."""
    world.start()
    world.activate(schedule(max_retries=1), suspend())
    claimed = world.claim_task()
    assert claimed is not None
    return world.caller(claim=claimed[1])


def test_state_survives_a_retry(world: World, held: Caller) -> None:
    notes, task = world.engine.notes, task_id(0)
    notes.put(held, task, "b", b'{"page":7}')
    notes.put(held, task, "a", b"")
    notes.put(held, task, "c", b"1")
    notes.clear(held, task, "c")
    notes.clear(held, task, "never there")
    world.engine.tasks.fail(held, task, "no")
    claimed = world.claim_task()
    assert claimed is not None
    assert notes.keys(world.caller(), task) == ["a", "b"]
    assert [notes.get(world.caller(), task, key) for key in "abc"] == [b"null", b'{"page":7}', None]
    notes.put(world.caller(claim=claimed[1]), task, "b", b"8")
    assert notes.get(world.caller(), task, "b") == b"8"
    notes.clear_all(world.caller(claim=claimed[1]), task)
    assert notes.keys(world.caller(), task) == []


def test_state_is_written_only_by_whoever_holds_the_task(world: World, held: Caller) -> None:
    notes, task = world.engine.notes, task_id(0)
    world.engine.tasks.fail(held, task, "no")
    again = world.claim_task(link=2)
    assert again is not None
    writes: list[Callable[[Caller], None]] = [
        lambda caller: notes.put(caller, task, "a", b"1"),
        lambda caller: notes.clear(caller, task, "a"),
        lambda caller: notes.clear_all(caller, task),
        lambda caller: notes.progress(caller, task, 0.5, ""),
    ]
    for write in writes:
        with pytest.raises(FailedPrecondition, match="was claimed again since"):
            write(held)
    current = world.caller(2, again[1])
    notes.put(current, task, "a", b"1")
    world.engine.tasks.complete(current, task, b"1")
    for write in writes[:3]:
        with pytest.raises(FailedPrecondition, match="has ended already: it is COMPLETED"):
            write(current)
    assert notes.keys(held, task) == ["a"]


def test_state_is_bounded(world: World, held: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "TASK_STATE_KEYS", 2)
    notes = world.engine.notes
    notes.put(held, task_id(0), "a", b"1")
    notes.put(held, task_id(0), "b", b"1")
    notes.put(held, task_id(0), "a", b"2")
    with pytest.raises(FailedPrecondition, match="has 2 keys of state already"):
        notes.put(held, task_id(0), "c", b"1")


def test_progress_is_remembered_and_what_comes_late_is_dropped(world: World, held: Caller, tmp_path: Path) -> None:
    notes, task = world.engine.notes, task_id(0)
    n = world.store.tasks.all()[0].n
    assert world.store.notes.progress(n) is None
    notes.progress(held, task, 0, "begun")
    world.now += 5
    notes.progress(held, task, 1.0, "x" * (limits.LOG_LINE_LENGTH + 1))
    assert world.store.notes.progress(n) == (1.0, "x" * limits.LOG_LINE_LENGTH, world.now)
    world.engine.tasks.complete(held, task, b"1")
    notes.progress(held, task, 0.5, "late")
    progress = world.store.notes.progress(n)
    assert progress is not None
    assert progress.progress == 1.0


def test_log_lines_are_kept_in_order_up_to_a_number(
    world: World, held: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "LOG_LINES", 2)
    for number in range(3):
        world.now += 1
        world.engine.notes.log(held, task_id(0), "INFO", f"line {number}")
    world.engine.tasks.complete(held, task_id(0), b"1")
    world.engine.notes.log(world.caller(), task_id(0), "WARN", "x" * (limits.LOG_LINE_LENGTH + 1))
    lines = world.store.notes.lines(world.store.tasks.all()[0].n)
    assert [(line.number, line.level) for line in lines] == [(3, "INFO"), (4, "WARN")]
    assert lines[0].message == "line 2"
    assert lines[1] == (4, world.now, "WARN", "x" * limits.LOG_LINE_LENGTH)


FAULTY: list[tuple[Callable[[Notes, Caller], object], type[FlovynError], str]] = [
    (lambda notes, caller: notes.put(caller, task_id(0), "", b"1"), InvalidArgument, "key is empty"),
    (lambda notes, caller: notes.put(caller, task_id(0), "a", b"{"), InvalidArgument, "value is not JSON"),
    (lambda notes, caller: notes.progress(caller, task_id(0), 1.5, ""), InvalidArgument, "progress is 1.5; "),
    (lambda notes, caller: notes.progress(caller, task_id(0), math.nan, ""), InvalidArgument, "progress is nan"),
    (lambda notes, caller: notes.log(caller, task_id(0), "x" * 256, ""), InvalidArgument, "level has 256"),
    (lambda notes, caller: notes.get(caller, "nope", "a"), NotFound, "task 'nope' is unknown"),
    (lambda notes, caller: notes.keys(caller, "nope"), NotFound, "task 'nope' is unknown"),
    (lambda notes, caller: notes.log(caller, "nope", "INFO", "a"), NotFound, "task 'nope' is unknown"),
    (lambda notes, caller: notes.progress(caller, "nope", 1, "a"), NotFound, "task 'nope' is unknown"),
]


@pytest.mark.parametrize(("call", "error", "text"), FAULTY)
def test_faulty_calls(
    world: World, held: Caller, call: Callable[[Notes, Caller], object], error: type[FlovynError], text: str
) -> None:
    with pytest.raises(error) as caught:
        call(world.engine.notes, held)
    assert text in caught.value.message


def test_a_query_reads_the_state_that_was_recorded(world: World) -> None:
    run = world.start()
    world.activate(set_state("a", b"[1]"), set_state("b", b""), set_state("c"), suspend())
    world.signal(run)
    world.activate(set_state("a", b"[2]"), clear_state("c"), complete())
    answer = world.engine.queries.answer
    assert [answer(world.caller(), run, name) for name in "abc"] == [b"[2]", b"null", None]
    assert answer(world.caller(), run, "state") == answer(world.caller(), run, "__state") == b'{"a":[2],"b":null}'
    with pytest.raises(NotFound, match="workflow execution 'nope' is unknown"):
        answer(world.caller(), "nope", "a")
    with pytest.raises(NotFound, match="is unknown"):
        answer(world.caller(org="org-2"), run, "a")


def test_a_state_key_that_is_named_like_the_whole_wins(world: World) -> None:
    run = world.start()
    world.activate(set_state("state", b"5"), suspend())
    assert world.engine.queries.answer(world.caller(), run, "state") == b"5"
    assert world.engine.queries.answer(world.caller(), run, "__state") == b'{"state":5}'
