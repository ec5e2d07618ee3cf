"""The frames that nearly every call is made of, without the detours that h2 takes for all others.

h2 builds an object for each frame, with flags that it looks up by name, and describes it for a log that nobody keeps.
HEADERS and DATA without padding, priority or continuation are read and written here; the state machines behind them are
h2's, and whatever looks different goes the whole way.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Final, cast

from h2.connection import AllowedStreamIDs, ConnectionInputs, H2Connection
from h2.errors import ErrorCodes
from h2.exceptions import ProtocolError, StreamClosedError, StreamIDTooLowError
from h2.stream import StreamInputs
from hyperframe.exceptions import InvalidPaddingError
from hyperframe.frame import RstStreamFrame

if TYPE_CHECKING:
    from h2.events import Event

    from flovyn.wire.http2.compression import HeaderEncoder

__all__ = ["ShortConnection"]

_DATA, _HEADERS = 0, 1
_END_STREAM, _END_HEADERS = 0x1, 0x4
_HEADER: Final = struct.Struct("!HBBBL")
_LENGTH: Final = 9
_LAST: Final = frozenset({"END_STREAM"})
_NOT_LAST: Final[frozenset[str]] = frozenset()


class _Frame:
    """What h2 reads of a frame."""

    __slots__ = ("data", "flags", "flow_controlled_length", "stream_id")

    def __init__(self, stream_id: int, data: bytes, flags: frozenset[str]) -> None:
        self.stream_id = stream_id
        self.data = data
        self.flags = flags
        self.flow_controlled_length = len(data)


class _DataFrame(_Frame):
    __slots__ = ()


class _HeadersFrame(_Frame):
    __slots__ = ()


class ShortConnection(H2Connection):
    """h2's connection with shortcuts."""

    encoder: HeaderEncoder

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self._handlers: dict[type, Any] = {
            **cast("dict[type, Any]", cast("Any", self)._frame_dispatch_table),  # noqa: SLF001
            _DataFrame: self._receive_data_frame,
            _HeadersFrame: self._receive_headers_frame,
        }

    # --- out --------------------------------------------------------------------------------

    def send_headers(self, stream_id: int, headers: Any, end_stream: bool = False, *_: Any, **__: Any) -> None:
        """Send headers, without priority; the peer's limit of streams is counted elsewhere."""
        block: bytes | None = self.encoder.block(headers)
        if block is None or len(block) > self.max_outbound_frame_size:
            super().send_headers(stream_id, headers, end_stream)
            return
        self.state_machine.process_input(ConnectionInputs.SEND_HEADERS)
        stream = self.streams.get(stream_id)
        if stream is None:
            stream = self._get_or_create_stream(stream_id, AllowedStreamIDs(self.config.client_side))
        machine = stream.state_machine
        machine.process_input(StreamInputs.SEND_HEADERS)
        if end_stream:
            machine.process_input(StreamInputs.SEND_END_STREAM)
        elif machine.trailers_sent:
            raise ProtocolError("trailers end the stream")
        self._put(_HEADERS, _END_HEADERS | end_stream, stream_id, block)

    def send_data(
        self, stream_id: int, data: bytes | memoryview, end_stream: bool = False, pad_length: Any = None
    ) -> None:
        """Send data, without padding."""
        size = len(data)
        if pad_length is not None or (size and size > self.local_flow_control_window(stream_id)):
            super().send_data(stream_id, data, end_stream, pad_length)
            return
        if size > self.max_outbound_frame_size:
            super().send_data(stream_id, data, end_stream)
            return
        self.state_machine.process_input(ConnectionInputs.SEND_DATA)
        stream = self._get_stream_by_id(stream_id)
        stream.state_machine.process_input(StreamInputs.SEND_DATA)
        if end_stream:
            stream.state_machine.process_input(StreamInputs.SEND_END_STREAM)
        stream.outbound_flow_control_window -= size
        self.outbound_flow_control_window -= size
        self._put(_DATA, int(end_stream), stream_id, data)

    def _put(self, kind: int, flags: int, stream_id: int, body: bytes | memoryview) -> None:
        size = len(body)
        out: Any = self._data_to_send
        out += _HEADER.pack(size >> 8, size & 0xFF, kind, flags, stream_id)
        out += body

    # --- in ---------------------------------------------------------------------------------

    def receive_data(self, data: Any) -> list[Event]:
        events: list[Event] = []
        incoming = self.incoming_buffer
        incoming.add_data(data)
        incoming.max_frame_size = self.max_inbound_frame_size
        try:
            while (frame := self._next_short() or next(incoming, None)) is not None:
                events += self._receive_frame(frame)
        except InvalidPaddingError as error:
            self._terminate_connection(ErrorCodes.PROTOCOL_ERROR)
            raise ProtocolError("Received frame with invalid padding.") from error
        except ProtocolError as error:
            self._terminate_connection(error.error_code)
            raise
        return events

    def _next_short(self) -> Any:
        """The next frame, if it is there and one of those that are read here."""
        incoming: Any = self.incoming_buffer
        data: bytearray = incoming._data  # noqa: SLF001
        if len(data) < _LENGTH or incoming._headers_buffer:  # noqa: SLF001
            return None
        high, low, kind, flags, stream_id = _HEADER.unpack_from(data)
        end = _LENGTH + (high << 8 | low)
        if end > len(data) or end - _LENGTH > incoming.max_frame_size or not 0 < stream_id < 1 << 31:
            return None
        frame: type[_Frame]
        if kind == _DATA and not flags & ~_END_STREAM:
            frame = _DataFrame
        elif kind == _HEADERS and flags & ~_END_STREAM == _END_HEADERS:
            frame = _HeadersFrame
        else:
            return None
        with memoryview(data) as view:
            body = bytes(view[_LENGTH:end])
        del data[:end]
        return frame(stream_id, body, _LAST if flags & _END_STREAM else _NOT_LAST)

    def _receive_frame(self, frame: Any) -> list[Event]:
        """As in h2, which describes each frame for its log before."""
        events: list[Event]
        try:
            frames, events = self._handlers[frame.__class__](frame)
        except StreamClosedError as error:
            if not self._stream_is_closed_by_reset(error.stream_id):
                raise
            self._answer_reset(error.stream_id, error.error_code)
            return cast("list[Event]", cast("Any", error)._events)  # noqa: SLF001
        except StreamIDTooLowError as error:
            if self._stream_is_closed_by_reset(error.stream_id):
                self._answer_reset(error.stream_id, ErrorCodes.STREAM_CLOSED)
                return []
            if self._stream_is_closed_by_end(error.stream_id):
                raise StreamClosedError(error.stream_id) from error
            raise
        if frames:
            self._prepare_for_sending(frames)
        return events

    def _answer_reset(self, stream_id: int, code: ErrorCodes) -> None:
        reset = RstStreamFrame(stream_id)
        reset.error_code = code
        self._prepare_for_sending([reset])
