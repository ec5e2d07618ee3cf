"""h2's connection state with the two behaviours that gRPC needs changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from h2.config import H2Configuration
from h2.errors import ErrorCodes
from h2.events import ConnectionTerminated, StreamReset
from h2.exceptions import FrameTooLargeError
from h2.settings import SettingCodes, Settings
from hyperframe.frame import GoAwayFrame

from flovyn.wire.http2.compression import BlockDecoder, HeaderEncoder
from flovyn.wire.http2.shortcuts import ShortConnection

if TYPE_CHECKING:
    from h2.events import Event
    from hyperframe.frame import Frame, RstStreamFrame

__all__ = ["CONNECTION_WINDOW", "HttpState"]

CONNECTION_WINDOW = 2**31 - 1
"""As wide as the protocol allows: flow control is left to the streams, so a slow reader of one call stalls no other."""


_FRAME_HEADER = 9


class HttpState(ShortConnection):
    """The frames of one connection, without I/O.

    Args:
        client_side: Which end this is.
        stream_window: Bytes that the peer may send ahead on one stream.
        max_streams: Streams that the peer may have open, for a server.
    """

    def __init__(self, *, client_side: bool, stream_window: int, max_streams: int = 0) -> None:
        super().__init__(
            H2Configuration(
                client_side=client_side,
                header_encoding="latin-1",  # any byte has a meaning, so no header of a peer can raise
                validate_inbound_headers=False,
                validate_outbound_headers=False,
                normalize_inbound_headers=False,
                normalize_outbound_headers=False,
            )
        )
        self.encoder: HeaderEncoder = HeaderEncoder()
        self.decoder: BlockDecoder = BlockDecoder(self.DEFAULT_MAX_HEADER_LIST_SIZE)
        settings = {
            SettingCodes.HEADER_TABLE_SIZE: 0,
            SettingCodes.ENABLE_PUSH: 0,
            SettingCodes.MAX_CONCURRENT_STREAMS: max_streams,
            SettingCodes.INITIAL_WINDOW_SIZE: stream_window,
            SettingCodes.MAX_HEADER_LIST_SIZE: self.DEFAULT_MAX_HEADER_LIST_SIZE,
        }
        self.local_settings: Settings = Settings(client=client_side, initial_values=settings)
        self.initiate_connection()
        self.increment_flow_control_window(CONNECTION_WINDOW - 65_535)
        # The limit is announced, but not kept here. h2 would end the connection for a stream too many: on a server, a
        # client that has not read our SETTINGS yet does not deserve that (the acceptor answers REFUSED_STREAM); on a
        # client, h2 takes the late answer to a call that was cancelled for one.
        self.local_settings.max_concurrent_streams = 2**31 - 1
        self.local_settings.acknowledge()

    def receive_data(self, data: Any) -> list[Event]:
        """Refuses a frame that is too long from its header; h2 waits until all of it is there."""
        events = super().receive_data(data)
        waiting = self.incoming_buffer._data  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        if len(waiting) >= _FRAME_HEADER and int.from_bytes(waiting[:3], "big") > self.max_inbound_frame_size:
            self._terminate_connection(ErrorCodes.FRAME_SIZE_ERROR)
            raise FrameTooLargeError("a frame is too long")
        return events

    def _receive_goaway_frame(self, frame: GoAwayFrame) -> tuple[list[Frame], list[Event]]:
        """Only reports: h2 would close the state machine, and calls in flight could not finish."""
        event: Any = ConnectionTerminated()
        try:
            event.error_code = ErrorCodes(frame.error_code)
        except ValueError:
            event.error_code = frame.error_code
        event.last_stream_id = frame.last_stream_id
        event.additional_data = frame.additional_data or None
        return [], [event]

    def _receive_rst_stream_frame(self, frame: RstStreamFrame) -> tuple[list[Frame], list[Event]]:
        """Tells of every reset. h2 says nothing of one that crossed the end of its stream on the way."""
        frames, events = super()._receive_rst_stream_frame(frame)
        if not events:
            event = StreamReset(stream_id=frame.stream_id)
            event.error_code = frame.error_code
            return frames, [event]
        return frames, events

    def _open_streams(self, remainder: int) -> int:  # noqa: ARG002
        """h2 walks over all streams at each new one, for limits that `Slots` and the acceptor keep here."""
        return 0

    def forget(self, stream_id: int) -> None:
        """Drops a closed stream, which h2 would do in the walk that is cut short above."""
        stream = self.streams.get(stream_id)
        if stream is not None and stream.closed:
            del self.streams[stream_id]
            self._closed_streams[stream_id] = stream.closed_by

    def goaway(self, error_code: ErrorCodes = ErrorCodes.NO_ERROR) -> bytes:
        """The bytes of a GOAWAY frame; the state stays as it is, so that what is under way may finish."""
        frame = GoAwayFrame(0, last_stream_id=self.highest_inbound_stream_id, error_code=error_code)
        return bytes(frame.serialize())
