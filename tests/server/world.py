"""An engine under a clock that only the test moves, with ids that tell what was made first."""

from __future__ import annotations

import itertools
from typing import Any
from uuid import UUID

import msgspec

from flovyn.server.engine import Caller, Engine, Poller, Signalled, Start
from flovyn.server.engine.invariants import violations
from flovyn.server.store import Store
from flovyn.server.store.runs import RunRow
from flovyn.wire.messages.flovyn import v1 as pb

__all__ = [
    "ORG",
    "TIMEOUT_MS",
    "World",
    "cancel",
    "cancel_child",
    "child_id",
    "clear_state",
    "complete",
    "create_promise",
    "fail",
    "resolve_promise",
    "schedule",
    "schedule_child",
    "set_state",
    "start_timer",
    "suspend",
    "task_id",
]

TIMEOUT_MS = 5_000
ORG = "org-1"


def task_id(number: int) -> str:
    return str(UUID(int=0xA000 + number))


def schedule(number: int = 0, kind: str = "charge", payload: bytes = b"{}", **options: Any) -> pb.WorkflowCommand:
    command = pb.ScheduleTaskCommand(kind=kind, input=payload, task_execution_id=task_id(number), **options)
    return pb.WorkflowCommand(command_type=pb.CommandType.SCHEDULE_TASK, schedule_task=command)


def start_timer(timer_id: str = "timer-0", duration_ms: int = 1_000) -> pb.WorkflowCommand:
    command = pb.StartTimerCommand(timer_id=timer_id, duration_ms=duration_ms)
    return pb.WorkflowCommand(command_type=pb.CommandType.START_TIMER, start_timer=command)


def set_state(key: str, value: bytes = b"1") -> pb.WorkflowCommand:
    command = pb.SetStateCommand(key=key, value=value)
    return pb.WorkflowCommand(command_type=pb.CommandType.SET_STATE, set_state=command)


def clear_state(key: str) -> pb.WorkflowCommand:
    command = pb.ClearStateCommand(key=key)
    return pb.WorkflowCommand(command_type=pb.CommandType.CLEAR_STATE, clear_state=command)


def create_promise(name: str = "approval", **options: Any) -> pb.WorkflowCommand:
    command = pb.CreatePromiseCommand(promise_id=name, **options)
    return pb.WorkflowCommand(command_type=pb.CommandType.CREATE_PROMISE, create_promise=command)


def resolve_promise(promise_id: str, value: bytes = b"1") -> pb.WorkflowCommand:
    command = pb.ResolvePromiseCommand(promise_id=promise_id, value=value)
    return pb.WorkflowCommand(command_type=pb.CommandType.RESOLVE_PROMISE, resolve_promise=command)


def child_id(number: int) -> str:
    return str(UUID(int=0xC000 + number))


def schedule_child(number: int = 0, name: str | None = None, kind: str = "order", **options: Any) -> pb.WorkflowCommand:
    options.setdefault("input", b"{}")
    command = pb.ScheduleChildWorkflowCommand(
        child_execution_name=f"child-{number}" if name is None else name,
        workflow_kind=kind,
        child_workflow_execution_id=child_id(number),
        **options,
    )
    return pb.WorkflowCommand(command_type=pb.CommandType.SCHEDULE_CHILD_WORKFLOW, schedule_child_workflow=command)


def cancel_child(number: int | None = 0, name: str = "", reason: str = "enough") -> pb.WorkflowCommand:
    command = pb.RequestCancelChildWorkflowCommand(
        child_execution_name=name,
        child_workflow_execution_id="" if number is None else child_id(number),
        reason=reason,
    )
    return pb.WorkflowCommand(
        command_type=pb.CommandType.REQUEST_CANCEL_CHILD_WORKFLOW, request_cancel_child_workflow=command
    )


def complete(output: bytes = b"null") -> pb.WorkflowCommand:
    command = pb.CompleteWorkflowCommand(output=output)
    return pb.WorkflowCommand(command_type=pb.CommandType.COMPLETE_WORKFLOW, complete_workflow=command)


def fail(error: str = "boom") -> pb.WorkflowCommand:
    command = pb.FailWorkflowCommand(error=error, stack_trace="line 1", failure_type="ERROR")
    return pb.WorkflowCommand(command_type=pb.CommandType.FAIL_WORKFLOW, fail_workflow=command)


def cancel(reason: str = "enough") -> pb.WorkflowCommand:
    command = pb.CancelWorkflowCommand(reason=reason)
    return pb.WorkflowCommand(command_type=pb.CommandType.CANCEL_WORKFLOW, cancel_workflow=command)


def suspend(reason: str = "waiting") -> pb.WorkflowCommand:
    command = pb.SuspendWorkflowCommand(reason=reason)
    return pb.WorkflowCommand(command_type=pb.CommandType.SUSPEND_WORKFLOW, suspend_workflow=command)


_STATUS = {
    pb.CommandType.COMPLETE_WORKFLOW: pb.WorkflowStatus.COMPLETED,
    pb.CommandType.FAIL_WORKFLOW: pb.WorkflowStatus.FAILED,
    pb.CommandType.CANCEL_WORKFLOW: pb.WorkflowStatus.CANCELLED,
    pb.CommandType.SUSPEND_WORKFLOW: pb.WorkflowStatus.SUSPENDED,
}


OPEN: list[Store] = []
"""Every store that a test has opened; they are closed behind it."""


