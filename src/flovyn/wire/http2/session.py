"""The life of one HTTP/2 connection: a reader, the writer and a watch, in one nursery."""

from __future__ import annotations

import math
import struct
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
from h2.errors import ErrorCodes
from h2.exceptions import ProtocolError

from flovyn.wire.http2.connection import Connection
from flovyn.wire.http2.failure import Termination
from flovyn.wire.http2.flag import Flag
from flovyn.wire.http2.processor import FloodError, Processor
from flovyn.wire.http2.state import HttpState

if TYPE_CHECKING:
    from collections.abc import Callable

    from anyio.abc import ByteStream
    from grpclib.protocol import AbstractHandler

__all__ = ["Session", "SessionLimits"]

_BROKEN = (OSError, anyio.BrokenResourceError, anyio.ClosedResourceError)
_READ_SIZE = 64 * 1024
_PIECES = 4
_SMALLEST_PIECE = 512
_FAREWELL_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """What a connection allows its peer, in bytes and seconds.

    Args:
        stream_window: Bytes that the peer may send ahead on each stream.
        max_streams: Streams that the peer may have open (announced by servers).
        handshake_within: For how long the peer may keep its first frame.
        keepalive_interval: Silence after which the peer is pinged, also on an idle connection; infinite for never.
        keepalive_timeout: Silence after the ping after which the peer is taken for dead.
    """

    stream_window: int
    max_streams: int
    handshake_within: float
    keepalive_interval: float
    keepalive_timeout: float


