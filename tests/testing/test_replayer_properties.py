"""Whatever a program does and whatever happens around it: its own history is equal to it, at every point."""

from __future__ import annotations

import dataclasses

from hypothesis import given, note
from hypothesis import strategies as st

from flovyn.nursery import Tripwires
from flovyn.testing import History, Replayer
from flovyn.testing.replayer.run import Run as Replaying
from replay.programs import Interpreter, Program, programs
from replay.replay_platform import evict
from replay.worlds import World, scripts
from testing.recording import history_of


def lived(program: Program, script: bytes, *, forks: bool = False) -> World:
    """A run of a program from its beginning to its end."""
    world = World(program, script, forks=forks)
    world.run()
    return world


@given(programs, scripts, st.booleans(), st.data())
def test_the_history_of_a_program_is_equal_to_it_and_so_is_what_it_does_again(
    program: Program, script: bytes, forks: bool, data: st.DataObject
) -> None:
    try:
        history = history_of(lived(program, script, forks=forks))
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


@given(programs, programs, scripts)
def test_a_program_that_is_held_against_another_ones_history_never_breaks_the_replayer(
    program: Program, other: Program, script: bytes
) -> None:
    try:
        history = history_of(lived(program, script))
    finally:
        evict()
    report = Replayer([Interpreter(other).definition()]).replay(history)
    assert report.status in {"equal", "violation"}, report.trace
    if report.status == "violation":
        assert report.events is not None
        assert report.diff.startswith(f"--- history: activation {report.activations + 1}, events {report.events[0]} to")
