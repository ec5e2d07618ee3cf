"""Commands as lines: those that history has, and those that the code asks for.

The key of a line is what replay compares, and so what may not change while runs are under way. A timer may: how long it
takes is asked once. So may the input of a task, the value of a state key, and what a suspension says it waits for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from flovyn.replay.commands import (
    CancelTimer,
    CancelWorkflow,
    ClearState,
    CompleteWorkflow,
    CreatePromise,
    FailWorkflow,
    RecordOperation,
    RequestCancelChild,
    ScheduleChild,
    ScheduleTask,
    SetState,
    StartTimer,
    SuspendWorkflow,
)
from flovyn.replay.names import RESERVED
from flovyn.serde.envelope import parse_error
from flovyn.testing.replayer.diff import Line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from flovyn.replay.commands import Command
    from flovyn.replay.submission import Result
    from flovyn.testing.replayer.reading import RecordedEvent

__all__ = ["made_lines", "recorded_lines", "waiting_line"]

_LONGEST: Final = 160
"""Characters of a value that are shown."""


def recorded_lines(events: Iterable[RecordedEvent]) -> list[Line]:
    """The program's commands among the events of a block, its end included."""
    return [line for event in events if (line := _recorded(event)) is not None]


def made_lines(commands: Iterable[Command]) -> list[Line]:
    """The program's commands in a submission, its end included."""
    return [line for command in commands if (line := _made(command)) is not None]


def waiting_line(reason: object) -> Line:
    """The program waits."""
    return Line("suspended", f"suspended: {_clip(str(reason))}")


def _recorded(event: RecordedEvent) -> Line | None:
    line = _RECORDED.get(event.type)
    if line is None:
        return None
    return line(_decode(event.data) if event.data else {})


def _made(command: Command) -> Line | None:
    line: Line | None
    match command:
        case ScheduleTask():
            line = _task(command.kind)
        case StartTimer(timer_id, duration_ms):
            line = _timer(timer_id, duration_ms)
        case RecordOperation(name):
            line = _operation(name)
        case CreatePromise(name):
            line = _promise(name)
        case ScheduleChild(name, kind):
            line = _child(name, kind)
        case SetState(key):
            line = _set(key)
        case ClearState(key):
            line = _clear(key)
        case CancelTimer() | RequestCancelChild():  # when the program leaves something, nothing has to be the same
            line = None
        case _:
            line = _made_end(command)
    return line


def _made_end(command: SuspendWorkflow | Result) -> Line:
    match command:
        case SuspendWorkflow(reason):
            return waiting_line(reason)
        case CompleteWorkflow(output):
            return _completed(_decode(output))
        case FailWorkflow(error):
            return _failed(error)
        case CancelWorkflow(reason):
            return _cancelled(reason)


def _task(kind: object) -> Line:
    return Line(f"task {kind}", f"task {kind}")


def _timer(identity: object, duration_ms: object) -> Line | None:
    return None if str(identity).startswith(RESERVED) else Line("timer", f"timer of {duration_ms} ms")


def _operation(name: object) -> Line | None:
    return None if str(name).startswith(RESERVED) else Line(f"run {name}", f"run {name}")


def _promise(name: object) -> Line:
    return Line(f"promise {name}", f"promise {name}")


def _child(name: object, kind: object) -> Line:
    return Line(f"child {kind} {name}", f"child {name} of kind {kind}")


def _set(key: object) -> Line:
    return Line(f"set {key}", f"set state {key}")


def _clear(key: object) -> Line:
    return Line(f"clear {key}", f"clear state {key}")


def _completed(output: object) -> Line:
    text = msgspec.json.encode(output, order="sorted").decode()
    return Line(f"completed {text}", f"completed: {_clip(text)}")


def _failed(error: object) -> Line:
    info = str(parse_error(str(error)))
    return Line(f"failed {info}", f"failed: {_clip(info)}")


def _cancelled(reason: object) -> Line:
    return Line("cancelled", f"cancelled: {_clip(str(reason))}")


_RECORDED: Final[dict[str, Callable[[dict[str, Any]], Line | None]]] = {
    "TASK_SCHEDULED": lambda data: _task(data.get("kind")),
    "TIMER_STARTED": lambda data: _timer(data.get("timerId"), data.get("durationMs")),
    "OPERATION_COMPLETED": lambda data: _operation(data.get("operationName", data.get("name"))),
    "PROMISE_CREATED": lambda data: _promise(data.get("promiseName")),
    "CHILD_WORKFLOW_INITIATED": lambda data: _child(
        data.get("childExecutionName"), data.get("childWorkflowKind", data.get("workflowKind"))
    ),
    "STATE_SET": lambda data: _set(data.get("key")),
    "STATE_CLEARED": lambda data: _clear(data.get("key")),
    "WORKFLOW_SUSPENDED": lambda data: waiting_line(data.get("reason")),
    "WORKFLOW_COMPLETED": lambda data: _completed(data.get("output")),
    "WORKFLOW_EXECUTION_FAILED": lambda data: _failed(data.get("error")),
    "WORKFLOW_FAILED": lambda data: _failed(data.get("error")),
    "WORKFLOW_CANCELLED": lambda data: _cancelled(data.get("reason")),
}
"""What a command looks like in a history; whatever else stands in one is no command."""


def _number(text: str) -> float | int:
    """Numbers that are equal are the same: what passes through other tools may turn 1.0 into 1."""
    value = float(text)
    return int(value) if value.is_integer() else value


_decode: Final = msgspec.json.Decoder(float_hook=_number).decode


def _clip(text: str) -> str:
    text = text.replace("\n", " ")
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
