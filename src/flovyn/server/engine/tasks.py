"""Tasks: claiming, reporting, heartbeats, cancelling, deadlines and attempts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from flovyn.errors import FailedPrecondition, InvalidArgument, NotFound
from flovyn.server.engine import events, fencing, history, keys, payloads, scheduling, validation

if TYPE_CHECKING:
    from flovyn.server.engine.core import Caller, Core
    from flovyn.server.engine.scheduling import TaskWanted
    from flovyn.server.engine.workers import Poller
    from flovyn.server.store.tasks import TaskRow

__all__ = ["ClaimedTask", "Submitted", "Tasks"]

TIMED_OUT_TEXT = "Task timed out"


@dataclass(frozen=True, slots=True)
class ClaimedTask:
    """A task in the hands of a worker.

    Attributes:
        payload: Its input, as it came.
        run_id: The workflow execution that scheduled it; empty if it stands alone.
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


@dataclass(frozen=True, slots=True)
class Submitted:
    """The answer to a submission.

    Attributes:
        task_id: The task, new or found by its idempotency key.
        key_used: An earlier submission had the key: this is its task.
        key_new: This submission created the task.
    """

    task_id: str
    key_used: bool
    key_new: bool


class Tasks:
    """What can be done with tasks."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def submit(self, caller: Caller, wanted: TaskWanted) -> Submitted:
        """Create a task that stands alone, or find the one that was submitted with the same idempotency key.

        Raises:
            InvalidArgument: A value makes no sense; the message names it.
            AlreadyExists: The idempotency key stands for something that is no task.
        """
        core = self._core
        prepared = scheduling.prepare(core, caller.org_id, wanted)
        with core.transaction():
            if wanted.key is not None:
                existing = keys.find(core, caller.org_id, wanted.key, "task")
                if existing is not None:
                    return Submitted(existing, key_used=True, key_new=False)
            scheduling.insert(core, prepared)
        return Submitted(prepared.task.id, key_used=False, key_new=True)

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
            run_id = "" if task.run is None else core.store.runs.get(task.run).id
        core.leases.hold(fencing.claim_of("task", task), caller.link, now)
        return ClaimedTask(task, payload, run_id, token)

    def give_back(self, claimed: ClaimedTask) -> None:
        """Make as if a claim had never been: whoever it was for has gone without hearing of it.

        One that was reported or claimed again, or of which its worker has spoken since, stays as it is.
        """
        core = self._core
        task = core.store.tasks.get(claimed.task.n)
        if task.claim_token != claimed.token or core.leases.is_confirmed(claimed.token):
            return
        task.status, task.claim_token = "PENDING", None
        task.execution_count -= 1
        with core.transaction():
            core.store.tasks.save(task)
            core.release(claimed.token)
            core.make_ready("task", task.org_id, task.queue, task.kind)

    def complete(self, caller: Caller, task_id: str, output: bytes) -> None:
        """Take in the result of a task and wake its workflow.

        Raises:
            NotFound: There is no such task in the caller's organisation.
            FailedPrecondition: It has ended, is not claimed, or was claimed again since.
            InvalidArgument: The output is not JSON.
        """
        core = self._core
        task = self.reported(caller, task_id)
        checked = payloads.checked(output, "output")
        with core.transaction():
            if task.run is None or task.key is not None:
                core.store.tasks.put_output(task.n, bytes(checked))
            for ended in (task, *core.store.tasks.followers(task.n)):
                history.end_task(core, ended, "COMPLETED")
                told = events.task_completed(ended.id, kind=ended.kind, output=checked)
                history.tell_of_task(core, ended, [told])

    def fail(self, caller: Caller, task_id: str, error: str) -> None:
        """Take in a failed attempt: another one follows at once, unless they are used up or the error says it is final.

        Raises:
            NotFound: There is no such task in the caller's organisation.
            FailedPrecondition: It has ended, is not claimed, or was claimed again since.
        """
        core = self._core
        task = self.reported(caller, task_id)
        final = payloads.is_final_error(error)
        with core.transaction():
            if final or task.execution_count > task.max_retries:
                for ended in (task, *core.store.tasks.followers(task.n)):
                    self._fail(ended, error, retryable=not final)
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
        task = self.reported(caller, task_id)
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
        task = self.find(caller, task_id)
        if task.status == "CANCELLED":
            return
        if task.status in history.ENDED:
            raise FailedPrecondition(f"task {task.id} cannot be cancelled: it is {task.status}")
        with core.transaction():
            history.cancel_task(core, task, reason="it was cancelled")

    def withdraw(self, caller: Caller, task_id: str) -> None:
        """Cancel a task that stands alone and that nobody has begun.

        Raises:
            NotFound: There is no such task in the caller's organisation, or it belongs to a workflow.
            InvalidArgument: Somebody has begun it, or it has ended.
        """
        task = self.alone(caller, task_id)
        if task.status not in {"PENDING", "SCHEDULED"}:
            raise InvalidArgument(f"task {task.id} cannot be withdrawn: it is {task.status}, not PENDING")
        with self._core.transaction():
            history.cancel_task(self._core, task, reason="it was withdrawn")

    def begin(self, task: TaskRow) -> None:
        """Put a task whose time has come in its queue. Part of the caller's transaction."""
        task.status = "PENDING"
        self._core.store.tasks.save(task)
        self._core.make_ready("task", task.org_id, task.queue, task.kind)

    def time_out(self, task: TaskRow) -> None:
        """End a task whose deadline has come. Part of the caller's transaction."""
        for ended in (task, *self._core.store.tasks.followers(task.n)):
            self._fail(ended, TIMED_OUT_TEXT, retryable=False, attempt="TIMEOUT")

    def _fail(self, task: TaskRow, error: str, *, retryable: bool, attempt: str = "FAILED") -> None:
        history.end_task(self._core, task, "FAILED", reason=error, attempt=attempt)
        told = events.task_failed(task.id, kind=task.kind, error=error, retryable=retryable)
        history.tell_of_task(self._core, task, [told])

    def reported(self, caller: Caller, task_id: str) -> TaskRow:
        """The task that a worker reports on, if it may.

        Raises:
            NotFound: There is no such task in the caller's organisation.
            FailedPrecondition: It was cancelled, has ended, or was claimed again since.
        """
        task = self.find(caller, task_id)
        if task.status == "CANCELLED":
            raise FailedPrecondition(f"task {task.id} was cancelled: {task.end_reason}")
        fencing.admit(self._core, "task", task, caller)
        return task

    def alone(self, caller: Caller, task_id: str) -> TaskRow:
        """The task of that id, if it stands alone.

        Raises:
            NotFound: There is none in the caller's organisation, or it belongs to a workflow.
        """
        task = self.find(caller, task_id)
        if task.run is not None:
            raise NotFound(f"task {validation.shown(task_id)} is unknown")
        return task

    def find(self, caller: Caller, task_id: str) -> TaskRow:
        """The task of that id.

        Raises:
            NotFound: There is none in the caller's organisation.
        """
        task = self._core.store.tasks.find(validation.given(task_id, "task_execution_id"))
        if task is None or task.org_id != caller.org_id:
            raise NotFound(f"task {validation.shown(task_id)} is unknown")
        return task
