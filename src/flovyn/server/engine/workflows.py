"""Workflow executions: starting, claiming, reading and submitting."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from flovyn.errors import InvalidArgument, NotFound
from flovyn.server.engine import (
    cancellation,
    children,
    events,
    fencing,
    history,
    keys,
    scheduling,
    starting,
    validation,
)
from flovyn.server.engine.commands import translate
from flovyn.server.engine.history import Closing
from flovyn.wire.messages.flovyn import v1 as pb

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flovyn.server.engine.core import Caller, Core
    from flovyn.server.engine.starting import Start
    from flovyn.server.engine.workers import Poller
    from flovyn.server.store.runs import RunRow

__all__ = ["ClaimedRun", "Started", "Workflows"]


@dataclass(frozen=True, slots=True)
class Started:
    """The answer to a start.

    Attributes:
        run_id: The execution, new or found by its idempotency key.
        key_used: An earlier start had the key: this is its execution.
        key_new: This start created the execution.
    """

    run_id: str
    key_used: bool
    key_new: bool


@dataclass(frozen=True, slots=True)
class ClaimedRun:
    """A run in the hands of a worker.

    Attributes:
        payload: Its input, as it came.
        token: What the worker shows when it reports.
        time_ms: The moment of the claim, which is the activation's clock.
    """

    run: RunRow
    payload: bytes
    token: str
    time_ms: int

    @property
    def kind(self) -> str:
        """The workflow's kind."""
        return self.run.kind


