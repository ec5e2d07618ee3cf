"""One script of calls through grpcio, through the channel of this SDK, and in memory: the answers are the same.

The server has a clock that stands and ids that are counted, so whole answers can be compared: messages as bytes,
statuses, texts and metadata.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from uuid import UUID

import anyio
import grpc
import pytest

from flovyn.errors import FlovynError, ServerError, ServerUnavailable
from flovyn.server import acceptor, rpc
from flovyn.server.auth import DEV_ORG_ID, DEV_TOKEN, Key, Keys
from flovyn.server.engine import Engine
from flovyn.server.hosting import hosted
from flovyn.server.memory import Memory
from flovyn.server.shell import Shell
from flovyn.server.store import Store
from flovyn.wire import coding, methods
from flovyn.wire.channel import Channel
from flovyn.wire.messages.flovyn import v1 as pb
from flovyn.wire.transport import Method, Shape, Transport
from server.world import (
    cancel_child,
    complete,
    create_promise,
    fail,
    schedule,
    schedule_child,
    set_state,
    start_timer,
    suspend,
    task_id,
)

pytestmark = pytest.mark.anyio

ORG = DEV_ORG_ID
LONG = "x" * 5_000
EVERY: list[Method[Any, Any]] = [getattr(methods, name) for name in methods.__all__ if name.isupper()]


@dataclass(frozen=True)
class Step:
    """One call."""

    method: Method[Any, Any]
    request: Any
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True)
class Answer:
    """All that a client can see of an answer."""

    status: str
    text: str = ""
    messages: tuple[bytes, ...] = ()
    metadata: tuple[tuple[str, str], ...] = ()

    def read(self, method: Method[Any, Any]) -> Any:
        assert self.status == "OK", self
        return coding.decode(method.reply, self.messages[0])

    @property
    def echo(self) -> dict[str, str]:
        return {"flovyn-claim": dict(self.metadata)["flovyn-claim"]}


Script = Generator[Step, Answer, None]


# --- the script -----------------------------------------------------------------------------


def script() -> Script:
    """Every RPC, with what it answers and what it refuses."""
    yield from starting()
    yield from working()
    yield from telling()
    yield from refusing()
    yield from unimplemented()


def start(**fields: Any) -> Step:
    fields = {"org_id": ORG, "workflow_kind": "order", "input": b'{"a":1}', **fields}
    request = pb.StartWorkflowRequest(**fields)
    return Step(methods.START_WORKFLOW, request)


def poll(kind: str = "workflow", **fields: Any) -> Step:
    fields = {"org_id": ORG, "worker_id": "w", **fields}
    if kind == "workflow":
        return Step(methods.POLL_WORKFLOW, pb.PollRequest(**fields))
    return Step(methods.POLL_TASK, pb.PollTaskRequest(**fields))


def submit(run: str, *commands: pb.WorkflowCommand, status: int, echo: Mapping[str, str]) -> Step:
    request = pb.SubmitWorkflowCommandsRequest(
        workflow_execution_id=run, commands=list(commands), status=pb.WorkflowStatus(status)
    )
    return Step(methods.SUBMIT_WORKFLOW_COMMANDS, request, echo)


def events(run: str) -> Step:
    return Step(methods.GET_EVENTS, pb.GetEventsRequest(workflow_execution_id=run))


def starting() -> Script:
    yield start(idempotency_key="k", metadata={"b": "2", "a": "1"}, priority_seconds=-3, workflow_version="1.0.0")
    yield start(idempotency_key="k")
    yield start(queue="q", input=b"")
    registration = pb.WorkerRegistrationRequest(
        worker_name="w",
        org_id=ORG,
        host_name="h",
        process_id="1",
        workflows=[pb.WorkflowCapability(kind="order", tags=["a"]), pb.WorkflowCapability(kind="child")],
        tasks=[pb.TaskCapability(kind="charge")],
    )
    worker = (yield Step(methods.REGISTER_WORKER, registration)).read(methods.REGISTER_WORKER)
    yield Step(methods.SEND_HEARTBEAT, pb.WorkerHeartbeatRequest(worker_id=worker.worker_id))
    request = pb.SignalWithStartWorkflowRequest(
        org_id=ORG, workflow_id="cart", workflow_kind="other", signal_name="s", signal_value=b"[1]"
    )
    yield Step(methods.SIGNAL_WITH_START_WORKFLOW, request)
    yield Step(methods.SIGNAL_WITH_START_WORKFLOW, request)


def working() -> Script:
    yield poll(queue="nothing here")
    answer = yield poll()
    run = answer.read(methods.POLL_WORKFLOW).workflow_execution
    echo = answer.echo
    yield events(run.id)
    commands = [set_state("k", b'"v"'), schedule(0), schedule(1, max_retries=0), start_timer("t", 60_000)]
    commands += [create_promise("p"), schedule_child(0, kind="child"), pb.WorkflowCommand(), suspend()]
    yield submit(run.id, *commands, status=pb.WorkflowStatus.SUSPENDED, echo=echo)
    yield submit(run.id, suspend(), status=pb.WorkflowStatus.SUSPENDED, echo=echo)
    answer = yield poll("task")
    task = answer.read(methods.POLL_TASK).task
    yield from notes(task.task_execution_id, answer.echo)
    yield Step(methods.HEARTBEAT, pb.HeartbeatRequest(task_execution_id=task.task_execution_id), answer.echo)
    output = pb.CompleteTaskRequest(task_execution_id=task.task_execution_id, output=b'{"ok":true}')
    yield Step(methods.COMPLETE_TASK, output, answer.echo)
    yield Step(methods.COMPLETE_TASK, output, answer.echo)
    answer = yield poll("task", worker_labels={"a": "b"})
    failure = pb.FailTaskRequest(task_execution_id=task_id(1), error="naïve ☃\nsecond line")
    yield Step(methods.FAIL_TASK, failure, {"flovyn-claim": "another"})
    yield Step(methods.FAIL_TASK, failure, answer.echo)
    history = (yield events(run.id)).read(methods.GET_EVENTS)
    created = next(event for event in history.events if event.event_type == "PROMISE_CREATED")
    promise = created.event_data.decode().split('"')[3]
    yield Step(methods.RESOLVE_PROMISE, pb.ResolvePromiseRequest(promise_id=promise, value=b"true"))
    yield Step(methods.REJECT_PROMISE, pb.RejectPromiseRequest(promise_id=promise, error="late"))
    answer = yield poll()
    run = answer.read(methods.POLL_WORKFLOW).workflow_execution
    yield submit(run.id, cancel_child(0), complete(b"1"), status=pb.WorkflowStatus.COMPLETED, echo=answer.echo)
    yield submit(run.id, complete(), status=pb.WorkflowStatus.COMPLETED, echo=answer.echo)
    yield events(run.id)
    answer = yield poll(queue="q")
    run = answer.read(methods.POLL_WORKFLOW).workflow_execution
    yield submit(run.id, fail("broken"), status=pb.WorkflowStatus.FAILED, echo={})
    yield events(run.id)


def notes(task: str, echo: Mapping[str, str]) -> Script:
    yield Step(methods.GET_STATE, pb.GetStateRequest(task_execution_id=task, key="a"), echo)
    yield Step(methods.SET_STATE, pb.SetStateRequest(task_execution_id=task, key="a", value=b"1"), echo)
    yield Step(methods.GET_STATE, pb.GetStateRequest(task_execution_id=task, key="a"), echo)
    yield Step(methods.GET_STATE_KEYS, pb.GetStateKeysRequest(task_execution_id=task), echo)
    yield Step(methods.CLEAR_STATE, pb.ClearStateRequest(task_execution_id=task, key="a"), echo)
    yield Step(methods.CLEAR_ALL_STATE, pb.ClearAllStateRequest(task_execution_id=task), echo)
    yield Step(methods.REPORT_PROGRESS, pb.ReportProgressRequest(task_execution_id=task, progress=0.25), echo)
    yield Step(methods.REPORT_PROGRESS, pb.ReportProgressRequest(task_execution_id=task, progress=1.5), echo)
    yield Step(methods.LOG_MESSAGE, pb.LogMessageRequest(task_execution_id=task, level="INFO", message="m"), echo)
    data = pb.StreamTaskDataRequest(task_execution_id=task, type=pb.StreamEventType.TOKEN, payload="{}")
    yield Step(methods.STREAM_TASK_DATA, data, echo)


def telling() -> Script:
    answer = yield start()
    run = answer.read(methods.START_WORKFLOW).workflow_execution_id
    signal = pb.SignalWorkflowRequest(org_id=ORG, workflow_execution_id=run, signal_name="s")
    yield Step(methods.SIGNAL_WORKFLOW, signal)
    child = pb.StartChildWorkflowRequest(
        org_id=ORG, parent_workflow_execution_id=run, child_execution_name="c", workflow_kind="child", input=b"{}"
    )
    yield Step(methods.START_CHILD_WORKFLOW, child)
    yield Step(methods.START_CHILD_WORKFLOW, child)
    yield Step(methods.QUERY_WORKFLOW, pb.QueryWorkflowRequest(workflow_execution_id=run, query_name="state"))
    yield Step(methods.QUERY_WORKFLOW, pb.QueryWorkflowRequest(workflow_execution_id=run, query_name="nothing"))
    alone = pb.SubmitTaskRequest(org_id=ORG, kind="charge", input=b"1", idempotency_key="task-key")
    answer = yield Step(methods.SUBMIT_TASK, alone)
    task = answer.read(methods.SUBMIT_TASK).task_execution_id
    yield Step(methods.SUBMIT_TASK, alone)
    yield Step(methods.CANCEL_TASK, pb.CancelTaskRequest(task_execution_id=task))
    yield Step(methods.CANCEL_TASK, pb.CancelTaskRequest(task_execution_id=task))
    yield Step(methods.REPORT_EXECUTION_SPANS, pb.ReportExecutionSpansRequest(spans=[pb.ExecutionSpan(span_id="a")]))
    visual = pb.GetVisualWorkflowDefinitionByIdRequest(workflow_definition_id="v")
    yield Step(methods.GET_VISUAL_WORKFLOW_DEFINITION_BY_ID, visual)


def refusing() -> Script:
    """What is refused, of every class, with texts that no header carries as they are."""
    yield start(workflow_kind="")
    yield start(workflow_kind=LONG)
    yield start(org_id="other")
    yield start(input=b"{")
    yield start(workflow_definition_id="v")
    yield Step(methods.SUBMIT_TASK, pb.SubmitTaskRequest(org_id=ORG, kind="charge", idempotency_key="cart"))
    yield start(idempotency_key="k2", idempotency_key_ttl_seconds=0)
    yield poll(worker_id="")
    yield poll("task", org_id="naïve ☃ %41\r\n")
    yield events("☃" * 200)
    yield Step(methods.GET_EVENTS, pb.GetEventsRequest(), {"authorization": "Bearer wrong"})
    yield Step(methods.GET_EVENTS, pb.GetEventsRequest(), {"authorization": "Basic x"})
    for method in EVERY:
        if method.shape is Shape.UNARY and not method.path.startswith("/flovyn.v1.AgentDispatch"):
            yield Step(method, method.request())
            yield Step(Method(method.path, bytes, method.reply, Shape.UNARY), b"\xff\xff")
    yield Step(methods.SUBSCRIBE_TO_NOTIFICATIONS, pb.SubscriptionRequest(org_id="other"))


def unimplemented() -> Script:
    agents = [method for method in EVERY if method.path.startswith("/flovyn.v1.AgentDispatch")]
    assert len(agents) == 22
    for method in agents:
        yield Step(method, method.request())
    yield Step(Method("/flovyn.v1.Nothing/Here", bytes, bytes, Shape.UNARY), b"")


# --- three ways of calling ------------------------------------------------------------------


@asynccontextmanager
async def serving() -> AsyncGenerator[tuple[int, Memory]]:
    """A server that answers the same calls with the same bytes; gives its port, and itself in memory."""
    numbers = itertools.count(1)
    store = Store(":memory:")
    try:
        engine = Engine(store, clock=lambda: 1_700_000_000_000, new_id=lambda: str(UUID(int=next(numbers))))
        shell = Shell(engine, Keys([Key(DEV_TOKEN, DEV_ORG_ID, "Worker")]))
        routes = rpc.routes(shell)
        memory = Memory(routes, on_disconnect=shell.disconnected)
        accept = partial(acceptor.serve, routes, ("127.0.0.1", 0), on_disconnect=shell.disconnected)
        async with hosted(shell, memory.serve, accept, keeps_time=False) as (_, address):
            yield address[1], memory
    finally:
        store.close()


def play(call: Callable[[Step], Answer]) -> list[Answer]:
    """Run the script to its end."""
    answers: list[Answer] = []
    steps = script()
    step = next(steps)
    while True:
        answers.append(call(step))
        try:
            step = steps.send(answers[-1])
        except StopIteration:
            return answers


def authorized(step: Step) -> dict[str, str]:
    return {"authorization": f"Bearer {DEV_TOKEN}", **step.metadata}


def encoded(step: Step) -> bytes:
    return step.request if isinstance(step.request, bytes) else coding.encode(step.request)


def by_grpcio(port: int) -> list[Answer]:
    """In a thread: grpcio's synchronous client."""
    shapes = {Shape.UNARY: "unary_unary", Shape.SERVER_STREAM: "unary_stream", Shape.CLIENT_STREAM: "stream_unary"}
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:

        def call(step: Step) -> Answer:
            stub: Any = getattr(channel, shapes[step.method.shape])(step.method.path)
            metadata = tuple(authorized(step).items())
            data: Any = encoded(step)
            try:
                if step.method.shape is Shape.SERVER_STREAM:
                    stream = stub(data, metadata=metadata, timeout=5)
                    return Answer("OK", messages=tuple(stream), metadata=pairs(stream.initial_metadata()))
                if step.method.shape is Shape.CLIENT_STREAM:
                    data = iter([data])
                reply, made = stub.with_call(data, metadata=metadata, timeout=5)
            except grpc.RpcError as refusal:
                error: Any = refusal
                assert pairs(error.trailing_metadata()) == ()
                return Answer(error.code().name, error.details())
            assert (made.code(), made.details(), pairs(made.trailing_metadata())) == (grpc.StatusCode.OK, "", ())
            return Answer("OK", messages=(reply,), metadata=pairs(made.initial_metadata()))

        return play(call)


