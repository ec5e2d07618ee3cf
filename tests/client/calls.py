"""Every call of the client, by the name that the documentation has for it: what is made again, and what never is.

A call goes by an RPC, or over REST if that is None.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from client.rest_double import RestDouble, reply, task_shown, workflow_shown
from flovyn.client import Client
from flovyn.definitions import Promise, Query, Signal, query, task_by_kind, workflow, workflow_by_kind
from flovyn.wire.messages.flovyn import v1 as pb
from flovyn.workflow import WorkflowContext
from worker.fakes import FakeServer

PLACE = workflow_by_kind("place", result=int)
CHARGE = task_by_kind("charge", result=int)
APPROVAL = Promise[bool]("approval")
NOTE = Signal[str]("note")


@workflow(kind="asked")
class Asked:
    @query
    def size(self) -> int:
        return 7

    async def run(self, ctx: WorkflowContext) -> None:
        await ctx.promise(APPROVAL)


@dataclass
class Call:
    """A call, what it goes by, and what it is answered over REST."""

    rpc: str | None
    make: Callable[[Client], Awaitable[Any]]
    answer: Any = None


def later(client: Client) -> Any:
    return client.submit_options(scheduled_at=datetime.now(UTC))


RUN = "00000000-0000-4000-8000-000000000007"
KEYED = CHARGE.options(idempotency_key="k")
WORKFLOWS = {"workflows": [workflow_shown()]}
LINES = {"logs": [{"timestamp": "2026-01-02T03:04:05Z", "level": "INFO", "message": "x"}]}
MOMENT = "2026-01-02T03:04:05Z"
ATTEMPTS = {"attempts": [{"attempt": 1, "status": "FAILED", "startedAt": MOMENT, "finishedAt": MOMENT}]}

REPEATED: dict[str, Call] = {
    "`start`, `execute` with an idempotency key": Call(
        "StartWorkflow", lambda client: client.options(idempotency_key="k").start(PLACE)
    ),
    "`submit` with an idempotency key": Call("SubmitTask", lambda client: client.submit(KEYED)),
    "`submit` for later with an idempotency key": Call(None, lambda client: later(client).submit(KEYED), {"id": "t-1"}),
    "`handle.history`": Call("GetEvents", lambda client: client.handle(PLACE, "wf-1").history()),
    "`handle.query`": Call("GetEvents", lambda client: client.handle(Asked, RUN).query(Query[int]("size"))),
    "`handle.query_server`": Call("QueryWorkflow", lambda client: client.handle(PLACE, "wf-1").query_server("q")),
    "`handle.describe`": Call(None, lambda client: client.handle(PLACE, "wf-1").describe(), workflow_shown()),
    "`handle.children`": Call(None, lambda client: anext(client.handle(PLACE, "wf-1").children()), WORKFLOWS),
    "`client.workflows`": Call(None, lambda client: anext(client.workflows()), WORKFLOWS),
    "`client.tasks`": Call(None, lambda client: anext(client.tasks()), {"tasks": [task_shown()]}),
    "`handle.resolve`": Call("ResolvePromise", lambda client: client.handle(PLACE, "wf-1").resolve(APPROVAL, True)),
    "`handle.reject`": Call("RejectPromise", lambda client: client.handle(PLACE, "wf-1").reject(APPROVAL, "no")),
    "`client.resolve` by id": Call("ResolvePromise", lambda client: client.resolve(APPROVAL, True, id="p")),
    "`client.reject` by id": Call("RejectPromise", lambda client: client.reject(APPROVAL, "no", id="p")),
    "`client.resolve` by key": Call(None, lambda client: client.resolve(APPROVAL, True, key="k"), {}),
    "`client.reject` by key": Call(None, lambda client: client.reject(APPROVAL, "no", key="k"), {}),
    "`submitted.cancel`": Call("CancelTask", lambda client: client.task_handle(CHARGE, "t-1").cancel()),
    "`submitted.describe`": Call(None, lambda client: client.task_handle(CHARGE, "t-1").describe(), task_shown()),
    "`submitted.attempts`": Call(None, lambda client: anext(client.task_handle(CHARGE, "t-1").attempts()), ATTEMPTS),
    "`submitted.logs`": Call(None, lambda client: anext(client.task_handle(CHARGE, "t-1").logs()), LINES),
}

NEVER_REPEATED: dict[str, Call] = {
    "`start`, `execute` without a key": Call("StartWorkflow", lambda client: client.start(PLACE)),
    "`submit` without a key": Call("SubmitTask", lambda client: client.submit(CHARGE)),
    "`submit` for later without a key": Call(None, lambda client: later(client).submit(CHARGE)),
    "`handle.signal`": Call("SignalWorkflow", lambda client: client.handle(PLACE, "wf-1").signal(NOTE, "x")),
    "`with_signal(...).start`": Call(
        "SignalWithStartWorkflow",
        lambda client: client.options(idempotency_key="k").with_signal(NOTE, "x").start(PLACE),
    ),
    "`handle.cancel`": Call(None, lambda client: client.handle(PLACE, "wf-1").cancel()),
    "`handle.retry`": Call(None, lambda client: client.handle(PLACE, "wf-1").retry()),
}

# They go on for as long as it takes, whatever the policy.
WAITING = {"`handle.result`", "`handle.follow`", "`submitted.result`"}


def fake_server() -> FakeServer:
    """A server that answers all of them."""
    server = FakeServer()
    started = b'{"kind":"asked","input":null}'
    marker = b'{"operationName":"$flovyn.activation","result":{"id":"a","after":0,"seen":1,"at":0}}'
    promise = b'{"promiseName":"approval","promiseId":"p","timeoutMs":null}'
    answers: dict[str, Any] = {
        "StartWorkflow": pb.StartWorkflowResponse(workflow_execution_id="wf-1"),
        "SubmitTask": pb.SubmitTaskResponse(task_execution_id="t-1"),
        "GetEvents": pb.GetEventsResponse(
            events=[
                pb.WorkflowEvent(sequence_number=1, event_type="WORKFLOW_STARTED", event_data=started),
                pb.WorkflowEvent(sequence_number=2, event_type="OPERATION_COMPLETED", event_data=marker),
                pb.WorkflowEvent(sequence_number=3, event_type="PROMISE_CREATED", event_data=promise),
                pb.WorkflowEvent(sequence_number=4, event_type="WORKFLOW_SUSPENDED", event_data=b"{}"),
            ]
        ),
        "QueryWorkflow": pb.QueryWorkflowResponse(result=b"1"),
    }

    def answering(message: Any) -> Callable[[Any], Awaitable[Any]]:
        async def answer(_: Any) -> Any:
            return message

        return answer

    server.answers.update({name: answering(message) for name, message in answers.items()})
    return server


def fake_rest(*answers: Any) -> RestDouble:
    return RestDouble(*[reply(answer) if isinstance(answer, dict) else answer for answer in answers])
