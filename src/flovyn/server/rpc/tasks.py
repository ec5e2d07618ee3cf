"""TaskExecution."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flovyn.errors import InvalidArgument
from flovyn.server.engine import TaskWanted
from flovyn.server.rpc.asking import work
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
        claimed = await work(self._shell, call, caller, poller, request.timeout_seconds, self._engine.tasks)
        if not claimed:
            return pb.PollTaskResponse()
        more = [_info(one, claim=one.token) for one in claimed[1:]]
        return pb.PollTaskResponse(task=_info(claimed[0]), more=more)

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


def _info(claimed: ClaimedTask, *, claim: str = "") -> pb.TaskExecutionInfo:
    task = claimed.task
    return pb.TaskExecutionInfo(
        task_execution_id=task.id,
        kind=task.kind,
        input=claimed.payload,
        workflow_execution_id=claimed.run_id,
        execution_count=task.execution_count,
        queue=task.queue,
        claim=claim,
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
