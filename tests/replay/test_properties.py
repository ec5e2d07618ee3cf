"""Whatever a program does and whatever happens around it: a replay sees what the run saw, and asks for the same."""

from __future__ import annotations

from hypothesis import given, note

from flovyn.replay import Submission
from replay.programs import Program, programs
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


@given(programs, scripts)
def test_a_replay_asks_for_the_same_at_every_activation(program: Program, script: bytes) -> None:
    Doubled(program, script).run()
