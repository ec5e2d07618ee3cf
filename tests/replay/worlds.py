"""Worlds around one run: a worker with a cache, a platform, and whatever else a script has happen.

What a script of bytes does not say any more goes well: everything is accepted, answered and resolved, so every program
comes to its end in a world whose script is at its end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from hypothesis import strategies as st

from flovyn.errors import DeterminismError, UsageError
from flovyn.replay import Execution, Reenactment, RunInfo, Status, Submission
from flovyn.replay.commands import RecordOperation
from flovyn.replay.events import EXTERNAL
from flovyn.replay.fault import hold
from flovyn.replay.marker import Marker
from flovyn.replay.waits import SIGNAL
from flovyn.workflow import WorkflowContext
from flovyn.workflow.queries import answer
from replay.programs import Interpreter, Program
from replay.replay_platform import OPEN, WORKFLOW_ID, Platform, drive, evict

__all__ = ["Conditions", "Lived", "Placed", "Script", "World", "scripts"]

T = TypeVar("T")
Lived = tuple[Interpreter, Execution]

_ACTIVATIONS: Final = 250
_STEPS: Final = 5_000
"""No program here needs more for an activation."""

scripts = st.binary(min_size=100, max_size=300)
"""What a world is made of."""


class Script:
    """Decisions, one byte each; at its end the first choice is always taken."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._next = 0

    @property
    def spent(self) -> bool:
        return self._next >= len(self._data)

    def below(self, end: int) -> int:
        if self.spent or end == 1:
            return 0
        self._next += 1
        return self._data[self._next - 1] % end

    def pick(self, choices: Sequence[T]) -> T:
        return choices[self.below(len(choices))]

    def flip(self, one_in: int = 2) -> bool:
        return self.below(one_in) == one_in - 1 and not self.spent


@dataclass(frozen=True)
class Conditions:
    """How an activation is driven."""

    salt: str
    backwards: bool
    late: bool
    exhausted: bool


@dataclass
class Placed:
    """A submission that the platform has taken; `first` and `last` are sequence numbers."""

    submission: Submission
    first: int
    last: int
    counts: bool
    read: int
    """How much of the history the activation had read."""


