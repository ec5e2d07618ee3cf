"""One history and one definition: activation by activation, until they part."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from flovyn.errors import DeterminismViolation, FlovynError
from flovyn.replay import Execution, Reenactment, RunInfo, read_event
from flovyn.replay.history import History as Record
from flovyn.replay.names import CANCELS, SOON
from flovyn.testing.replayer.diff import compare
from flovyn.testing.replayer.probe import records_in, run_again, stopped_line
from flovyn.testing.replayer.streams import made_lines, recorded_lines, waiting_line
from flovyn.workflow import WorkflowContext

if TYPE_CHECKING:
    from flovyn.definitions import Workflow
    from flovyn.nursery import Tripwires
    from flovyn.replay import Event
    from flovyn.replay.history import Block
    from flovyn.testing.replayer.diff import Line
    from flovyn.testing.replayer.history import History

__all__ = ["Parting", "Run"]


class Parting(NamedTuple):
    """Where history and code part.

    Attributes:
        events: The first and the last event of the activation.
        diff: Its commands, as history has them and as the code gives them.
    """

    events: tuple[int, int]
    diff: str


class Run:
    """One history being replayed.

    Args:
        workflow: The code.
        history: What it is held against.
        tripwires: What becomes of code that reaches outside.
        step_limit: How many scheduler steps it may take without waiting for anything durable.

    Attributes:
        done: How many activations went as the history says.

    Raises:
        MalformedMessage: The data of an event is not what the platform writes.
        HistoryGap: A submission follows one that is not there.
        DeterminismViolation: Another SDK has written behind activations of this one.
    """

    def __init__(
        self, workflow: Workflow[..., Any], history: History, *, tripwires: Tripwires, step_limit: int
    ) -> None:
        self.done: int = 0
        self._workflow = workflow
        self._history = history
        self._tripwires = tripwires
        self._step_limit = step_limit
        self._events = [read_event(event.sequence, event.type, event.data) for event in history.events]
        record = Record()
        record.extend(self._events)
        self._blocks: list[Block] = [*record.kept, *([record.final] if record.final else [])]
        self._unmarked = record.unmarked
        self._ended = record.ended

    def replay(self) -> None:
        """Re-enact every activation that counts, and compare how each of them ends.

        Raises:
            DeterminismError: The code disagrees with the history, reaches outside, or does not come to rest.
        """
        execution = self._execution()
        try:
            for block in self._blocks:
                self._reenact(execution, block.end.sequence)
                self._compare_ends(execution, block)
                self.done += 1
            if self._unmarked and not self._blocks:
                self._reenact(execution, len(self._events))
                if self._ended is not None:
                    self._compare_unmarked_ends(execution, self._ended)
                self.done += 1
        finally:
            execution.close()

    def parting(self) -> Parting | None:
        """What both sides do in the activation after the last one that is equal; None if there is none to show."""
        if self.done >= len(self._blocks):
            return None
        block = self._blocks[self.done]
        events = (block.events[0].sequence, block.end.sequence)
        history = recorded_lines(self._history.events[event.sequence - 1] for event in block.events)
        names = (
            f"history: activation {self.done + 1}, events {events[0]} to {events[1]}",
            f"code: {self._workflow.kind} {self._workflow.version}",
        )
        return Parting(events, compare(history, self._code(block), names=names))

    def _execution(self) -> Execution:
        history = self._history
        info = RunInfo(history.workflow_id, history.org_id, history.kind, history.queue, history.input)
        return Execution(self._workflow, info, WorkflowContext, step_limit=self._step_limit, tripwires=self._tripwires)

    def _reenact(self, execution: Execution, last: int) -> None:
        """Read the events up to a sequence number, and re-enact the activations in them."""
        execution.load(self._events[execution.history.length : last])
        for _ in Reenactment(execution).slices():
            pass

    def _compare_ends(self, execution: Execution, block: Block) -> None:
        """The end of an activation is a command like any other: the same kind of end, and the same value or error."""
        recorded, made = self._ends(execution, block.end)
        if made.key != recorded.key and not (recorded.key == "suspended" and self._is_put_off(block)):
            self._disagree(recorded, made)

    def _compare_unmarked_ends(self, execution: Execution, ended: Event) -> None:
        recorded, made = self._ends(execution, ended)
        alike = made.key == recorded.key or all(line.key.startswith("failed ") for line in (made, recorded))
        # Other SDKs word errors in their own way, and cancelling ends what they run without asking it.
        if not alike and recorded.key != "cancelled":
            self._disagree(recorded, made)

    def _ends(self, execution: Execution, end: Event) -> tuple[Line, Line]:
        (recorded,) = recorded_lines([self._history.events[end.sequence - 1]])
        (made,) = [waiting_line(execution.waiting())] if execution.result is None else made_lines([execution.result])
        return recorded, made

    def _disagree(self, recorded: Line, made: Line) -> NoReturn:
        raise DeterminismViolation(
            f"Determinism violation: Workflow end mismatch in activation {self.done + 1}: "
            f"expected '{recorded.text}', got '{made.text}'",
            expected=recorded.text,
            got=made.text,
        )

    def _is_put_off(self, block: Block) -> bool:
        """Whether the end that the program had reached was put off, for cancels that had to be sent before.

        Then one of two reserved timers runs, as far as the activation knew: what fires later, it had not seen.
        """
        armed: dict[str, None] = {}
        for event in (*self._events[: block.marker.seen], *block.events):
            identity = event.data.timer_id or ""
            if identity.startswith((f"{SOON}/", f"{CANCELS}/")):
                if event.type == "TIMER_STARTED":
                    armed[identity] = None
                else:
                    armed.pop(identity, None)
        return bool(armed)

    def _code(self, block: Block) -> list[Line]:
        execution = self._execution()
        try:
            for earlier in self._blocks[: self.done]:
                self._reenact(execution, earlier.end.sequence)
            read = execution.history.length
            execution.load(self._events[read : max(read, block.marker.seen)])
            written = [*self._unmarked, *(event for kept in self._blocks[: self.done + 1] for event in kept.events)]
            return run_again(execution, block.marker, records_in(written))
        except FlovynError as error:  # such as code that does not do the same twice
            return [stopped_line(error)]
        finally:
            execution.close()
