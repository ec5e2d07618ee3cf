"""Calls without a network do what they do over one: each test runs over both, with the same expectations."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Literal

import anyio
import pytest

from flovyn import errors
from flovyn.server.acceptor import AcceptorOptions, Call, Peer, Routes, serve
from flovyn.server.memory import Memory, MemoryChannel
from flovyn.wire import methods
from flovyn.wire.channel import Channel
from flovyn.wire.messages.flovyn import v1 as pb
from flovyn.wire.options import ChannelOptions
from flovyn.wire.transport import Method, Shape
from wire.peers import COUNT, ECHO, HANG, JOIN, Service, until

pytestmark = pytest.mark.anyio

Way = Literal["network", "memory"]
AnyChannel = Channel | MemoryChannel
Connect = Callable[..., AnyChannel]

FAIL = Method("/test.Test/Fail", bytes, bytes, Shape.UNARY)
FAIL_LATE = Method("/test.Test/FailLate", bytes, bytes, Shape.SERVER_STREAM)
FIRST = Method("/test.Test/First", bytes, bytes, Shape.CLIENT_STREAM)
UNKNOWN = Method("/test.Test/Unknown", bytes, bytes, Shape.UNARY)
SMALL = AcceptorOptions(max_receive_size=1_000, max_send_size=1_000)


@pytest.fixture(params=["network", "memory"])
def way(request: pytest.FixtureRequest) -> Way:
    """How calls travel."""
    return request.param  # type: ignore[no-any-return]


def ignore(peer: Peer) -> None: ...


@asynccontextmanager
async def serving(
    way: Way,
    routes: Routes,
    *,
    options: AcceptorOptions | None = None,
    on_disconnect: Callable[[Peer], None] = ignore,
) -> AsyncGenerator[Connect]:
    """A server; gives what makes channels to it."""
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            connect: Connect
            if way == "memory":
                memory = Memory(routes, options=options, on_disconnect=on_disconnect)
                await tasks.start(memory.serve)
                connect = memory.channel
            else:
                start: Any = partial(serve, routes, ("127.0.0.1", 0), options=options, on_disconnect=on_disconnect)
                host, port = await tasks.start(start)
                connect = partial(Channel, f"http://{host}:{port}")
            yield connect
            tasks.cancel_scope.cancel()


class Failing(Service):
    """Handlers that raise what they are told to."""

    def __init__(self) -> None:
        super().__init__()
        self.error: Exception = ValueError("secret")
        self.taken = 0
        self.routes.unary(FAIL, self.fail)
        self.routes.server_stream(FAIL_LATE, self.fail_late)
        self.routes.client_stream(FIRST, self.first)

    async def fail(self, call: Call, request: bytes) -> bytes:
        raise self.error

    async def fail_late(self, call: Call, request: bytes) -> AsyncIterator[bytes]:
        yield b"one"
        raise self.error

    async def first(self, call: Call, requests: AsyncIterator[bytes]) -> bytes:
        async for request in requests:
            self.taken += 1
            return request
        raise self.error


async def test_a_message_there_and_back_with_metadata_both_ways(way: Way) -> None:
    service = Service()
    other = Routes()

    async def echo(call: Call, request: bytes) -> bytes:
        call.reply_metadata["flovyn-claim"] = "token-1"
        return await service.echo(call, request)

    other.unary(ECHO, echo)
    async with serving(way, other) as connect, connect(token="secret") as channel:
        reply = await channel.unary(ECHO, b"hello", metadata={"flovyn-claim": "a b", "x": "1"})
        assert (reply.message, dict(reply.metadata)) == (b"hello", {"flovyn-claim": "token-1"})
        assert (await channel.unary(ECHO, b"")).message == b""
    assert dict(service.calls[0].metadata) == {"authorization": "Bearer secret", "flovyn-claim": "a b", "x": "1"}
    assert dict(service.calls[1].metadata) == {"authorization": "Bearer secret"}
    assert service.calls[0].peer is service.calls[1].peer


async def test_messages_are_coded_on_their_way(way: Way) -> None:
    """What one side does to a message afterwards, the other does not see."""
    seen: list[pb.StartWorkflowRequest] = []
    routes = Routes()

    async def start(call: Call, request: pb.StartWorkflowRequest) -> pb.StartWorkflowResponse:
        seen.append(request)
        return pb.StartWorkflowResponse(workflow_execution_id="r")

    routes.unary(methods.START_WORKFLOW, start)
    request = pb.StartWorkflowRequest(workflow_kind="k", metadata={"a": "b"})
    raw = Method(methods.START_WORKFLOW.path, bytes, bytes, Shape.UNARY)
    async with serving(way, routes) as connect, connect() as channel:
        reply = await channel.unary(methods.START_WORKFLOW, request)
        assert reply.message == pb.StartWorkflowResponse(workflow_execution_id="r")
        assert seen[0] == request
        assert seen[0] is not request
        assert seen[0].metadata is not request.metadata
        assert (await channel.unary(raw, b"\x12\x01k")).message == b"\x0a\x01r"
        assert seen[1] == pb.StartWorkflowRequest(workflow_kind="k")
        with pytest.raises(errors.InvalidArgument):
            await channel.unary(raw, b"\xff")


@pytest.mark.parametrize(
    "error",
    [
        errors.NotFound("no such thing: naïve ☃"),
        errors.FailedPrecondition("too late"),
        errors.InvalidArgument("x is 3"),
        errors.AlreadyExists("taken"),
        errors.Unauthenticated("who?"),
        errors.PermissionDenied("not yours"),
        errors.Unimplemented("not here"),
        errors.DeadlineExceeded("late"),
        errors.ServerUnavailable("full disk"),
        errors.ServerError("busy", status="ABORTED"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_a_refusal_arrives_as_it_was_raised(way: Way, error: errors.FlovynError) -> None:
    service = Failing()
    service.error = error
    async with serving(way, service.routes) as connect, connect() as channel:
        with pytest.raises(type(error)) as caught:
            await channel.unary(FAIL, b"")
        assert caught.value is not error
        assert (type(caught.value), caught.value.message) == (type(error), error.message)
        assert getattr(caught.value, "status", None) == getattr(error, "status", None)


async def test_what_a_handler_did_not_mean_to_raise_stays_in_the_log(
    way: Way, caplog: pytest.LogCaptureFixture
) -> None:
    service = Failing()
    async with serving(way, service.routes) as connect, connect() as channel:
        with pytest.raises(errors.ServerError, match="^Internal server error$") as caught:
            await channel.unary(FAIL, b"")
        assert caught.value.status == "INTERNAL"
        service.error = ExceptionGroup("of one", [errors.NotFound("inside")])
        with pytest.raises(errors.NotFound, match="^inside$"):
            await channel.unary(FAIL, b"")
    assert caplog.messages == ["the handler of /test.Test/Fail failed"]


async def test_a_long_refusal_is_cut(way: Way) -> None:
    service = Failing()
    service.error = errors.NotFound("x" * 5_000)
    async with serving(way, service.routes) as connect, connect() as channel:
        with pytest.raises(errors.NotFound) as caught:
            await channel.unary(FAIL, b"")
        assert caught.value.message == "x" * 1_000 + "…"


async def test_what_nothing_answers_is_unimplemented(way: Way) -> None:
    async with serving(way, Routes()) as connect, connect() as channel:
        with pytest.raises(errors.Unimplemented, match="^no such method: /test.Test/Unknown$"):
            await channel.unary(UNKNOWN, b"")
        with pytest.raises(errors.Unimplemented, match="no such method"):
            async with channel.server_stream(COUNT, b"1 1") as replies:
                await anext(aiter(replies))
        with pytest.raises(errors.Unimplemented, match="no such method"):
            await channel.client_stream(JOIN, messages(b"a"))


async def messages(*parts: bytes) -> AsyncGenerator[bytes]:
    for part in parts:
        yield part


async def test_every_limit_counts(way: Way) -> None:
    service = Service()
    async with serving(way, service.routes, options=SMALL) as connect:
        async with connect() as channel:
            with pytest.raises(errors.ServerError, match="the peer sends a message of 1001 bytes") as refused:
                await channel.unary(ECHO, b"x" * 1_001)
            assert refused.value.status == "RESOURCE_EXHAUSTED"
            async with channel.server_stream(COUNT, b"1 1000") as replies:
                with pytest.raises(errors.ServerError, match="a message of 1001 bytes is over the limit of 1000"):
                    await anext(aiter(replies))
        async with connect(options=ChannelOptions(max_send_size=10, max_receive_size=20)) as channel:
            with pytest.raises(errors.PayloadTooLarge, match=r"of 11 bytes is over the limit of 10 \(max_send_size\)"):
                await channel.unary(ECHO, b"x" * 11)
            with pytest.raises(errors.PayloadTooLarge, match=r"over the limit of 10 \(max_send_size\)"):
                await channel.client_stream(JOIN, messages(b"x", b"x" * 11))
            with pytest.raises(errors.PayloadTooLarge, match=r"of 22 bytes, over the limit of 20 \(max_receive_size\)"):
                async with channel.server_stream(COUNT, b"1 21") as replies:
                    await anext(aiter(replies))
    assert service.requests == []


async def test_cancelling_the_caller_cancels_the_handler(way: Way) -> None:
    service = Service()
    async with serving(way, service.routes) as connect, connect() as channel:
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(channel.unary, HANG, b"")
                await until(lambda: service.hanging == 1)
                scope.cancel()
        await until(lambda: service.cancelled == 1)
        assert (await channel.unary(ECHO, b"still")).message == b"still"
        assert channel.statistics().active_calls == 0
        assert channel.statistics().calls_cancelled == 1


async def test_an_answer_that_nobody_takes_is_told_to_whoever_made_it(way: Way) -> None:
    """The caller gives up while the answer is on its way to it."""
    told: list[bytes] = []
    scope = anyio.CancelScope()
    routes = Routes()

    async def echo(call: Call, request: bytes) -> bytes:
        call.undelivered = lambda: told.append(request)
        if request == b"unwanted":
            scope.cancel()
        return request

    routes.unary(ECHO, echo)
    async with serving(way, routes) as connect, connect() as channel:
        assert (await channel.unary(ECHO, b"wanted")).message == b"wanted"
        with scope:
            await channel.unary(ECHO, b"unwanted")
        assert scope.cancelled_caught
        assert (await channel.unary(ECHO, b"wanted too")).message == b"wanted too"
        await until(lambda: bool(told))
        assert told == [b"unwanted"]


async def test_a_stream_that_is_left_early_closes_its_generator(way: Way) -> None:
    service = Service()
    async with serving(way, service.routes) as connect, connect() as channel:
        async with channel.server_stream(COUNT, b"2 0 1") as replies:
            assert [await anext(aiter(replies)) for _ in range(2)] == [b"0", b"1"]
            assert service.closed == 0
        await until(lambda: service.closed == 1)
        assert service.cancelled == 1
        async with channel.server_stream(COUNT, b"300 0") as replies:
            assert [reply async for reply in replies] == [b"%d" % number for number in range(300)]
            assert [reply async for reply in replies] == []
        assert channel.statistics().calls_succeeded == 1


async def test_a_stream_that_fails_gives_what_came_before(way: Way) -> None:
    service = Failing()
    service.error = errors.NotFound("gone")
    async with serving(way, service.routes) as connect, connect() as channel:
        async with channel.server_stream(FAIL_LATE, b"") as replies:
            assert await anext(aiter(replies)) == b"one"
            with pytest.raises(errors.NotFound, match="^gone$"):
                await anext(aiter(replies))
            assert [reply async for reply in replies] == []
        assert channel.statistics().calls_failed == 1


async def test_many_messages_there_and_one_back(way: Way) -> None:
    service = Failing()
    async with serving(way, service.routes) as connect, connect() as channel:
        assert (await channel.client_stream(JOIN, messages(*[b"%d" % n for n in range(20)]))).message == b"".join(
            b"%d" % n for n in range(20)
        )
        assert (await channel.client_stream(JOIN, messages())).message == b""
        endless = endless_messages()
        assert (await channel.client_stream(FIRST, endless)).message == b"0"
        assert service.taken == 1
        with pytest.raises(StopAsyncIteration):
            await anext(endless)  # it was closed


async def endless_messages() -> AsyncGenerator[bytes]:
    number = 0
    while True:
        yield b"%d" % number
        number += 1


async def test_what_the_messages_raise_is_raised_here_and_cancels_the_handler(way: Way) -> None:
    service = Service()
    entered: list[str] = []
    routes = Routes()

    async def join(call: Call, requests: AsyncIterator[bytes]) -> bytes:
        try:
            return await service.join(call, requests)
        except BaseException as error:
            entered.append(type(error).__name__)
            raise

    async def broken() -> AsyncGenerator[bytes]:
        yield b"a"
        raise KeyError("mine")

    routes.client_stream(JOIN, join)
    async with serving(way, routes) as connect, connect() as channel:
        with pytest.raises(KeyError, match="mine"):
            await channel.client_stream(JOIN, broken())
        await until(lambda: len(entered) == 1)
        assert entered[0] in {"StreamFailed", anyio.get_cancelled_exc_class().__name__}


async def test_a_closed_channel_ends_its_calls_and_is_told_to_the_server_once(way: Way) -> None:
    service = Service()
    gone: list[int] = []
    outcomes: list[str] = []

    async def call(channel: AnyChannel) -> None:
        try:
            await channel.unary(HANG, b"")
        except errors.ConnectionLost as error:
            outcomes.append(error.message)

    def disconnected(peer: Peer) -> None:
        assert service.hanging == 0
        gone.append(peer.id)

    async with serving(way, service.routes, on_disconnect=disconnected) as connect:
        async with anyio.create_task_group() as tasks, connect() as channel:
            for _ in range(3):
                tasks.start_soon(call, channel)
            await until(lambda: service.hanging == 3)
        assert len(outcomes) == 3
        assert all("the call may have taken effect" in outcome for outcome in outcomes)
        await until(lambda: len(gone) == 1)
        assert gone == [service.calls[0].peer.id]
        with pytest.raises(errors.UsageError, match="the channel is not open"):
            await channel.unary(ECHO, b"")
        async with connect() as other:
            await other.unary(ECHO, b"")
    assert len(gone) == 2


async def test_a_server_that_ends_takes_its_calls_with_it(way: Way) -> None:
    service = Service()
    outcomes: list[type[BaseException]] = []

    async def call(channel: AnyChannel) -> None:
        try:
            await channel.unary(HANG, b"")
        except errors.TransportError as error:
            outcomes.append(type(error))

    async with anyio.create_task_group() as tasks:
        async with serving(way, service.routes) as connect:
            channel = await tasks.start(opened, connect)
            tasks.start_soon(call, channel)
            await until(lambda: service.hanging == 1)
        await until(lambda: bool(outcomes))
        assert outcomes == [errors.ConnectionLost]
        with pytest.raises(errors.ServerUnavailable):
            await channel.unary(ECHO, b"")
        tasks.cancel_scope.cancel()
    assert service.cancelled == 1


async def opened(connect: Connect, *, task_status: Any) -> None:
    async with connect() as channel:
        task_status.started(channel)
        await anyio.sleep_forever()


async def test_wrong_use_is_said_before_anything_is_sent(way: Way) -> None:
    service = Service()
    async with serving(way, service.routes) as connect:
        with pytest.raises(errors.ConfigurationError, match="the token is empty or has characters"):
            connect(token="a\nb")
        channel = connect(token="t")
        with pytest.raises(errors.UsageError, match="the channel is not open"):
            await channel.unary(ECHO, b"")
        async with channel:
            with pytest.raises(errors.UsageError, match="entered only once"):
                async with channel:
                    pass
            with pytest.raises(errors.UsageError, match="the channel has a token"):
                await channel.unary(ECHO, b"", metadata={"authorization": "Bearer other"})
            with pytest.raises(errors.UsageError, match="metadata cannot be sent"):
                await channel.unary(ECHO, b"", metadata={"x": "a\nb"})
            stream = channel.server_stream(COUNT, b"1 1")
            async with stream as replies:
                with pytest.raises(errors.UsageError, match="entered only once"):
                    async with stream:
                        pass
            with pytest.raises(errors.UsageError, match="inside its `async with` block"):
                await anext(aiter(replies))
    assert service.calls == [] or service.calls[0].method is COUNT


async def test_a_cut_connection_is_lost_and_the_next_call_makes_another() -> None:
    service = Service()
    gone: list[Peer] = []
    async with serving("memory", service.routes, on_disconnect=gone.append) as connect, connect() as channel:
        assert isinstance(channel, MemoryChannel)
        async with anyio.create_task_group() as tasks:

            async def call() -> None:
                with pytest.raises(errors.ConnectionLost, match="the connection was cut; the call may have taken"):
                    await channel.unary(HANG, b"")

            tasks.start_soon(call)
            await until(lambda: service.hanging == 1)
            channel.cut()
        await until(lambda: len(gone) == 1)
        assert (await channel.unary(ECHO, b"a")).message == b"a"
        assert service.calls[0].peer is not service.calls[1].peer
        statistics = channel.statistics()
        assert (statistics.open_connections, statistics.connections_opened) == (1, 2)
    assert channel.statistics().open_connections == 0
