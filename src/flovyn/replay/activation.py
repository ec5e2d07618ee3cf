"""One activation of a run: re-enact what is past, then show the program what is new until nothing can move."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from flovyn.replay.commands import Command, FailWorkflow, RecordOperation, SuspendWorkflow
from flovyn.replay.marker import Marker
from flovyn.replay.names import ACTIVATION
from flovyn.replay.records import Answer, write_answer
from flovyn.replay.reenactment import Pause, Reenactment, Work
from flovyn.replay.reserved import reserved_commands
from flovyn.replay.submission import Status, Submission

if TYPE_CHECKING:
    from collections.abc import Generator

    from flovyn.replay.execution import Execution
    from flovyn.replay.operations import Operation
    from flovyn.replay.timers import Timer

__all__ = ["Activation"]


class Activation(Reenactment):
    """The live activation of an execution, with all that has to be re-enacted before it.

    Where `slices` stops before the end, bodies of operations are running, and each answer is handed in by `complete`.

    Args:
        execution: The run; its history has been read.
        at_ms: The clock of the activation, epoch milliseconds.
        salt: A random id.
        fenced: Whether the server takes no submission but that of whoever has the claim, so that there are no forks.

    Attributes:
        starting: Operations whose bodies the host must run now; the host takes them out.
        finished: Whether nothing can move any more and no body is running: the submission can be made.
    """

    def __init__(self, execution: Execution, *, at_ms: int, salt: str, fenced: bool = False) -> None:
        super().__init__(execution, at_ms=at_ms)
        self.starting: list[Operation] = []
        self._salt = salt
        self._fenced = fenced
        self._exhausted = False
        self._answers: deque[tuple[Operation, Answer]] = deque()
        self._order: list[int] = []

    # --- for the host -----------------------------------------------------------------------

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
        result, owed, activation = execution.result, execution.tasks.owed(), execution.journal.activation
        # A failure may be retried from outside, and is then made anew: what it decided must not have happened.
        fails = isinstance(result, FailWorkflow)
        children = execution.children.undecided and (fails or not self._fenced)
        # An end that would leave cancels is put off: the next activation sends them, then ends (rule 8). It comes at
        # once, unless they have been tried already, and the server could not answer.
        ending = result is not None and not owed and not children
        untried = len(owed) > len(execution.tasks.owed(before=activation))
        commands: list[Command] = [RecordOperation(ACTIVATION, self._marker().encode())]
        commands += [
            RecordOperation(operation.name, write_answer(operation.answer))
            for operation in execution.unrecorded()
            if operation.answer is not None
        ]
        commands += execution.journal.commands
        commands += execution.children.requests(fenced=self._fenced)
        if result is not None and ending:
            return Submission((*commands, result), Status.of(result))
        commands += reserved_commands(
            execution.history,
            execution.timers,
            activation=activation,
            salt=self._salt,
            now=execution.kernel.now,
            soon=bool(execution.pending) or children or (result is not None and untried),
            owed=bool(owed),
            fenced=self._fenced,
        )
        return Submission((*commands, SuspendWorkflow(execution.waiting())), Status.SUSPENDED)

    # --- the work ---------------------------------------------------------------------------

    def _run(self) -> Work:
        execution = self._execution
        yield from self._reenact_all()
        history, journal = execution.history, execution.journal
        history.reopen()
        self._after = history.last
        self._began = max(execution.kernel.now, self._at_ms / 1000)
        journal.salt = self._salt
        journal.commands.clear()
        journal.live = True
        yield from self._activate(execution.horizon(history.length), self._at_ms)
        self._see(max(execution.seen, self._delivered) if self._stopped else history.length)

    def _answered(self) -> Generator[Pause, None, tuple[Operation, Answer] | None]:
        if not self._execution.journal.live:
            return self._recorded_answer()
        answered = self._first_recorded()  # by a worker without markers
        if answered is None:
            self._start()
            if not self._execution.pending.first.started:  # nor is any that was called later
                self._stopped = True
                return None
            answered = yield from self._ended()
        self._order.append(answered[0].index)
        return answered

    def _ended(self) -> Generator[Pause, None, tuple[Operation, Answer]]:
        """The next body that has ended, unless the program has given it up meanwhile."""
        while True:
            while not self._answers:
                yield Pause.HOST
            operation, answer = self._answers.popleft()
            if operation.answer is None:
                return operation, answer

    def _start(self) -> None:
        if self._exhausted:
            return
        called: list[Operation] = []
        for operation in reversed(self._execution.pending.values()):
            if operation.started:
                break  # and so are those that were called before it
            operation.started = True
            called.append(operation)
        self.starting += reversed(called)

    def _marker(self) -> Marker:
        return Marker(
            id=self._salt,
            after=self._after,
            seen=self._execution.seen,
            at=self._at_ms,
            ops=() if self._order == sorted(self._order) else tuple(self._order),
            more=bool(self._execution.pending),
        )
