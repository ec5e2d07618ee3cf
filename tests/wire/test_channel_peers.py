"""A channel against servers that misbehave, frame by frame."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
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
    PriorityFrame,
    RstStreamFrame,
    SettingsFrame,
)

from flovyn import errors
from flovyn.wire.channel import Channel
from flovyn.wire.options import ChannelOptions
from wire.peers import (
    COUNT,
    ECHO,
    JOIN,
    RawPeer,
    Script,
    goaway,
    ping,
    prefixed,
    raw_server,
    reset,
    until,
    window_update,
)

pytestmark = pytest.mark.anyio


async def answering(peer: RawPeer) -> None:
    """A server as it should be."""
    await peer.handshake()
    await answer_all(peer)


async def answer_all(peer: RawPeer) -> None:
    while True:
        await peer.send(*peer.answer(await peer.request()))


async def writer_stalled(channel: Channel) -> None:
    """Waits until a call has sent something, and nothing more for ten looks in a row."""
    await until(lambda: channel.statistics().open_connections == 1)
    dialer = channel._dialer
    assert dialer is not None
    outbox = dialer.sessions[0].connection.outbox
    handed = same = 0
    while same < 10:
        await anyio.sleep(0.01)
        same = same + 1 if outbox.handed == handed > 100_000 else 0
        handed = outbox.handed


async def succeeds(channel: Channel) -> None:
    assert (await channel.unary(ECHO, b"again")).message == b"ok"


# --- what is no answer ----------------------------------------------------------------------


def instead_of_an_answer(*make: Any) -> Script:
    """A server that follows the protocol up to the first answer."""

    async def script(peer: RawPeer) -> None:
        await peer.handshake()
        stream_id = await peer.request()
        await peer.send(*(each(peer, stream_id) for each in make))
        await anyio.sleep_forever()

    return script


def headers(*pairs: tuple[str, str], end: bool = True) -> Any:
    def make(peer: RawPeer, stream_id: int) -> Frame:
        return peer.headers(stream_id, *pairs, end=end)

    return make


def data(content: bytes, *, end: bool = False) -> Any:
    def make(peer: RawPeer, stream_id: int) -> Frame:
        return peer.data(stream_id, content, end=end)

    return make


def frame(make_frame: Callable[[int], Frame]) -> Any:
    def make(peer: RawPeer, stream_id: int) -> Frame:
        return make_frame(stream_id)

    return make


def status(code: str, *more: tuple[str, str]) -> Any:
    return headers((":status", "200"), ("content-type", "application/grpc"), ("grpc-status", code), *more)


HTML = ("content-type", "text/html")
BEGIN = headers((":status", "200"), ("content-type", "application/grpc"), end=False)
TRAILERS = headers(("grpc-status", "0"))

NONSENSE: dict[str, tuple[Script, type[Exception], str]] = {
    "html": (
        instead_of_an_answer(headers((":status", "200"), HTML)),
        errors.MalformedMessage,
        "the server does not speak gRPC: it answered with content-type 'text/html'",
    ),
    "no content type": (
        instead_of_an_answer(headers((":status", "200"))),
        errors.MalformedMessage,
        "content-type 'none'",
    ),
    "no status at all": (instead_of_an_answer(headers(HTML)), errors.ServerError, "HTTP status none"),
    "503": (instead_of_an_answer(headers((":status", "503"), HTML)), errors.ServerUnavailable, "HTTP status 503"),
    "429": (instead_of_an_answer(headers((":status", "429"), HTML)), errors.ServerUnavailable, "HTTP status 429"),
    "502": (instead_of_an_answer(headers((":status", "502"), HTML)), errors.ConnectionLost, "HTTP status 502"),
    "401": (instead_of_an_answer(headers((":status", "401"), HTML)), errors.Unauthenticated, "HTTP status 401"),
    "403": (instead_of_an_answer(headers((":status", "403"), HTML)), errors.PermissionDenied, "HTTP status 403"),
    "404": (instead_of_an_answer(headers((":status", "404"), HTML)), errors.Unimplemented, "HTTP status 404"),
    "500": (instead_of_an_answer(headers((":status", "500"), HTML)), errors.ServerError, "HTTP status 500"),
    "trailers only": (
        instead_of_an_answer(status("5", ("grpc-message", "Gr%C3%B6%C3%9Fe 100 %25 %zz"))),
        errors.NotFound,
        "Größe 100 % %zz",
    ),
    "raw utf-8": (
        instead_of_an_answer(status("5", ("grpc-message", "Größe"))),
        errors.NotFound,
        "Größe",
    ),
    "no text": (instead_of_an_answer(status("5")), errors.NotFound, "the server answered NOT_FOUND without a text"),
    "unknown status": (
        instead_of_an_answer(status("77", ("grpc-message", "odd"))),
        errors.ServerError,
        "odd (status 77)",
    ),
    "status is no number": (instead_of_an_answer(status("ok")), errors.MalformedMessage, "grpc-status 'ok'"),
    "ok without a message": (instead_of_an_answer(status("0")), errors.MalformedMessage, "OK without a message"),
    "no grpc-status": (
        instead_of_an_answer(BEGIN, data(prefixed(b"ok")), headers(("a", "b"))),
        errors.MalformedMessage,
        "without a grpc-status",
    ),
    "no trailers": (
        instead_of_an_answer(BEGIN, data(prefixed(b"ok"), end=True)),
        errors.MalformedMessage,
        "ended the call without a status",
    ),
    "two messages": (
        instead_of_an_answer(BEGIN, data(prefixed(b"ok") * 2), TRAILERS),
        errors.MalformedMessage,
        "more than the one message",
    ),
    "half a message": (
        instead_of_an_answer(BEGIN, data(prefixed(b"okay")[:-1]), TRAILERS),
        errors.MalformedMessage,
        "in the middle of a message",
    ),
    "half a prefix": (
        instead_of_an_answer(BEGIN, data(b"\0\0"), TRAILERS),
        errors.MalformedMessage,
        "in the middle of a message",
    ),
    "compressed": (
        instead_of_an_answer(BEGIN, data(b"\1" + prefixed(b"ok")[1:]), TRAILERS),
        errors.MalformedMessage,
        "compressed",
    ),
    "bad binary metadata": (
        instead_of_an_answer(
            headers((":status", "200"), ("content-type", "application/grpc"), ("x-bin", "a"), end=False)
        ),
        errors.MalformedMessage,
        "metadata that cannot be read",
    ),
    "reset": (
        instead_of_an_answer(frame(lambda stream_id: reset(stream_id, ErrorCodes.INTERNAL_ERROR))),
        errors.ConnectionLost,
        "the peer reset the stream (INTERNAL_ERROR); the call may have taken effect",
    ),
    "reset with an unknown code": (
        instead_of_an_answer(frame(lambda stream_id: reset(stream_id, 4711))),
        errors.ConnectionLost,
        "(error 4711)",
    ),
    "window overflow": (
        instead_of_an_answer(frame(lambda stream_id: window_update(stream_id, 2**31 - 1))),
        errors.MalformedMessage,
        "broke the rules of HTTP/2 on this stream",
    ),
}


@pytest.mark.parametrize("case", NONSENSE)
async def test_an_answer_that_is_none(case: str) -> None:
    script, kind, text = NONSENSE[case]
    with anyio.fail_after(5):
        async with raw_server(script) as server, Channel(server.url, token="fwt_secret") as channel:
            with pytest.raises(kind) as caught:
                await channel.unary(ECHO, b"")
            assert type(caught.value) is kind
            assert text in str(caught.value)
            assert "fwt_secret" not in repr(caught.value)
            assert channel.statistics().active_calls == 0
            assert channel.statistics().calls_failed == 1


def broken_frames(*frames: Any) -> Script:
    async def script(peer: RawPeer) -> None:
        await peer.handshake()
        await peer.request()
        await peer.send(*frames)
        await anyio.sleep_forever()

    return script


BROKEN = {
    "too long": b"\xff\xff\xff\0\0\0\0\0\1",
    "data on stream 0": b"\0\0\0\0\0\0\0\0\0",
    "push": b"\0\0\x04\x05\x04\0\0\0\x01\0\0\0\x02",
    "continuation out of the blue": ContinuationFrame(1, b"a", flags=["END_HEADERS"]),
    "bad header block": HeadersFrame(1, b"\xff\xff\xff\xff\xff\xff\xff\xff", flags=["END_HEADERS"]),
    "settings of odd length": b"\0\0\x05\x04\0\0\0\0\0.....",
    "ping of odd length": b"\0\0\x07\x06\0\0\0\0\0.......",
    "window update of zero": b"\0\0\x04\x08\0\0\0\0\0\0\0\0\0",
    "connection window overflow": window_update(0, 2**31 - 1),
    "unknown stream": DataFrame(7, b"a"),
    "a stream of the server": HeadersFrame(2, b"\x88", flags=["END_HEADERS"]),
    "frame size zero": SettingsFrame(0, settings={SettingCodes.MAX_FRAME_SIZE: 0}),
    "window size too large": SettingsFrame(0, settings={SettingCodes.INITIAL_WINDOW_SIZE: 2**31}),
}


@pytest.mark.parametrize("case", BROKEN)
async def test_frames_that_break_the_protocol(case: str) -> None:
    with anyio.fail_after(5):
        async with raw_server(broken_frames(BROKEN[case]), answering) as server, Channel(server.url) as channel:
            with pytest.raises(errors.MalformedMessage, match="broke HTTP/2.*; the call may have taken effect"):
                await channel.unary(ECHO, b"")
            await succeeds(channel)
            assert channel.statistics().connections_opened == 2


async def test_unknown_frames_are_ignored() -> None:
    async def script(peer: RawPeer) -> None:
        await peer.handshake()
        stream_id = await peer.request()
        await peer.send(b"\0\0\x03\xee\0\0\0\0\0abc", PriorityFrame(5), *peer.answer(stream_id), ping())
        await anyio.sleep_forever()

    with anyio.fail_after(5):
        async with raw_server(script) as server, Channel(server.url) as channel:
            await succeeds(channel)


async def test_an_answer_byte_by_byte() -> None:
    async def script(peer: RawPeer) -> None:
        await peer.read(24)
        for byte in SettingsFrame(0).serialize():
            await peer.send(bytes([byte]))
        stream_id = await peer.request()
        for byte in b"".join(frame.serialize() for frame in peer.answer(stream_id)):
            await peer.send(bytes([byte]))
        await anyio.sleep_forever()

    with anyio.fail_after(5):
        async with raw_server(script) as server, Channel(server.url) as channel:
            await succeeds(channel)


# --- connections that never come, or go ------------------------------------------------------


async def test_nobody_listens() -> None:
    async with anyio.create_task_group():
        listener: Any = await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=0)
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        await listener.aclose()
        with anyio.fail_after(5):
            async with Channel(f"http://127.0.0.1:{port}", token="fwt_secret") as channel:
                for _ in range(2):
                    with pytest.raises(errors.ServerUnavailable) as caught:
                        await channel.unary(ECHO, b"")
                assert f"cannot connect to http://127.0.0.1:{port}: " in str(caught.value)
                assert "refused" in str(caught.value).lower() or "failed" in str(caught.value).lower()
                assert channel.statistics().dials_failed == 2
                assert channel.statistics().active_calls == 0


async def test_a_name_that_does_not_exist() -> None:
    with anyio.fail_after(20):
        async with Channel("http://nowhere.invalid:9090") as channel:
            with pytest.raises(errors.ServerUnavailable, match=r"cannot connect to http://nowhere.invalid:9090: "):
                await channel.unary(ECHO, b"")


async def test_a_server_that_says_nothing() -> None:
    async def silent(peer: RawPeer) -> None:
        await anyio.sleep_forever()

    with anyio.fail_after(5):
        async with raw_server(silent) as server:
            async with Channel(server.url, options=ChannelOptions(connect_within=0.1)) as channel:
                with pytest.raises(errors.ServerUnavailable, match=r"no HTTP/2 settings within 0.1 s"):
                    await channel.unary(ECHO, b"")
                assert channel.statistics().open_connections == 0


@pytest.mark.parametrize(
    ("said", "text"),
    [
        (b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", "the peer speaks HTTP/1 instead of HTTP/2"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "the peer speaks no HTTP/2"),
    ],
)
async def test_a_server_that_speaks_something_else(said: bytes, text: str) -> None:
    async def script(peer: RawPeer) -> None:
        await peer.send(said)
        await anyio.sleep_forever()

    with anyio.fail_after(5):
        async with raw_server(script) as server, Channel(server.url) as channel:
            with pytest.raises(errors.MalformedMessage, match=text) as caught:
                await channel.unary(ECHO, b"")
            assert server.url in str(caught.value)


async def test_a_server_that_hangs_up_at_once() -> None:
    async def script(peer: RawPeer) -> None: ...

    with anyio.fail_after(5):
        async with raw_server(script) as server, Channel(server.url) as channel:
            with pytest.raises(errors.ServerUnavailable, match=f"cannot talk to {server.url}: "):
                await channel.unary(ECHO, b"")


async def test_callers_share_one_dial() -> None:
    proceed = anyio.Event()

    async def script(peer: RawPeer) -> None:
        await proceed.wait()
        await answering(peer)

    with anyio.fail_after(5):
        async with raw_server(script) as server, Channel(server.url) as channel:
            async with anyio.create_task_group() as tasks:
                for _ in range(20):
                    tasks.start_soon(succeeds, channel)
                await until(lambda: server.connections == 1)
                assert channel.statistics().dialing == 1
                proceed.set()
            assert server.connections == 1
            assert channel.statistics().calls_succeeded == 20


async def test_callers_share_a_failed_dial() -> None:
    proceed = anyio.Event()

    async def script(peer: RawPeer) -> None:
        await proceed.wait()

    caught: list[Exception] = []

    async def call(channel: Channel) -> None:
        try:
            await channel.unary(ECHO, b"")
        except errors.ServerUnavailable as error:
            caught.append(error)

    with anyio.fail_after(5):
        async with raw_server(script) as server, Channel(server.url) as channel:
            async with anyio.create_task_group() as tasks:
                for _ in range(3):
                    tasks.start_soon(call, channel)
                await until(lambda: server.connections == 1 and channel.statistics().active_calls == 3)
                proceed.set()
            assert len({id(error) for error in caught}) == 3  # each has its own, with its own traceback
            assert channel.statistics().dials_failed == 1


async def test_a_dial_belongs_to_its_callers() -> None:
    hung_up = anyio.Event()

    async def script(peer: RawPeer) -> None:
        try:
            await peer.read(24)
            while True:
                await peer.frame()
        finally:
            hung_up.set()

    with anyio.fail_after(5):
        async with raw_server(script, answering) as server, Channel(server.url) as channel:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(channel.unary, ECHO, b"")
                tasks.start_soon(channel.unary, ECHO, b"")
                await until(lambda: server.connections == 1)
                tasks.cancel_scope.cancel()
            assert channel.statistics().dialing == 0
            await hung_up.wait()
            await succeeds(channel)


async def test_a_connection_that_breaks_under_a_call() -> None:
    async def script(peer: RawPeer) -> None:
        await peer.handshake()
        await peer.request()

    with anyio.fail_after(5):
        async with raw_server(script, answering) as server, Channel(server.url) as channel:
            with pytest.raises(errors.ConnectionLost, match="may have taken effect") as caught:
                await channel.unary(ECHO, b"")
            assert "/test.Test/Echo at http://127.0.0.1" in str(caught.value)
            await succeeds(channel)
            assert channel.statistics().connections_opened == 2


async def test_a_connection_that_breaks_in_the_middle_of_a_frame() -> None:
    async def script(peer: RawPeer) -> None:
        await peer.handshake()
        stream_id = await peer.request()
        await peer.send(peer.begin(stream_id), peer.data(stream_id, prefixed(b"okay")).serialize()[:-2])

    with anyio.fail_after(5):
        async with raw_server(script) as server, Channel(server.url) as channel:
            with pytest.raises(errors.ConnectionLost):
                await channel.unary(ECHO, b"")


async def test_an_answer_without_its_status_is_none() -> None:
    async def script(peer: RawPeer) -> None:
        await peer.handshake()
        stream_id = await peer.request()
        await peer.send(peer.begin(stream_id), peer.data(stream_id, prefixed(b"okay")))

    with anyio.fail_after(5):
        async with raw_server(script) as server, Channel(server.url) as channel:
            with pytest.raises(errors.ConnectionLost):
                await channel.unary(ECHO, b"")


async def test_calls_that_wait_for_a_stream_survive_the_connection() -> None:
    asked = anyio.Event()

    async def script(peer: RawPeer) -> None:
        await peer.handshake({SettingCodes.MAX_CONCURRENT_STREAMS: 1})
        await peer.request()
        asked.set()
        await until(lambda: channel.statistics().waiting_calls == 5)

    async def lost(channel: Channel) -> None:
        with pytest.raises(errors.ConnectionLost):
            await channel.unary(ECHO, b"")

    with anyio.fail_after(5):
        async with raw_server(script, answering) as server, Channel(server.url) as channel:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(lost, channel)
                await asked.wait()  # or another call might be the first to get the one stream
                for _ in range(5):
                    tasks.start_soon(succeeds, channel)
            assert channel.statistics().calls_repeated == 5


async def test_a_call_that_is_given_a_stream_as_the_connection_ends_goes_to_the_next_one() -> None:
    asked = anyio.Event()

    async def script(peer: RawPeer) -> None:
        await peer.handshake({SettingCodes.MAX_CONCURRENT_STREAMS: 1})
        stream_id = await peer.request()
        asked.set()
        await until(lambda: channel.statistics().waiting_calls == 1)
        # Read at one go, so the call has its stream, and has not used it yet, when it is too late.
        await peer.send(SettingsFrame(0, settings={SettingCodes.MAX_CONCURRENT_STREAMS: 2}), goaway(1))
        await peer.send(*peer.answer(stream_id))
        await peer.frame()  # keeps the connection open for as long as the client does

    with anyio.fail_after(5):
        async with raw_server(script, answering) as server, Channel(server.url) as channel:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(succeeds, channel)
                await asked.wait()
                tasks.start_soon(succeeds, channel)
            assert channel.statistics().calls_repeated == 1


async def test_a_call_that_never_left_is_made_again() -> None:
    leave = anyio.Event()

    async def stalled(peer: RawPeer) -> None:
        await peer.handshake({SettingCodes.INITIAL_WINDOW_SIZE: 2**31 - 1})
        await peer.send(window_update(0, 2**30))
        await leave.wait()

    async def large(channel: Channel) -> None:
        with pytest.raises(errors.ConnectionLost):
            await channel.unary(ECHO, b"." * 60_000_000)

    with anyio.fail_after(10):
        async with raw_server(stalled, answering) as server, Channel(server.url) as channel:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(large, channel)
                await writer_stalled(channel)  # the kernel takes no more: the call below stays in this process
                tasks.start_soon(succeeds, channel)
                await until(lambda: channel.statistics().active_calls == 2)
                leave.set()
            assert channel.statistics().calls_repeated == 1


async def test_a_message_that_breaks_off_because_the_server_gave_up() -> None:
    async def script(peer: RawPeer) -> None:
        await peer.handshake()
        stream_id = await peer.request()
        await peer.send(
            peer.begin(stream_id), peer.data(stream_id, prefixed(b"okay")[:-1]), peer.trailers(stream_id, "4")
        )
        await anyio.sleep_forever()

    with anyio.fail_after(5):
        async with raw_server(script) as server, Channel(server.url) as channel:
            with pytest.raises(errors.DeadlineExceeded):
                await channel.unary(ECHO, b"")


# --- GOAWAY -----------------------------------------------------------------------------------


async def test_goaway_lets_calls_finish_and_moves_the_others() -> None:
    moved = anyio.Event()
    last: list[Any] = []

    async def first(peer: RawPeer) -> None:
        await peer.handshake()
        streams = [await peer.request() for _ in range(4)]
        assert streams == [1, 3, 5, 7]
        await peer.send(goaway(3, text=b"bye"))
        await moved.wait()
        for stream_id in streams[:2]:
            await peer.send(*peer.answer(stream_id, b"old"))
        last.append(await peer.next(GoAwayFrame))

    async def second(peer: RawPeer) -> None:
        await peer.handshake()
        for _ in range(2):
            await peer.send(*peer.answer(await peer.request(), b"new"))
        moved.set()
        await answer_all(peer)

    answers: list[bytes] = []

    async def call(channel: Channel) -> None:
        answers.append((await channel.unary(ECHO, b"")).message)

    with anyio.fail_after(5):
        async with raw_server(first, second) as server, Channel(server.url) as channel:
            async with anyio.create_task_group() as tasks:
                for _ in range(4):
                    tasks.start_soon(call, channel)
            assert answers == [b"new", b"new", b"old", b"old"]
            await succeeds(channel)
            statistics = channel.statistics()
            assert (statistics.connections_opened, statistics.calls_repeated) == (2, 2)
            await until(lambda: channel.statistics().open_connections == 1)


async def test_a_graceful_goaway_in_two_steps() -> None:
    async def first(peer: RawPeer) -> None:
        await peer.handshake()
        stream_id = await peer.request()
        await peer.send(goaway(2**31 - 1), ping(1))
        await peer.next(PingFrame)
        await peer.send(goaway(stream_id), *peer.answer(stream_id))
        await anyio.sleep_forever()

    with anyio.fail_after(5):
        async with raw_server(first, answering) as server, Channel(server.url) as channel:
            await succeeds(channel)
            await succeeds(channel)
            assert server.connections == 2


async def test_goaway_on_an_idle_connection() -> None:
    async def first(peer: RawPeer) -> None:
        await peer.handshake()
        await peer.send(*peer.answer(await peer.request()), goaway(1))
        await peer.frame()  # until the client hangs up

    with anyio.fail_after(5):
        async with raw_server(first, answering) as server, Channel(server.url) as channel:
            await succeeds(channel)
            await until(lambda: channel.statistics().open_connections == 0)
            await succeeds(channel)


async def test_a_server_that_always_says_goaway() -> None:
    async def script(peer: RawPeer) -> None:
        await peer.handshake()
        await peer.request()
        await peer.send(goaway(0, ErrorCodes.ENHANCE_YOUR_CALM, b"too_many_pings"))
        await anyio.sleep_forever()

    with anyio.fail_after(5):
        async with raw_server(script) as server, Channel(server.url) as channel:
            with pytest.raises(errors.ServerUnavailable, match=r"ENHANCE_YOUR_CALM: too_many_pings.*had no effect"):
                await channel.unary(ECHO, b"")
            assert 2 < server.connections <= 20


async def test_goaway_and_then_silence() -> None:
    async def script(peer: RawPeer) -> None:
        await peer.handshake()
        stream_id = await peer.request()
        await peer.send(goaway(stream_id))

    with anyio.fail_after(5):
        async with raw_server(script) as server, Channel(server.url) as channel:
            with pytest.raises(errors.ConnectionLost):
                await channel.unary(ECHO, b"")


# --- REFUSED_STREAM ---------------------------------------------------------------------------


async def test_a_refused_stream_is_opened_again() -> None:
    async def script(peer: RawPeer) -> None:
        await peer.handshake()
        for _ in range(3):
            await peer.send(reset(await peer.request(), ErrorCodes.REFUSED_STREAM))
        await peer.send(*peer.answer(await peer.request()))
        await anyio.sleep_forever()

    with anyio.fail_after(5):
        async with raw_server(script) as server, Channel(server.url) as channel:
            await succeeds(channel)
            assert channel.statistics().calls_repeated == 3
            assert channel.statistics().connections_opened == 1


async def test_the_slot_of_a_refused_stream_is_withheld_until_its_pause_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("flovyn.wire.caller._PAUSE", 60.0)
    monkeypatch.setattr("flovyn.wire.caller._LONGEST_PAUSE", 60.0)
    early: list[int] = []

    async def script(peer: RawPeer) -> None:
        await peer.handshake({SettingCodes.MAX_CONCURRENT_STREAMS: 1})
        refused = await peer.request()
        has_the_slot.set()
        await until(lambda: channel.statistics().waiting_calls == 1)
        await peer.send(reset(refused, ErrorCodes.REFUSED_STREAM))
        with anyio.move_on_after(0.2):
            early.append(await peer.request())
        impatient.cancel()
        await peer.send(*peer.answer(await peer.request()))
        await anyio.sleep_forever()

    impatient = anyio.CancelScope()
    has_the_slot = anyio.Event()

    async def refused_call(channel: Channel) -> None:
        with impatient:
            await channel.unary(ECHO, b"")

    with anyio.fail_after(5):
        async with raw_server(script) as server, Channel(server.url) as channel, anyio.create_task_group() as tasks:
            tasks.start_soon(refused_call, channel)
            await has_the_slot.wait()
            tasks.start_soon(succeeds, channel)
    assert early == []


async def test_refusing_is_borne_a_bounded_number_of_times() -> None:
    refused = 0

    async def script(peer: RawPeer) -> None:
        nonlocal refused
        await peer.handshake()
        while True:
            await peer.send(reset(await peer.request(), ErrorCodes.REFUSED_STREAM))
            refused += 1

    with anyio.fail_after(10):
        async with raw_server(script) as server, Channel(server.url) as channel:
            with pytest.raises(errors.ServerUnavailable, match="the peer refused the stream; the call had no effect"):
                await channel.unary(ECHO, b"")
            assert refused == 12
            assert channel.statistics().active_calls == 0


async def test_a_refused_server_stream_is_opened_again() -> None:
    async def script(peer: RawPeer) -> None:
        await peer.handshake()
        await peer.send(reset(await peer.request(), ErrorCodes.REFUSED_STREAM))
        stream_id = await peer.request()
        await peer.send(peer.begin(stream_id), peer.data(stream_id, prefixed(b"1")))
        await peer.send(reset(stream_id, ErrorCodes.REFUSED_STREAM))  # too late to be true
        await anyio.sleep_forever()

    with anyio.fail_after(5):
        async with raw_server(script) as server, Channel(server.url) as channel:
            async with channel.server_stream(COUNT, b"") as replies:
                assert await anext(replies) == b"1"
                with pytest.raises(errors.ServerUnavailable):
                    await anext(replies)


async def test_a_refused_client_stream_is_sent_again() -> None:
    received: list[bytes] = []

    async def script(peer: RawPeer) -> None:
        await peer.handshake()
        for index in range(2):
            first = await peer.next(DataFrame)
            if index == 0:
                await peer.send(reset(first.stream_id, ErrorCodes.REFUSED_STREAM))
        received.append(first.data)
        while "END_STREAM" not in (frame := await peer.next(DataFrame)).flags:
            received.append(frame.data)
        await peer.send(*peer.answer(frame.stream_id))
        await anyio.sleep_forever()

    async def parts() -> AsyncIterator[bytes]:
        yield b"1"
        await until(lambda: channel.statistics().calls_repeated == 1)
        yield b"2"

    with anyio.fail_after(5):
        async with raw_server(script) as server, Channel(server.url) as channel:
            assert (await channel.client_stream(JOIN, parts())).message == b"ok"
    assert received == [prefixed(b"1"), prefixed(b"2")]


# --- cancelling -------------------------------------------------------------------------------


async def test_cancelling_puts_a_reset_on_the_wire_at_once() -> None:
    seen: list[Any] = []
    times: dict[str, float] = {}

    async def script(peer: RawPeer) -> None:
        await peer.handshake()
        await peer.request()
        cancel.set()
        frame = await peer.next(RstStreamFrame)
        times["reset"] = time.monotonic()
        seen.append((frame.stream_id, frame.error_code))
        # The late answer to a call that nobody waits for any more.
        await peer.send(*peer.answer(1))
        await peer.send(*peer.answer(await peer.request()))
        await anyio.sleep_forever()

    with anyio.fail_after(5):
        cancel = anyio.Event()
        async with raw_server(script) as server, Channel(server.url) as channel:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(channel.unary, ECHO, b"")
                await cancel.wait()
                times["cancel"] = time.monotonic()
                tasks.cancel_scope.cancel()
            await succeeds(channel)
            assert channel.statistics().connections_opened == 1
    assert seen == [(1, ErrorCodes.CANCEL)]
    assert times["reset"] - times["cancel"] < 1


async def test_cancelling_a_call_that_waits_for_credit() -> None:
    async def script(peer: RawPeer) -> None:
        await peer.handshake({SettingCodes.INITIAL_WINDOW_SIZE: 10})
        frame = await peer.next(DataFrame)
        assert len(frame.data) == 10
        cancel.set()
        assert (await peer.next(RstStreamFrame)).error_code == ErrorCodes.CANCEL
        stream_id = int((await peer.next(HeadersFrame)).stream_id)
        await peer.send(window_update(stream_id, 1_000))
        await peer.request()
        await peer.send(*peer.answer(stream_id))
        await anyio.sleep_forever()

    with anyio.fail_after(5):
        cancel = anyio.Event()
        async with raw_server(script) as server, Channel(server.url) as channel:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(channel.unary, ECHO, b"." * 100)
                await cancel.wait()
                tasks.cancel_scope.cancel()
            await succeeds(channel)


# --- flow control and settings ----------------------------------------------------------------


async def test_a_window_of_a_few_bytes() -> None:
    async def script(peer: RawPeer) -> None:
        await peer.handshake({SettingCodes.INITIAL_WINDOW_SIZE: 7})
        received = b""
        while True:
            frame = await peer.next(DataFrame)
            received += frame.data
            if "END_STREAM" in frame.flags:
                break
            await peer.send(window_update(frame.stream_id, len(frame.data)))
        assert received == prefixed(b"x" * 100)
        await peer.send(*peer.answer(frame.stream_id))
        await anyio.sleep_forever()

    with anyio.fail_after(5):
        async with raw_server(script) as server, Channel(server.url) as channel:
            assert (await channel.unary(ECHO, b"x" * 100)).message == b"ok"


async def test_a_window_that_shrinks_below_zero() -> None:
    async def script(peer: RawPeer) -> None:
        await peer.handshake({SettingCodes.INITIAL_WINDOW_SIZE: 100})
        frame = await peer.next(DataFrame)
        await peer.send(SettingsFrame(0, settings={SettingCodes.INITIAL_WINDOW_SIZE: 50}))
        await peer.send(window_update(frame.stream_id, 50))
        await peer.send(SettingsFrame(0, settings={SettingCodes.INITIAL_WINDOW_SIZE: 1_000}))
        rest = await peer.next(DataFrame)
        assert len(frame.data) + len(rest.data) == 205
        await peer.send(*peer.answer(frame.stream_id))
        await anyio.sleep_forever()

    with anyio.fail_after(5):
        async with raw_server(script) as server, Channel(server.url) as channel:
            assert (await channel.unary(ECHO, b"x" * 200)).message == b"ok"


async def test_a_limit_of_streams_that_changes() -> None:
    async def script(peer: RawPeer) -> None:
        await peer.handshake({SettingCodes.MAX_CONCURRENT_STREAMS: 0})
        await until(lambda: channel.statistics().waiting_calls == 3)
        await peer.send(SettingsFrame(0, settings={SettingCodes.MAX_CONCURRENT_STREAMS: 2}))
        streams = [await peer.request(), await peer.request()]
        assert channel.statistics().waiting_calls == 1
        await peer.send(SettingsFrame(0, settings={SettingCodes.MAX_CONCURRENT_STREAMS: 1}))
        await peer.send(*peer.answer(streams[0]), ping(7))
        while (await peer.next(PingFrame, HeadersFrame)).stream_id:  # pragma: no branch
            raise AssertionError("a stream above the limit")
        await peer.send(*peer.answer(streams[1]))
        await peer.send(*peer.answer(await peer.request()))
        await anyio.sleep_forever()

    with anyio.fail_after(5):
        async with raw_server(script) as server, Channel(server.url) as channel:
            async with anyio.create_task_group() as tasks:
                for _ in range(3):
                    tasks.start_soon(succeeds, channel)


async def test_only_headers_are_read_of_a_message_over_the_limit() -> None:
    async def script(peer: RawPeer) -> None:
        await peer.handshake()
        stream_id = await peer.request()
        await peer.send(peer.begin(stream_id), peer.data(stream_id, b"\0\xff\xff\xff\xff"))
        frame = await peer.next(RstStreamFrame)
        assert (frame.stream_id, frame.error_code) == (stream_id, ErrorCodes.CANCEL)
        await answer_all(peer)

    with anyio.fail_after(5):
        async with raw_server(script) as server, Channel(server.url) as channel:
            with pytest.raises(errors.PayloadTooLarge) as caught:
                await channel.unary(ECHO, b"")
            assert (caught.value.size, caught.value.limit) == (2**32 - 1, 64 * 1024 * 1024)
            await succeeds(channel)


# --- keepalive, floods, and the end -------------------------------------------------------------

QUICK = ChannelOptions(keepalive_interval=0.05, keepalive_timeout=0.1)


async def test_a_dead_server_is_noticed() -> None:
    async def script(peer: RawPeer) -> None:
        await peer.handshake()
        await anyio.sleep_forever()

    with anyio.fail_after(5):
        async with raw_server(script) as server, Channel(server.url, options=QUICK) as channel:
            with pytest.raises(errors.ConnectionLost, match=r"did not answer a keepalive ping within 0.1 s"):
                await channel.unary(ECHO, b"")
            await until(lambda: channel.statistics().open_connections == 0)


async def test_a_server_that_lives_is_pinged_also_when_idle() -> None:
    pings = 0

    async def script(peer: RawPeer) -> None:
        nonlocal pings
        await peer.handshake()
        await peer.send(*peer.answer(await peer.request()))
        while True:
            frame = await peer.next(PingFrame)
            pings += 1
            await peer.send(PingFrame(0, frame.opaque_data, flags=["ACK"]))

    with anyio.fail_after(5):
        async with raw_server(script) as server, Channel(server.url, options=QUICK) as channel:
            await succeeds(channel)
            await until(lambda: pings >= 3)
            assert channel.statistics().open_connections == 1
            assert server.connections == 1


async def test_a_server_that_dies_while_idle_is_noticed() -> None:
    async def script(peer: RawPeer) -> None:
        await peer.handshake()
        await peer.send(*peer.answer(await peer.request()))
        await anyio.sleep_forever()

    with anyio.fail_after(5):
        async with raw_server(script, answering) as server, Channel(server.url, options=QUICK) as channel:
            await succeeds(channel)
            await until(lambda: channel.statistics().open_connections == 0)
            await succeeds(channel)


@pytest.mark.parametrize("reads", [True, False], ids=["reads", "does not read"])
async def test_a_flood_of_pings(reads: bool) -> None:
    async def flood(peer: RawPeer) -> None:
        await peer.handshake()
        await peer.request()
        pings = b"".join(ping(index).serialize() for index in range(1_000))
        if not reads:
            while True:
                await peer.send(pings)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(drain, peer)
            while True:
                await peer.send(pings)

    async def drain(peer: RawPeer) -> None:
        while True:
            await peer.stream.receive()

    with anyio.fail_after(10):
        async with raw_server(lambda peer: ungrouped(flood, peer), answering) as server, Channel(server.url) as channel:
            with pytest.raises(errors.MalformedMessage, match="floods the connection|does not read"):
                await channel.unary(ECHO, b"")
            await succeeds(channel)


async def ungrouped(script: Script, peer: RawPeer) -> None:
    try:
        await script(peer)
    except* (OSError, anyio.BrokenResourceError, anyio.EndOfStream, anyio.ClosedResourceError):
        pass


@pytest.mark.parametrize("kind", ["settings", "empty data", "window updates", "tiny data"])
async def test_small_frames_in_masses(kind: str) -> None:
    """Up to a point they are just slow: nothing breaks, nothing grows."""

    async def script(peer: RawPeer) -> None:
        await peer.handshake()
        stream_id = await peer.request()
        await peer.send(peer.begin(stream_id))
        message = prefixed(b"o" * 4_000)
        frames: list[Any] = {
            "settings": [SettingsFrame(0)] * 2_000 + [peer.data(stream_id, message)],
            "empty data": [DataFrame(stream_id, b"")] * 2_000 + [peer.data(stream_id, message)],
            "window updates": [window_update(0, 1)] * 4_000 + [peer.data(stream_id, message)],
            "tiny data": [peer.data(stream_id, message[index : index + 1]) for index in range(len(message))],
        }[kind]
        await peer.send(*frames, peer.trailers(stream_id))
        while True:
            await peer.stream.receive()

    with anyio.fail_after(10):
        async with raw_server(script) as server, Channel(server.url) as channel:
            assert (await channel.unary(ECHO, b"")).message == b"o" * 4_000


async def test_leaving_says_goodbye() -> None:
    seen: list[Any] = []

    async def script(peer: RawPeer) -> None:
        await peer.handshake()
        await peer.send(*peer.answer(await peer.request()))
        seen.append(await peer.next(GoAwayFrame))

    with anyio.fail_after(5):
        async with raw_server(script) as server:
            async with Channel(server.url) as channel:
                await succeeds(channel)
            await until(lambda: bool(seen))
    assert seen[0].error_code == ErrorCodes.NO_ERROR


async def test_leaving_is_bounded_when_the_server_does_not_read() -> None:
    async def stalled(peer: RawPeer) -> None:
        await peer.handshake({SettingCodes.INITIAL_WINDOW_SIZE: 2**31 - 1})
        await peer.send(window_update(0, 2**30))
        await anyio.sleep_forever()

    with anyio.fail_after(10):
        async with raw_server(stalled) as server, anyio.create_task_group() as tasks:
            async with Channel(server.url) as channel:
                tasks.start_soon(channel.unary, ECHO, b"." * 40_000_000)
                await writer_stalled(channel)
                tasks.cancel_scope.cancel()
                began = time.monotonic()
            assert time.monotonic() - began < 3
    assert channel.statistics().open_connections == 0
