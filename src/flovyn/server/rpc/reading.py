"""WorkflowQuery, and what of WorkflowDispatch only tells something: notifications, spans, visual definitions."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

from flovyn.errors import NotFound
from flovyn.server.engine import validation
from flovyn.wire import methods
from flovyn.wire.messages.flovyn import v1 as pb

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from flovyn.server.acceptor import Call, Routes
    from flovyn.server.shell import Shell

__all__ = ["add"]


class _Reading:
    def __init__(self, shell: Shell) -> None:
        self._shell = shell
        self._engine = shell.engine

    async def query(self, call: Call, request: pb.QueryWorkflowRequest) -> pb.QueryWorkflowResponse:
        caller = self._shell.caller(call)
        answer = self._engine.queries.answer(caller, request.workflow_execution_id, request.query_name)
        if answer is None:
            shown = validation.shown(request.query_name)
            error = f"this server answers queries from recorded state, which has no key {shown}"
            return pb.QueryWorkflowResponse(error=error)
        return pb.QueryWorkflowResponse(result=answer)

    async def spans(self, call: Call, request: pb.ReportExecutionSpansRequest) -> pb.ReportExecutionSpansResponse:
        self._shell.caller(call)
        return pb.ReportExecutionSpansResponse(accepted_count=len(request.spans))  # and dropped: there is no viewer

    async def visual(
        self, call: Call, request: pb.GetVisualWorkflowDefinitionByIdRequest
    ) -> pb.GetVisualWorkflowDefinitionByIdResponse:
        self._shell.caller(call)
        shown = validation.shown(request.workflow_definition_id)
        raise NotFound(f"workflow definition {shown} is unknown: this server has no visual definitions")

    async def notifications(self, call: Call, request: pb.SubscriptionRequest) -> AsyncGenerator[pb.WorkAvailableEvent]:  # noqa: ASYNC900 - the acceptor closes it
        caller = self._shell.caller(call, org_id=request.org_id)
        queue = validation.queue_name(request.queue, "queue")
        async with aclosing(self._shell.news.of(caller.org_id, queue)) as news:
            async for _ in news:
                at = self._engine.core.clock()
                told = pb.WorkAvailableEvent(org_id=caller.org_id, queue=queue, timestamp_ms=at)
                yield told  # noqa: ASYNC119 - the acceptor closes it


def add(routes: Routes, shell: Shell) -> None:
    """Answer these RPCs."""
    service = _Reading(shell)
    routes.unary(methods.QUERY_WORKFLOW, shell.answering(service.query))
    routes.unary(methods.REPORT_EXECUTION_SPANS, shell.answering(service.spans))
    routes.unary(methods.GET_VISUAL_WORKFLOW_DEFINITION_BY_ID, shell.answering(service.visual))
    routes.server_stream(methods.SUBSCRIBE_TO_NOTIFICATIONS, service.notifications)
