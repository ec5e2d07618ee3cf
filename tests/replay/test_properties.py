"""Whatever a program does and whatever happens around it: a replay sees what the run saw, and asks for the same."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from hypothesis import given, note, settings
from hypothesis import strategies as st

from flovyn.replay import Execution, Reenactment, Submission
from flovyn.replay.commands import (
    Command,
    CreatePromise,
    RequestCancelChild,
    ScheduleChild,
    ScheduleTask,
    StartTimer,
)
from flovyn.replay.events import EXTERNAL
from flovyn.replay.names import RESERVED
from flovyn.replay.operations import Operation, Pending
from house.source import ROOT
from replay.programs import AROUND, Interpreter, Program, looking, programs
from replay.replay_platform import evict
from replay.statements import without_patches
from replay.worlds import Conditions, Lived, World, scripts


class Doubled(World):
    """Each activation is run by the cached execution and by one made anew: they must not differ in anything."""

    def activated(self, lived: Lived, conditions: Conditions, submission: Submission) -> None:
        interpreter, execution = lived
        replayed, anew = self.fresh()
        for task in execution.tasks.answered:
            anew.tasks.answered[task] = None
        again = self.drive(anew, conditions)
        assert replayed.trace == interpreter.trace
        assert again == submission
        assert anew.tasks.owed() == execution.tasks.owed()

    def ended(self, lived: Lived, submission: Submission) -> None:
        note(f"ended as {submission.status.name} in activation {self.activations}")
        assert lived[1].kernel.tasks == ()
        assert lived[1].tasks.owed() == []
        # Every child that was given up, and has not ended, was asked to stop with the end at the latest.
        asked = {command.id for command in submission.commands if isinstance(command, RequestCancelChild)}
        assert {one.id for one in lived[1].children.requests(fenced=True)} == asked


@given(programs, scripts)
def test_a_replay_asks_for_the_same_at_every_activation(program: Program, script: bytes) -> None:
    Doubled(program, script).run()


@given(looking, scripts)
def test_the_clock_chance_state_signals_and_patches_read_the_same_on_replay(program: Program, script: bytes) -> None:
    Doubled(program, script).run()


@given(programs, scripts)
def test_a_replay_asks_for_the_same_behind_forks_holds_and_retries(program: Program, script: bytes) -> None:
    Doubled(program, script, forks=True).run()


class Remembered(World):
    """A replay of any beginning of the history is where the run was when the newest block in it was submitted."""

    def __init__(self, program: Program, script: bytes, *, forks: bool) -> None:
        super().__init__(program, script, forks=forks)
        self.truth: dict[str, list[Any]] = {}

    def activated(self, lived: Lived, conditions: Conditions, submission: Submission) -> None:
        self.truth[conditions.salt] = list(lived[0].trace)

    def check(self, cut: int) -> None:
        """Replay the first events of the history."""
        replayed, anew = self.fresh(cut)
        for _ in Reenactment(anew).slices():
            pass
        newest = anew.history.newest if anew.history.final is None else anew.history.final.marker
        assert replayed.trace == ([] if newest is None else self.truth[newest.id])
        evict()


@given(programs, scripts, st.booleans(), st.data())
def test_a_replay_of_any_beginning_of_a_history_is_where_the_run_was(
    program: Program, script: bytes, forks: bool, data: st.DataObject
) -> None:
    world = Remembered(program, script, forks=forks)
    world.run()
    for _ in range(3):
        world.check(data.draw(st.integers(1, len(world.platform.events)), label="cut behind"))


Begun = ScheduleTask | ScheduleChild | CreatePromise | StartTimer | Operation
"""What goes on by itself once it is begun. What is only written down, such as state, is no matter of cancellation."""


class Commands(list[Command]):
    """The commands of an activation, each looked at where the program asks for it."""

    def __init__(self, look: Callable[[object], None]) -> None:
        super().__init__()
        self._look = look

    def append(self, command: Command, /) -> None:
        self._look(command)
        super().append(command)


class Operations(Pending):
    """The operations of a run, likewise."""

    def __init__(self, look: Callable[[object], None]) -> None:
        super().__init__()
        self._look = look

    def __setitem__(self, index: int, operation: Operation, /) -> None:
        self._look(operation)
        super().__setitem__(index, operation)


class Watched(World):
    """Nothing is begun outside a shield once the workflow is cancelled."""

    def __init__(self, program: Program, script: bytes) -> None:
        super().__init__(program, script, cancelling=True)
        self._breaches: list[object] = []  # not raised: a program that swallows everything would swallow that, too

    def activating(self, execution: Execution) -> None:
        execution.journal.commands = Commands(self._look)
        if not isinstance(execution.pending, Operations):
            assert not execution.pending
            execution.pending = Operations(self._look)

    def activated(self, lived: Lived, conditions: Conditions, submission: Submission) -> None:
        assert isinstance(lived[1].journal.commands, Commands)
        assert isinstance(lived[1].pending, Operations)
        assert self._breaches == []

    def _look(self, begun: object) -> None:
        around = AROUND.get()
        if around is None or not isinstance(begun, Begun):
            return
        if isinstance(begun, StartTimer) and begun.timer_id.startswith(RESERVED):
            return
        ctx, scopes = around
        if ctx.is_cancellation_requested and not any(scope.shield for scope in scopes):
            self._breaches.append(begun)


@given(programs, scripts)
def test_after_a_cancellation_nothing_new_is_begun_outside_a_shield(program: Program, script: bytes) -> None:
    Watched(program, script).run()


class Tidy(World):
    """Where the server fences submissions, no timer is armed that the program does not wait for."""

    def accept(self, submission: Submission, read: int) -> bool:
        over = super().accept(submission, read)
        if not over and self.lived is not None:
            awaited = {timer.id for timer in self.lived[1].timers.awaited()}
            assert {timer for timer in self.platform.armed() if not timer.startswith(RESERVED)} <= awaited
        return over


@given(programs, scripts)
def test_where_the_server_fences_no_timer_is_armed_that_nobody_waits_for(program: Program, script: bytes) -> None:
    Tidy(program, script).run()


class Believed(World):
    """What does not count has no effect: no result of it is heard, and whatever it began is to be cancelled."""

    def activated(self, lived: Lived, conditions: Conditions, submission: Submission) -> None:
        execution = lived[1]
        history = self.platform.events[: execution.history.length]
        begun = self.begun(counting=False) - self.begun(counting=True)
        ended = {event.data.task or event.data.child for event in history if event.type in EXTERNAL}
        asked = {command.id for command in submission.commands if isinstance(command, RequestCancelChild)}
        for identity in begun - ended:
            assert identity in {*execution.tasks.owed(), *execution.tasks.answered} | asked or execution.result, (
                identity
            )

    def begun(self, *, counting: bool) -> set[str]:
        """Tasks and children of the blocks that count, or of those that do not."""
        blocks = [block for block in self.blocks if block.counts == counting]
        events = [event for block in blocks for event in self.platform.events[block.first - 1 : block.last]]
        tasks = {event.data.task for event in events if event.type == "TASK_SCHEDULED"}
        return tasks | {event.data.child for event in events if event.type == "CHILD_WORKFLOW_INITIATED"}

    def ended(self, lived: Lived, submission: Submission) -> None:
        heard = [observed[2] for observed in lived[0].trace if observed[0] == "task"]
        assert {self.values[value] for value in heard} <= self.begun(counting=True)


@given(programs, scripts)
def test_stale_forks_and_lost_and_repeated_submits_change_nothing_but_speed(program: Program, script: bytes) -> None:
    Believed(program, script, forks=True).run()


class Redeployed(Doubled):
    """The code is changed behind patches, in the middle of the run."""

    def __init__(self, program: Program, script: bytes, *, forks: bool) -> None:
        super().__init__(program, script, forks=forks)
        self._before = without_patches(program)
        self._changes_at = 1 + self.script.below(5)

    def interpreter(self) -> Interpreter:
        return Interpreter(self.program if self.activations > self._changes_at else self._before)

    def run(self) -> None:
        super().run()
        note(f"changed in activation {self._changes_at + 1} of {self.activations}")


def test_nothing_depends_on_the_order_of_hashes() -> None:
    examples = str(settings.get_profile(settings.get_current_profile_name()).max_examples)
    command = [sys.executable, "-m", "replay.digests", examples]
    digests: set[str] = set()
    for seed in ("0", "1", "random"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT / "tests")}
        run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert run.stderr == ""
        digests.add(run.stdout)
    (digest,) = digests
    assert re.fullmatch(r"[0-9a-f]{64}\n", digest)


@given(looking, scripts, st.booleans())
def test_code_that_changed_behind_patches_goes_on_with_every_run(program: Program, script: bytes, forks: bool) -> None:
    Redeployed(program, script, forks=forks).run()
