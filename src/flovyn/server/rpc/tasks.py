"""TaskExecution."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from flovyn.errors import InvalidArgument
from flovyn.server.engine import TaskWanted
from flovyn.server.rpc.asking import MORE_METADATA, number
from flovyn.server.shell import CLAIM_METADATA
from flovyn.wire import methods
from flovyn.wire.messages.flovyn import v1 as pb
from flovyn.wire.methods import Empty

if TYPE_CHECKING:
    from flovyn.server.acceptor import Call, Routes
    from flovyn.server.engine import ClaimedTask
    from flovyn.server.shell import Shell

__all__ = ["add"]


class _Tasks:
    def __init__(self, shell: Shell) -> None:
        self._shell = shell
        self._engine = shell.engine

    async def submit(self, call: Call, request: pb.SubmitTaskRequest) -> pb.SubmitTaskResponse:
        caller = self._shell.caller(call, org_id=request.org_id)
        if request.workflow_execution_id:
            raise InvalidArgument(
                "workflow_execution_id: tasks of a workflow are created by its own commands; leave it empty"
            )
        wanted = TaskWanted(
            kind=request.kind,
            task_id=self._engine.core.new_id(),
            payload=request.input,
            queue=request.queue,
            max_retries=request.max_retries,
            timeout_ms=request.timeout_ms or None,
            metadata=request.metadata,
            key=request.idempotency_key,
            key_ttl_seconds=request.idempotency_key_ttl_seconds,
        )
        submitted = self._engine.tasks.submit(caller, wanted)
        return pb.SubmitTaskResponse(
            task_execution_id=submitted.task_id,
            idempotency_key_used=submitted.key_used,
            idempotency_key_new=submitted.key_new,
        )

    async def poll(self, call: Call, request: pb.PollTaskRequest) -> pb.PollTaskResponse:
        caller = self._shell.caller(call, org_id=request.org_id)
        poller = self._engine.workers.poller(caller, "task", worker_id=request.worker_id, queue=request.queue)
        more = number(MORE_METADATA, call.metadata.get(MORE_METADATA, "0"))
        source = self._engine.tasks
        claimed = await self._shell.poll(caller, poller, request.timeout_seconds, source, at_most=1 + more)
        if not claimed:
            return pb.PollTaskResponse()
        call.reply_metadata[CLAIM_METADATA] = claimed[0].token
        call.undelivered = partial(self._shell.take_back, source, claimed)
        first, *others = map(_info, claimed)
        for info, one in zip(others, claimed[1:], strict=True):
            info.claim = one.token
        return pb.PollTaskResponse(task=first, more=others)

    async def complete(self, call: Call, request: pb.CompleteTaskRequest) -> Empty:
        caller = self._shell.caller(call)
        self._engine.tasks.complete(caller, request.task_execution_id, request.output)
        return Empty()

    async def fail(self, call: Call, request: pb.FailTaskRequest) -> Empty:
        caller = self._shell.caller(call)
        self._engine.tasks.fail(caller, request.task_execution_id, request.error)
        return Empty()

    async def heartbeat(self, call: Call, request: pb.HeartbeatRequest) -> Empty:
        caller = self._shell.caller(call)
        self._engine.tasks.heartbeat(caller, request.task_execution_id)
        return Empty()

    async def cancel(self, call: Call, request: pb.CancelTaskRequest) -> Empty:
        caller = self._shell.caller(call)
        self._engine.tasks.cancel(caller, request.task_execution_id)
        return Empty()


def _info(claimed: ClaimedTask) -> pb.TaskExecutionInfo:
    task = claimed.task
    return pb.TaskExecutionInfo(
        task_execution_id=task.id,
        kind=task.kind,
        input=claimed.payload,
        workflow_execution_id=claimed.run_id,
        execution_count=task.execution_count,
        queue=task.queue,
    )


def add(routes: Routes, shell: Shell) -> None:
    """Answer the service's RPCs."""
    service = _Tasks(shell)
    routes.unary(methods.SUBMIT_TASK, shell.answering(service.submit))
    routes.unary(methods.POLL_TASK, service.poll)
    routes.unary(methods.COMPLETE_TASK, shell.answering(service.complete))
    routes.unary(methods.FAIL_TASK, shell.answering(service.fail))
    routes.unary(methods.HEARTBEAT, shell.answering(service.heartbeat))
    routes.unary(methods.CANCEL_TASK, shell.answering(service.cancel))
