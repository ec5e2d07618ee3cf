"""One HTTP/2 stream."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from grpclib import protocol
from h2.errors import ErrorCodes
from h2.exceptions import NoAvailableStreamIDError

from flovyn.errors import MalformedMessage
from flovyn.wire.http2.buffer import ReceiveBuffer
from flovyn.wire.http2.failure import StreamFailed, Termination
from flovyn.wire.http2.flag import Flag

if TYPE_CHECKING:
    from collections.abc import Callable

    from flovyn.wire.http2.connection import Connection
    from flovyn.wire.http2.processor import Processor

__all__ = ["Headers", "Stream"]

Headers = list[tuple[str, str]]
_FRAME = 64 * 1024
"""The longest data frame that is sent, however long the peer allows: streams take turns at this size."""


class Stream(protocol.Stream):
    """grpclib's stream with waits that end in `StreamFailed` when the stream does."""

    connection: Connection

    def __init__(self, connection: Connection, *, stream_id: int | None = None) -> None:
        # Not calling the base: it creates asyncio events.
        self.connection = connection
        self._h2_connection = connection.h2
        self._transport: Any = connection.outbox
        self.wrapper: None = None
        self.window_updated: Any = Flag()
        self.headers: Headers | None = None
        self.headers_received: Any = Flag()
        self.trailers: Headers | None = None
        self.trailers_received: Any = Flag()
        self.ended: bool = False
        """The peer has sent all it will send."""
        self.termination: Termination | None = None
        self._stream_id = 0
        self.offset: int = 0
        """Where in the connection's bytes the stream begins."""
        if stream_id is not None:
            self.init_stream(stream_id, connection)

    def init_stream(self, stream_id: int, connection: protocol.Connection) -> None:
        self.id: int | None = stream_id
        self._stream_id = stream_id
        self.buffer: Any = ReceiveBuffer(partial(connection.ack, stream_id))

    async def open(self, headers: Headers, processor: Processor) -> Callable[[], None]:
        """Takes a slot and sends the request headers; the result gives the slot back.

        The peer's limit of streams is counted by the slots alone, and the headers are queued in the very turn in which
        the slot is taken.
        """
        slots = processor.slots
        if not await slots.acquire():
            raise StreamFailed(processor.ending or Termination("the connection closes", unprocessed=True))
        try:
            stream_id = self._h2_connection.get_next_available_stream_id()
            self._h2_connection.send_headers(stream_id, headers)
        except NoAvailableStreamIDError:
            slots.release()
            processor.drain("the connection has used up its stream ids")
            raise StreamFailed(Termination("the connection has used up its stream ids", unprocessed=True)) from None
        except BaseException:
            slots.release()
            raise
        self.init_stream(stream_id, self.connection)
        self.offset = self.connection.outbox.queued
        release = processor.register(self)
        self.connection.flush()
        return release

    async def recv_headers(self) -> Headers:
        await self.headers_received.wait()
        if self.headers is None:
            raise self._failure("ended the call without an answer")
        return self.headers

    async def recv_trailers(self) -> Headers:
        await self.trailers_received.wait()
        if self.trailers is None:
            raise self._failure("ended the call without a status")
        return self.trailers

    async def recv_data(self, size: int) -> bytes:
        data: bytes = await self.buffer.read(size)
        if len(data) < size and (data or not self.ended):
            raise self._failure("ended the call in the middle of a message")
        return data

    async def send_headers(self, headers: Headers, end_stream: bool = False) -> None:
        self._require_alive()
        self._h2_connection.send_headers(self._stream_id, headers, end_stream=end_stream)
        self.connection.flush()

    async def send_data(self, data: bytes, end_stream: bool = False) -> None:
        """Sends as fast as the peer and the writer take it.

        A client stops early, and silently, when the server has already answered: nobody reads the rest.
        """
        h2, connection, stream_id = self._h2_connection, self.connection, self._stream_id
        rest = memoryview(data)
        while True:  # noqa: ASYNC913 - only what waited goes round again
            if not connection.write_ready.is_set():
                await connection.write_ready.wait()
            if self.ended and connection.client_side:
                return
            self._require_alive()
            size = len(rest)
            if size:
                # May be negative: the peer can shrink windows that are in use.
                size = min(size, h2.local_flow_control_window(stream_id), h2.max_outbound_frame_size, _FRAME)
                if size <= 0:
                    self.window_updated.clear()
                    await self.window_updated.wait()
                    continue
            last = size == len(rest)
            h2.send_data(stream_id, rest[:size], end_stream=end_stream and last)
            connection.flush()
            if last:
                return
            rest = rest[size:]

    async def end(self) -> None:
        await self.send_data(b"", end_stream=True)

    def reset_nowait(self, error_code: ErrorCodes = ErrorCodes.NO_ERROR) -> None:
        """Queues RST_STREAM at once, whatever else is waiting to be sent; does nothing on a stream that is closed."""
        if self.closable:
            self._h2_connection.reset_stream(self._stream_id, error_code=error_code)
            self.connection.flush()

    def terminate(self, termination: Termination) -> None:
        """Nothing more will come. What has been received already stays readable."""
        if self.termination is None:
            self.termination = termination
        self.buffer.eof()
        self._wake()

    def __terminated__(self, reason: str) -> None:
        self.terminate(Termination(reason))

    def __ended__(self) -> None:
        self.ended = True
        self.buffer.eof()
        self._wake()

    def _wake(self) -> None:
        self.window_updated.set()
        self.headers_received.set()
        self.trailers_received.set()

    def _require_alive(self) -> None:
        if self.termination is not None:
            raise StreamFailed(self.termination)
        if self._stream_id not in self._h2_connection.streams:
            raise StreamFailed(Termination("the stream is closed"))

    def _failure(self, what: str) -> Exception:
        if self.termination is not None:
            return StreamFailed(self.termination)
        return MalformedMessage(f"the peer {what}")
