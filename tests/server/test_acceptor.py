"""The server's end of the wire: what it answers, what it refuses, and what it survives."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

import anyio
import grpc
import pytest
from h2.errors import ErrorCodes
from h2.settings import SettingCodes
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
    SettingsFrame,
)

from flovyn import errors
from flovyn.server.acceptor import AcceptorOptions, Call, Drain, Peer, Routes, serve
from flovyn.wire.channel import Channel
from wire.peers import (
    COUNT,
    ECHO,
    GONE,
    HANG,
    JOIN,
    PREFACE,
    RawPeer,
    Service,
    ping,
    raw_client,
    reset,
    serving,
    until,
)

pytestmark = pytest.mark.anyio


async def alive(url: str) -> None:
    async with Channel(url) as channel:
        assert (await channel.unary(ECHO, b"alive")).message == b"alive"


async def status(peer: RawPeer) -> dict[str, str]:
    """The headers that end the next answer."""
    while True:
        frame = await peer.next(HeadersFrame)
        if "END_STREAM" in frame.flags:
            return {str(name): str(value) for name, value in frame.headers}


async def hung_up(peer: RawPeer) -> GoAwayFrame | None:
    """Reads until the server closes the connection; its GOAWAY, if there was one."""
    said: GoAwayFrame | None = None
    try:
        while True:
            said = await peer.next(GoAwayFrame)
    except GONE:
        return said


# --- handlers and peers ---------------------------------------------------------------------


async def test_a_route_has_one_handler_of_its_shape() -> None:
    service = Service()
    with pytest.raises(errors.UsageError, match="has a handler already"):
        service.routes.unary(ECHO, service.echo)
    with pytest.raises(errors.UsageError, match="is server_stream, not unary"):
        service.routes.unary(COUNT, service.echo)


async def test_peers_are_connections() -> None:
    service = Service()
    gone: list[Peer] = []
    with anyio.fail_after(5):
        async with serving(service.routes, on_disconnect=gone.append) as url:
            async with Channel(url) as one, Channel(url) as other:
                for channel in (one, other, one):
                    await channel.unary(ECHO, b"")
                peers = [call.peer for call in service.calls]
                assert peers[0] is peers[2]
                assert peers[0] is not peers[1]
                assert peers[0].id != peers[1].id
                assert peers[0].address.startswith("127.0.0.1:")
                assert gone == []
            await until(lambda: len(gone) == 2)
            assert set(gone) == set(peers)


async def test_a_disconnect_cancels_and_is_told_once_and_last() -> None:
    service = Service()
    order: list[str] = []

    async def careful(call: Call, request: bytes) -> bytes:
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.05)  # a clean-up that takes its time
            order.append("handler")
        return b""

    routes = Routes()
    routes.unary(HANG, careful)
    routes.unary(ECHO, service.echo)
    with anyio.fail_after(5):
        async with serving(routes, on_disconnect=lambda peer: order.append("disconnect")) as url:
            async with raw_client(url) as peer:
                await peer.send(*peer.call(1, HANG.path, b""), *peer.call(3, ECHO.path, b""))
                await status(peer)
            await until(lambda: len(order) == 2)
            await alive(url)
            await until(lambda: len(order) == 3)
    assert order == ["handler", "disconnect", "disconnect"]


async def test_connections_that_never_spoke_are_not_told() -> None:
    gone: list[Peer] = []
    options = AcceptorOptions(handshake_within=0.1)
    with anyio.fail_after(5):
        async with serving(Routes(), options, gone.append) as url:
            for said in (b"", b"GET / HTTP/1.1\r\n\r\n", PREFACE[:10], PREFACE):
                async with raw_client(url, handshake=False) as peer:
                    if said:
                        await peer.send(said)
                    await hung_up(peer)
    assert gone == []


async def test_an_on_disconnect_that_fails_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def fail(peer: Peer) -> None:
        raise LookupError("mine")

    service = Service()
    with anyio.fail_after(5):
        async with serving(service.routes, on_disconnect=fail) as url:
            await alive(url)
            await alive(url)
    assert "LookupError: mine" in caplog.text


async def test_a_reset_cancels_the_handler_at_once() -> None:
    service = Service()
    with anyio.fail_after(5):
        async with serving(service.routes) as url, raw_client(url) as peer:
            await peer.send(*peer.call(1, HANG.path, b""))
            await until(lambda: service.hanging == 1)
            await peer.send(reset(1, ErrorCodes.CANCEL))
            await until(lambda: service.cancelled == 1)
            # Begun and reset in one packet: the handler never gets to run.
            await peer.send(*peer.call(3, HANG.path, b""), reset(3, ErrorCodes.CANCEL), *peer.call(5, ECHO.path, b""))
            assert (await status(peer))["grpc-status"] == "0"
            assert (service.cancelled, service.hanging) == (1, 0)


async def test_deadlines() -> None:
    service = Service()
    with anyio.fail_after(5):
        async with serving(service.routes) as url, raw_client(url) as peer:
            await peer.send(*peer.call(1, HANG.path, b"", ("grpc-timeout", "50m")))
            assert (await status(peer))["grpc-status"] == "4"
            assert service.cancelled == 1
            await peer.send(*peer.call(3, ECHO.path, b"", ("grpc-timeout", "soon")))
            answer = await status(peer)
            assert (answer["grpc-status"], answer["grpc-message"]) == ("3", "grpc-timeout 'soon' cannot be read")
            await peer.send(*peer.call(5, ECHO.path, b"", ("grpc-timeout", "5S")))
            assert (await status(peer))["grpc-status"] == "0"


async def test_requests_that_are_none() -> None:
    service = Service()
    with anyio.fail_after(5):
        async with serving(service.routes) as url, raw_client(url) as peer:
            cases: list[tuple[list[Any], str, str]] = [
                ([*peer.call(1, ECHO.path), DataFrame(1, b"", flags=["END_STREAM"])], "3", "without a message"),
                (
                    [*peer.call(3, ECHO.path), DataFrame(3, b"\0\0", flags=["END_STREAM"])],
                    "3",
                    "middle of a message",
                ),
                ([*peer.call(5, ECHO.path), DataFrame(5, b"\1\0\0\0\0", flags=["END_STREAM"])], "3", "compressed"),
                (peer.call(7, "/test.Test/None", b""), "12", "no such method: /test.Test/None"),
                ([peer.headers(9, (":method", "GET"), (":path", "/"), end=True)], "3", "this is a gRPC server"),
                ([peer.headers(11, ("a", "b"), end=True)], "3", "this is a gRPC server"),
                (
                    [
                        peer.headers(
                            13, (":method", "POST"), (":path", ECHO.path), ("content-type", "application/grpc+json")
                        )
                    ],
                    "3",
                    "messages are protobuf",
                ),
            ]
            for frames, code, text in cases:
                await peer.send(*frames)
                answer = await status(peer)
                assert answer["grpc-status"] == code
                assert text in answer["grpc-message"]
            await peer.send(*peer.call(15, ECHO.path, b""))
            assert (await status(peer))["grpc-status"] == "0"
    assert service.requests == [b""]


async def test_a_malformed_message_is_the_clients_fault() -> None:
    from flovyn.wire import methods

    routes = Routes()

    async def never(call: Call, request: Any) -> Any:
        raise AssertionError

    routes.unary(methods.POLL_WORKFLOW, never)
    raw = type(ECHO)(methods.POLL_WORKFLOW.path, bytes, bytes, ECHO.shape)
    with anyio.fail_after(5):
        async with serving(routes) as url, Channel(url) as channel:
            with pytest.raises(errors.InvalidArgument):
                await channel.unary(raw, b"\x0a\xff")


async def test_errors_in_groups_are_looked_into(caplog: pytest.LogCaptureFixture) -> None:
    async def nested(call: Call, request: bytes) -> bytes:
        async with anyio.create_task_group():
            raise errors.NotFound("inside")
        return b""

    async def wrong(call: Call, request: bytes) -> bytes:
        return "text"  # type: ignore[return-value]

    routes = Routes()
    routes.unary(ECHO, nested)
    routes.unary(HANG, wrong)
    with anyio.fail_after(5):
        async with serving(routes) as url, Channel(url) as channel:
            with pytest.raises(errors.NotFound, match="inside"):
                await channel.unary(ECHO, b"")
            assert caplog.text == ""
            with pytest.raises(errors.ServerError, match="Internal server error"):
                await channel.unary(HANG, b"")
            assert "the handler of /test.Test/Hang failed" in caplog.text


async def test_a_refusal_of_any_length_costs_only_its_call() -> None:
    async def refuse(call: Call, request: bytes) -> bytes:
        raise errors.NotFound("é" * 200_000)

    routes = Routes()
    routes.unary(HANG, refuse)
    with anyio.fail_after(5):
        async with serving(routes) as url, Channel(url) as channel:
            for _ in range(2):
                with pytest.raises(errors.NotFound) as caught:
                    await channel.unary(HANG, b"")
                assert caught.value.message == "é" * 1_000 + "…"
            assert channel.statistics().connections_opened == 1


# --- what a client must not do ----------------------------------------------------------------


async def test_streams_above_the_limit_are_refused() -> None:
    service = Service()
    with anyio.fail_after(5):
        async with serving(service.routes, AcceptorOptions(max_streams=2)) as url, raw_client(url) as peer:
            announced = await peer.next(SettingsFrame)
            assert announced.settings[SettingCodes.MAX_CONCURRENT_STREAMS] == 2
            for stream_id in (1, 3, 5):
                await peer.send(*peer.call(stream_id, HANG.path, b""))
            frame = await peer.next(RstStreamFrame)
            assert (frame.stream_id, frame.error_code) == (5, ErrorCodes.REFUSED_STREAM)
            service.release.set()
            assert (await status(peer))["grpc-status"] == "0"
            assert (await status(peer))["grpc-status"] == "0"
            await peer.send(*peer.call(7, ECHO.path, b""))
            assert (await status(peer))["grpc-status"] == "0"


BROKEN: dict[str, list[Frame | bytes]] = {
    "too long": [b"\xff\xff\xff\0\0\0\0\0\1"],
    "even stream": [HeadersFrame(2, b"\x83", flags=["END_HEADERS"])],
    "data on an idle stream": [DataFrame(9, b"a")],
    "bad header block": [HeadersFrame(1, b"\xff\xff\xff\xff\xff\xff\xff\xff", flags=["END_HEADERS"])],
    "continuation out of the blue": [ContinuationFrame(1, b"a", flags=["END_HEADERS"])],
    "endless header block": [HeadersFrame(1, b"\x83"), *[ContinuationFrame(1, b"\0" * 100)] * 100],
    "header list too large": [HeadersFrame(1, b"\x40\x01a\x7f\xa1\x7d" + b"a" * 16_160, flags=["END_HEADERS"])],
    "push from a client": [SettingsFrame(0, settings={SettingCodes.ENABLE_PUSH: 2})],
}


@pytest.mark.parametrize("case", BROKEN)
async def test_frames_that_break_the_protocol(case: str) -> None:
    service = Service()
    frames = BROKEN[case]
    with anyio.fail_after(5):
        async with serving(service.routes) as url:
            async with raw_client(url) as peer:
                await peer.send(*frames)
                if case != "header list too large":  # not over the limit by itself
                    said = await hung_up(peer)
                    assert said is not None
                    assert said.error_code != ErrorCodes.NO_ERROR
            await alive(url)


async def test_half_a_frame_and_silence() -> None:
    service = Service()
    with anyio.fail_after(5):
        async with serving(service.routes) as url, raw_client(url) as peer:
            frames = b"".join(frame.serialize() for frame in peer.call(1, ECHO.path, b"1"))
            await peer.send(frames[:-3])
            await alive(url)
            await peer.send(frames[-3:])
            assert (await status(peer))["grpc-status"] == "0"


async def test_one_byte_at_a_time() -> None:
    service = Service()
    with anyio.fail_after(5):
        async with serving(service.routes) as url, raw_client(url, handshake=False) as peer:
            frames = b"".join(frame.serialize() for frame in peer.call(1, ECHO.path, b"1"))
            for byte in PREFACE + SettingsFrame(0).serialize() + frames:
                await peer.send(bytes([byte]))
            assert (await status(peer))["grpc-status"] == "0"


@pytest.mark.parametrize("kind", ["pings", "settings", "empty data", "resets"])
async def test_floods(kind: str) -> None:
    """Beyond some thousand frames that carry nothing, the connection ends; others do not notice."""
    service = Service()

    async def drain(peer: RawPeer, said: list[GoAwayFrame | None]) -> None:
        said.append(await hung_up(peer))

    async def flood(peer: RawPeer) -> None:
        stream_id = 1
        await peer.send(*peer.call(1, JOIN.path))
        try:
            while True:
                frames: list[Any] = []
                for _ in range(500):
                    stream_id += 2
                    if kind == "resets":
                        frames += [*peer.call(stream_id, HANG.path), reset(stream_id, ErrorCodes.CANCEL)]
                    else:
                        frames += [
                            {"pings": ping(), "settings": SettingsFrame(0), "empty data": DataFrame(1, b"")}[kind]
                        ]
                await peer.send(*frames)
        except GONE:
            pass

    with anyio.fail_after(20):
        async with serving(service.routes) as url:
            said: list[GoAwayFrame | None] = []
            async with raw_client(url) as peer, anyio.create_task_group() as tasks:
                tasks.start_soon(drain, peer, said)
                await flood(peer)
            assert said[0] is None or said[0].error_code == ErrorCodes.ENHANCE_YOUR_CALM
            await alive(url)
            assert service.hanging == 0


async def test_a_client_that_asks_and_never_reads() -> None:
    service = Service()
    with anyio.fail_after(20):
        async with serving(service.routes) as url:
            async with raw_client(url) as peer:
                pings = ping().serialize() * 500
                with pytest.raises(GONE):
                    while True:
                        await peer.send(pings)
            await alive(url)


async def test_keepalive_pings_are_always_welcome() -> None:
    service = Service()
    with anyio.fail_after(5):
        async with serving(service.routes) as url, raw_client(url) as peer:
            for number in range(1_000):
                await peer.send(ping(number))
                answer = await peer.next(PingFrame)
                assert "ACK" in answer.flags
            await peer.send(*peer.call(1, ECHO.path, b""))
            assert (await status(peer))["grpc-status"] == "0"


async def test_a_client_that_vanished_is_noticed() -> None:
    service = Service()
    gone: list[Peer] = []
    options = AcceptorOptions(keepalive_interval=0.05, keepalive_timeout=0.1)
    with anyio.fail_after(5):
        async with serving(service.routes, options, gone.append) as url, raw_client(url) as peer:
            await peer.send(*peer.call(1, HANG.path, b""))
            await until(lambda: len(gone) == 1)
            assert service.cancelled == 1


async def test_a_slow_reader_holds_the_handler_back() -> None:
    sent = 0

    async def endless(call: Call, request: bytes) -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 1
            yield b"." * 10_000

    service = Service()
    service.routes = Routes()
    service.routes.server_stream(COUNT, endless)
    service.routes.unary(ECHO, service.echo)
    with anyio.fail_after(5):
        async with serving(service.routes) as url, raw_client(url) as peer:
            await peer.send(*peer.call(1, COUNT.path, b""))
            await peer.next(HeadersFrame)
            await alive(url)
            assert sent <= 8  # the window is 65,535 bytes


# --- the end ------------------------------------------------------------------------------------


async def test_stopping_says_goodbye() -> None:
    service = Service()
    gone: list[Peer] = []
    said: list[GoAwayFrame | None] = []
    with anyio.fail_after(5):
        async with anyio.create_task_group() as outer:
            async with anyio.create_task_group() as tasks:

                async def start(*, task_status: Any) -> None:
                    await serve(service.routes, ("127.0.0.1", 0), on_disconnect=gone.append, task_status=task_status)

                host, port = await tasks.start(start)
                ready = anyio.Event()

                async def client() -> None:
                    async with raw_client(f"http://{host}:{port}") as peer:
                        await peer.send(*peer.call(1, HANG.path, b""))
                        ready.set()
                        said.append(await hung_up(peer))

                outer.start_soon(client)
                await ready.wait()
                await until(lambda: service.hanging == 1)
                began = time.monotonic()
                tasks.cancel_scope.cancel()
            assert time.monotonic() - began < 2.5
        goodbye = said[0]
        assert goodbye is not None
        assert (goodbye.error_code, goodbye.last_stream_id) == (ErrorCodes.NO_ERROR, 1)
        assert service.cancelled == 1
        assert len(gone) == 1


async def test_an_address_in_use() -> None:
    with anyio.fail_after(5):
        async with serving(Routes()) as url:
            port = int(url.rpartition(":")[2])
            with pytest.raises(OSError, match="in use"):
                await serve(Routes(), ("127.0.0.1", port))


# --- grpcio as the client ------------------------------------------------------------------------


def _stub(channel: Any, method: Any) -> Any:
    kind = {"unary": "unary_unary", "server_stream": "unary_stream", "client_stream": "stream_unary"}[
        method.shape.value
    ]
    return getattr(channel, kind)(method.path)


def _talk(port: int) -> dict[str, Any]:
    """What grpcio's synchronous client sees, in a thread."""
    seen: dict[str, Any] = {}
    options = [("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
        reply, call = _stub(channel, ECHO).with_call(b"1", metadata=(("flovyn-claim", "a"),), timeout=5)
        seen["echo"] = (reply, dict(call.initial_metadata()))
        seen["count"] = list(_stub(channel, COUNT)(b"300 10", timeout=5))
        seen["join"] = _stub(channel, JOIN)(iter([b"a", b"b" * 100_000, b"c"]), timeout=5)
        seen["large"] = _stub(channel, ECHO)(b"." * 5_000_000, timeout=5)
        futures = [_stub(channel, ECHO).future(b"%d" % index, timeout=10) for index in range(300)]
        seen["many"] = [future.result() for future in futures]
        for name, method, timeout in (
            ("deadline", HANG, 0.1),
            ("unknown", type(ECHO)("/a.B/C", bytes, bytes, ECHO.shape), 5),
        ):
            with pytest.raises(grpc.RpcError) as caught:
                _stub(channel, method)(b"", timeout=timeout)
            error: Any = caught.value
            seen[name] = (error.code().name, error.details())
        hanging = _stub(channel, HANG).future(b"")
        while not SERVICE[0].hanging:
            time.sleep(0.001)
        hanging.cancel()
    return seen


SERVICE: list[Service] = []


async def test_grpcio_as_a_client() -> None:
    service = Service()
    SERVICE[:] = [service]

    async def echo(call: Call, request: bytes) -> bytes:
        call.reply_metadata["flovyn-claim"] = call.metadata.get("flovyn-claim", "none") + "!"
        return request

    routes = Routes()
    routes.unary(ECHO, echo)
    routes.unary(HANG, service.hang)
    routes.server_stream(COUNT, service.count)
    routes.client_stream(JOIN, service.join)
    with anyio.fail_after(20):
        async with serving(routes, AcceptorOptions(max_streams=50)) as url:
            seen = await anyio.to_thread.run_sync(_talk, int(url.rpartition(":")[2]))
            await until(lambda: service.hanging == 0)
    assert seen["echo"] == (b"1", {"flovyn-claim": "a!"})
    assert seen["count"] == [b"%d.........." % index for index in range(300)]
    assert seen["join"] == b"a" + b"b" * 100_000 + b"c"
    assert len(seen["large"]) == 5_000_000
    assert seen["many"] == [b"%d" % index for index in range(300)]
    assert seen["deadline"][0] == "DEADLINE_EXCEEDED"
    assert seen["unknown"] == ("UNIMPLEMENTED", "no such method: /a.B/C")
    assert service.cancelled == 2


async def test_coming_to_rest_answers_what_is_under_way_and_refuses_what_comes_later() -> None:
    service = Service()
    drain, let_go = Drain(), anyio.Event()
    begun = anyio.Event()

    async def slow(call: Call, request: bytes) -> bytes:
        begun.set()
        await let_go.wait()
        return request

    service.routes = Routes()
    service.routes.unary(HANG, slow)
    service.routes.unary(ECHO, service.echo)
    answers: list[bytes] = []
    with anyio.fail_after(5):
        async with serving(service.routes, drain=drain) as url, Channel(url) as channel:

            async def call() -> None:
                answers.append((await channel.unary(HANG, b"slow")).message)

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(call)
                await begun.wait()
                tasks.start_soon(drain.rest)
                await until(lambda: drain.accepting.cancel_called)
                with pytest.raises(errors.ServerUnavailable, match="the server is about to end; nothing has happened"):
                    await channel.unary(ECHO, b"late")
                with pytest.raises(errors.ServerUnavailable):
                    await alive(url)
                let_go.set()
            assert answers == [b"slow"]
            await drain.rest()  # which is immediate now