def pairs(metadata: Iterable[Any] | None) -> tuple[tuple[str, str], ...]:
    return tuple((key, value) for key, value in metadata or ())


async def by_transport(transport: Transport) -> list[Answer]:
    """Through the small protocol of the SDK."""

    async def call(step: Step) -> Answer:
        method: Method[Any, Any] = Method(step.method.path, bytes, bytes, step.method.shape)
        data, metadata = encoded(step), authorized(step)
        try:
            if method.shape is Shape.SERVER_STREAM:
                async with transport.server_stream(method, data, metadata=metadata) as replies:
                    return Answer("OK", messages=tuple([reply async for reply in replies]))
            if method.shape is Shape.CLIENT_STREAM:
                reply = await transport.client_stream(method, once(data), metadata=metadata)
            else:
                reply = await transport.unary(method, data, metadata=metadata)
        except ServerUnavailable as error:
            return Answer("UNAVAILABLE", error.message)
        except FlovynError as error:
            assert isinstance(error, ServerError)
            return Answer(error.status, error.message)
        return Answer("OK", messages=(reply.message,), metadata=pairs(reply.metadata.items()))

    answers: list[Answer] = []
    steps = script()
    step = next(steps)
    while True:
        answers.append(await call(step))
        try:
            step = steps.send(answers[-1])
        except StopIteration:
            return answers


