"""What the code asks for now, in an activation of the past: everything, not only up to the first disagreement."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from flovyn.errors import DeterminismError, FlovynError
from flovyn.replay import Activation
from flovyn.replay.commands import RecordOperation
from flovyn.replay.names import RESERVED
from flovyn.replay.records import Cancelled, read_answer
from flovyn.testing.replayer.diff import Line
from flovyn.testing.replayer.streams import made_lines, waiting_line

if TYPE_CHECKING:
    from flovyn.replay import Event, Execution, Operation
    from flovyn.replay.marker import Marker

__all__ = ["records_in", "run_again", "stopped_line"]


def records_in(events: list[Event]) -> list[Event]:
    """The records of the program's own operations."""
    return [
        event
        for event in events
        if event.type == "OPERATION_COMPLETED" and not event.data.operation.startswith(RESERVED)
    ]


def run_again(execution: Execution, marker: Marker, records: list[Event]) -> list[Line]:
    """Run an activation of the past as if it were live.

    Args:
        execution: Has re-enacted what came before, and has read what this activation saw.
        marker: That of the activation.
        records: The records of all operations up to the end of the activation, in order.

    Returns:
        The commands; no body of an operation is run, so they stop where an operation is called that has no record.
    """
    activation = Activation(execution, at_ms=marker.at, salt=marker.id)
    called: list[Operation] = []
    order = deque(marker.ops)
    try:
        while True:
            for _ in activation.slices():
                pass
            if activation.finished:
                return made_lines(activation.submission().commands)
            called += activation.starting
            activation.starting.clear()
            waiting = {operation.index: operation for operation in called if operation.answer is None}
            if not _answer(activation, waiting, records, order):
                name = next(iter(waiting.values())).name
                return [*_so_far(execution, marker, called), waiting_line(f"Waiting for the operation {name}")]
    except DeterminismError as error:
        return [*_so_far(execution, marker, called), stopped_line(error)]


def stopped_line(error: FlovynError) -> Line:
    """The program was stopped for what it did."""
    return Line("stopped", "stopped: " + str(error).partition("\n")[0])


def _answer(activation: Activation, waiting: dict[int, Operation], records: list[Event], order: deque[int]) -> bool:
    """Hand in what is recorded of one of the operations; says whether there was one."""
    while order and order[0] not in waiting:
        order.popleft()
    for index in [*list(order)[:1], *waiting]:
        operation = waiting[index]
        if index < len(records) and records[index].data.operation == operation.name:
            answer = read_answer(records[index].data.result)
            if not isinstance(answer, Cancelled):
                activation.complete(operation, answer)
                return True
    return False


def _so_far(execution: Execution, marker: Marker, called: list[Operation]) -> list[Line]:
    operations = {operation.index: operation.name for operation in execution.unrecorded()}
    if not marker.more:  # otherwise what has no record yet was left to the next activation
        operations |= {operation.index: operation.name for operation in called}
    return made_lines(
        [*(RecordOperation(operations[index], b"") for index in sorted(operations)), *execution.journal.commands]
    )
