"""What is leaned on privately in grpclib and h2: fails when one of them changes it.

Everything here is overridden, called or read by `flovyn.wire` or `flovyn.server.acceptor` without being promised by its
owner. When this fails after an upgrade, read the change before touching the test.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest
from grpclib import client, protocol, server
from grpclib.const import Cardinality, Status
from grpclib.metadata import decode_timeout, encode_metadata
from h2.connection import H2Connection
from h2.frame_buffer import FrameBuffer
from h2.settings import Settings
from hpack import Decoder, Encoder

CallStream: Any = client.Stream
AnswerStream: Any = server.Stream

SIGNATURES: list[tuple[Callable[..., Any], list[str]]] = [
    (protocol.AbstractHandler.accept, ["self", "stream", "headers", "release_stream"]),
    (protocol.AbstractHandler.cancel, ["self", "stream"]),
    (protocol.AbstractHandler.close, ["self"]),
    (protocol.Connection.ack, ["self", "stream_id", "size"]),
    (protocol.Connection.close, ["self"]),
    (protocol.Connection.create_stream, ["self", "stream_id", "wrapper"]),
    (protocol.Connection.feed, ["self", "data"]),
    (protocol.Connection.flush, ["self"]),
    (protocol.Connection.get_peer, ["self"]),
    (protocol.Connection.is_closing, ["self"]),
    (protocol.Connection.pause_writing, ["self"]),
    (protocol.Connection.ping_ack_process, ["self"]),
    (protocol.Connection.resume_writing, ["self"]),
    (protocol.EventsProcessor.__init__, ["self", "handler", "connection"]),
    (protocol.EventsProcessor.process, ["self", "event"]),
    (protocol.EventsProcessor.process_connection_terminated, ["self", "event"]),
    (protocol.EventsProcessor.process_remote_settings_changed, ["self", "event"]),
    (protocol.EventsProcessor.process_stream_reset, ["self", "event"]),
    (protocol.EventsProcessor.register, ["self", "stream"]),
    (protocol.Stream.__ended__, ["self"]),
    (protocol.Stream.__terminated__, ["self", "reason"]),
    (protocol.Stream.end, ["self"]),
    (protocol.Stream.init_stream, ["self", "stream_id", "connection"]),
    (protocol.Stream.recv_data, ["self", "size"]),
    (protocol.Stream.recv_headers, ["self"]),
    (protocol.Stream.recv_trailers, ["self"]),
    (protocol.Stream.reset_nowait, ["self", "error_code"]),
    (protocol.Stream.send_data, ["self", "data", "end_stream"]),
    (protocol.Stream.send_headers, ["self", "headers", "end_stream"]),
    (CallStream._maybe_raise, ["self"]),
    (CallStream._process_grpc_status, ["self", "headers_map"]),
    (CallStream._raise_for_content_type, ["self", "headers_map"]),
    (CallStream._raise_for_grpc_status, ["self", "status", "message", "details"]),
    (CallStream._raise_for_status, ["self", "headers_map"]),
    (CallStream.recv_initial_metadata, ["self"]),
    (CallStream.recv_message, ["self"]),
    (CallStream.recv_trailing_metadata, ["self"]),
    (CallStream.send_request, ["self", "end"]),
    (AnswerStream.recv_message, ["self"]),
    (AnswerStream.send_initial_metadata, ["self", "metadata"]),
    (AnswerStream.send_message, ["self", "message"]),
    (AnswerStream.send_trailing_metadata, ["self", "status", "status_message", "status_details", "metadata"]),
    (decode_timeout, ["value"]),
    (encode_metadata, ["metadata"]),
    (H2Connection._get_or_create_stream, ["self", "stream_id", "allowed_ids"]),
    (H2Connection._get_stream_by_id, ["self", "stream_id"]),
    (H2Connection._open_streams, ["self", "remainder"]),
    (H2Connection._prepare_for_sending, ["self", "frames"]),
    (H2Connection._receive_data_frame, ["self", "frame"]),
    (H2Connection._receive_frame, ["self", "frame"]),
    (H2Connection._receive_headers_frame, ["self", "frame"]),
    (H2Connection._stream_is_closed_by_end, ["self", "stream_id"]),
    (H2Connection._stream_is_closed_by_reset, ["self", "stream_id"]),
    (H2Connection._receive_goaway_frame, ["self", "frame"]),
    (H2Connection._receive_rst_stream_frame, ["self", "frame"]),
    (H2Connection._terminate_connection, ["self", "error_code"]),
    (H2Connection.acknowledge_received_data, ["self", "acknowledged_size", "stream_id"]),
    (H2Connection.receive_data, ["self", "data"]),
    (H2Connection.send_data, ["self", "stream_id", "data", "end_stream", "pad_length"]),
    (Settings.acknowledge, ["self"]),
    (Encoder.add, ["self", "to_add", "sensitive", "huffman"]),
    (Encoder.encode, ["self", "headers", "huffman"]),
    (Encoder._encode_table_size_change, ["self"]),
    (Decoder.decode, ["self", "data", "raw"]),
]


@pytest.mark.parametrize(("function", "parameters"), SIGNATURES, ids=lambda each: getattr(each, "__qualname__", ""))
def test_signatures(function: Callable[..., Any], parameters: list[str]) -> None:
    assert list(inspect.signature(function).parameters) == parameters


def test_constructors() -> None:
    assert list(inspect.signature(CallStream.__init__).parameters) == [
        "self",
        "channel",
        "method_name",
        "metadata",
        "cardinality",
        "send_type",
        "recv_type",
        "codec",
        "status_details_codec",
        "dispatch",
        "deadline",
    ]
    assert list(inspect.signature(AnswerStream.__init__).parameters) == [
        "self",
        "stream",
        "method_name",
        "cardinality",
        "recv_type",
        "send_type",
        "codec",
        "status_details_codec",
        "dispatch",
        "deadline",
        "user_agent",
    ]


def test_state_of_calls() -> None:
    for name in ("_send_request_done", "_send_message_done", "_end_done", "_recv_initial_metadata_done"):
        assert getattr(CallStream, name) is False
    for name in ("_send_initial_metadata_done", "_send_message_done", "_send_trailing_metadata_done"):
        assert getattr(AnswerStream, name) is False


def test_attributes_of_h2() -> None:
    connection = H2Connection()
    assert connection._closed_streams == {}
    assert connection.streams == {}
    assert connection.highest_inbound_stream_id == 0
    assert isinstance(connection.incoming_buffer, FrameBuffer)
    assert len(connection.incoming_buffer._data) == 0
    assert connection.incoming_buffer._headers_buffer == []
    assert connection._data_to_send == b""
    assert connection.max_inbound_frame_size == 16_384
    assert connection.local_settings.initial_window_size == 65_535
    assert isinstance(Encoder.header_table_size, property)
    assert Encoder().header_table.resized is False


def test_what_grpclib_takes_from_asyncio_has_not_grown() -> None:
    """The names of asyncio that grpclib's protocol uses: each has a replacement in `flovyn.wire.http2`."""
    names = {name for name, value in vars(protocol).items() if getattr(value, "__module__", "").startswith("asyncio")}
    assert names == {"BaseTransport", "Event", "Protocol", "Queue", "TimerHandle", "Transport"}


def test_codes() -> None:
    assert Status.UNAVAILABLE.value == 14
    assert {each.name for each in Cardinality} == {"UNARY_UNARY", "UNARY_STREAM", "STREAM_UNARY", "STREAM_STREAM"}