async def once(data: bytes) -> AsyncGenerator[bytes]:
    yield data


async def test_grpcio_and_this_sdk_get_the_same_answers() -> None:
    with anyio.fail_after(30):
        async with AsyncExitStack() as stack:
            servers = [await stack.enter_async_context(serving()) for _ in range(3)]
            expected = await anyio.to_thread.run_sync(by_grpcio, servers[0][0])
            channel = await stack.enter_async_context(Channel(f"http://127.0.0.1:{servers[1][0]}"))
            answers = await by_transport(channel)
            in_memory = await by_transport(await stack.enter_async_context(servers[2][1].channel()))
    steps = replayed(expected)
    for step, one, two, three in zip(steps, expected, answers, in_memory, strict=True):
        assert two == one, step
        assert three == one, step
    statuses = {answer.status for answer in expected}
    assert statuses == {
        "OK",
        "INVALID_ARGUMENT",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "FAILED_PRECONDITION",
        "PERMISSION_DENIED",
        "UNAUTHENTICATED",
        "UNIMPLEMENTED",
    }
    called = {step.method.path for step in steps}
    assert {method.path for method in EVERY} <= called
    refused = [answer.text for answer in expected if answer.status not in {"OK", "UNIMPLEMENTED"}]
    assert all(refused)


def replayed(answers: list[Answer]) -> list[Step]:
    """The steps that led to these answers."""
    steps = script()
    found = [next(steps)]
    found += [steps.send(answer) for answer in answers[:-1]]
    return found
