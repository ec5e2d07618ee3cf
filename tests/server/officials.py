"""The three official workers, as they behave on the wire; none of them knows anything of ours.

Each replays a workflow from its whole history with every activation: the N-th call of a kind takes the N-th event of
that kind, what has no event becomes a command, and the first wait without an end suspends. What differs is in the
classes below: how commands are numbered, how an activation ends, which names timers have, which string polls, and what
becomes of an event that a worker does not know.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Generator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar
from uuid import UUID, uuid5

import anyio
import msgspec

from flovyn.server import Server
from flovyn.wire import methods
from flovyn.wire.channel import Channel
from flovyn.wire.messages.flovyn import v1 as pb

__all__ = ["Context", "Ffi", "Napi", "Native", "Official", "WorkerFailed"]

Program = Callable[["Context", Any], Coroutine[Any, Any, Any]]
Body = Callable[[Any], Awaitable[Any]]

_NEVER = object()

COMMON = {
    "WORKFLOW_STARTED",
    "WORKFLOW_COMPLETED",
    "WORKFLOW_EXECUTION_FAILED",
    "WORKFLOW_SUSPENDED",
    "CANCELLATION_REQUESTED",
    "OPERATION_COMPLETED",
    "STATE_SET",
    "STATE_CLEARED",
    "TASK_SCHEDULED",
    "TASK_COMPLETED",
    "TASK_FAILED",
    "PROMISE_CREATED",
    "PROMISE_RESOLVED",
    "PROMISE_REJECTED",
    "PROMISE_TIMEOUT",
    "CHILD_WORKFLOW_INITIATED",
    "CHILD_WORKFLOW_STARTED",
    "CHILD_WORKFLOW_COMPLETED",
    "CHILD_WORKFLOW_FAILED",
    "TIMER_STARTED",
    "TIMER_FIRED",
    "TIMER_CANCELLED",
    "SIGNAL_RECEIVED",
}


class WorkerFailed(Exception):
    """What a workflow raises to fail, and what a wait for something that failed raises in it."""


@dataclass(frozen=True)
class Past:
    """One event of a history."""

    sequence: int
    type: str
    data: dict[str, Any]


class Wait:
    """Something to await: its value, its error, or nothing yet."""

    def __init__(self, reason: str, look: Callable[[], object]) -> None:
        self._reason = reason
        self._look = look

    def __await__(self) -> Generator[str, None, Any]:
        found = self._look()
        if found is _NEVER:
            yield self._reason
            raise AssertionError("an official worker polls a workflow once")
        if isinstance(found, WorkerFailed):
            raise found
        return found


@dataclass
class Context:
    """What a workflow has in its hands during one activation."""

    worker: Official
    run_id: str
    events: list[Past]
    commands: list[pb.WorkflowCommand] = field(default_factory=list[pb.WorkflowCommand])
    counts: dict[str, int] = field(default_factory=dict[str, int])
    ids: int = 0
    signals: dict[str, deque[Any]] = field(default_factory=dict[str, "deque[Any]"])

    def __post_init__(self) -> None:
        for event in self.events:
            if event.type == "SIGNAL_RECEIVED":
                self.signals.setdefault(event.data["signalName"], deque()).append(event.data["signalValue"])

    # --- what a workflow calls ----------------------------------------------------------------

    def random_uuid(self) -> str:
        value = uuid5(UUID(self.run_id), f"{self.run_id}:{self.ids}")
        self.ids += 1
        return str(value)

    def schedule(self, kind: str, value: Any = None, **options: Any) -> Wait:
        task_id = self.random_uuid()
        past = self._next("TASK_SCHEDULED")
        if past is None:
            command = pb.ScheduleTaskCommand(kind=kind, input=encode(value), task_execution_id=task_id, **options)
            self._add(pb.CommandType.SCHEDULE_TASK, schedule_task=command)
        else:
            assert past.data["kind"] == kind
            task_id = past.data["taskExecutionId"]
        reason = f"Waiting for task {task_id} to complete"
        return Wait(reason, lambda: self._end("taskExecutionId", task_id, "TASK_COMPLETED", "TASK_FAILED"))

    def sleep(self, milliseconds: int) -> Wait:
        number = self.counts.get("TIMER_STARTED", 0)
        timer_id = self.worker.timer_id(number)
        past = self._next("TIMER_STARTED")
        if past is None:
            command = pb.StartTimerCommand(timer_id=timer_id, duration_ms=milliseconds)
            self._add(pb.CommandType.START_TIMER, start_timer=command)
        else:
            assert past.data["timerId"] == timer_id
        return Wait(f"Waiting for timer {timer_id} to fire", lambda: self._end("timerId", timer_id, "TIMER_FIRED", ""))

    def promise(self, name: str, timeout_ms: int | None = None) -> Wait:
        past = self._next("PROMISE_CREATED")
        promise_id = ""
        if past is None:
            command = pb.CreatePromiseCommand(promise_id=name, timeout_ms=timeout_ms)
            self._add(pb.CommandType.CREATE_PROMISE, create_promise=command)
        else:
            assert past.data["promiseName"] == name
            promise_id = str(UUID(past.data["promiseId"]))
        kinds = ("PROMISE_REJECTED", "PROMISE_TIMEOUT")
        reason = f"Waiting for promise {name} to be resolved"
        return Wait(reason, lambda: self._end("promiseId", promise_id, "PROMISE_RESOLVED", *kinds))

    def child(self, name: str, kind: str, value: Any = None) -> Wait:
        child_id = self.random_uuid()
        past = self._next("CHILD_WORKFLOW_INITIATED")
        if past is None:
            command = pb.ScheduleChildWorkflowCommand(
                child_execution_name=name,
                workflow_kind=kind,
                child_workflow_execution_id=child_id,
                input=encode(value),
                queue="default",
            )
            self._add(pb.CommandType.SCHEDULE_CHILD_WORKFLOW, schedule_child_workflow=command)
        else:
            assert (past.data["childExecutionName"], past.data["childWorkflowKind"]) == (name, kind)
        reason = f"Waiting for child workflow {name} to complete"
        kinds = ("CHILD_WORKFLOW_COMPLETED", "CHILD_WORKFLOW_FAILED")
        return Wait(reason, lambda: self._end("childExecutionName", name, *kinds))

    def signal(self, name: str) -> Wait:
        queue = self.signals.setdefault(name, deque())
        return Wait("Waiting for signal", lambda: queue.popleft() if queue else _NEVER)

    def operation(self, name: str, make: Callable[[], Any]) -> Any:
        """`ctx.run`: found by its place in native, by its name in the others."""
        past = self.worker.recorded(self, name)
        if past is not None:
            return past.data["result"]
        value = make()
        command = pb.RecordOperationCommand(operation_name=name, result=encode(value))
        self._add(pb.CommandType.RECORD_OPERATION, record_operation=command)
        return value

    def set_state(self, key: str, value: Any) -> None:
        if self._next("STATE_SET", "STATE_CLEARED") is None:
            command = pb.SetStateCommand(key=key, value=encode(value))
            self._add(pb.CommandType.SET_STATE, set_state=command)

    def clear_state(self, key: str) -> None:
        self.worker.clear_state(self, key)

    def cancel_task(self) -> None:
        """Every official worker maps this to a command of no type."""
        self._add(pb.CommandType.COMMAND_TYPE_UNSPECIFIED)

    def cancel_child(self, name: str) -> None:
        self.worker.cancel_child(self, name)

    # --- how it matches -----------------------------------------------------------------------

    def _next(self, *types: str) -> Past | None:
        number = self.counts.get(types[0], 0)
        self.counts[types[0]] = number + 1
        past = [event for event in self.events if event.type in types]
        return past[number] if number < len(past) else None

    def _end(self, key: str, value: str, good: str, *bad: str) -> object:
        ends = [event for event in self.events if event.type in {good, *bad} and event.data.get(key) == value]
        if not ends:
            return _NEVER
        last = ends[-1]  # the one with the highest number
        if last.type == good:
            return self.worker.value_of(last.data)
        return WorkerFailed(last.data.get("error", "Promise timeout"))

    def _add(self, command_type: pb.CommandType, **data: Any) -> None:
        self.commands.append(pb.WorkflowCommand(command_type=command_type, **data))


class Official:
    """One official worker: a connection, a registration, a loop that polls workflows and one that polls tasks."""

    known: ClassVar[set[str]]
    version: ClassVar[str] = "1.0.0"

    def __init__(self, server: Server, *, name: str, programs: dict[str, Program], bodies: dict[str, Body]) -> None:
        self.org_id = server.org_id
        self.name = name
        self.programs = programs
        self.bodies = bodies
        self.server_id = ""
        self.process = str(os.getpid())
        self.channel = Channel(server.url, token=server.token)
        self.refusals: list[str] = []

    async def run(self, *, task_status: Any = anyio.TASK_STATUS_IGNORED) -> None:
        """Register, and work until cancelled."""
        async with self.channel:
            await self.register()
            task_status.started()
            async with anyio.create_task_group() as loops:
                loops.start_soon(self._workflows)
                loops.start_soon(self._tasks)

    async def register(self) -> None:
        request = pb.WorkerRegistrationRequest(
            worker_name=self.name,
            worker_version=self.version,
            worker_type="UNIFIED",
            org_id=self.org_id,
            host_name="unknown",
            process_id=self.process,
            workflows=[self.workflow_capability(kind) for kind in self.programs],
            tasks=[self.task_capability(kind) for kind in self.bodies],
        )
        reply = (await self.channel.unary(methods.REGISTER_WORKER, request)).message
        assert reply.success
        self.server_id = reply.worker_id

    async def _workflows(self) -> None:
        while True:
            request = pb.PollRequest(
                worker_id=self.poll_id(), org_id=self.org_id, queue="default", timeout_seconds=self.poll_seconds()
            )
            run = (await self.channel.unary(methods.POLL_WORKFLOW, request)).message.workflow_execution
            if run is not None and run.kind in self.programs:  # nothing at all is said about any other
                await self.activate(run)

    async def activate(self, run: pb.WorkflowExecution) -> None:
        """One activation, from the history to the submission; an error of the submission is only logged."""
        reply = await self.channel.unary(methods.GET_EVENTS, pb.GetEventsRequest(workflow_execution_id=run.id))
        events = [self._read(event) for event in reply.message.events]
        context = Context(self, run.id, [event for event in events if event is not None])
        last, status = self._poll(context, self.programs[run.kind](context, decode(run.input)))
        commands = [*context.commands, *last]
        for command, number in zip(commands, self.numbers(len(events), len(commands)), strict=True):
            command.sequence_number = number
        request = pb.SubmitWorkflowCommandsRequest(workflow_execution_id=run.id, commands=commands, status=status)
        try:
            await self.channel.unary(methods.SUBMIT_WORKFLOW_COMMANDS, request)
        except Exception as error:  # as they do
            self.refusals.append(str(error))

    def _poll(
        self, context: Context, program: Coroutine[Any, Any, Any]
    ) -> tuple[Sequence[pb.WorkflowCommand], pb.WorkflowStatus]:
        try:
            reason = program.send(None)
        except StopIteration as returned:
            data = pb.CompleteWorkflowCommand(output=encode(returned.value))
            end = pb.WorkflowCommand(command_type=pb.CommandType.COMPLETE_WORKFLOW, complete_workflow=data)
            return [end], pb.WorkflowStatus.COMPLETED
        except WorkerFailed as error:
            failure = pb.FailWorkflowCommand(error=self.error_text(error), stack_trace="", failure_type="ERROR")
            end = pb.WorkflowCommand(command_type=pb.CommandType.FAIL_WORKFLOW, fail_workflow=failure)
            return [end], pb.WorkflowStatus.FAILED
        program.close()
        return self.suspension(reason), pb.WorkflowStatus.SUSPENDED

    async def _tasks(self) -> None:
        while True:
            request = pb.PollTaskRequest(
                worker_id=self.poll_id(), org_id=self.org_id, queue="default", timeout_seconds=self.poll_seconds()
            )
            task = (await self.channel.unary(methods.POLL_TASK, request)).message.task
            if task is not None:
                await self.execute(task)

    async def execute(self, task: pb.TaskExecutionInfo) -> None:
        """One attempt. No heartbeat: none of them sends any for a task."""
        try:
            body = self.bodies.get(task.kind)
            if body is None:
                raise WorkerFailed(f"Task kind not found: {task.kind}")
            output = encode(await body(decode(task.input)))
        except WorkerFailed as error:
            failure = pb.FailTaskRequest(task_execution_id=task.task_execution_id, error=str(error))
            await self.channel.unary(methods.FAIL_TASK, failure)
        else:
            request = pb.CompleteTaskRequest(task_execution_id=task.task_execution_id, output=output)
            await self.channel.unary(methods.COMPLETE_TASK, request)

    def _read(self, event: pb.WorkflowEvent) -> Past | None:
        known = event.event_type in self.known
        return Past(event.sequence_number, event.event_type, decode(event.event_data)) if known else self.unknown(event)

    # --- what differs -------------------------------------------------------------------------

    def workflow_capability(self, kind: str) -> pb.WorkflowCapability:
        raise NotImplementedError

    def task_capability(self, kind: str) -> pb.TaskCapability:
        raise NotImplementedError

    def poll_id(self) -> str:
        raise NotImplementedError

    def poll_seconds(self) -> int:
        raise NotImplementedError

    def timer_id(self, number: int) -> str:
        raise NotImplementedError

    def numbers(self, history: int, commands: int) -> range:
        raise NotImplementedError

    def suspension(self, reason: str) -> Sequence[pb.WorkflowCommand]:
        raise NotImplementedError

    def unknown(self, event: pb.WorkflowEvent) -> Past | None:
        raise NotImplementedError

    def value_of(self, data: dict[str, Any]) -> Any:
        raise NotImplementedError

    def recorded(self, context: Context, name: str) -> Past | None:
        raise NotImplementedError

    def clear_state(self, context: Context, key: str) -> None:
        raise NotImplementedError

    def cancel_child(self, context: Context, name: str) -> None:
        raise NotImplementedError

    def error_text(self, error: WorkerFailed) -> str:
        raise NotImplementedError


class Native(Official):
    """The one of the Rust SDK."""

    known: ClassVar = COMMON

    def workflow_capability(self, kind: str) -> pb.WorkflowCapability:
        return pb.WorkflowCapability(kind=kind, name=kind, cancellable=True, version="1.0.0", content_hash="6b22a608")

    def task_capability(self, kind: str) -> pb.TaskCapability:
        return pb.TaskCapability(kind=kind, name=kind, cancellable=True)

    def poll_id(self) -> str:
        return f"worker-{UUID(int=7)}"  # its own string, not the name it registered, and not the server's UUID

    def poll_seconds(self) -> int:
        return 60

    def timer_id(self, number: int) -> str:
        return f"sleep-{number + 1}"

    def numbers(self, history: int, commands: int) -> range:
        return range(history + 1, history + 1 + commands)

    def suspension(self, reason: str) -> Sequence[pb.WorkflowCommand]:
        data = pb.SuspendWorkflowCommand(reason=reason)
        return [pb.WorkflowCommand(command_type=pb.CommandType.SUSPEND_WORKFLOW, suspend_workflow=data)]

    def unknown(self, event: pb.WorkflowEvent) -> Past | None:
        return Past(event.sequence_number, "WORKFLOW_STARTED", {})

    def value_of(self, data: dict[str, Any]) -> Any:
        return next((data[key] for key in ("result", "output", "value") if key in data), None)

    def recorded(self, context: Context, name: str) -> Past | None:
        past = context._next("OPERATION_COMPLETED")
        assert past is None or past.data["operationName"] == name
        return past

    def clear_state(self, context: Context, key: str) -> None:
        if context._next("STATE_SET", "STATE_CLEARED") is None:
            context._add(pb.CommandType.CLEAR_STATE, clear_state=pb.ClearStateCommand(key=key))

    def cancel_child(self, context: Context, name: str) -> None:
        context._add(pb.CommandType.COMMAND_TYPE_UNSPECIFIED)

    def error_text(self, error: WorkerFailed) -> str:
        return f"Workflow failed: {error}"

    async def heartbeat(self) -> None:
        """What its loop does every 30 seconds."""
        await self.channel.unary(methods.SEND_HEARTBEAT, pb.WorkerHeartbeatRequest(worker_id=self.server_id))


class Ffi(Official):
    """The one behind the official Python and Kotlin SDKs."""

    known: ClassVar = COMMON | {"TASK_CANCELLED", "CHILD_WORKFLOW_CANCELLED"}
    version = "0.1.0"

    def workflow_capability(self, kind: str) -> pb.WorkflowCapability:
        return pb.WorkflowCapability(kind=kind)

    def task_capability(self, kind: str) -> pb.TaskCapability:
        return pb.TaskCapability(kind=kind)

    def poll_id(self) -> str:
        return self.server_id

    def poll_seconds(self) -> int:
        return 30

    def timer_id(self, number: int) -> str:
        return f"timer-{number}"

    def numbers(self, history: int, commands: int) -> range:
        return range(1, 1 + commands)

    def suspension(self, reason: str) -> Sequence[pb.WorkflowCommand]:
        return []  # the status says it all

    def unknown(self, event: pb.WorkflowEvent) -> Past | None:
        # It takes what it does not know for an operation, which spoils the replay.
        raise AssertionError(f"an official worker would take {event.event_type} for OPERATION_COMPLETED")

    def value_of(self, data: dict[str, Any]) -> Any:
        return data["value"] if "promiseId" in data else data.get("output")

    def recorded(self, context: Context, name: str) -> Past | None:
        named = [event for event in context.events if event.data.get("operationName") == name]
        assert all("result" in event.data for event in named)
        return named[-1] if named else None

    def clear_state(self, context: Context, key: str) -> None:
        # It does not look whether history has it: the command is sent again with every activation.
        context._add(pb.CommandType.CLEAR_STATE, clear_state=pb.ClearStateCommand(key=key))

    def cancel_child(self, context: Context, name: str) -> None:
        child_id = next(
            event.data["childExecutionId"] for event in context.events if event.data.get("childExecutionName") == name
        )
        data = pb.RequestCancelChildWorkflowCommand(child_workflow_execution_id=child_id)
        context._add(pb.CommandType.REQUEST_CANCEL_CHILD_WORKFLOW, request_cancel_child_workflow=data)

    def error_text(self, error: WorkerFailed) -> str:
        return str(error)


class Napi(Ffi):
    """The one behind the official TypeScript SDK: like the other, but what it does not know it drops."""

    def unknown(self, event: pb.WorkflowEvent) -> Past | None:
        return None


def encode(value: Any) -> bytes:
    return msgspec.json.encode(value)


def decode(data: bytes) -> Any:
    """JSON; anything that is none means null."""
    try:
        return msgspec.json.decode(data)
    except msgspec.DecodeError:
        return None
