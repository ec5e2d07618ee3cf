"""The parts of a connection by themselves, and a connection under arbitrary bytes."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from grpclib.const import Status
from grpclib.protocol import AbstractHandler
from hpack import Decoder, Encoder
from hypothesis import given
from hypothesis import strategies as st

from flovyn import errors
from flovyn.errors import MalformedMessage
from flovyn.wire.caller import bearer
from flovyn.wire.channel import Channel
from flovyn.wire.endpoint import Endpoint
from flovyn.wire.http2.buffer import ReceiveBuffer
from flovyn.wire.http2.compression import BlockDecoder, HeaderEncoder
from flovyn.wire.http2.failure import Termination
from flovyn.wire.http2.session import Session, SessionLimits
from flovyn.wire.http2.slots import Slots
from flovyn.wire.metadata import readable_metadata
from flovyn.wire.options import ChannelOptions
from flovyn.wire.status import error_for_status, status_for_error, status_message
from wire.peers import PREFACE, until

# --- compression --------------------------------------------------------------------------------

names = st.sampled_from([b":status", b"content-type", b"authorization", b"x-a", b"x-b", b"grpc-status"])
header_lists = st.lists(st.tuples(names, st.binary(max_size=20)), min_size=1, max_size=6)


@given(st.lists(header_lists, min_size=1, max_size=5))
def test_blocks_mean_the_same_to_any_decoder(lists: list[list[tuple[bytes, bytes]]]) -> None:
    encoder, decoder, stock = HeaderEncoder(), BlockDecoder(65_536), Decoder()
    for headers in lists + lists:
        block = encoder.encode(headers)
        assert list(stock.decode(block, raw=True)) == headers
        assert list(decoder.decode(block, raw=True)) == headers
    assert encoder.encode(lists[0]) == encoder.encode(lists[0])


@given(st.lists(header_lists, min_size=1, max_size=5), st.booleans())
def test_blocks_of_any_encoder_are_understood(lists: list[list[tuple[bytes, bytes]]], without_table: bool) -> None:
    encoder, decoder = Encoder(), BlockDecoder(65_536)
    if without_table:
        encoder.header_table_size = 0
    for headers in lists + lists:
        assert list(decoder.decode(encoder.encode(headers), raw=True)) == headers
    assert bool(decoder._known) == without_table


def test_a_peer_cannot_make_the_encoder_use_a_table() -> None:
    encoder = HeaderEncoder()
    encoder.header_table_size = 4_096
    assert encoder.header_table_size == 0
    first = encoder.encode([(b"x-a", b"1")])
    assert first[:1] == b"\x20"  # the table is given up in the first block
    assert encoder.encode([(b"x-a", b"1")]) == first[1:]


def test_secrets_are_never_indexed() -> None:
    assert HeaderEncoder().encode([(b"authorization", b"Bearer x")])[1] & 0xF0 == 0x10


def test_what_is_remembered_is_bounded() -> None:
    encoder, decoder = HeaderEncoder(), BlockDecoder(65_536)
    for index in range(2_000):
        decoder.decode(encoder.encode([(b"x-a", b"%d" % index)]))
    assert len(encoder._known) <= 512
    assert len(decoder._known) <= 512


# --- a connection under arbitrary bytes ---------------------------------------------------------


class Deaf(AbstractHandler):
    def accept(self, stream: Any, headers: Any, release_stream: Any) -> None:
        release_stream()

    def cancel(self, stream: Any) -> None: ...

    def close(self) -> None: ...


LIMITS = SessionLimits(
    stream_window=65_535, max_streams=10, handshake_within=1, keepalive_interval=1, keepalive_timeout=1
)


def raw_frame(kind: int, flags: int, stream_id: int, body: bytes) -> bytes:
    return len(body).to_bytes(3, "big") + bytes([kind, flags]) + stream_id.to_bytes(4, "big") + body


frames = st.builds(
    raw_frame,
    st.integers(0, 12),
    st.integers(0, 255),
    st.sampled_from([0, 1, 2, 3, 5, 2**31 - 1]),
    st.binary(max_size=30),
)


@pytest.mark.parametrize("client_side", [True, False], ids=["client", "server"])
@given(st.lists(st.one_of(frames, st.binary(max_size=40)), max_size=20))
def test_no_bytes_of_a_peer_raise(client_side: bool, chunks: list[bytes]) -> None:
    ready: list[Session] = []
    stream: Any = None
    session = Session(stream, Deaf(), LIMITS, client_side=client_side, on_ready=ready.append)
    if not client_side:
        session._received(PREFACE)
    session._received(b"\0\0\0\4\0\0\0\0\0")
    assert ready == [session]
    for chunk in chunks:
        session._received(chunk)
        if session.termination is not None:
            assert session.termination.malformed
            assert session.connection.is_closing()
            break


# --- small parts --------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_a_buffer_gives_credit_for_what_was_read() -> None:
    credit: list[int] = []
    buffer = ReceiveBuffer(credit.append)
    buffer.add(b"abcdef", 8)
    assert await buffer.read(2) == b"ab"
    assert credit == [4]  # padding first: what is unread stays owed
    assert await buffer.read(3) == b"cde"
    assert credit == [4, 3]
    async with anyio.create_task_group() as tasks:
        read: list[bytes] = []

        async def reader() -> None:
            read.append(await buffer.read(10))

        tasks.start_soon(reader)
        await until(lambda: sum(credit) == 8)  # a message longer than the window: credit at once
        buffer.add(b"ghi", 3)
        await until(lambda: sum(credit) == 11)
        buffer.eof()
    assert read == [b"fghi"]
    assert await buffer.read(1) == b""
    buffer.add(b"late", 4)
    assert buffer.unacked_size() == 4
    assert buffer.unacked_size() == 0


@pytest.mark.anyio
async def test_a_slot_that_comes_with_a_cancel_is_passed_on() -> None:
    slots = Slots()
    slots.limit = 1
    order: list[str] = []

    async def take(name: str) -> None:
        if await slots.acquire():
            order.append(name)

    with anyio.fail_after(5):
        assert await slots.acquire()
        async with anyio.create_task_group() as outer:
            async with anyio.create_task_group() as first:
                first.start_soon(take, "first")
                await until(lambda: slots.waiting == 1)
                outer.start_soon(take, "second")
                await until(lambda: slots.waiting == 2)
                first.cancel_scope.cancel()
                slots.release()
            await until(lambda: order == ["second"] or order == ["first"])
        assert slots.waiting == 0
        assert slots.held == 1
        slots.close()
        assert not await slots.acquire()


@pytest.mark.anyio
async def test_a_slot_that_comes_as_the_connection_ends_is_none() -> None:
    slots = Slots()
    slots.limit = 1
    got: list[bool] = []

    async def take() -> None:
        got.append(await slots.acquire())

    with anyio.fail_after(5):
        assert await slots.acquire()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(take)
            await until(lambda: slots.waiting == 1)
            slots.release()
            slots.close()
    assert got == [False]
    assert slots.held == 0


def test_every_status_goes_there_and_back() -> None:
    for status in Status:
        if status in (Status.OK, Status.INTERNAL):
            continue
        error = error_for_status(status.value, "text")
        assert status_for_error(error) == (status, "text")
    assert status_for_error(error_for_status(Status.INTERNAL.value, "text")) == (Status.INTERNAL, "text")


def test_errors_without_a_status() -> None:
    assert status_for_error(errors.UsageError("secret")) == (Status.INTERNAL, "Internal server error")
    assert status_for_error(MalformedMessage("bytes")) == (Status.INVALID_ARGUMENT, "bytes")
    too_large = errors.PayloadTooLarge("large", size=2, limit=1)
    assert status_for_error(too_large) == (Status.RESOURCE_EXHAUSTED, "large")
    assert status_for_error(errors.ServerError("x", status="NONSENSE")) == (Status.UNKNOWN, "x")


@given(st.text())
def test_texts_of_any_kind_are_read(text: str) -> None:
    status_message(text)
    if text.isascii() and "%" not in text:
        assert status_message(text) == text


def test_repeated_metadata() -> None:
    assert readable_metadata([("a", "1"), ("b", "2"), ("a", "3"), ("te", "trailers")]) == {"a": "1,3", "b": "2"}


@pytest.mark.parametrize(
    ("url", "authority", "scheme"),
    [
        ("http://localhost:9090", "localhost:9090", "http"),
        ("http://localhost:9090/", "localhost:9090", "http"),
        ("https://worker.example", "worker.example:443", "https"),
        ("http://worker.example", "worker.example:80", "http"),
        ("http://[::1]:9090", "[::1]:9090", "http"),
        ("http://bücher.example:9090", "xn--bcher-kva.example:9090", "http"),
    ],
)
def test_urls(url: str, authority: str, scheme: str) -> None:
    endpoint = Endpoint.parse(url, None)
    assert (endpoint.authority, endpoint.scheme) == (authority, scheme)


@pytest.mark.parametrize(
    "url",
    [
        "localhost:9090",
        "ftp://localhost",
        "http://",
        "http://localhost:port",
        "http://localhost:70000",
        "http://localhost:0",
        "http://local host",
        "http://local\0host",
        f"http://{'ü' * 64}.example",
        "http://localhost/api",
        "http://localhost?x=1",
        "http://[::1",
        "",
    ],
)
def test_urls_that_are_none(url: str) -> None:
    with pytest.raises(errors.ConfigurationError):
        Channel(url)


def test_secrets_are_not_shown() -> None:
    with pytest.raises(errors.ConfigurationError) as caught:
        Channel("http://user:hunter2@localhost")
    assert "hunter2" not in str(caught.value)
    assert "hunter2" not in repr(Channel("http://localhost", token="hunter2"))
    for token in ("", "hunter2\n", "hunter2 ", "hünter2"):
        with pytest.raises(errors.ConfigurationError) as caught:
            bearer(token)
        assert "hunter2" not in str(caught.value)
        with pytest.raises(errors.ConfigurationError):
            Channel("http://localhost", token=token)


def test_a_context_without_tls() -> None:
    import ssl

    with pytest.raises(errors.ConfigurationError, match="needs an https"):
        Channel("http://localhost", ssl_context=ssl.create_default_context())


@pytest.mark.parametrize(
    "options",
    [{"max_receive_size": 0}, {"stream_window": 1_000}, {"keepalive_interval": 0}, {"connect_within": -1}],
)
def test_options_out_of_range(options: dict[str, Any]) -> None:
    with pytest.raises(errors.ConfigurationError, match=next(iter(options))):
        ChannelOptions(**options)


def test_terminations_are_values() -> None:
    assert Termination("a") == Termination("a", unprocessed=False)