class World:
    """One engine and the short forms in which tests talk to it."""

    def __init__(self, path: str = ":memory:", patience_ms: int | None = None) -> None:
        self.path = path
        self.patience_ms = patience_ms
        self.now = 1_000_000
        self._ids = itertools.count(1)
        self.open()

    def open(self) -> None:
        self.store = Store(self.path)
        OPEN.append(self.store)
        self._begin()

    def _begin(self) -> None:
        self.engine = Engine(
            self.store,
            clock=self._clock,
            new_id=self.new_id,
            worker_timeout_ms=TIMEOUT_MS,
            patience_ms=self.patience_ms,
        )

    def crash(self) -> None:
        """Whatever was in memory is gone; what the store was told is not."""
        self._begin()

    def restart(self) -> None:
        """The same, with the file closed and opened again."""
        self.store.close()
        self.open()

    def _clock(self) -> int:
        return self.now

    def new_id(self) -> str:
        return str(UUID(int=next(self._ids)))

    def caller(self, link: int = 1, claim: str | None = None, org: str = ORG) -> Caller:
        return Caller(org, link, claim)

    def sound(self) -> None:
        assert violations(self.engine) == []

    def advance(self, milliseconds: int) -> None:
        """Let time pass, ticking whenever the engine asks for it."""
        until = self.now + milliseconds
        while self.engine.next_at <= until:
            self.now = max(self.now, int(self.engine.next_at))
            self.engine.tick()
            self.sound()
        self.now = until

    # --- workflows --------------------------------------------------------------------------

    def start(self, kind: str = "order", payload: bytes = b"{}", **options: Any) -> str:
        return self.engine.workflows.start(self.caller(), Start(kind=kind, payload=payload, **options)).run_id

    def poller(
        self, of: Any = "workflow", worker: str = "w", link: int = 1, queue: str = "", kinds: Any = ()
    ) -> Poller:
        return self.engine.workers.poller(self.caller(link), of, worker_id=worker, queue=queue, kinds=kinds)

    def claim(self, worker: str = "w", link: int = 1, queue: str = "") -> tuple[str, str] | None:
        """The id of the run that was claimed, and its token."""
        claimed = self.engine.workflows.claim(self.caller(link), self.poller("workflow", worker, link, queue))
        return None if claimed is None else (claimed.run.id, claimed.token)

    def submit(self, run_id: str, *commands: pb.WorkflowCommand, claim: str | None = None, link: int = 1) -> None:
        status = _STATUS.get(commands[-1].command_type, pb.WorkflowStatus.WORKFLOW_STATUS_UNSPECIFIED)
        self.engine.workflows.submit(self.caller(link, claim), run_id, commands, status)

    def activate(self, *commands: pb.WorkflowCommand, link: int = 1) -> str:
        """Claim the next run and submit."""
        claimed = self.claim(link=link)
        assert claimed is not None
        self.submit(claimed[0], *commands, claim=claimed[1], link=link)
        return claimed[0]

    def status(self, run_id: str) -> str:
        return self.run(run_id).status

    def run(self, run_id: str) -> RunRow:
        run = self.store.runs.find(run_id)
        assert run is not None
        return run

    def cooperate(
        self, metadata: bytes = b'{"cancellation":"scopes"}', name: str = "other", kind: str = "order"
    ) -> None:
        """A worker registers whose workflows end themselves when they are cancelled, or as it says."""
        self.engine.workers.register(
            self.caller(link=99),
            name=name,
            version="1",
            worker_type="WORKFLOW",
            host="h",
            process="1",
            workflows={kind: metadata},
            tasks={},
        )

    def request_cancel(self, run_id: str, reason: str = "too late") -> None:
        self.engine.request_cancel(self.caller(), run_id, reason=reason, requested_by="me")

    def history(self, run_id: str) -> list[tuple[str, Any]]:
        run = self.store.runs.find(run_id)
        assert run is not None
        return [(event.type, msgspec.json.decode(event.data)) for event in self.store.runs.events(run.n)]

    def types(self, run_id: str) -> list[str]:
        return [event_type for event_type, _ in self.history(run_id)]

    # --- signals ----------------------------------------------------------------------------

    def signal(self, run_id: str, name: str = "go", value: bytes = b"1") -> int:
        """The signal's number in the history."""
        return self.engine.signals.signal(self.caller(), run_id, name, value).sequence

    def signal_with_start(self, key: str, name: str = "go", value: bytes = b"1", **options: Any) -> Signalled:
        options = {"kind": "order", "payload": b"{}", "key": key, **options}
        wanted = Start(**options)
        return self.engine.signals.signal_with_start(self.caller(), wanted, name, value)

    # --- promises ---------------------------------------------------------------------------

    def promise_id(self, run_id: str, name: str = "approval") -> str:
        """As everybody learns it: from the history."""
        return next(
            str(data["promiseId"])
            for event_type, data in self.history(run_id)
            if event_type == "PROMISE_CREATED" and data["promiseName"] == name
        )

    # --- tasks ------------------------------------------------------------------------------

    def claim_task(self, worker: str = "w", link: int = 1, queue: str = "") -> tuple[str, str] | None:
        """The id of the task that was claimed, and its token."""
        claimed = self.engine.tasks.claim(self.caller(link), self.poller("task", worker, link, queue))
        return None if claimed is None else (claimed.task.id, claimed.token)

    def task_status(self, number: int = 0) -> str:
        task = self.store.tasks.find(task_id(number))
        assert task is not None
        return task.status

    def attempts(self, number: int = 0) -> list[tuple[int, str, str | None]]:
        task = self.store.tasks.find(task_id(number))
        assert task is not None
        return [(one.attempt, one.status, one.error) for one in self.store.tasks.attempts(task.n)]