class World:
    """A run of a program from its beginning to its end.

    Attributes:
        lived: The cached execution, if there is one.
        blocks: What the platform has taken, in order; which of them count is what rule 5 says of them.
        chain: Where the last one ends that counts.
        cancelling: Whether somebody is set on cancelling the workflow.
        values: The results of tasks, by value; no two tasks have the same.
    """

    def __init__(self, program: Program, script: bytes, *, forks: bool = False, cancelling: bool = False) -> None:
        self.program = program
        self.script = Script(script)
        self.forks = forks
        self.cancelling = cancelling
        self.info = RunInfo(WORKFLOW_ID, "org", "program", "default", b"null")
        self.platform = Platform()
        self.lived: Lived | None = None
        self.blocks: list[Placed] = []
        self.chain = 0
        self.values: dict[int, str] = {}
        self.activations = 0
        self._astray: list[tuple[Submission, int]] = []
        self._claimed = 0  # how much the activation had read whose submission was taken last
        self._free = True  # whether a worker may have the run though nothing has happened to it

    # --- what properties look at ------------------------------------------------------------

    def activating(self, execution: Execution) -> None:
        """An activation is about to be run."""

    def activated(self, lived: Lived, conditions: Conditions, submission: Submission) -> None:
        """An activation was run, and nothing has become of it yet."""

    def ended(self, lived: Lived, submission: Submission) -> None:
        """The run is over, by this submission."""

    # --- life -------------------------------------------------------------------------------

    def run(self) -> None:
        """Live to the end."""
        try:
            self._live()
        finally:
            evict()

    def _live(self) -> None:
        for _ in range(_ACTIVATIONS):
            lived, submission = self._activate()
            if self._submit(submission, lived[1].history.length):
                self.ended(lived, submission)
                return
            if self.lived is not None:
                self._query(self.lived)
                if not self.script.flip(3):
                    self.send_cancels(self.lived[1])
            if self._until_awake():
                return
        raise AssertionError("the program never came to an end")

    @property
    def awake(self) -> bool:
        """Whether a worker that asks for work is given the run."""
        return self._free or any(event.type in EXTERNAL for event in self.platform.events[self._claimed :])

    def _until_awake(self) -> bool:
        """Let things happen until the run can go on; whether one of them ended it."""
        if self._outside():
            return True
        while not self.awake:
            if self._outside():
                return True
        return False

    def interpreter(self) -> Interpreter:
        """The code of the workflow, as it is deployed at this moment."""
        return Interpreter(self.program)

    def fresh(self, length: int | None = None) -> Lived:
        """The run as a worker sees it that has never had it, with all of the history or its first events."""
        interpreter = self.interpreter()
        execution = Execution(interpreter.definition(), self.info, WorkflowContext, step_limit=_STEPS)
        OPEN.append(execution)
        execution.load(self.platform.events[:length])
        return interpreter, execution

    def drive(self, execution: Execution, conditions: Conditions) -> Submission:
        """Run an activation."""
        return drive(
            execution,
            self.platform.now_ms,
            conditions.salt,
            answer_last_first=conditions.backwards,
            late=conditions.late,
            exhausted=conditions.exhausted,
            fenced=not self.forks,
        )

    def evict(self) -> None:
        """The cache forgets the run."""
        if self.lived is not None:
            execution = self.lived[1]
            self.lived = None
            execution.close()
            assert execution.kernel.tasks == ()
            OPEN.remove(execution)

    def _current(self) -> Lived:
        if self.lived is not None:
            interpreter, execution = self.lived
            execution.load(self.platform.events[execution.history.length :])
            if execution.is_current and interpreter.program is self.interpreter().program:
                return self.lived
            self.evict()
        return self.fresh()

    def _activate(self) -> tuple[Lived, Submission]:
        self.activations += 1
        self._free = False
        lived = self._current()
        execution = lived[1]
        if execution.result is not None:
            self.send_cancels(execution)
            execution.load(self.platform.events[execution.history.length :])
        conditions = Conditions(f"{self.activations:04x}", self.script.flip(), self.script.flip(4), self.script.flip(6))
        self.activating(execution)
        submission = self.drive(execution, conditions)
        self.lived = lived
        self.activated(lived, conditions, submission)
        return lived, submission

    def _submit(self, submission: Submission, read: int) -> bool:
        """Let become of a submission what becomes of it; whether it has ended the run."""
        ways = ["accepted"] * 5 + ["late", "late", "lost", "unheard"]
        if self.forks:
            ways += ["astray", "astray", "twice", "again later"]
        way = self.script.pick(ways)
        if way in {"lost", "astray"}:
            if way == "astray":
                self._astray.append((submission, read))
            self.evict()
            self._free = True
            return False
        if way == "late":
            self._happen()  # lands after the read and before the submit
        over = self.accept(submission, read)
        if way == "twice" and not over:
            over = self.accept(submission, read)
        elif way == "again later":
            self._astray.append((submission, read))
        elif way == "unheard":
            self.evict()
        return over

    def accept(self, submission: Submission, read: int) -> bool:
        """Take a submission, as a server without fencing does; whether it has ended the run."""
        first = len(self.platform.events) + 1
        self.platform.accept(submission)
        self._claimed, self._free = read, False
        placed = Placed(submission, first, len(self.platform.events), counts=False, read=read)
        head = submission.commands[0]
        assert isinstance(head, RecordOperation)
        marker = Marker.decode(head.result)
        over = submission.status is not Status.SUSPENDED
        if over or marker.after == self.chain:
            for block in self.blocks:
                block.counts = block.counts and block.last <= marker.after
            placed.counts, self.chain = True, placed.last
        self.blocks.append(placed)
        if over and self.forks and submission.status is Status.FAILED and self.script.flip():
            # Somebody retries it. What comes next follows the end, of which nothing counts.
            placed.counts = over = False
            self.platform.reopen()
            self._free = True
        return over

    def send_cancels(self, execution: Execution) -> None:
        """Send the CancelTask calls that are owed."""
        for task in execution.tasks.owed():
            execution.tasks.answered[task] = None
            if task in self.platform.open_tasks():
                kind = self.platform.kind_of(task)
                self.platform.append("TASK_CANCELLED", taskExecutionId=task, kind=kind)
                self.platform.append("TASK_FAILED", taskExecutionId=task, kind=kind, error="Task cancelled")

    def _query(self, lived: Lived) -> None:
        """Ask, which must change nothing."""
        if self.program.handlers and self.script.flip(3):
            for name in ("look", "meddle"):
                try:
                    told = answer(lived[1], name, b"null")
                except UsageError as error:
                    assert "query" in str(error) or "not begun" in str(error), error
                else:
                    assert (name, told) == ("look", str(len(lived[0].trace)).encode())

    # --- what happens outside ---------------------------------------------------------------

    def _outside(self) -> bool:
        """Let something happen, between activations; whether it ended the run."""
        if self.script.spent:
            self._everything()
            return False
        for _ in range(self.script.below(4)):
            self._happen()
        if self._astray and self.script.flip(3):
            return self.accept(*self._astray.pop(self.script.below(len(self._astray))))
        if self.forks and self.script.flip(12):
            self._hold()
        return False

    def _everything(self) -> None:
        """All that is open ends well; if nothing is, time goes on; if it stands still, signals come."""
        platform = self.platform
        tasks, children, promises = platform.open_tasks(), platform.open_children(), platform.open_promises()
        for task in tasks:
            self._end_task(task, "complete")
        for name, child in children:
            asked = any(one.id == child for one in platform.asked)
            self._end_child((name, child), "cancel" if asked else "complete")
        for name in promises:
            platform.resolve(name, 8)
        if tasks or children or promises:
            return
        if platform.armed():
            platform.fire_next()
        elif not self.awake:
            waits = self._waits()
            assert SIGNAL in waits, f"nothing can wake the run any more, and it waits for {waits}"
            for name in "ab":
                platform.signal(name, len(platform.events))

    def _waits(self) -> list[str]:
        _, execution = self.fresh()
        for _ in Reenactment(execution).slices():
            pass
        return list(execution.waits.values())

    def _happen(self) -> None:
        """One thing happens."""
        platform, pick = self.platform, self.script.pick
        tasks, children, promises = platform.open_tasks(), platform.open_children(), platform.open_promises()
        things: list[Callable[[], object]] = [lambda: platform.signal(pick("abhi"), len(platform.events))]
        if tasks:
            ways = ["complete"] * 4 + ["fail", "cancel", "time out"]
            things += [lambda: self._end_task(pick(tasks), pick(ways))] * 3
        if children:
            things += [lambda: self._end_child(pick(children), pick(["complete", "complete", "fail", "cancel"]))] * 2
        if promises:
            things += [lambda: self._end_promise(pick(promises), pick(["resolve", "resolve", "reject", "expire"]))] * 2
        if platform.armed():
            things += [platform.fire_next] * 3
        things.append(lambda: platform.signal("unheard"))
        things.append(self._end_again)
        if self.cancelling or self.script.flip():
            things.append(lambda: platform.request_cancel(pick(["enough", ""])))
        pick(things)()

    def _end_task(self, task: str, how: str) -> None:
        kind = self.platform.kind_of(task)
        if how == "complete":
            value = len(self.platform.events) + 1
            self.values[value] = task
            self.platform.append("TASK_COMPLETED", taskExecutionId=task, output=value, kind=kind)
        elif how == "cancel":
            self.platform.append("TASK_CANCELLED", taskExecutionId=task, kind=kind)
        else:
            error = "ValueError: broken" if how == "fail" else "Task timed out"
            self.platform.append("TASK_FAILED", taskExecutionId=task, error=error, kind=kind)

    def _end_child(self, named: tuple[str, str], how: str) -> None:
        name, child = named
        match how:
            case "complete":
                self.platform.complete_child(name, len(self.platform.events), child_id=child)
            case "fail":
                self.platform.fail_child(name, "ValueError: broken", child_id=child)
            case _:
                self.platform.cancel_child(name, "not wanted", child_id=child)

    def _end_promise(self, name: str, how: str) -> None:
        match how:
            case "resolve":
                self.platform.resolve(name, len(self.platform.events))
            case "reject":
                self.platform.reject(name, "no")
            case _:
                self.platform.expire(name)

    def _end_again(self) -> None:
        """A second end of something, which a server that was restored may tell: the first one counts."""
        ended = [event.data.task for event in self.platform.events if event.type == "TASK_COMPLETED"]
        if ended:
            self.platform.append("TASK_FAILED", taskExecutionId=self.script.pick(ended), error="too late", kind="work")

    def _hold(self) -> None:
        """A worker whose code disagrees with the history has nothing to say."""
        salt = f"hold{len(self.platform.events)}"
        self._claimed, self._free = len(self.platform.events), False
        self.platform.accept(hold(DeterminismError("other code"), at_ms=self.platform.now_ms, salt=salt, holds=0))
