"""WorkflowDispatch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from flovyn.errors import Unimplemented
from flovyn.server.engine import Start
from flovyn.server.rpc.asking import number, work
from flovyn.wire import methods
from flovyn.wire.messages.flovyn import v1 as pb
from flovyn.wire.methods import Empty
from flovyn.wire.transport import Method

if TYPE_CHECKING:
    from flovyn.server.acceptor import Call, Routes
    from flovyn.server.engine import Caller, ClaimedRun
    from flovyn.server.shell import Shell

__all__ = ["add"]

_HISTORY: Final = "flovyn-history"
"""The metadata by which PollWorkflow is asked for the history of what it finds, up to so many bytes."""

_WAIT: Final = "flovyn-wait"
"""The metadata by which a caller says for how many seconds GetEvents may wait for the end of the run; the reply has it,
too, so that the caller knows that this server can."""

# A history is kept in the form in which it is sent, so the reply is never built as messages.
_RAW_GET_EVENTS: Final = Method(methods.GET_EVENTS.path, methods.GET_EVENTS.request, bytes, methods.GET_EVENTS.shape)


class _Workflows:
    def __init__(self, shell: Shell) -> None:
        self._shell = shell
        self._engine = shell.engine

    async def start(self, call: Call, request: pb.StartWorkflowRequest) -> pb.StartWorkflowResponse:
        caller = self._shell.caller(call, org_id=request.org_id)
        if request.workflow_definition_id:
            raise Unimplemented("workflow_definition_id: this server has no visual definitions; give workflow_kind")
        if request.parent_workflow_execution_id:
            raise Unimplemented("parent_workflow_execution_id: a child needs a name; call StartChildWorkflow")
        wanted = Start(
            kind=request.workflow_kind,
            payload=request.input,
            queue=request.queue,
            version=request.workflow_version,
            priority_seconds=request.priority_seconds,
            metadata=request.metadata,
            key=request.idempotency_key,
            key_ttl_seconds=request.idempotency_key_ttl_seconds,
        )
        started = self._engine.workflows.start(caller, wanted)
        return pb.StartWorkflowResponse(
            workflow_execution_id=started.run_id,
            idempotency_key_used=started.key_used,
            idempotency_key_new=started.key_new,
        )

    async def start_child(self, call: Call, request: pb.StartChildWorkflowRequest) -> pb.StartChildWorkflowResponse:
        caller = self._shell.caller(call, org_id=request.org_id)
        if request.workflow_definition_id:
            raise Unimplemented("workflow_definition_id: this server has no visual definitions; give workflow_kind")
        wanted = Start(
            kind=request.workflow_kind or "",
            payload=request.input,
            queue=request.queue,
            priority_seconds=request.priority_seconds,
        )
        child_id = self._engine.workflows.start_child(
            caller, request.parent_workflow_execution_id, request.child_execution_name, wanted
        )
        return pb.StartChildWorkflowResponse(child_workflow_execution_id=child_id)

    async def poll(self, call: Call, request: pb.PollRequest) -> pb.PollResponse:
        caller = self._shell.caller(call, org_id=request.org_id)
        at_most = number(call, _HISTORY)
        poller = self._engine.workers.poller(
            caller,
            "workflow",
            worker_id=request.worker_id,
            queue=request.queue,
            kinds=request.workflow_capabilities,
        )
        claimed = await work(self._shell, call, caller, poller, request.timeout_seconds, self._engine.workflows)
        if not claimed:
            return pb.PollResponse()
        first = self._execution(caller, claimed[0], at_most)
        more = [self._execution(caller, one, at_most, claim=one.token) for one in claimed[1:]]
        return pb.PollResponse(workflow_execution=first, more=more)

    def _execution(self, caller: Caller, claimed: ClaimedRun, at_most: int, *, claim: str = "") -> pb.WorkflowExecution:
        run = claimed.run
        history, after = self._engine.workflows.news(caller, claimed, at_most=at_most) if at_most else (b"", 0)
        return pb.WorkflowExecution(
            id=run.id,
            kind=run.kind,
            org_id=run.org_id,
            input=claimed.payload,
            queue=run.queue,
            priority_ms=run.priority_ms,
            created_at_ms=run.created_at,
            current_sequence=run.sequence,
            workflow_version=run.version,
            workflow_task_time_millis=claimed.time_ms,
            history=history,
            history_after=after,
            claim=claim,
        )

    async def events(self, call: Call, request: pb.GetEventsRequest) -> bytes:
        caller = self._shell.caller(call)
        wait = call.metadata.get(_WAIT)
        if wait is not None:
            call.reply_metadata[_WAIT] = wait
            if seconds := number(call, _WAIT):
                await self._shell.ending(caller, request.workflow_execution_id, seconds)
        return self._engine.workflows.events(caller, request.workflow_execution_id)

    async def submit(self, call: Call, request: pb.SubmitWorkflowCommandsRequest) -> Empty:
        caller = self._shell.caller(call)
        self._engine.workflows.submit(caller, request.workflow_execution_id, request.commands, request.status)
        return Empty()


def add(routes: Routes, shell: Shell) -> None:
    """Answer the service's RPCs."""
    service = _Workflows(shell)
    routes.unary(methods.START_WORKFLOW, shell.answering(service.start))
    routes.unary(methods.START_CHILD_WORKFLOW, shell.answering(service.start_child))
    routes.unary(methods.POLL_WORKFLOW, service.poll)
    routes.unary(_RAW_GET_EVENTS, shell.answering(service.events))
    routes.unary(methods.SUBMIT_WORKFLOW_COMMANDS, shell.answering(service.submit))
