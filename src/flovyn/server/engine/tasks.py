"""Tasks: claiming, reporting, heartbeats, cancelling, deadlines and attempts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from flovyn.errors import FailedPrecondition, NotFound
from flovyn.server.engine import events, fencing, history, payloads, validation

if TYPE_CHECKING:
    from flovyn.server.engine.core import Caller, Core
    from flovyn.server.engine.events import Event
    from flovyn.server.engine.workers import Poller
    from flovyn.server.store.tasks import TaskRow

__all__ = ["ClaimedTask", "Tasks"]

CANCELLED_TEXT = "Task cancelled"
TIMED_OUT_TEXT = "Task timed out"


@dataclass(frozen=True, slots=True)
class ClaimedTask:
    """A task in the hands of a worker.

    Attributes:
        payload: Its input, as it came.
        run_id: The workflow execution that scheduled it.
        token: What the worker shows when it reports.
    """

    task: TaskRow
    payload: bytes
    run_id: str
    token: str

    @property
    def kind(self) -> str:
        """The task's kind."""
        return self.task.kind


class Tasks:
    """What can be done with tasks."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def claim(self, caller: Caller, poller: Poller) -> ClaimedTask | None:
        """Give the first task that the poller can work on into its hands, if there is one."""
        core = self._core
        queue = caller.org_id, poller.queue
        kinds = core.store.tasks.pending_kinds(*queue) if poller.kinds is None else poller.kinds
        task = core.store.tasks.first_pending(*queue, kinds)
        if task is None:
            return None
        now = core.clock()
        token = core.new_id()
        with core.transaction():
            if task.claim_token is not None:
                history.record_attempt(core, task, "TIMEOUT", "its worker fell silent")
            task.status = "RUNNING"
            task.claim_token = token
            task.claim_worker = poller.worker
            task.claim_process = core.leases.process_of(caller.link)
            task.started_at = now
            task.contested = int(task.execution_count > 0)
            task.execution_count += 1
            core.store.tasks.save(task)
            payload = core.store.tasks.input(task.n)
            run = core.store.runs.get(task.run)
        core.leases.hold(fencing.claim_of("task", task), caller.link, now)
        return ClaimedTask(task, payload, run.id, token)

    def complete(self, caller: Caller, task_id: str, output: bytes) -> None:
        """Take in the result of a task and wake its workflow.

        Raises:
            NotFound: There is no such task in the caller's organisation.
            FailedPrecondition: It has ended, is not claimed, or was claimed again since.
            InvalidArgument: The output is not JSON.
        """
        core = self._core
        task = self._reported(caller, task_id)
        event = events.task_completed(task.id, kind=task.kind, output=payloads.checked(output, "output"))
        with core.transaction():
            history.end_task(core, task, "COMPLETED", reason="it was completed")
            self._tell_run(task, [event])

    def fail(self, caller: Caller, task_id: str, error: str) -> None:
        """Take in a failed attempt: another one follows at once, unless they are used up or the error says it is final.

        Raises:
            NotFound: There is no such task in the caller's organisation.
            FailedPrecondition: It has ended, is not claimed, or was claimed again since.
        """
        core = self._core
        task = self._reported(caller, task_id)
        final = payloads.is_final_error(error)
        with core.transaction():
            if final or task.execution_count > task.max_retries:
                history.end_task(core, task, "FAILED", reason=error)
                event = events.task_failed(task.id, kind=task.kind, error=error, retryable=not final)
                self._tell_run(task, [event])
                return
            history.record_attempt(core, task, "FAILED", error)
            core.release(task.claim_token)
            task.status = "PENDING"
            task.claim_token = None
            core.store.tasks.save(task)
            core.make_ready("task", task.org_id, task.queue, task.kind)

    def heartbeat(self, caller: Caller, task_id: str) -> None:
        """Keep the claim on a task; a refusal tells its worker to stop.

        Raises:
            NotFound: There is no such task in the caller's organisation.
            FailedPrecondition: It was cancelled, has ended, or was claimed again since.
        """
        core = self._core
        task = self._reported(caller, task_id)
        if task.status == "PENDING":  # the lease had lapsed, but nobody else came for it
            task.status = "RUNNING"
            with core.transaction():
                core.store.tasks.save(task)
            core.leases.hold(fencing.claim_of("task", task), caller.link, core.clock())

    def cancel(self, caller: Caller, task_id: str) -> None:
        """End a task that has not ended. Cancelling a cancelled one again is no error.

        Raises:
            NotFound: There is no such task in the caller's organisation.
            FailedPrecondition: It has completed or failed.
        """
        core = self._core
        task = self._find(caller, task_id)
        if task.status == "CANCELLED":
            return
        if task.status in history.ENDED:
            raise FailedPrecondition(f"task {task.id} cannot be cancelled: it is {task.status}")
        told = [
            events.task_cancelled(task.id, kind=task.kind, reason=CANCELLED_TEXT),
            events.task_failed(task.id, kind=task.kind, error=CANCELLED_TEXT, retryable=False),
        ]
        with core.transaction():
            history.end_task(core, task, "CANCELLED", reason="it was cancelled")
            self._tell_run(task, told)

    def time_out(self, task: TaskRow) -> None:
        """End a task whose deadline has come. Part of the caller's transaction."""
        history.end_task(self._core, task, "FAILED", reason=TIMED_OUT_TEXT, attempt="TIMEOUT")
        event = events.task_failed(task.id, kind=task.kind, error=TIMED_OUT_TEXT, retryable=False)
        self._tell_run(task, [event])

    def _tell_run(self, task: TaskRow, told: list[Event]) -> None:
        core = self._core
        run = core.store.runs.get(task.run)
        history.append(core, run, told, external=True)
        history.wake(core, run)
        core.store.runs.save(run)

    def _reported(self, caller: Caller, task_id: str) -> TaskRow:
        """The task that a worker reports on, if it may."""
        task = self._find(caller, task_id)
        if task.status == "CANCELLED":
            raise FailedPrecondition(f"task {task.id} was cancelled: {task.end_reason}")
        fencing.admit(self._core, "task", task, caller)
        return task

    def _find(self, caller: Caller, task_id: str) -> TaskRow:
        task = self._core.store.tasks.find(task_id)
        if task is None or task.org_id != caller.org_id:
            raise NotFound(f"task {validation.shown(task_id)} is unknown")
        return task
