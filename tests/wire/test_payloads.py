"""Every field of the protocol is known to carry a payload or not, and the visitor misses none of those that do."""

from __future__ import annotations

import inspect
from base64 import b64encode
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TypeVar, cast

import anyio
import betterproto2
import msgspec
import pytest

from flovyn.errors import CodecError, UsageError
from flovyn.serde.codecs import AesGcmCodec, CodecChain
from flovyn.server.engine import events
from flovyn.wire import coding, methods
from flovyn.wire.messages.flovyn import v1 as pb
from flovyn.wire.payload_transport import PayloadTransport
from flovyn.wire.payloads import EVENT_PAYLOADS, EVENT_TEXTS, PLACES, Sort, decoded, encoded
from flovyn.wire.transport import NO_METADATA, Method, Reply, Shape
from wire import reference

pytestmark = pytest.mark.anyio

Q = TypeVar("Q")
R = TypeVar("R")

# What the platform has to read, and so is never encoded. A new field has to be put here, or into the table.
IDS = {
    "claim",
    "after_entry_id",
    "agent_definition_id",
    "agent_execution_id",
    "checkpoint_id",
    "child_execution_id",
    "child_execution_ids",
    "child_workflow_execution_id",
    "entry_id",
    "existing_worker",
    "existing_worker_id",
    "id",
    "idempotency_key",
    "leaf_entry_id",
    "org_id",
    "parent_execution_id",
    "parent_id",
    "parent_span_id",
    "parent_workflow_execution_id",
    "process_id",
    "promise_id",
    "signal_id",
    "span_id",
    "task_execution_id",
    "task_execution_ids",
    "task_id",
    "task_ids",
    "team_id",
    "template_slug",
    "timer_id",
    "turn_id",
    "worker_id",
    "worker_pool_id",
    "workflow_definition_id",
    "workflow_execution_id",
    "workflow_id",
}
NAMES = {
    "agent_capabilities",
    "agent_kind",
    "arch",
    "child_execution_name",
    "content_hash",
    "entry_type",
    "error_type",
    "event_type",
    "failure_type",
    "host_name",
    "hostname",
    "key",
    "keys",
    "kind",
    "language",
    "level",
    "mode",
    "model",
    "name",
    "operation_name",
    "os",
    "persistence_mode",
    "query_name",
    "queue",
    "role",
    "runtime_version",
    "sdk_version",
    "signal_name",
    "signal_pattern",
    "span_type",
    "status",
    "tags",
    "task_kind",
    "task_kinds",
    "tools",
    "traceparent",
    "version",
    "wait_for_signal",
    "wait_for_task",
    "worker_name",
    "worker_type",
    "worker_version",
    "workflow_capabilities",
    "workflow_kind",
    "workflow_kinds",
    "workflow_version",
}
# Settings, labels and descriptions.
SETTINGS = {
    "AgentCapability.description",
    "AgentCapability.input_schema",
    "AgentCapability.metadata",
    "AgentExecutionInfo.metadata",
    "ExecutionSpan.attributes",
    "GetVisualWorkflowDefinitionByIdResponse.definition",
    "GetVisualWorkflowDefinitionByIdResponse.description",
    "PollTaskRequest.worker_labels",
    "ScheduleAgentTaskHeader.metadata",
    "SignalWithStartWorkflowRequest.metadata",
    "StartWorkflowRequest.metadata",
    "SubmitTaskRequest.metadata",
    "TaskCapability.description",
    "TaskCapability.input_schema",
    "TaskCapability.metadata",
    "TaskCapability.output_schema",
    "TaskCapability.retry_policy",
    "WorkerHeartbeatRequest.health_info",
    "WorkerRegistrationRequest.metadata",
    "WorkflowCapability.description",
    "WorkflowCapability.input_schema",
    "WorkflowCapability.metadata",
    "WorkflowCapability.output_schema",
    "WorkflowCapability.retry_policy",
    "WorkflowExecution.workflow_definition_snapshot",
}
# Messages as bytes, each of which has its own places.
NESTED = {"WorkflowExecution.history"}
# What the server, or this SDK, says in words of its own.
WORDS = {
    "SuspendAgentRequest.reason",
    "SuspendWorkflowCommand.reason",
    "TaskConflict.reason",
    "WorkerRegistrationResponse.error",
    "WorkflowConflict.reason",
}

CANARY = "canary-7f3a"
FORMS = [CANARY.encode(), *(b64encode(b" " * shift + CANARY.encode())[4:-4] for shift in range(3))]


def table() -> dict[str, Sort]:
    return {f"{cls.__name__}.{field}": sort for cls, fields in PLACES.items() for field, sort in fields.items()}


