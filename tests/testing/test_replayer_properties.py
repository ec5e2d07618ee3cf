"""Whatever a program does and whatever happens around it: its own history is equal to it, at every point."""

from __future__ import annotations

import dataclasses
from typing import Any

from hypothesis import given, note
from hypothesis import strategies as st

from flovyn.nursery import Tripwires
from flovyn.replay import Status
from flovyn.testing import History, Replayer
from flovyn.testing.replayer.run import Run as Replaying
from replay.programs import Interpreter, programs
from replay.replay_platform import Run, drive
from testing.recording import Recorder, evict, history_of, recorded

_ACTIVATIONS = 30


def lived(program: tuple[Any, ...], data: st.DataObject) -> Run:
    """A run of a program to its end, or for some time."""
    run = recorded(Interpreter(program).definition())
    assert isinstance(run.platform, Recorder)
    for number in range(_ACTIVATIONS):
        calm = number > 12
        execution = run.execution
        execution.load(run.platform.events[execution.history.length :])
        submission = drive(
            execution,
            run.platform.now_ms,
            f"{number:04x}",
            answer_last_first=data.draw(st.booleans()),
            exhausted=not calm and data.draw(st.booleans()),
            late=data.draw(st.booleans()),
        )
        for _ in range(0 if calm else data.draw(st.integers(0, 1))):
            outside(run.platform, data)  # lands after the read and before the submit
        if not calm and data.draw(st.integers(0, 7)) == 7:
            run.execution = run.rebuilt()  # the submission is lost
            continue
        run.platform.accept(submission)
        if submission.status is not Status.SUSPENDED:
            return run
        if not run.platform.armed() and not run.platform.tasks("work"):
            return run
        outside(run.platform, data)
    return run


def outside(platform: Recorder, data: st.DataObject) -> None:
    """Let something happen."""
    tasks, timers = platform.tasks("work"), platform.armed()
    match data.draw(st.sampled_from([*["task"] * bool(tasks), *["timer"] * bool(timers), "cancel"])):
        case "task":
            platform.complete("work", 1, nth=data.draw(st.integers(0, len(tasks) - 1)))
        case "timer":
            platform.fire_next()
        case _:
            if data.draw(st.booleans()):
                platform.append("CANCELLATION_REQUESTED", reason="enough")


@given(programs, st.data())
def test_the_history_of_a_program_is_equal_to_it_and_so_is_what_it_does_again(
    program: tuple[Any, ...], data: st.DataObject
) -> None:
    try:
        history = history_of(lived(program, data))
    finally:
        evict()
    note(history.to_json())
    replayer = Replayer([Interpreter(program).definition()])
    length = data.draw(st.integers(1, len(history.events)), label="cut after")
    for one in (history, dataclasses.replace(history, events=history.events[:length])):
        report = replayer.replay(History.from_json(one.to_json()))
        assert report.status == "equal", f"{report}\n{report.trace}"
    # Each activation by itself, as if the code had changed in it: no line of the two streams differs.
    run = Replaying(Interpreter(program).definition(), history, tripwires=Tripwires(), step_limit=100_000)
    run.replay()
    for done in range(run.done):
        run.done = done
        parting = run.parting()
        assert parting is not None
        assert [line for line in parting.diff.splitlines()[2:] if line[0] in "+-"] == [], parting.diff


@given(programs, programs, st.data())
def test_a_program_that_is_held_against_another_ones_history_never_breaks_the_replayer(
    program: tuple[Any, ...], other: tuple[Any, ...], data: st.DataObject
) -> None:
    try:
        history = history_of(lived(program, data))
    finally:
        evict()
    report = Replayer([Interpreter(other).definition()]).replay(history)
    assert report.status in {"equal", "violation"}, report.trace
    if report.status == "violation":
        assert report.events is not None
        assert report.diff.startswith(f"--- history: activation {report.activations + 1}, events {report.events[0]} to")
