"""WorkflowDispatch, the part that speaks to workflows from outside: promises and signals."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flovyn.server.engine import Start
from flovyn.wire import methods
from flovyn.wire.messages.flovyn import v1 as pb
from flovyn.wire.methods import Empty

if TYPE_CHECKING:
    from flovyn.server.acceptor import Call, Routes
    from flovyn.server.shell import Shell

__all__ = ["add"]


class _Messages:
    def __init__(self, shell: Shell) -> None:
        self._shell = shell
        self._engine = shell.engine

    async def resolve(self, call: Call, request: pb.ResolvePromiseRequest) -> Empty:
        caller = self._shell.caller(call)
        self._engine.promises.resolve(caller, request.promise_id, request.value)
        return Empty()

    async def reject(self, call: Call, request: pb.RejectPromiseRequest) -> Empty:
        caller = self._shell.caller(call)
        self._engine.promises.reject(caller, request.promise_id, request.error)
        return Empty()

    async def signal(self, call: Call, request: pb.SignalWorkflowRequest) -> pb.SignalWorkflowResponse:
        caller = self._shell.caller(call, org_id=request.org_id)
        signals = self._engine.signals
        sent = signals.signal(caller, request.workflow_execution_id, request.signal_name, request.signal_value)
        return pb.SignalWorkflowResponse(signal_event_sequence=sent.sequence)

    async def signal_with_start(
        self, call: Call, request: pb.SignalWithStartWorkflowRequest
    ) -> pb.SignalWithStartWorkflowResponse:
        caller = self._shell.caller(call, org_id=request.org_id)
        wanted = Start(
            kind=request.workflow_kind,
            payload=request.workflow_input,
            queue=request.queue,
            version=request.workflow_version,
            priority_seconds=request.priority_seconds,
            metadata=request.metadata,
            key=request.workflow_id,
            key_ttl_seconds=request.idempotency_key_ttl_seconds,
        )
        sent = self._engine.signals.signal_with_start(caller, wanted, request.signal_name, request.signal_value)
        return pb.SignalWithStartWorkflowResponse(
            workflow_execution_id=sent.run_id,
            workflow_created=sent.created,
            signal_event_sequence=sent.sequence,
        )


def add(routes: Routes, shell: Shell) -> None:
    """Answer these RPCs."""
    service = _Messages(shell)
    routes.unary(methods.RESOLVE_PROMISE, shell.answering(service.resolve))
    routes.unary(methods.REJECT_PROMISE, shell.answering(service.reject))
    routes.unary(methods.SIGNAL_WORKFLOW, shell.answering(service.signal))
    routes.unary(methods.SIGNAL_WITH_START_WORKFLOW, shell.answering(service.signal_with_start))