def fields_with_text() -> set[str]:
    """Every field of bytes or text, in messages of the protocol."""
    found: set[str] = set()
    for name in reference.message_names():
        for field in reference.descriptor(name).fields:
            entry = field.message_type if field.message_type and field.message_type.GetOptions().map_entry else None
            if field.type in {field.TYPE_STRING, field.TYPE_BYTES} or entry is not None:
                found.add(f"{name.rpartition('.')[2]}.{field.name}")
    return found


def test_every_field_that_could_carry_a_payload_is_known() -> None:
    plain = {field for field in fields_with_text() if field.partition(".")[2] in IDS | NAMES}
    payloads = table().keys()
    assert fields_with_text() - payloads - plain - (SETTINGS | WORDS | NESTED) == set()
    assert payloads - fields_with_text() == set()
    assert payloads & plain == set()
    assert payloads & (SETTINGS | WORDS) == set()
    assert (SETTINGS | WORDS) - fields_with_text() == set()


GIVEN: dict[str, Any] = {
    "payload": msgspec.Raw(b'"canary-7f3a"'),
    "output": msgspec.Raw(b'"canary-7f3a"'),
    "result": msgspec.Raw(b'"canary-7f3a"'),
    "value": msgspec.Raw(b'"canary-7f3a"'),
    "error": CANARY,
    "stack_trace": CANARY,
    "reason": CANARY,
    "metadata": {},
    "retryable": True,
}


def test_the_keys_of_events_are_those_that_the_server_writes() -> None:
    """Nothing that a program gives stands in an event under a key that is not in the table."""
    written: set[str] = set()
    for make in vars(events).values():
        if inspect.isfunction(make) and make.__name__ in events.__all__:
            arguments = {name: GIVEN.get(name, "x") for name in inspect.signature(make).parameters}
            named = inspect.signature(make).bind(**arguments)
            members = msgspec.json.decode(make(*named.args, **named.kwargs).data)
            written.update(key for key, value in members.items() if CANARY in str(value))
    assert written == {*EVENT_PAYLOADS, *EVENT_TEXTS}


def test_each_sort_of_place_has_bytes_or_text() -> None:
    kinds = {sort: set[int]() for sort in Sort}
    for place, sort in table().items():
        message, _, field = place.partition(".")
        kinds[sort].add(reference.descriptor(f"flovyn.v1.{message}").fields_by_name[field].type)
    text, data = 9, 12
    assert kinds == {
        Sort.JSON: {data},
        Sort.OPERATION: {data},
        Sort.EVENT: {data},
        Sort.PIECE: {data},
        Sort.TEXT: {text},
        Sort.JSON_TEXT: {text},
    }


# --- every RPC ------------------------------------------------------------------------------

RPCS: list[Method[Any, Any]] = [
    method for name in methods.__all__ if isinstance(method := getattr(methods, name), Method)
]


def payload(sort: Sort) -> object:
    json = msgspec.json.encode({"secret": CANARY})
    match sort:
        case Sort.EVENT:
            return msgspec.json.encode(
                {
                    "kind": "order",
                    **{key: {"secret": CANARY} for key in sorted(EVENT_PAYLOADS)},
                    **dict.fromkeys(sorted(EVENT_TEXTS), f"ValueError: {CANARY}"),
                }
            )
        case Sort.TEXT:
            return f"ValueError: {CANARY}"
        case Sort.JSON_TEXT:
            return json.decode()
        case _:
            return json


def filled(cls: type[betterproto2.Message], *, member: int = 0) -> Any:
    """A message with everything set that can be, payloads with something secret; of a oneof one member."""
    values: dict[str, Any] = {}
    chosen: dict[str, list[str]] = {}
    for field in reference.descriptor(f"flovyn.v1.{cls.__name__}").fields:
        name, oneof = field.name, field.containing_oneof
        if oneof is not None and not oneof.name.startswith("_"):
            chosen.setdefault(oneof.name, [each.name for each in oneof.fields])
            if chosen[oneof.name][member % len(chosen[oneof.name])] != name:
                continue
        value = single(cls, field, member)
        if field.is_repeated and not (field.message_type and field.message_type.GetOptions().map_entry):
            value = [value] * 20
        values[name] = value
    return cls(**values)


def single(cls: type[betterproto2.Message], field: Any, member: int) -> Any:
    sort = PLACES.get(cls, {}).get(field.name)
    if sort is not None:
        return payload(sort)
    if field.message_type is not None:
        if field.message_type.GetOptions().map_entry:
            return {"label": "x"}
        return filled(reference.our_class(field.message_type.full_name), member=member)
    if field.enum_type is not None:
        return type(getattr(cls(), field.name))(1)
    return {field.TYPE_STRING: "text", field.TYPE_BYTES: b"bytes", field.TYPE_BOOL: True}.get(field.type, 1)


