"""Whatever a program does and whatever happens around it: a replay sees what the run saw, and asks for the same."""

from __future__ import annotations

from typing import Any

from hypothesis import given, note
from hypothesis import strategies as st

from flovyn.replay import Execution, RunInfo, Submission
from flovyn.workflow import WorkflowContext
from replay.programs import Interpreter, programs
from replay.replay_platform import OPEN, WORKFLOW_ID, Platform, Status, drive

_ACTIVATIONS = 40


class World:
    """A worker with a cache, a platform, and whatever else happens, as Hypothesis draws it."""

    def __init__(self, program: tuple[Any, ...], data: st.DataObject) -> None:
        self.program = program
        self.data = data
        self.platform = Platform()
        self.salts = 0
        self.cached: tuple[Interpreter, Execution] | None = None

    def fresh(self) -> tuple[Interpreter, Execution]:
        interpreter = Interpreter(self.program)
        info = RunInfo(WORKFLOW_ID, "org", "program", "default", b"null")
        execution = Execution(interpreter.definition(), info, WorkflowContext)
        OPEN.append(execution)
        execution.load(self.platform.events)
        return interpreter, execution

    def current(self) -> tuple[Interpreter, Execution]:
        if self.cached is None:
            return self.fresh()
        _, execution = self.cached
        execution.load(self.platform.events[execution.history.length :])
        return self.cached if execution.is_current else self.fresh()

    def activate(self, *, calm: bool) -> Submission:
        """One activation, run by a cached execution and by one made anew: they must not differ in anything."""
        self.salts += 1
        salt = f"{self.salts:04x}"
        interpreter, execution = self.current()
        if execution.result is not None:
            self.send_cancels(execution)
            execution.load(self.platform.events[execution.history.length :])
        replayed, anew = self.fresh()
        for task in execution.tasks.answered:
            anew.tasks.answered[task] = None
        backwards = self.data.draw(st.booleans(), label="answers come in reverse order")
        late = self.data.draw(st.booleans(), label="bodies are too late for their deadlines")
        exhausted = not calm and self.data.draw(st.booleans(), label="has no share left")
        submission, again = (
            drive(run, self.platform.now_ms, salt, answer_last_first=backwards, exhausted=exhausted, late=late)
            for run in (execution, anew)
        )
        assert replayed.trace == interpreter.trace
        assert again == submission
        assert anew.tasks.owed() == execution.tasks.owed()
        self.cached = (interpreter, execution)
        return submission

    def send_cancels(self, execution: Execution) -> None:
        for task in execution.tasks.owed():
            execution.tasks.answered[task] = None
            if task not in execution.history.ended_tasks:
                self.platform.append("TASK_CANCELLED", taskExecutionId=task, kind="work")
                self.platform.append("TASK_FAILED", taskExecutionId=task, kind="work", error="Task cancelled")

    def outside(self, *, calm: bool) -> None:
        """Let something happen outside."""
        tasks = self.platform.tasks("work")
        timers = self.platform.armed()
        things = ["task"] * bool(tasks) + ["timer"] * bool(timers)
        if not calm:
            things += ["nothing", "cancel", "signal"]
        if not things:
            return
        match self.data.draw(st.sampled_from(things), label="outside"):
            case "task":
                nth = self.data.draw(st.integers(0, len(tasks) - 1))
                if self.data.draw(st.booleans()):
                    self.platform.complete("work", nth, nth=nth)
                else:
                    self.platform.fail("work", "ValueError: broken", nth=nth)
            case "timer":
                self.platform.fire_next()
            case "cancel":
                self.platform.append("CANCELLATION_REQUESTED", reason="enough")
            case "signal":
                self.platform.append("SIGNAL_RECEIVED", signalName="unheard")
            case _:
                pass


@given(programs, st.data())
def test_a_replay_asks_for_the_same_at_every_activation(program: tuple[Any, ...], data: st.DataObject) -> None:
    world = World(program, data)
    for number in range(_ACTIVATIONS):
        calm = number > 12
        submission = world.activate(calm=calm)
        match data.draw(
            st.sampled_from(["accepted"] * 6 + ([] if calm else ["lost", "late", "evicted"])), label="submit"
        ):
            case "lost":
                world.cached = None
                world.outside(calm=calm)
                continue
            case "late":
                world.outside(calm=calm)  # lands after the read and before the submit
            case "evicted":
                world.platform.accept(submission)
                world.cached = None
            case _:
                pass
        if world.cached is not None:
            world.platform.accept(submission)
        if submission.status is not Status.SUSPENDED:
            note(f"ended as {submission.status.name} in activation {number + 1}")
            return
        _, execution = world.current()
        if world.cached is not None and data.draw(st.booleans(), label="the worker lives to send its cancels"):
            world.send_cancels(execution)
        world.outside(calm=calm)
    raise AssertionError("the program never came to an end")
