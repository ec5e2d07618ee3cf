"""One activation of a run: re-enact what is past, then show the program what is new until nothing can move.

An activation is driven from outside. `slices` does the work, piece by piece, so that the host can attend to other
things in between; where it stops before the end, bodies of operations are running, and each answer is handed in by
`complete`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from enum import Enum, auto
from typing import TYPE_CHECKING, Final

from flovyn.replay.commands import Command, RecordOperation, SuspendWorkflow
from flovyn.replay.marker import Marker
from flovyn.replay.names import ACTIVATION
from flovyn.replay.records import Answer, Cancelled, Deadline, read_answer, write_answer
from flovyn.replay.reserved import reserved_commands
from flovyn.replay.submission import Status, Submission

if TYPE_CHECKING:
    from flovyn.replay.events import Event
    from flovyn.replay.execution import Execution
    from flovyn.replay.history import Block
    from flovyn.replay.operations import Operation
    from flovyn.replay.timers import Timer

__all__ = ["Activation"]

_SLICE_STEPS: Final = 256
"""Scheduler steps in a slice: well under a millisecond of an ordinary program."""


class _Pause(Enum):
    SLICE = auto()
    HOST = auto()


_Work = Generator[_Pause, None, None]


class Activation:
    """The live activation of an execution, with all that has to be re-enacted before it.

    Args:
        execution: The run; its history has been read.
        at_ms: The clock of the activation, epoch milliseconds.
        salt: A random id.

    Attributes:
        starting: Operations whose bodies the host must run now; the host takes them out.
        finished: Whether nothing can move any more and no body is running: the submission can be made.
    """

    def __init__(self, execution: Execution, *, at_ms: int, salt: str) -> None:
        self.starting: list[Operation] = []
        self.finished: bool = False
        self._execution = execution
        self._at_ms = at_ms
        self._salt = salt
        self._exhausted = False
        self._stopped = False
        self._delivered = 0
        self._more = False
        self._answers: deque[tuple[Operation, Answer]] = deque()
        self._order: list[int] = []
        self._recorded_order: deque[int] = deque()
        self._work = self._run()

    # --- for the host -----------------------------------------------------------------------

    def slices(self) -> Iterator[None]:
        """Move on until nothing can move; yields now and then, for the host to breathe.

        Raises:
            DeterminismError: The code disagrees with its history, reached outside, or does not come to rest.
        """
        for pause in self._work:
            if pause is _Pause.HOST:
                return
            yield
        self.finished = True

    def complete(self, operation: Operation, answer: Answer) -> None:
        """Hand in how a body ended; one that the program has given up meanwhile is not heard any more."""
        if operation.answer is None:
            self._answers.append((operation, answer))

    def exhaust(self) -> None:
        """This activation has used its share: no further body is started, the calls left over come first next time."""
        self._exhausted = True

    def remaining(self, timer: Timer, elapsed: float) -> float:
        """How long the body of an operation may still run under the timer of a deadline.

        The workflow's clock stands still while bodies run, and it is the server's, not the host's. So the host measures
        from where the program set the deadline, or from where the activation began if that was later.

        Args:
            timer: One of `Operation.guards`, which the host sees for the first time.
            elapsed: Seconds since the activation began, on the host's clock.

        Returns:
            Seconds; negative if the deadline has passed.
        """
        if timer.activation == self._execution.journal.activation:
            return timer.due - timer.started
        return timer.due - self._began - elapsed

    def submission(self) -> Submission:
        """What the activation hands to the server; call it once, when it is finished."""
        execution = self._execution
        result, owed = execution.result, execution.owed()
        # An end that would leave cancels is put off: the next activation sends them, then ends (rule 8). It comes at
        # once, unless they have been tried already, and the server could not answer.
        ending = result is not None and not owed
        untried = len(owed) > len(execution.owed(before=execution.journal.activation))
        commands: list[Command] = [RecordOperation(ACTIVATION, self._marker().encode())]
        commands += [
            RecordOperation(operation.name, write_answer(operation.answer))
            for operation in execution.unrecorded()
            if operation.answer is not None
        ]
        commands += execution.journal.commands
        if result is not None and ending:
            return Submission((*commands, result), Status.of(result))
        commands += reserved_commands(
            execution.history,
            execution.timers,
            activation=execution.journal.activation,
            salt=self._salt,
            now=execution.kernel.now,
            soon=bool(execution.pending) or (result is not None and untried),
            owed=bool(owed),
        )
        return Submission((*commands, SuspendWorkflow(execution.waiting())), Status.SUSPENDED)

    # --- the work ---------------------------------------------------------------------------

    def _run(self) -> _Work:
        execution = self._execution
        for block in execution.history.kept[execution.journal.activation :]:
            yield from self._reenact(block)
        history, journal = execution.history, execution.journal
        self._after = history.last
        self._began = max(execution.kernel.now, self._at_ms / 1000)
        journal.salt = self._salt
        journal.commands = []
        yield from self._activate(execution.horizon(history.length), self._at_ms, live=True)
        execution.see(max(execution.seen, self._delivered) if self._stopped else history.length)

    def _reenact(self, block: Block) -> _Work:
        marker, execution = block.marker, self._execution
        assert marker is not None  # only blocks with one are kept
        self._recorded_order = deque(marker.ops)
        self._more = marker.more
        yield from self._activate(execution.horizon(marker.seen), marker.at, live=False)
        execution.see(marker.seen)
        execution.journal.check_used_up()

    def _activate(self, events: list[Event], at_ms: int, *, live: bool) -> _Work:
        execution = self._execution
        kernel, journal = execution.kernel, execution.journal
        journal.activation += 1
        journal.live = live
        kernel.steps = 0
        kernel.now = max(kernel.now, at_ms / 1000)
        if journal.activation == 1:
            # The whole first horizon is there before the first step: a signal sent with the start is seen at once.
            for event in events:
                execution.deliver(event)
                self._delivered = event.sequence
            events = []
            execution.start()
        yield from self._settle()
        for event in events:
            # Most events move the program by a few steps only: a long history is long by their number.
            yield _Pause.SLICE
            if execution.result is not None or self._stopped:
                return
            execution.deliver(event)
            self._delivered = event.sequence
            yield from self._settle()

    def _settle(self) -> _Work:
        """Run to quiescence, and answer every operation before anything else happens (rule 2)."""
        execution = self._execution
        kernel, pending = execution.kernel, execution.pending
        while True:
            while not kernel.run(_SLICE_STEPS):
                yield _Pause.SLICE
            execution.raise_crash()
            if execution.journal.poison is not None:
                raise execution.journal.poison
            if pending:
                self._drop_given_up(pending)
            if not pending:
                return
            if execution.journal.live:
                self._start(pending)
                if not any(operation.started for operation in pending):
                    self._stopped = True
                    return
                while not self._answers:
                    yield _Pause.HOST
                operation, answer = self._answers.popleft()
                if operation.answer is not None:
                    continue
                self._order.append(operation.index)
            else:
                recorded = self._recorded_answer(pending)
                if recorded is None:
                    return
                operation, answer = recorded
            self._answer(operation, answer)
            yield _Pause.SLICE

    def _start(self, pending: list[Operation]) -> None:
        if not self._exhausted:
            for operation in pending:
                if not operation.started:
                    operation.started = True
                    self.starting.append(operation)

    def _answer(self, operation: Operation, answer: Answer) -> None:
        execution = self._execution
        execution.pending.remove(operation)
        operation.answer = answer
        if not isinstance(answer, Deadline):
            execution.kernel.wake(operation.task)
            return
        timer = execution.timers.get(answer.timer_id)
        if timer is None or timer.scope is None:
            execution.journal.violate(
                f"operation {operation.index} ended by the deadline {answer.timer_id}, which guards no scope",
                expected=answer.timer_id,
                got=None,
            )
        execution.kernel.now = max(execution.kernel.now, timer.due)
        timer.scope.cancel()
        if not operation.given_up:
            execution.journal.violate(
                f"operation {operation.index} ended by the deadline {answer.timer_id}, which does not reach it",
                expected=answer.timer_id,
                got=None,
            )

    def _drop_given_up(self, pending: list[Operation]) -> None:
        journal = self._execution.journal
        for operation in [operation for operation in pending if operation.given_up]:
            pending.remove(operation)
            recorded = journal.answer(operation.index)
            if recorded is not None and not isinstance(read_answer(recorded.event.data.result), Cancelled):
                journal.violate(
                    f"operation {operation.index} was cancelled by the code, history has its end",
                    expected=operation.name,
                    got="cancelled",
                )

    def _recorded_answer(self, pending: list[Operation]) -> tuple[Operation, Answer] | None:
        journal = self._execution.journal
        here: list[tuple[Operation, Answer]] = []
        for operation in pending:
            recorded = journal.answer(operation.index)
            if recorded is not None and recorded.activation <= journal.activation:
                answer = read_answer(recorded.event.data.result)
                if not isinstance(answer, Cancelled):
                    here.append((operation, answer))
        if not here:
            if not self._more:
                operation = pending[0]
                journal.violate(
                    f"operation {operation.index} has no record: activation {journal.activation} did not call it",
                    expected=None,
                    got=operation.name,
                )
            return None
        if not self._recorded_order:
            return here[0]
        index = self._recorded_order.popleft()
        for operation, answer in here:
            if operation.index == index:
                return operation, answer
        return journal.violate(
            f"operation {index} was answered here, the code does not wait for it", expected=None, got=None
        )

    def _marker(self) -> Marker:
        return Marker(
            id=self._salt,
            after=self._after,
            seen=self._execution.seen,
            at=self._at_ms,
            ops=() if self._order == sorted(self._order) else tuple(self._order),
            more=bool(self._execution.pending),
        )
