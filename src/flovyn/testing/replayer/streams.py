"""Commands as lines: those that history has, and those that the code asks for.

The key of a line is what replay compares, and so what may not change while runs are under way. A timer may: how long it
takes is asked once. So may the input of a task, the value of a state key, and what a suspension says it waits for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

import msgspec

from flovyn.replay.commands import (
    CancelTimer,
    CancelWorkflow,
    CompleteWorkflow,
    FailWorkflow,
    RecordOperation,
    ScheduleTask,
    StartTimer,
    SuspendWorkflow,
)
from flovyn.replay.names import RESERVED
from flovyn.serde.envelope import parse_error
from flovyn.testing.replayer.diff import Line

if TYPE_CHECKING:
    from collections.abc import Iterable

    from flovyn.replay.commands import Command
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
    data = cast("dict[str, Any]", msgspec.json.decode(event.data)) if event.data else {}
    match event.type:
        case "TASK_SCHEDULED":
            return _task(str(data.get("kind")))
        case "TIMER_STARTED":
            return _timer(str(data.get("timerId")), data.get("durationMs"))
        case "OPERATION_COMPLETED":
            return _operation(str(data.get("operationName", data.get("name"))))
        case "WORKFLOW_SUSPENDED":
            return waiting_line(data.get("reason"))
        case "WORKFLOW_COMPLETED":
            return _completed(data.get("output"))
        case "WORKFLOW_EXECUTION_FAILED" | "WORKFLOW_FAILED":
            return _failed(str(data.get("error")))
        case "WORKFLOW_CANCELLED":
            return _cancelled(str(data.get("reason")))
        case _:
            return None


def _made(command: Command) -> Line | None:
    match command:
        case ScheduleTask():
            return _task(command.kind)
        case StartTimer(timer_id, duration_ms):
            return _timer(timer_id, duration_ms)
        case RecordOperation(name):
            return _operation(name)
        case SuspendWorkflow(reason):
            return waiting_line(reason)
        case CompleteWorkflow(output):
            return _completed(msgspec.json.decode(output))
        case FailWorkflow(error):
            return _failed(error)
        case CancelWorkflow(reason):
            return _cancelled(reason)
        case CancelTimer():  # when the program leaves a timer, history has nothing that must be the same
            return None


def _task(kind: str) -> Line:
    return Line(f"task {kind}", f"task {kind}")


def _timer(identity: str, duration_ms: object) -> Line | None:
    return None if identity.startswith(RESERVED) else Line("timer", f"timer of {duration_ms} ms")


def _operation(name: str) -> Line | None:
    return None if name.startswith(RESERVED) else Line(f"run {name}", f"run {name}")


def _completed(output: object) -> Line:
    text = msgspec.json.encode(_plain(output), order="sorted").decode()
    return Line(f"completed {text}", f"completed: {_clip(text)}")


def _failed(error: str) -> Line:
    info = str(parse_error(error))
    return Line(f"failed {info}", f"failed: {_clip(info)}")


def _cancelled(reason: str) -> Line:
    return Line("cancelled", f"cancelled: {_clip(reason)}")


def _plain(value: object) -> object:
    """A value in which numbers that are equal are the same: what passes through other tools may turn 1.0 into 1."""
    match value:
        case float() if value.is_integer():
            return int(value)
        case list():
            return [_plain(item) for item in cast("list[object]", value)]
        case dict():
            return {key: _plain(item) for key, item in cast("dict[str, object]", value).items()}
        case _:
            return value


def _clip(text: str) -> str:
    text = text.replace("\n", " ")
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
