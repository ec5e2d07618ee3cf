"""The platform's table of commands: what each one appends to the history, and what else it does."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeVar

from flovyn.errors import InvalidArgument, Unimplemented
from flovyn.server import limits
from flovyn.server.engine import children, events, keys, payloads, promises, scheduling, starting, validation
from flovyn.server.engine.history import Closing
from flovyn.server.engine.scheduling import TaskWanted
from flovyn.server.engine.starting import Start
from flovyn.wire.messages.flovyn import v1 as pb

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from flovyn.server.engine.core import Core
    from flovyn.server.engine.events import Event
    from flovyn.server.engine.scheduling import PreparedTask
    from flovyn.server.engine.starting import Prepared
    from flovyn.server.store.runs import RunRow

__all__ = ["Translation", "translate"]

T = TypeVar("T")


@dataclass(slots=True)
class Translation:
    """What a list of commands comes to; nothing has happened yet, but to timers and promises.

    Attributes:
        events: To be appended, in the order of the commands.
        tasks: To be created.
        children: To be created.
        cancels: Children to be asked to stop, once all else is done.
        closing: How the activation ends, if a command says so.
    """

    events: list[Event] = field(default_factory=list["Event"])
    tasks: list[PreparedTask] = field(default_factory=list["PreparedTask"])
    children: list[Prepared] = field(default_factory=list["Prepared"])
    cancels: list[pb.RequestCancelChildWorkflowCommand] = field(
        default_factory=list[pb.RequestCancelChildWorkflowCommand]
    )
    closing: Closing | None = None


def translate(core: Core, run: RunRow, commands: Sequence[pb.WorkflowCommand]) -> Translation:
    """Read commands in list order; their own sequence numbers differ between SDKs and mean nothing.

    Part of the caller's transaction.

    Raises:
        InvalidArgument: A command makes no sense; the message says which and why.
        Unimplemented: This server does not know a command.
    """
    work = _Translator(core, run)
    for index, command in enumerate(commands):
        if command.command_type == 0:  # the official workers send requests that the wire has no command for like this
            continue
        at = f"commands[{index}]"
        if work.result.closing is not None:
            raise InvalidArgument(f"{at} stands after the command that ends the activation")
        handler = _HANDLERS.get(command.command_type)
        if handler is None:
            raise Unimplemented(f"{at}: this server does not carry out {_type_name(command.command_type)}")
        handler(work, command, at)
    return work.result


def _type_name(command_type: int) -> str:
    return pb.CommandType(command_type).name or f"command type {int(command_type)}"


class _Translator:
    """One method for each command; each checks everything before anything is stored."""

    def __init__(self, core: Core, run: RunRow) -> None:
        self._core = core
        self._run = run
        self.result = Translation()

    def record_operation(self, command: pb.WorkflowCommand, at: str) -> None:
        data = _given(command.record_operation, f"{at}.record_operation")
        result = payloads.checked(data.result, f"{at}.record_operation.result")
        name = validation.text(data.operation_name, f"{at}.record_operation.operation_name")
        self.result.events.append(events.operation_completed(name, result))

    def set_state(self, command: pb.WorkflowCommand, at: str) -> None:
        data = _given(command.set_state, f"{at}.set_state")
        value = payloads.checked(data.value, f"{at}.set_state.value")
        self.result.events.append(events.state_set(validation.text(data.key, f"{at}.set_state.key"), value))

    def clear_state(self, command: pb.WorkflowCommand, at: str) -> None:
        data = _given(command.clear_state, f"{at}.clear_state")
        self.result.events.append(events.state_cleared(validation.text(data.key, f"{at}.clear_state.key")))

    def schedule_task(self, command: pb.WorkflowCommand, at: str) -> None:
        at = f"{at}.schedule_task"
        data = _given(command.schedule_task, at)
        wanted = TaskWanted(
            kind=data.kind,
            task_id=data.task_execution_id,
            payload=data.input,
            queue=data.queue or self._run.queue,
            run=self._run.n,
            max_retries=data.max_retries,
            timeout_ms=data.timeout_ms,
            priority_seconds=data.priority_seconds or 0,
            key=data.idempotency_key,
            key_ttl_seconds=data.idempotency_key_ttl_seconds,
        )
        task = scheduling.prepare(self._core, self._run.org_id, wanted, at=f"{at}.")
        self.result.tasks.append(task)
        self.result.events.append(task.scheduled)

    def start_timer(self, command: pb.WorkflowCommand, at: str) -> None:
        at = f"{at}.start_timer"
        data = _given(command.start_timer, at)
        timer_id = validation.name(data.timer_id, f"{at}.timer_id")
        duration = validation.within(data.duration_ms, f"{at}.duration_ms", 0, limits.MAX_DURATION_MS)
        fire_at = self._core.clock() + duration
        if self._core.store.timers.arm(self._run.n, timer_id, fire_at):
            self._core.due(fire_at)
        self.result.events.append(events.timer_started(timer_id, duration_ms=duration, fire_at_ms=fire_at))

    def cancel_timer(self, command: pb.WorkflowCommand, at: str) -> None:
        data = _given(command.cancel_timer, f"{at}.cancel_timer")
        if self._core.store.timers.disarm(self._run.n, data.timer_id):  # any other has ended already, or never was
            self.result.events.append(events.timer_cancelled(data.timer_id))

    def create_promise(self, command: pb.WorkflowCommand, at: str) -> None:
        at = f"{at}.create_promise"
        data = _given(command.create_promise, at)
        name = validation.name(data.promise_id, f"{at}.promise_id")
        key, key_ms, deadline = data.idempotency_key, 0, None
        if key is not None:
            key_ms = keys.lifetime_ms(key, data.idempotency_key_ttl_seconds, f"{at}.idempotency_key")
        if data.timeout_ms is not None:
            timeout = validation.within(data.timeout_ms, f"{at}.timeout_ms", 0, limits.MAX_DURATION_MS)
            deadline = self._core.clock() + timeout
        promise_id = promises.create(self._core, self._run, name, deadline_at=deadline, key=key, key_ms=key_ms)
        self.result.events.append(events.promise_created(promise_id, name=name, timeout_ms=data.timeout_ms, key=key))

    def resolve_promise(self, command: pb.WorkflowCommand, at: str) -> None:
        at = f"{at}.resolve_promise"
        data = _given(command.resolve_promise, at)
        value = payloads.checked(data.value, f"{at}.value")
        promise = self._core.store.promises.named(self._run.n, data.promise_id)
        promise = promise or self._core.store.promises.find(data.promise_id)
        if promise is None or promise.run != self._run.n:
            raise InvalidArgument(f"{at}.promise_id {validation.shown(data.promise_id)} is no promise of this workflow")
        if promise.status == "PENDING":  # any other has ended already
            promise.status = "RESOLVED"
            self._core.store.promises.save(promise)
            self.result.events.append(events.promise_resolved(promise.id, name=promise.name, value=value))

    def schedule_child(self, command: pb.WorkflowCommand, at: str) -> None:
        at = f"{at}.schedule_child_workflow"
        data = _given(command.schedule_child_workflow, at)
        if data.workflow_definition_id:
            raise Unimplemented(f"{at}.workflow_definition_id: this server has no visual definitions")
        name = validation.name(data.child_execution_name, f"{at}.child_execution_name")
        wanted = Start(
            kind=data.workflow_kind or "",
            payload=data.input,
            queue=children.inherited_queue(data.queue, self._run),
            priority_seconds=data.priority_seconds,
            parent_id=self._run.id,
        )
        child = starting.prepare(self._core, self._run.org_id, wanted, at=f"{at}.")
        child.run.id = validation.uuid(data.child_workflow_execution_id, f"{at}.child_workflow_execution_id")
        child.run.parent = self._run.n
        child.run.child_name = name
        child.run.tells_parent = 1
        self.result.children.append(child)
        self.result.events.append(
            events.child_initiated(
                name, child_id=child.run.id, kind=child.run.kind, payload=payloads.checked(data.input, f"{at}.input")
            )
        )

    def cancel_child(self, command: pb.WorkflowCommand, at: str) -> None:
        # Workers know no event for it, and would take one for something else.
        at = f"{at}.request_cancel_child_workflow"
        self.result.cancels.append(_given(command.request_cancel_child_workflow, at))

    def complete_workflow(self, command: pb.WorkflowCommand, at: str) -> None:
        data = _given(command.complete_workflow, f"{at}.complete_workflow")
        output = payloads.checked(data.output, f"{at}.complete_workflow.output")
        self.result.closing = Closing("COMPLETED", events.workflow_completed(output), output=output)

    def fail_workflow(self, command: pb.WorkflowCommand, at: str) -> None:
        data = _given(command.fail_workflow, f"{at}.fail_workflow")
        event = events.workflow_failed(error=data.error, stack_trace=data.stack_trace, failure_type=data.failure_type)
        self.result.closing = Closing("FAILED", event, error=data.error)

    def suspend_workflow(self, command: pb.WorkflowCommand, at: str) -> None:
        reason = _given(command.suspend_workflow, f"{at}.suspend_workflow").reason
        self.result.closing = Closing("WAITING", events.workflow_suspended(reason))

    def cancel_workflow(self, command: pb.WorkflowCommand, at: str) -> None:
        reason = _given(command.cancel_workflow, f"{at}.cancel_workflow").reason
        self.result.closing = Closing("CANCELLED", events.workflow_cancelled(reason), error=reason)


def _given(data: T | None, where: str) -> T:
    if data is None:
        raise InvalidArgument(f"{where} is missing, though the command's type asks for it")
    return data


_HANDLERS: Final[dict[int, Callable[[_Translator, pb.WorkflowCommand, str], None]]] = {
    pb.CommandType.RECORD_OPERATION: _Translator.record_operation,
    pb.CommandType.SET_STATE: _Translator.set_state,
    pb.CommandType.CLEAR_STATE: _Translator.clear_state,
    pb.CommandType.SCHEDULE_TASK: _Translator.schedule_task,
    pb.CommandType.START_TIMER: _Translator.start_timer,
    pb.CommandType.CANCEL_TIMER: _Translator.cancel_timer,
    pb.CommandType.CREATE_PROMISE: _Translator.create_promise,
    pb.CommandType.RESOLVE_PROMISE: _Translator.resolve_promise,
    pb.CommandType.SCHEDULE_CHILD_WORKFLOW: _Translator.schedule_child,
    pb.CommandType.REQUEST_CANCEL_CHILD_WORKFLOW: _Translator.cancel_child,
    pb.CommandType.COMPLETE_WORKFLOW: _Translator.complete_workflow,
    pb.CommandType.FAIL_WORKFLOW: _Translator.fail_workflow,
    pb.CommandType.SUSPEND_WORKFLOW: _Translator.suspend_workflow,
    pb.CommandType.CANCEL_WORKFLOW: _Translator.cancel_workflow,
}
