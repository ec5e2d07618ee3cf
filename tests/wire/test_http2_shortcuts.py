"""The short way through h2 does what the long way does: the same events, the same answers, the same refusals."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from h2.exceptions import FlowControlError, FrameTooLargeError, NoSuchStreamError, ProtocolError
from hyperframe.frame import ContinuationFrame, DataFrame, Frame, HeadersFrame, PingFrame, RstStreamFrame
from hypothesis import given
from hypothesis import strategies as st

from flovyn.wire.http2.compression import HeaderEncoder
from flovyn.wire.http2.shortcuts import ShortConnection
from flovyn.wire.http2.state import HttpState

REQUEST = [(":method", "POST"), (":scheme", "http"), (":path", "/a"), (":authority", "h"), ("te", "trailers")]
ANSWER = [(":status", "200"), ("content-type", "application/grpc")]
TRAILERS = [("grpc-status", "0")]


class LongState(HttpState):
    """h2's own way."""

    def _next_short(self) -> Any:
        return None

    def send_headers(self, stream_id: int, headers: Any, end_stream: bool = False, *_: Any, **__: Any) -> None:
        super(ShortConnection, self).send_headers(stream_id, headers, end_stream)

    def send_data(self, stream_id: int, data: Any, end_stream: bool = False, pad_length: Any = None) -> None:
        super(ShortConnection, self).send_data(stream_id, data, end_stream, pad_length)


def a_server(cls: type[HttpState], window: int = 200) -> HttpState:
    state = cls(client_side=False, stream_window=window, max_streams=10)
    client = HttpState(client_side=True, stream_window=200)
    state.receive_data(client.data_to_send())
    state.data_to_send()
    return state


def block(headers: list[tuple[str, str]]) -> bytes:
    found = HeaderEncoder().block(headers)
    return b"\x20" if found is None else found


def described(events: list[Any]) -> list[str]:
    return [f"{type(event).__name__} {sorted(_plain(event).items())}" for event in events]


def _plain(event: Any) -> dict[str, Any]:
    names = ("stream_id", "data", "flow_controlled_length", "headers", "error_code")
    return {name: str(getattr(event, name)) for name in names if hasattr(event, name)}


IDS = st.sampled_from([1, 3, 5])
HEADERS = st.sampled_from([REQUEST, TRAILERS])


@st.composite
def frames(draw: st.DrawFn) -> Any:
    frame: Any
    match draw(st.sampled_from(["headers", "headers", "data", "data", "reset", "ping", "continuation"])):
        case "headers":
            frame = HeadersFrame(draw(IDS), block(draw(HEADERS)))
            names = draw(st.sets(st.sampled_from(["END_STREAM", "PRIORITY", "PADDED"]), max_size=2))
            frame.flags |= names | draw(st.sampled_from([{"END_HEADERS"}, {"END_HEADERS"}, set()]))
        case "data":
            frame = DataFrame(draw(IDS), draw(st.binary(max_size=120)))
            frame.flags |= draw(st.sets(st.sampled_from(["END_STREAM", "PADDED"])))
        case "reset":
            frame = RstStreamFrame(draw(IDS), 8)
        case "ping":
            frame = PingFrame(0, b"12345678")
        case _:
            frame = ContinuationFrame(draw(IDS), block(TRAILERS))
            frame.flags.add("END_HEADERS")
    return frame


def fed(state: HttpState, chunks: list[bytes]) -> list[Any]:
    """What comes of each chunk, up to the first that is refused."""
    outcome: list[Any] = []
    for chunk in chunks:
        try:
            outcome.append(described(state.receive_data(chunk)))
        except ProtocolError as error:
            outcome += [type(error).__name__, error.error_code]
            break
    return [*outcome, state.data_to_send(), sorted(state.streams)]


@given(st.lists(frames(), max_size=12), st.lists(st.integers(0, 400), max_size=4))
def test_what_is_received(sent: list[Frame], cuts: list[int]) -> None:
    data = b"".join(frame.serialize() for frame in sent)
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    chunks = [data[start:end] for start, end in pairwise(edges)]
    assert fed(a_server(HttpState), chunks) == fed(a_server(LongState), chunks)


def test_what_is_sent() -> None:
    for ends in (True, False):
        sent: list[bytes] = []
        for cls in (HttpState, LongState):
            client = cls(client_side=True, stream_window=100)
            client.data_to_send()
            client.send_headers(1, REQUEST)
            client.send_data(1, b"data", end_stream=ends)
            if not ends:
                client.send_data(1, memoryview(b""), end_stream=True)
            server = a_server(cls)
            server.receive_data(client.data_to_send())
            server.send_headers(1, ANSWER)
            server.send_data(1, memoryview(b"more data"))
            server.send_headers(1, TRAILERS, end_stream=True)
            sent.append(server.data_to_send())
            assert server.streams[1].closed
        assert sent[0] == sent[1]


@pytest.mark.parametrize("cls", [HttpState, LongState])
def test_what_cannot_be_sent(cls: type[HttpState]) -> None:
    client = cls(client_side=True, stream_window=100)
    client.send_headers(1, REQUEST)
    with pytest.raises(FlowControlError):
        client.send_data(1, bytes(70_000))
    with pytest.raises(FrameTooLargeError):
        client.send_data(1, bytes(20_000))
    with pytest.raises(ProtocolError, match=r"(?i)trailers"):
        client.send_headers(1, TRAILERS)
    client.send_headers(3, REQUEST, end_stream=True)
    with pytest.raises(ProtocolError):
        client.send_data(3, b"late")
    with pytest.raises(NoSuchStreamError):
        client.send_data(5, b"early")