class Wire:
    """Notes what is sent, and answers with what it is given, encoded as its sender would."""

    def __init__(self, answer: object = None) -> None:
        self.sent: list[Any] = []
        self.answer = answer

    def data(self) -> bytes:
        return b"".join(coding.encode(message) for message in self.sent)

    async def unary(self, method: Method[Q, R], request: Q, *, metadata: Mapping[str, str] = NO_METADATA) -> Reply[R]:
        self.sent.append(request)
        return Reply(cast("R", self.answer), {"flovyn-claim": "c"})

    def server_stream(
        self, method: Method[Q, R], request: Q, *, metadata: Mapping[str, str] = NO_METADATA
    ) -> AbstractAsyncContextManager[AsyncIterator[R]]:
        self.sent.append(request)

        async def answers() -> AsyncIterator[Any]:
            for _ in range(2):
                yield self.answer

        @asynccontextmanager
        async def block() -> AsyncGenerator[AsyncIterator[R]]:
            yield answers()

        return block()

    async def client_stream(
        self, method: Method[Q, R], requests: AsyncIterable[Q], *, metadata: Mapping[str, str] = NO_METADATA
    ) -> Reply[R]:
        self.sent += [request async for request in requests]
        return Reply(cast("R", self.answer), {})


async def answered(message: Any, chain: CodecChain) -> Any:
    """What a server gives back of what it was sent encoded."""
    if isinstance(message, pb.GetEventsResponse):
        return pb.GetEventsResponse([await answered(event, chain) for event in message.events])
    if isinstance(message, pb.WorkflowEvent):
        members = msgspec.json.decode(message.event_data)
        for key in EVENT_PAYLOADS & members.keys():
            members[key] = msgspec.Raw(await chain.encode(msgspec.json.encode(members[key])))
        for key in EVENT_TEXTS & members.keys():
            members[key] = await chain.encode_text(members[key])
        return pb.WorkflowEvent(message.sequence_number, message.event_type, msgspec.json.encode(members))
    return await encoded(message, chain)


def chain() -> CodecChain:
    return CodecChain([AesGcmCodec({"k": bytes(32)}, current="k")])


async def one_by_one(messages: list[Any]) -> AsyncIterator[Any]:
    for message in messages:
        yield message


MEMBERS = 14  # as many as the largest oneof has


@pytest.mark.parametrize("method", RPCS, ids=lambda method: method.path.rpartition("/")[2])
async def test_no_payload_leaves_in_plain_text_and_each_comes_back(method: Method[Any, Any]) -> None:
    codecs = chain()
    for member in range(MEMBERS if method is methods.SUBMIT_WORKFLOW_COMMANDS else 2):
        requests = [filled(method.request, member=member)] if method.request is not methods.Empty else [methods.Empty()]
        reply = filled(method.reply, member=member) if method.reply is not methods.Empty else methods.Empty()
        before = [coding.encode(request) for request in requests]
        wire = Wire(await answered(reply, codecs))
        transport = PayloadTransport(wire, codecs)
        match method.shape:
            case Shape.UNARY:
                answers = [(await transport.unary(method, requests[0])).message]
            case Shape.SERVER_STREAM:
                async with transport.server_stream(method, requests[0]) as stream:
                    answers = [answer async for answer in stream]
            case _:
                requests = [filled(method.request, member=0), filled(method.request, member=1)]
                before = [coding.encode(request) for request in requests]
                answers = [(await transport.client_stream(method, one_by_one(requests))).message]
        assert [form for form in FORMS if form in wire.data()] == []
        assert answers == [reply] * len(answers)
        assert [coding.encode(request) for request in requests] == before  # it may have to be sent again
        assert len(wire.sent) == len(requests)
        if any(CANARY.encode() in data for data in before):
            assert [coding.encode(sent) for sent in wire.sent] != before
        elif method.shape is not Shape.CLIENT_STREAM:
            assert wire.sent[0] is requests[0]


async def test_the_requests_of_every_rpc_had_something_to_hide() -> None:
    """That the test above is one: what it sends does hold the canary where there is a place for a payload."""
    hiding = {
        method.path.rpartition("/")[2]
        for method in RPCS
        if any(
            CANARY.encode() in coding.encode(filled(method.request, member=member))
            for member in range(MEMBERS)
            if method.request is not methods.Empty
        )
    }
    assert len(hiding) == 27
    assert {"StartWorkflow", "SubmitWorkflowCommands", "ScheduleAgentTask", "ReportExecutionSpans"} < hiding


