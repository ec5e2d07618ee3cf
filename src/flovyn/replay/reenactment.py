"""Re-enacting a run: what its activations saw, one event at a time, and what they did about it.

A re-enactment is driven from outside: `slices` does the work piece by piece, so that the host can attend to other
things in between.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from enum import Enum, auto
from typing import TYPE_CHECKING, Final

from flovyn.replay.records import Answer, Cancelled, Deadline, read_answer

if TYPE_CHECKING:
    from flovyn.replay.events import Event
    from flovyn.replay.execution import Execution
    from flovyn.replay.history import Block
    from flovyn.replay.operations import Operation

__all__ = ["Pause", "Reenactment", "Work"]

_SLICE: Final = 32
"""How much is done before the host may breathe, in events: less than a millisecond of an ordinary program."""

_STEPS: Final = 256
"""As many scheduler steps weigh as much as a whole slice."""

_EVENT_BYTES: Final = 16_384
"""A payload of this size weighs as much as one more event: it may have to be decoded."""


class Pause(Enum):
    """Why the work stops for a moment.

    Attributes:
        EVENT: An event was dealt with.
        STEPS: The program has made many steps without coming to rest.
        HOST: Nothing can move before the host has the answer of an operation.
    """

    EVENT = auto()
    STEPS = auto()
    HOST = auto()


Work = Generator[Pause, None, None]


class Reenactment:
    """Everything that the activations of a run have done, and nothing more.

    No event is delivered that no activation has seen. What a worker without markers wrote is re-enacted as one
    activation, as far as it goes, if no activation of this SDK has followed it.

    Args:
        execution: The run; its history has been read. Afterwards it stands where its last activation left it.
        at_ms: The clock, epoch milliseconds, where history has none: of what a worker without markers wrote.

    Attributes:
        finished: Whether everything is re-enacted.

    Example:
        ```python
        from flovyn.replay import Execution, Reenactment

        def where_it_stands(execution: Execution) -> str:
            for _ in Reenactment(execution).slices():
                pass
            return execution.waiting()
        ```
    """

    def __init__(self, execution: Execution, *, at_ms: int = 0) -> None:
        self.finished: bool = False
        self._execution = execution
        self._at_ms = at_ms
        self._delivered = 0
        self._stopped = False
        self._more = False
        self._recorded_order: deque[int] = deque()
        self._weight = 0
        self._work = self._run()

    def slices(self) -> Iterator[None]:
        """Move on until nothing can move; yields now and then, for the host to breathe.

        Raises:
            DeterminismError: The code disagrees with its history, reached outside, or does not come to rest.
        """
        kernel = self._execution.kernel
        while True:
            # The host is hidden once for a slice, not for every event in it; when it gets its turn, it is all there.
            with kernel.activation():
                pause = self._slice()
            if pause is None:
                self.finished = True
                return
            if pause is Pause.HOST:
                return
            yield

    def _slice(self) -> Pause | None:
        self._weight = 0
        for pause in self._work:
            if pause is not Pause.EVENT:
                return pause
            self._weight += 1
            if self._weight >= _SLICE:
                return pause
        return None

    # --- the activations of the past --------------------------------------------------------

    def _run(self) -> Work:
        yield from self._reenact_all()
        history = self._execution.history
        if history.final is not None:
            self._execution.journal.load_final(history.final)
            yield from self._reenact(history.final)
        elif history.unmarked and not history.counted:
            yield from self._reenact_unmarked()

    def _reenact_all(self) -> Work:
        execution = self._execution
        history, journal = execution.history, execution.journal
        execution.let_go()
        while history.kept:
            yield from self._reenact(history.kept[0])
            # Bit by bit: to free a long history at once takes longer than the host's loop may be held.
            history.let_go(journal.activation)
            if journal.activation % _SLICE == 0:
                execution.let_go()
        execution.let_go()

    def _reenact(self, block: Block) -> Work:
        marker, execution = block.marker, self._execution
        self._recorded_order = deque(marker.ops)
        self._more = marker.more
        execution.journal.live = False
        yield from self._activate(execution.horizon(marker.seen), marker.at)
        self._see(marker.seen)
        execution.journal.check_used_up()

    def _reenact_unmarked(self) -> Work:
        execution = self._execution
        last = (execution.history.ended or execution.history.unmarked[-1]).sequence
        execution.journal.lenient = True
        self._more = True
        yield from self._activate(execution.horizon(last), self._at_ms)
        self._see(last)

    # --- one activation ---------------------------------------------------------------------

    def _see(self, last: int) -> None:
        execution = self._execution
        execution.see(last)
        unmarked = execution.history.unmarked
        if unmarked and last >= unmarked[-1].sequence:
            execution.journal.ignore_unmarked()

    def _activate(self, events: list[Event], at_ms: int) -> Work:
        execution = self._execution
        kernel, journal = execution.kernel, execution.journal
        journal.activation += 1
        self._stopped = False
        kernel.steps = 0
        kernel.now = max(kernel.now, at_ms / 1000)
        first = 0
        if journal.activation == 1:
            # The whole first horizon is there before the first step: a signal sent with the start is seen at once.
            opening = execution.history.opening
            while first < len(events) and (not opening or events[first].sequence < opening):
                self._deliver(events[first])
                first += 1
            execution.start()
        yield from self._settle()
        for event in events[first:]:
            # Most events move the program by a few steps only: a long history is long by their number.
            self._weight += (len(event.data.output) + len(event.data.result)) // _EVENT_BYTES
            yield Pause.EVENT
            if execution.result is not None or self._stopped:
                return
            self._deliver(event)
            yield from self._settle()

    def _deliver(self, event: Event) -> None:
        self._execution.kernel.steps = 0
        self._execution.deliver(event)
        self._delivered = event.sequence

    def _settle(self) -> Work:
        """Run to quiescence, and answer every operation before anything else happens (rule 2)."""
        execution = self._execution
        kernel, pending = execution.kernel, execution.pending
        while True:
            while not kernel.run(_STEPS):
                yield Pause.STEPS
            execution.raise_crash()
            if execution.journal.poison is not None:
                raise execution.journal.poison
            if pending:
                self._drop_given_up()
            if not pending:
                return
            answered = yield from self._answered()
            if answered is None:
                return
            self._answer(*answered)
            yield Pause.EVENT

    def _answered(self) -> Generator[Pause, None, tuple[Operation, Answer] | None]:
        """The operation that is answered next, and how; None if no further one is, in this activation."""
        yield from ()
        return self._recorded_answer()

    def _recorded_answer(self) -> tuple[Operation, Answer] | None:
        journal, pending = self._execution.journal, self._execution.pending
        recorded = self._first_recorded()
        if recorded is None:
            if not self._more:
                operation = pending.first
                journal.violate(
                    f"operation {operation.index} has no record: activation {journal.activation} did not call it",
                    expected=None,
                    got=operation.name,
                )
            self._stopped = True
            return None
        if not self._recorded_order:
            return recorded
        index = self._recorded_order.popleft()
        answered = pending.get(index)
        answer = None if answered is None else self._record_of(answered)
        if answered is None or answer is None or isinstance(answer, Cancelled):
            journal.violate(
                f"operation {index} was answered here, the code does not wait for it", expected=None, got=None
            )
        return answered, answer

    def _first_recorded(self) -> tuple[Operation, Answer] | None:
        """The operation that was called first, of those that history has an answer for by now."""
        for operation in self._execution.pending.values():
            answer = self._record_of(operation)
            if answer is None:
                return None  # records stand in call order
            if not isinstance(answer, Cancelled):
                return operation, answer
        return None

    def _record_of(self, operation: Operation) -> Answer | None:
        """What history has of an operation by now, which may be that the program will give it up."""
        if operation.recorded is None:
            journal = self._execution.journal
            record = journal.answer(operation.index, operation.name)
            if record is None or record.activation > journal.activation:
                return None
            self._weight += len(record.event.data.result) // _EVENT_BYTES
            operation.recorded = read_answer(record.event.data.result)
        return operation.recorded

    def _answer(self, operation: Operation, answer: Answer) -> None:
        execution = self._execution
        execution.kernel.steps = 0  # the program was at rest: only what never waits for anything runs away
        del execution.pending[operation.index]
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

    def _drop_given_up(self) -> None:
        journal = self._execution.journal
        for operation in self._execution.pending.take_given_up():
            record = journal.answer(operation.index, operation.name)
            # What a worker without markers wrote knows no cancelling.
            if record is None or not record.activation:
                continue
            if not isinstance(operation.recorded or read_answer(record.event.data.result), Cancelled):
                journal.violate(
                    f"operation {operation.index} was cancelled by the code, history has its end",
                    expected=operation.name,
                    got="cancelled",
                )
