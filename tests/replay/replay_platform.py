"""A platform of one workflow, as small as can be: submissions become history, and the outside world happens."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid5

from flovyn.definitions import Workflow
from flovyn.replay import Activation, Event, Execution, Operation, RunInfo, Status, Submission, read_event
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
from flovyn.replay.records import Answer, Deadline, Failure, Value
from flovyn.serde.envelope import ErrorInfo
from flovyn.workflow import WorkflowContext

WORKFLOW_ID = "550e8400-e29b-41d4-a716-446655440000"
START_MS = 1_764_000_000_000


@dataclass
class Platform:
    """History and clock.

    Attributes:
        asked: The children that were asked to stop, in order, each as often as it was.
        written: What was appended, to the letter.
    """

    events: list[Event] = field(default_factory=list[Event])
    now_ms: int = START_MS
    due: dict[str, int] = field(default_factory=dict[str, int])
    asked: list[RequestCancelChild] = field(default_factory=list[RequestCancelChild])
    written: list[tuple[str, bytes]] = field(default_factory=list[tuple[str, bytes]])

    def __post_init__(self) -> None:
        self.append("WORKFLOW_STARTED", input=None)

    def append(self, kind: str, /, **data: Any) -> int:
        text = json.dumps(data, separators=(",", ":"), ensure_ascii=False).encode()
        self.written.append((kind, text))
        self.events.append(read_event(len(self.events) + 1, kind, text))
        return len(self.events)

    def accept(self, submission: Submission) -> None:
        for command in submission.commands:
            match command:
                case RecordOperation(name, result):
                    self.append("OPERATION_COMPLETED", operationName=name, name=name, result=json.loads(result))
                case ScheduleTask():
                    self.append("TASK_SCHEDULED", kind=command.kind, taskExecutionId=command.task_id)
                case StartTimer(timer_id, duration_ms):
                    self.append("TIMER_STARTED", timerId=timer_id, durationMs=duration_ms)
                    self.due.setdefault(timer_id, self.now_ms + duration_ms)
                case CancelTimer(timer_id):
                    self.append("TIMER_CANCELLED", timerId=timer_id)
                case SetState(key, value):
                    self.append("STATE_SET", key=key, value=json.loads(value))
                case ClearState(key):
                    self.append("STATE_CLEARED", key=key)
                case CreatePromise(name):
                    self.append("PROMISE_CREATED", promiseName=name, promiseId=promise_id(name))
                case ScheduleChild(name, kind, child_id):
                    named = _child(name, child_id)
                    self.append("CHILD_WORKFLOW_INITIATED", childWorkflowKind=kind, **named)
                case RequestCancelChild():
                    self.asked.append(command)
                case SuspendWorkflow(reason):
                    self.append("WORKFLOW_SUSPENDED", reason=reason)
                case CompleteWorkflow(output):
                    self.append("WORKFLOW_COMPLETED", output=json.loads(output))
                case FailWorkflow(error):
                    self.append("WORKFLOW_EXECUTION_FAILED", error=error)
                case CancelWorkflow(reason):
                    self.append("WORKFLOW_CANCELLED", reason=reason)

    def complete(self, kind: str, output: Any, *, nth: int = 0) -> str:
        task = self.tasks(kind)[nth]
        self.append("TASK_COMPLETED", taskExecutionId=task, output=output, kind=kind)
        return task

    def fail(self, kind: str, error: str, *, nth: int = 0) -> str:
        task = self.tasks(kind)[nth]
        self.append("TASK_FAILED", taskExecutionId=task, error=error, kind=kind)
        return task

    def tasks(self, kind: str) -> list[str]:
        """Ids of the open tasks of a kind."""
        ended = {e.data.task for e in self.events if e.type in {"TASK_COMPLETED", "TASK_FAILED", "TASK_CANCELLED"}}
        scheduled = [e.data.task for e in self.events if e.type == "TASK_SCHEDULED" and e.data.kind == kind]
        return [task for task in scheduled if task not in ended]

    def open_tasks(self) -> list[str]:
        """Ids of the open tasks of any kind, each once."""
        ended = {e.data.task for e in self.events if e.type in {"TASK_COMPLETED", "TASK_FAILED", "TASK_CANCELLED"}}
        started = dict.fromkeys(e.data.task for e in self.events if e.type == "TASK_SCHEDULED")
        return [task for task in started if task not in ended]

    def kind_of(self, task: str) -> str:
        """The kind of a task."""
        return next(e.data.kind or "" for e in self.events if e.type == "TASK_SCHEDULED" and e.data.task == task)

    def open_children(self) -> list[tuple[str, str]]:
        """Names and ids of the open children."""
        ends = {f"CHILD_WORKFLOW_{end}" for end in ("COMPLETED", "FAILED", "CANCELLED")}
        ended = {e.data.child for e in self.events if e.type in ends}
        started = [e.data for e in self.events if e.type == "CHILD_WORKFLOW_INITIATED"]
        each = dict.fromkeys((data.child_execution_name or "", data.child) for data in started)
        return [(name, child) for name, child in each if child not in ended]

    def open_promises(self) -> list[str]:
        """Names of the open promises."""
        ended = {
            e.data.promise_name
            for e in self.events
            if e.type in {"PROMISE_RESOLVED", "PROMISE_REJECTED", "PROMISE_TIMEOUT"}
        }
        created = dict.fromkeys(e.data.promise_name or "" for e in self.events if e.type == "PROMISE_CREATED")
        return [name for name in created if name not in ended]

    def reopen(self) -> None:
        """The workflow is retried. What was open at its end was closed: its tasks are cancelled, its timers gone."""
        for task in self.open_tasks():
            self.append("TASK_FAILED", taskExecutionId=task, kind=self.kind_of(task), error="Task cancelled")
        self.due.clear()

    def complete_child(self, name: str, output: Any, *, child_id: str | None = None) -> None:
        self.append("CHILD_WORKFLOW_COMPLETED", output=output, **_child(name, child_id or self.child(name)))

    def fail_child(self, name: str, error: str, *, child_id: str | None = None) -> None:
        self.append("CHILD_WORKFLOW_FAILED", error=error, **_child(name, child_id or self.child(name)))

    def cancel_child(self, name: str, reason: str, *, child_id: str | None = None) -> None:
        self.append("CHILD_WORKFLOW_CANCELLED", reason=reason, **_child(name, child_id or self.child(name)))

    def child(self, name: str) -> str:
        """The id of the newest child of that name."""
        started = (e.data for e in self.events if e.type == "CHILD_WORKFLOW_INITIATED")
        return [data.child for data in started if data.child_execution_name == name][-1]

    def resolve(self, name: str, value: Any) -> None:
        self.append("PROMISE_RESOLVED", promiseName=name, promiseId=promise_id(name), value=value)

    def reject(self, name: str, error: str) -> None:
        self.append("PROMISE_REJECTED", promiseName=name, promiseId=promise_id(name), error=error)

    def expire(self, name: str) -> None:
        self.append("PROMISE_TIMEOUT", promiseName=name, promiseId=promise_id(name))

    def signal(self, name: str, value: Any = None) -> None:
        self.append("SIGNAL_RECEIVED", signalName=name, signalValue=value)

    def request_cancel(self, reason: str = "") -> None:
        self.append("CANCELLATION_REQUESTED", reason=reason, requestedBy="somebody")

    def armed(self) -> dict[str, int]:
        """When the armed timers fire."""
        gone = {e.data.timer_id for e in self.events if e.type in {"TIMER_FIRED", "TIMER_CANCELLED"}}
        return {timer: due for timer, due in self.due.items() if timer not in gone}

    def fire_next(self) -> str:
        """Let time pass until the next timer fires."""
        due = self.armed()
        timer = min(due, key=lambda identity: due[identity])
        self.now_ms = max(self.now_ms, due[timer])
        self.append("TIMER_FIRED", timerId=timer)
        return timer


def promise_id(name: str) -> str:
    """The server gives the same promise the same id."""
    return str(uuid5(UUID(WORKFLOW_ID), f"promise {name}"))


def _child(name: str, child_id: str) -> dict[str, Any]:
    ids = ("childExecutionId", "childWorkflowExecutionId", "childworkflowExecutionId")
    return {"childExecutionName": name, **dict.fromkeys(ids, child_id)}


OPEN: list[Execution] = []
"""Every execution that a test has made; they are evicted behind it, as a worker does."""


def evict() -> None:
    """Evict every execution that a test has made."""
    while OPEN:
        OPEN.pop().close()


class Run:
    """A worker's view of one run: activations in a row, each cached or rebuilt."""

    def __init__(
        self,
        workflow: Workflow[..., Any],
        data: Any = None,
        *,
        platform: Platform | None = None,
        context: Callable[[Execution], object] = WorkflowContext,
    ) -> None:
        self.workflow = workflow
        self.context = context
        self.info = RunInfo(WORKFLOW_ID, "org", workflow.kind, "default", json.dumps(data).encode())
        self.platform = platform or Platform()
        self.execution = self.rebuilt()
        self.activations = 0

    def rebuilt(self, events: list[Event] | None = None) -> Execution:
        execution = Execution(self.workflow, self.info, self.context)
        OPEN.append(execution)
        execution.load(self.platform.events if events is None else events)
        return execution

    def rebuilt_and_caught_up(self) -> Execution:
        """A fresh execution that has re-enacted everything that counts; what it would do now is thrown away."""
        execution = self.rebuilt()
        drive(execution, self.platform.now_ms, "dry")
        return execution

    def activate(self, *, cached: bool = True, salt: str | None = None, fenced: bool = False) -> Submission:
        """Run one activation; its submission is accepted."""
        submission = self.dry(cached=cached, salt=salt, fenced=fenced)
        self.platform.accept(submission)
        return submission

    def dry(self, *, cached: bool = True, salt: str | None = None, fenced: bool = False) -> Submission:
        """Run one activation; its submission is lost."""
        self.activations += 1
        if cached:
            self.execution.load(self.platform.events[self.execution.history.length :])
            assert self.execution.is_current
        else:
            self.execution.close()
            self.execution = self.rebuilt()
        return drive(self.execution, self.platform.now_ms, salt or f"s{self.activations}", fenced=fenced)