async def test_an_input_in_pieces_is_one_payload() -> None:
    codecs, wire = chain(), Wire(pb.ScheduleAgentTaskResponse())
    chunk = pb.ScheduleAgentTaskChunk
    data = msgspec.json.encode({"text": CANARY * 10_000})
    parts = [data[:10], data[10:]]
    requests = [chunk(header=pb.ScheduleAgentTaskHeader(task_kind="k")), *(chunk(input_chunk=part) for part in parts)]
    await PayloadTransport(wire, codecs).client_stream(methods.SCHEDULE_AGENT_TASK, one_by_one(requests))
    header, *pieces = wire.sent
    assert header.header.task_kind == "k"
    assert [len(piece.input_chunk) for piece in pieces[:-1]] == [64 * 1024] * (len(pieces) - 1)
    assert await codecs.decode(b"".join(piece.input_chunk for piece in pieces)) == data
    with pytest.raises(UsageError, match="what is sent in pieces is encoded as a whole"):
        await encoded(requests[1], codecs)


# --- what is special ------------------------------------------------------------------------


async def test_what_the_sdk_records_for_itself_stays_readable() -> None:
    command = pb.RecordOperationCommand("$flovyn.activation", b'{"id":"a"}')
    assert await encoded(command, chain()) is command


async def test_a_field_that_this_version_does_not_know_is_kept() -> None:
    data = coding.encode(pb.CompleteTaskRequest("t", b"1")) + b"\xfa\x01\x03abc"
    message = await encoded(coding.decode(pb.CompleteTaskRequest, data), chain())
    assert coding.encode(message).endswith(b"\xfa\x01\x03abc")


async def test_the_whole_state_is_decoded_entry_by_entry() -> None:
    codecs = chain()
    state = {"a": 1, "b": {"c": CANARY}}
    stored = {key: msgspec.Raw(await codecs.encode(msgspec.json.encode(value))) for key, value in state.items()}
    wire = Wire(pb.QueryWorkflowResponse(msgspec.json.encode(stored)))
    transport = PayloadTransport(wire, codecs)
    for name in ("state", "__state"):
        reply = await transport.unary(methods.QUERY_WORKFLOW, pb.QueryWorkflowRequest("w", name, b"null"))
        assert msgspec.json.decode(reply.message.result) == state
    reply = await transport.unary(methods.QUERY_WORKFLOW, pb.QueryWorkflowRequest("w", "other", b"null"))
    assert CANARY.encode() not in reply.message.result


async def test_what_is_wanted_undecoded_is_left() -> None:
    codecs = chain()
    task = await encoded(pb.PollTaskResponse(pb.TaskExecutionInfo("t", input=b"1")), codecs)
    transport = PayloadTransport(Wire(task), codecs, undecoded=[methods.POLL_TASK])
    assert (await transport.unary(methods.POLL_TASK, pb.PollTaskRequest())).message is task
    raw = Method(methods.GET_EVENTS.path, pb.GetEventsRequest, bytes, Shape.UNARY)
    assert (await PayloadTransport(Wire(b"raw"), codecs).unary(raw, pb.GetEventsRequest())).message == b"raw"
    coded = Method(methods.GET_EVENTS.path, bytes, bytes, Shape.UNARY)
    with pytest.raises(UsageError, match="a message that is coded already"):
        await transport.unary(coded, b"")
    with pytest.raises(UsageError, match="a message that is coded already"):
        await transport.client_stream(coded, one_by_one([b""]))


async def test_events_cannot_be_sent() -> None:
    with pytest.raises(UsageError, match="events are the server's to write"):
        await encoded(pb.WorkflowEvent(1, "X", b"{}"), chain())


@pytest.mark.parametrize("data", [b"", b'"$flovyn"', b'{"$flovyn"', b'["$flovyn"]'])
async def test_event_data_that_is_no_object_is_somebody_elses_to_complain_about(data: bytes) -> None:
    event = pb.WorkflowEvent(1, "X", data)
    assert await decoded(event, chain()) is event


@pytest.mark.parametrize("count", [1, 100])
async def test_what_cannot_be_decoded_is_raised_as_it_is(count: int) -> None:
    event = await answered(pb.WorkflowEvent(1, "X", b'{"output":1}'), chain())
    with pytest.raises(CodecError, match="encoded by the codec 'aes-gcm', key 'k', which is not here"):
        await decoded(pb.GetEventsResponse([event] * count), CodecChain())


async def test_many_payloads_are_fetched_at_once() -> None:
    """Decoding may wait for a store: one after the other would take too long."""
    waiting: list[int] = []
    most = 0

    class Slow:
        name = "slow"

        async def encode(self, data: bytes) -> tuple[bytes, Mapping[str, str]] | None:
            return data, {}

        async def decode(self, data: bytes, metadata: Mapping[str, str]) -> bytes:
            nonlocal most
            waiting.append(1)
            most = max(most, len(waiting))
            await anyio.lowlevel.checkpoint()
            waiting.pop()
            return data

    codecs = CodecChain([Slow()])
    history = pb.GetEventsResponse([pb.WorkflowEvent(n, "X", b'{"output":%d}' % n) for n in range(100)])
    assert await decoded(await answered(history, codecs), codecs) == history
    assert most == 8
