"""Calls from a channel to an acceptor: what is carried, what is refused, what is left behind."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

from flovyn import errors
from flovyn.server.acceptor import AcceptorOptions, Call, Routes
from flovyn.wire import methods
from flovyn.wire.channel import Channel
from flovyn.wire.messages.flovyn import v1 as pb
from flovyn.wire.options import ChannelOptions
from flovyn.wire.transport import Method, Transport
from wire.peers import COUNT, ECHO, HANG, JOIN, Service, serving, until

pytestmark = pytest.mark.anyio

GAUGES = ("open_connections", "dialing", "active_calls", "waiting_calls")


def gauges(channel: Channel) -> dict[str, int]:
    statistics = channel.statistics()
    return {name: getattr(statistics, name) for name in GAUGES}


def failing(error: Exception) -> Any:
    async def handler(call: Call, request: bytes) -> bytes:
        raise error

    return handler


async def test_a_channel_is_a_transport() -> None:
    transport: Transport = Channel("http://localhost:9090")
    assert repr(transport) == "Channel('http://localhost:9090')"


async def test_messages_are_coded() -> None:
    async def poll(call: Call, request: pb.PollRequest) -> pb.PollResponse:
        return pb.PollResponse(workflow_execution=pb.WorkflowExecution(id=request.worker_id, kind="order"))

    routes = Routes()
    routes.unary(methods.POLL_WORKFLOW, poll)
    with anyio.fail_after(5):
        async with serving(routes) as url, Channel(url) as channel:
            reply = await channel.unary(methods.POLL_WORKFLOW, pb.PollRequest(worker_id="w-1"))
            assert reply.message == pb.PollResponse(workflow_execution=pb.WorkflowExecution(id="w-1", kind="order"))
            raw = Method(methods.POLL_WORKFLOW.path, pb.PollRequest, bytes, methods.POLL_WORKFLOW.shape)
            assert (await channel.unary(raw, pb.PollRequest(worker_id="w-1"))).message == bytes(reply.message)


async def test_metadata_goes_both_ways() -> None:
    async def claim(call: Call, request: bytes) -> bytes:
        call.reply_metadata["flovyn-claim"] = f"{call.metadata['flovyn-claim']} again"
        return call.metadata["authorization"].encode()

    routes = Routes()
    routes.unary(ECHO, claim)
    with anyio.fail_after(5):
        async with serving(routes) as url, Channel(url, token="fwt_1") as channel:
            reply = await channel.unary(ECHO, b"", metadata={"flovyn-claim": "token"})
    assert reply.message == b"Bearer fwt_1"
    assert reply.metadata == {"flovyn-claim": "token again"}


@pytest.mark.parametrize(
    "error",
    [
        errors.InvalidArgument("a"),
        errors.NotFound("b"),
        errors.AlreadyExists("c"),
        errors.FailedPrecondition("d"),
        errors.PermissionDenied("e"),
        errors.Unauthenticated("f"),
        errors.Unimplemented("g"),
        errors.DeadlineExceeded("h"),
        errors.ResourceExhausted("i"),
        errors.ServerError("j", status="ABORTED"),
        errors.ServerError("k"),
        errors.ServerUnavailable("l"),
        errors.NotFound("Nicht gefunden: Größe 100 %\nzweite Zeile 🚚"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_refusals_arrive_as_they_were_raised(error: errors.FlovynError) -> None:
    routes = Routes()
    routes.unary(ECHO, failing(error))
    with anyio.fail_after(5):
        async with serving(routes) as url, Channel(url) as channel:
            with pytest.raises(type(error)) as caught:
                await channel.unary(ECHO, b"")
            assert type(caught.value) is type(error)
            assert caught.value.message == error.message
            assert getattr(caught.value, "status", None) == getattr(error, "status", None)
            assert gauges(channel) == {"open_connections": 1, "dialing": 0, "active_calls": 0, "waiting_calls": 0}
            assert channel.statistics().calls_failed == 1


async def test_what_a_handler_did_not_mean_for_the_client_stays_on_the_server(caplog: pytest.LogCaptureFixture) -> None:
    routes = Routes()
    routes.unary(ECHO, failing(ValueError("secret")))
    with anyio.fail_after(5):
        async with serving(routes) as url, Channel(url) as channel:
            with pytest.raises(errors.ServerError) as caught:
                await channel.unary(ECHO, b"")
            with pytest.raises(errors.Unimplemented, match="no such method: /test.Test/Hang"):
                await channel.unary(HANG, b"")
    assert (caught.value.status, caught.value.message) == ("INTERNAL", "Internal server error")
    assert "ValueError: secret" in caplog.text


async def test_large_messages_both_ways() -> None:
    service = Service()
    data = bytes(range(256)) * 48 * 1024
    with anyio.fail_after(10):
        async with serving(service.routes) as url, Channel(url) as channel:
            assert (await channel.unary(ECHO, data)).message == data


async def test_a_message_over_the_limit_is_not_sent() -> None:
    service = Service()
    with anyio.fail_after(5):
        async with serving(service.routes) as url, Channel(url, options=ChannelOptions(max_send_size=100)) as channel:
            assert (await channel.unary(ECHO, b"." * 100)).message == b"." * 100
            with pytest.raises(errors.PayloadTooLarge, match="max_send_size") as caught:
                await channel.unary(ECHO, b"." * 101)
            assert (caught.value.size, caught.value.limit) == (101, 100)
    assert len(service.requests) == 1


async def test_a_message_over_the_limit_is_not_read() -> None:
    service = Service()
    options = ChannelOptions(max_receive_size=100, stream_window=65_535)
    with anyio.fail_after(5):
        async with serving(service.routes) as url, Channel(url, options=options) as channel:
            with pytest.raises(errors.PayloadTooLarge, match="max_receive_size") as caught:
                await channel.unary(ECHO, b"." * 10_000_000)
            assert (caught.value.size, caught.value.limit) == (10_000_000, 100)
            assert (await channel.unary(ECHO, b"." * 100)).message == b"." * 100
            assert channel.statistics().connections_opened == 1


async def test_the_server_has_limits_too() -> None:
    service = Service()
    options = AcceptorOptions(max_receive_size=100, max_send_size=10)
    with anyio.fail_after(5):
        async with serving(service.routes, options) as url, Channel(url) as channel:
            for size in (10_000_000, 11):
                with pytest.raises(errors.ServerError) as caught:
                    await channel.unary(ECHO, b"." * size)
                assert caught.value.status == "RESOURCE_EXHAUSTED"
            assert (await channel.unary(ECHO, b"." * 10)).message == b"." * 10
            assert channel.statistics().connections_opened == 1


async def test_a_server_stream() -> None:
    service = Service()
    with anyio.fail_after(5):
        async with serving(service.routes) as url, Channel(url) as channel:
            async with channel.server_stream(COUNT, b"3 0") as replies:
                assert [reply async for reply in replies] == [b"0", b"1", b"2"]
                assert [reply async for reply in replies] == []
            with pytest.raises(errors.UsageError, match="inside its"):
                await anext(channel.server_stream(COUNT, b"1 0"))  # type: ignore[call-overload]
            assert channel.statistics().calls_succeeded == 1


async def test_leaving_a_server_stream_early_closes_the_generator() -> None:
    service = Service()
    with anyio.fail_after(5):
        async with serving(service.routes) as url, Channel(url) as channel:
            async with channel.server_stream(COUNT, b"1 0 1") as replies:
                assert await anext(replies) == b"0"
                assert channel.statistics().active_calls == 1
            await until(lambda: service.closed == 1)
            assert service.cancelled == 1
            assert gauges(channel)["active_calls"] == 0
            assert channel.statistics().calls_cancelled == 1


async def test_a_server_stream_that_fails_in_the_middle() -> None:
    async def count(call: Call, request: bytes) -> AsyncIterator[bytes]:
        yield b"0"
        raise errors.NotFound("no more")

    routes = Routes()
    routes.server_stream(COUNT, count)
    with anyio.fail_after(5):
        async with serving(routes) as url, Channel(url) as channel:
            async with channel.server_stream(COUNT, b"") as replies:
                assert await anext(replies) == b"0"
                with pytest.raises(errors.NotFound, match="no more"):
                    await anext(replies)
            assert channel.statistics().calls_failed == 1


async def test_a_slow_reader_holds_back_its_own_stream_only() -> None:
    service = Service()
    options = ChannelOptions(stream_window=65_535)
    with anyio.fail_after(10):
        async with serving(service.routes) as url, Channel(url, options=options) as channel:
            async with channel.server_stream(COUNT, b"200 60000") as replies:
                assert (await anext(replies))[:2] == b"0."
                for index in range(50):
                    data = b"%d" % index * 50_000
                    assert (await channel.unary(ECHO, data)).message == data
                assert service.closed == 0  # the server waits for the reader
                rest = [reply async for reply in replies]
            assert [int(reply.partition(b".")[0]) for reply in rest] == list(range(1, 200))


async def test_a_client_stream() -> None:
    service = Service()

    async def parts() -> AsyncIterator[bytes]:
        for index in range(100):
            yield b"%d" % index * 1_000

    async def none() -> AsyncIterator[bytes]:
        return
        yield b""

    with anyio.fail_after(5):
        async with serving(service.routes) as url, Channel(url) as channel:
            reply = await channel.client_stream(JOIN, parts())
            assert reply.message == b"".join(b"%d" % index * 1_000 for index in range(100))
            assert (await channel.client_stream(JOIN, none())).message == b""


async def test_an_early_answer_ends_a_client_stream() -> None:
    closed = anyio.Event()

    async def endless() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"." * 10_000
        finally:
            closed.set()

    async def waiting() -> AsyncIterator[bytes]:
        yield b"."
        await anyio.sleep_forever()

    async def refuse(call: Call, requests: AsyncIterator[bytes]) -> bytes:
        await anext(requests)
        raise errors.FailedPrecondition("enough")

    routes = Routes()
    routes.client_stream(JOIN, refuse)
    with anyio.fail_after(5):
        async with serving(routes) as url, Channel(url) as channel:
            for requests in (endless(), waiting()):
                with pytest.raises(errors.FailedPrecondition, match="enough"):
                    await channel.client_stream(JOIN, requests)
            assert closed.is_set()
            assert gauges(channel)["active_calls"] == 0


async def test_what_the_messages_raise_is_raised_by_the_call() -> None:
    service = Service()

    async def parts() -> AsyncIterator[bytes]:
        yield b"1"
        raise LookupError("mine")

    with anyio.fail_after(5):
        async with serving(service.routes) as url, Channel(url) as channel:
            with pytest.raises(LookupError, match="mine"):
                await channel.client_stream(JOIN, parts())
            assert gauges(channel)["active_calls"] == 0


async def test_cancelling_a_call_cancels_its_handler() -> None:
    service = Service()
    with anyio.fail_after(5):
        async with serving(service.routes) as url, Channel(url) as channel:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(channel.unary, HANG, b"")
                tasks.start_soon(channel.unary, HANG, b"")
                await until(lambda: service.hanging == 2)
                tasks.cancel_scope.cancel()
            assert gauges(channel)["active_calls"] == 0
            await until(lambda: service.cancelled == 2)
            assert (await channel.unary(ECHO, b"1")).message == b"1"
            assert channel.statistics().calls_cancelled == 2
            assert channel.statistics().connections_opened == 1


async def test_many_calls_share_few_streams() -> None:
    service = Service()
    done: list[int] = []

    async def call(channel: Channel, index: int) -> None:
        assert (await channel.unary(ECHO, b"%d" % index)).message == b"%d" % index
        done.append(index)

    with anyio.fail_after(20):
        async with serving(service.routes, AcceptorOptions(max_streams=8)) as url, Channel(url) as channel:
            for _ in range(5):
                async with anyio.create_task_group() as tasks:
                    for index in range(200):
                        tasks.start_soon(call, channel, index)
            assert len(done) == 1_000
            # The limit is kept exactly, so a server that counts as we do never refuses.
            assert channel.statistics().calls_repeated == 0
            assert gauges(channel) == {"open_connections": 1, "dialing": 0, "active_calls": 0, "waiting_calls": 0}


async def test_calls_get_streams_in_the_order_of_their_coming() -> None:
    service = Service()
    with anyio.fail_after(10):
        async with serving(service.routes, AcceptorOptions(max_streams=1)) as url, Channel(url) as channel:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(channel.unary, HANG, b"")
                await until(lambda: service.hanging == 1)
                for index in range(20):
                    tasks.start_soon(channel.unary, ECHO, b"%d" % index)
                    await until(lambda expected=index: channel.statistics().waiting_calls == expected + 1)  # type: ignore[misc]
                service.release.set()
    assert service.requests == [b"%d" % index for index in range(20)]


async def test_cancelling_a_call_that_waits_for_a_stream() -> None:
    service = Service()
    with anyio.fail_after(5):
        async with serving(service.routes, AcceptorOptions(max_streams=1)) as url, Channel(url) as channel:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(channel.unary, HANG, b"")
                await until(lambda: service.hanging == 1)
                async with anyio.create_task_group() as waiting:
                    for _ in range(3):
                        waiting.start_soon(channel.unary, ECHO, b"never")
                    await until(lambda: channel.statistics().waiting_calls == 3)
                    waiting.cancel_scope.cancel()
                assert channel.statistics().waiting_calls == 0
                service.release.set()
            assert (await channel.unary(ECHO, b"next")).message == b"next"
    assert service.requests == [b"next"]


async def test_random_cancels_leave_nothing_behind() -> None:
    service = Service()

    async def call(channel: Channel, delay: float, size: int) -> None:
        with anyio.move_on_after(delay):
            await channel.unary(ECHO, b"." * size)

    with anyio.fail_after(20):
        async with serving(service.routes, AcceptorOptions(max_streams=16)) as url, Channel(url) as channel:
            await channel.unary(ECHO, b"")
            for turn in range(10):
                async with anyio.create_task_group() as tasks:
                    for index in range(50):
                        delay = ((index * 7 + turn * 13) % 50) / 1_000
                        tasks.start_soon(call, channel, delay, (index % 5) * 40_000)
                assert gauges(channel) == {"open_connections": 1, "dialing": 0, "active_calls": 0, "waiting_calls": 0}
            assert channel.statistics().calls_cancelled > 50
            assert channel.statistics().connections_opened == 1
            assert (await channel.unary(ECHO, b"alive")).message == b"alive"


async def test_what_the_block_raises_leaves_it_as_it_is() -> None:
    service = Service()
    with anyio.fail_after(5):
        async with serving(service.routes) as url:
            channel = Channel(url)
            with pytest.raises(LookupError, match="mine") as caught:
                async with channel:
                    await channel.unary(ECHO, b"")
                    raise LookupError("mine")
            assert caught.value.__cause__ is None
            assert set(gauges(channel).values()) == {0}


async def test_a_channel_outside_its_block() -> None:
    channel = Channel("http://127.0.0.1:1")
    with pytest.raises(errors.UsageError, match="not open"):
        await channel.unary(ECHO, b"")
    async with channel:
        with pytest.raises(errors.UsageError, match="only once"):
            await channel.__aenter__()
    with pytest.raises(errors.UsageError, match="not open"):
        await channel.unary(ECHO, b"")
    assert channel.statistics().active_calls == 0


async def test_calls_of_other_tasks_end_when_the_channel_is_closed() -> None:
    service = Service()
    ended: list[Exception] = []

    async def call(channel: Channel) -> None:
        try:
            await channel.unary(HANG, b"")
        except errors.TransportError as error:
            ended.append(error)

    with anyio.fail_after(5):
        async with serving(service.routes) as url, anyio.create_task_group() as tasks:
            async with Channel(url) as channel:
                tasks.start_soon(call, channel)
                await until(lambda: service.hanging == 1)
            assert set(gauges(channel).values()) <= {0, 1}
    assert [type(error) for error in ended] == [errors.ConnectionLost]
    assert "this side closed the connection" in str(ended[0])
    assert set(gauges(channel).values()) == {0}


async def test_metadata_that_cannot_be_sent() -> None:
    async with Channel("http://127.0.0.1:1", token="t") as channel:
        for metadata in ({"Upper": "a"}, {"a": "line\nbreak"}, {"grpc-x": "a"}, {"a-bin": "a"}, {"authorization": "a"}):
            with pytest.raises(errors.UsageError, match="metadata"):
                await channel.unary(ECHO, b"", metadata=metadata)