def drive(
    execution: Execution,
    at_ms: int,
    salt: str,
    *,
    answer_last_first: bool = False,
    exhausted: bool = False,
    late: bool = False,
    fenced: bool = False,
) -> Submission:
    """Run an activation; bodies of operations are called on the spot, or are all too late for their deadlines."""
    activation = Activation(execution, at_ms=at_ms, salt=salt, fenced=fenced)
    if exhausted:
        activation.exhaust()
    while True:
        for _ in activation.slices():
            pass
        if activation.finished:
            return activation.submission()
        starting = activation.starting[:]
        activation.starting.clear()
        for operation in reversed(starting) if answer_last_first else starting:
            guard = min(operation.guards(), key=lambda timer: timer.due, default=None) if late else None
            activation.complete(operation, _answer(operation) if guard is None else Deadline(guard.id))


def _answer(operation: Operation) -> Answer:
    try:
        return Value(operation.encode(operation.body()))
    except Exception as error:
        return Failure(ErrorInfo.from_exception(error))


def plain(submission: Submission) -> list[object]:
    """The commands of the program: without the marker, and without what ends or suspends."""
    return [command for command in submission.commands[1:] if not isinstance(command, SuspendWorkflow)]


__all__ = ["START_MS", "WORKFLOW_ID", "Platform", "Run", "Status", "drive", "evict", "plain", "promise_id"]