class Session:
    """One connection, from its first byte to its last.

    Args:
        byte_stream: Where the bytes go; the session owns it.
        handler: Hears of new and reset streams.
        limits: What the peer is allowed.
        client_side: Which end this is.
        on_ready: Called once: when the peer's settings are known (calls before that would overrun its limits), or at
            the end if they never came.
    """

    _scope: anyio.CancelScope
    _writing: anyio.CancelScope

    def __init__(
        self,
        byte_stream: ByteStream,
        handler: AbstractHandler,
        limits: SessionLimits,
        *,
        client_side: bool,
        on_ready: Callable[[Session], None],
    ) -> None:
        self._byte_stream = byte_stream
        self._limits = limits
        self._h2 = HttpState(
            client_side=client_side, stream_window=limits.stream_window, max_streams=limits.max_streams
        )
        self.connection: Connection = Connection(self._h2, byte_stream, client_side=client_side)
        self.processor: Processor = Processor(handler, self.connection)
        self._on_ready = on_ready
        self._ready = Flag()
        self.termination: Termination | None = None
        self._over = Flag()
        self._heard = Flag()
        self._last_heard = 0.0
        self._silent = True

    @property
    def usable(self) -> bool:
        """Whether new calls may begin on this connection."""
        return self.processor.settings_received and self.processor.ending is None

    async def over(self) -> None:
        """Waits until the connection is over."""
        await self._over.wait()

    def hang_up(self, reason: str) -> None:
        """Ends the connection, as if it had broken."""
        self._end(f"this side hung up: {reason}")
        self._scope.cancel()

    async def run(self) -> None:
        """Lives until the connection is over; closes it before returning. Raises nothing but cancellation."""
        self.connection.flush()
        self._last_heard = time.monotonic()
        # The writer is not cancelled with the rest, so that no frame is cut off and a GOAWAY still goes out; it ends by
        # itself when the outbox is closed, or by this scope's deadline.
        self._writing = anyio.CancelScope(shield=True)
        try:
            async with anyio.create_task_group() as tasks:
                self._scope = tasks.cancel_scope
                tasks.start_soon(self._write)
                tasks.start_soon(self._watch)
                try:
                    await self._read()
                finally:
                    self._depart()
        finally:
            with anyio.move_on_after(_FAREWELL_SECONDS, shield=True):
                await self.connection.outbox.discard()

    async def _read(self) -> None:
        try:
            while self.termination is None:
                await self._receive(await self._byte_stream.receive(_READ_SIZE))
        except anyio.EndOfStream:
            self._end("the peer closed the connection")
        except _BROKEN as error:
            self._end(f"the connection broke ({_cause(error)})")

    async def _receive(self, data: bytes) -> None:
        # The writer sends what one turn of the loop has queued. Were a burst handed over whole, its answers would leave
        # together too, and the two ends would take turns instead of working at the same time.
        piece = max(_SMALLEST_PIECE, math.ceil(len(data) / _PIECES))
        self._received(data[:piece])
        for start in range(piece, len(data), piece):
            await anyio.lowlevel.checkpoint()
            if self.termination is None:
                self._received(data[start : start + piece])

    def _received(self, data: bytes) -> None:
        self._last_heard = time.monotonic()
        self._heard.set()
        silent, self._silent = self._silent, False
        try:
            events = self.connection.feed(data)
            for event in events:
                self.processor.process(event)
            self.connection.flush()
            self.processor.check_backlog()
        except FloodError as error:
            self.connection.outbox.write(self._h2.goaway(ErrorCodes.ENHANCE_YOUR_CALM))
            self._end(str(error), malformed=True)
        except Exception as error:  # noqa: BLE001 - h2 and hpack raise more than ProtocolError on hostile bytes
            self.connection.flush()  # h2 has queued a GOAWAY that tells the peer
            if silent and data.startswith(b"HTTP/1"):
                self._end("the peer speaks HTTP/1 instead of HTTP/2", malformed=True)
            else:
                self._end(f"the peer {'speaks no' if silent else 'broke'} HTTP/2 ({_cause(error)})", malformed=True)
        else:
            if self.processor.settings_received:
                self._set_ready()

    async def _write(self) -> None:
        with self._writing:
            try:
                await self.connection.outbox.run()
            except (*_BROKEN, anyio.EndOfStream) as error:
                self._end(f"the connection broke ({_cause(error)})")
        self._scope.cancel()

    async def _watch(self) -> None:
        limits = self._limits
        with anyio.move_on_after(limits.handshake_within):
            await self._ready.wait()
        if not self._ready.is_set():
            self._end(f"the peer sent no HTTP/2 settings within {limits.handshake_within:g} s")
            self._scope.cancel()
        while self.termination is None and not math.isinf(limits.keepalive_interval):
            quiet = time.monotonic() - self._last_heard
            if quiet < limits.keepalive_interval:
                await anyio.sleep(limits.keepalive_interval - quiet)
                continue
            self._heard.clear()
            self._h2.ping(struct.pack("!Q", time.monotonic_ns()))
            self.connection.flush()
            with anyio.move_on_after(limits.keepalive_timeout):
                await self._heard.wait()
            if not self._heard.is_set():
                self._end(f"the peer did not answer a keepalive ping within {limits.keepalive_timeout:g} s")
                self._scope.cancel()

    def _end(self, reason: str, *, malformed: bool = False) -> None:
        self._finish(Termination(reason, malformed=malformed))

    def _finish(self, termination: Termination) -> None:
        """Tells every stream, once."""
        if self.termination is None:
            self.termination = termination
            self._over.set()
            self.processor.end(termination)
            self._set_ready()

    def _set_ready(self) -> None:
        if not self._ready.is_set():
            self._ready.set()
            self._on_ready(self)

    def _depart(self) -> None:
        """Queues the last words and gives the writer a moment to send them."""
        if self.termination is None:
            self.connection.outbox.write(self._h2.goaway())
            self._finish(Termination("this side closed the connection"))
        self._writing.deadline = anyio.current_time() + _FAREWELL_SECONDS


def _cause(error: BaseException) -> str:
    cause = error.__cause__ if isinstance(error, anyio.BrokenResourceError) and error.__cause__ else error
    if isinstance(cause, ProtocolError):
        return str(cause).rstrip(".")
    return str(cause) or type(cause).__name__