class Workflows:
    """What can be done with workflow executions."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def start(self, caller: Caller, wanted: Start) -> Started:
        """Create an execution, or find the one that was started with the same idempotency key.

        Raises:
            InvalidArgument: A value makes no sense; the message names it.
            AlreadyExists: The idempotency key stands for something that is no workflow.
        """
        core = self._core
        prepared = starting.prepare(core, caller.org_id, wanted)
        with core.transaction():
            if wanted.key is not None:
                existing = keys.find(core, caller.org_id, wanted.key, "workflow")
                if existing is not None:
                    return Started(existing, key_used=True, key_new=False)
            starting.create(core, prepared)
        return Started(prepared.run.id, key_used=False, key_new=True)

    def start_child(self, caller: Caller, parent_id: str, name: str, wanted: Start) -> str:
        """Start a child from outside, or find the one of that name; the parent's program knows nothing of it.

        Returns:
            The child's id.

        Raises:
            NotFound: The parent is unknown in the caller's organisation.
            FailedPrecondition: It has ended.
            InvalidArgument: A value makes no sense; the message names it.
        """
        parent = self.find(caller, parent_id)
        validation.name(name, "child_execution_name")
        wanted = replace(wanted, queue=children.inherited_queue(wanted.queue, parent))
        with self._core.transaction():
            return children.adopt(self._core, parent, name, wanted)

    def claim(self, caller: Caller, poller: Poller) -> ClaimedRun | None:
        """Give the first run that the poller can work on into its hands, if there is one."""
        core = self._core
        queue = caller.org_id, poller.queue
        kinds = core.store.runs.pending_kinds(*queue) if poller.kinds is None else poller.kinds
        run = core.store.runs.first_pending(*queue, kinds)
        if run is None:
            return None
        now = core.clock()
        token = core.new_id()
        run.status = "RUNNING"
        run.claim_worker = poller.worker
        run.claim_process = core.leases.process_of(caller.link)
        run.claim_sequence = run.sequence
        run.contested |= int(run.claim_token is not None)
        run.claim_token = token
        with core.transaction():
            core.store.runs.save(run)
            payload = core.store.runs.input(run.n)
        core.leases.hold(fencing.claim_of("workflow", run), caller.link, now)
        return ClaimedRun(run, payload, token, now)

    def give_back(self, claimed: ClaimedRun) -> None:
        """Make as if a claim had never been: whoever it was for has gone without hearing of it.

        One that was reported or claimed again, or of which its worker has spoken since, stays as it is.
        """
        core = self._core
        run = core.store.runs.get(claimed.run.n)
        if run.claim_token != claimed.token or core.leases.is_confirmed(claimed.token):
            return
        run.status, run.claim_token = "PENDING", None
        with core.transaction():
            core.store.runs.save(run)
            core.release(claimed.token)
            core.make_ready("workflow", run.org_id, run.queue, run.kind)

    def news(self, caller: Caller, claimed: ClaimedRun, *, at_most: int) -> tuple[bytes, int]:
        """The history of a run that was just claimed, as far as its connection has not been sent it before.

        Args:
            caller: Who has claimed it.
            claimed: The run.
            at_most: How many bytes that may be.

        Returns:
            It, as the bytes of a GetEvents reply, nothing if that is too much; and how many events come before it.
        """
        run, link = claimed.run, self._core.leases.touch(caller.link, claimed.time_ms)
        after = link.shown.get(run.n, 0)
        history = self._core.store.runs.frames(run.n, after=after)
        if len(history) > at_most:
            return b"", 0
        link.show(run.n, run.sequence)
        return history, after

    def events(self, caller: Caller, run_id: str) -> bytes:
        """The whole history, as the bytes of a GetEvents reply.

        Raises:
            NotFound: There is no such execution in the caller's organisation.
        """
        run = self.find(caller, run_id)
        now = self._core.clock()
        if caller.claim is not None:
            self._core.leases.show_token(caller.claim, caller.link, now)
            self._core.leases.touch(caller.link, now).show(run.n, run.sequence)
        else:
            self._core.leases.confirm("workflow", run.n, caller.link, now)
        return self._core.store.runs.frames(run.n)

    def is_to_end(self, caller: Caller, run_id: str) -> bool:
        """Whether the history of an execution has no end yet, not even one that was retried.

        Raises:
            NotFound: There is no such execution in the caller's organisation.
        """
        run = self.find(caller, run_id)
        return run.status not in history.ENDED and not self._core.store.runs.retries(run.n)

    def submit(
        self, caller: Caller, run_id: str, commands: Sequence[pb.WorkflowCommand], status: pb.WorkflowStatus
    ) -> None:
        """Take in what an activation did: all of it, or nothing.

        Raises:
            NotFound: There is no such execution in the caller's organisation.
            FailedPrecondition: It has ended, is not claimed, or was claimed again since.
            InvalidArgument: A command, or the status, makes no sense.
            AlreadyExists: An idempotency key stands for something else.
            Unimplemented: This server does not know a command.
        """
        core = self._core
        run = self.find(caller, run_id)
        fencing.admit(core, "workflow", run, caller)
        with core.transaction():
            work = translate(core, run, commands)
            closing = _closing(work.closing, status)
            history.append(core, run, work.events, external=False)
            for task in work.tasks:
                if told := scheduling.create(core, task):
                    history.append(core, run, told, external=True)
            for child in work.children:
                children.create(core, run, child)
            if closing.status == "WAITING":
                self._suspend(run, closing)
            else:
                history.end(core, run, closing)
                core.leases.touch(caller.link, core.clock()).shown.pop(run.n, None)
            for wanted in work.cancels:
                children.cancel(
                    core,
                    run.n,
                    child_id=wanted.child_workflow_execution_id,
                    name=wanted.child_execution_name,
                    reason=wanted.reason,
                )

    def _suspend(self, run: RunRow, closing: Closing) -> None:
        core = self._core
        history.append(core, run, [closing.event], external=False)
        core.release(run.claim_token)
        run.claim_token = None
        run.contested = 0
        run.status = "WAITING"
        if run.cancel_reason is not None and not cancellation.cooperates(core, run):
            cancellation.force(core, run)
            return
        # The worker decided to wait on what it had seen; what came after that has nobody else to wake it for.
        if run.external_sequence > run.claim_sequence:
            history.wake(core, run)
        core.store.runs.save(run)

    def find(self, caller: Caller, run_id: str) -> RunRow:
        """The execution of that id.

        Raises:
            NotFound: There is none in the caller's organisation.
        """
        run = self._core.store.runs.find(validation.given(run_id, "workflow_execution_id"))
        if run is None or run.org_id != caller.org_id:
            raise NotFound(f"workflow execution {validation.shown(run_id)} is unknown")
        return run


_STATUS_OF: Final[dict[int, str]] = {
    pb.WorkflowStatus.SUSPENDED: "WAITING",
    pb.WorkflowStatus.COMPLETED: "COMPLETED",
    pb.WorkflowStatus.CANCELLED: "CANCELLED",
    pb.WorkflowStatus.FAILED: "FAILED",
}


def _closing(closing: Closing | None, status: pb.WorkflowStatus) -> Closing:
    said = _STATUS_OF.get(status)
    if closing is None:
        if said == "WAITING":  # some official workers suspend by the status alone
            return Closing("WAITING", events.workflow_suspended(""))
        raise InvalidArgument(f"status is {_status_name(status)}, but no command ends the activation that way")
    if status != 0 and said != closing.status:
        raise InvalidArgument(
            f"status is {_status_name(status)}, but the last command is the one for {_COMMAND_OF[closing.status]}"
        )
    return closing


_COMMAND_OF: Final = {"WAITING": "SUSPENDED", "COMPLETED": "COMPLETED", "CANCELLED": "CANCELLED", "FAILED": "FAILED"}


def _status_name(status: int) -> str:
    return pb.WorkflowStatus(status).name or str(int(status))
