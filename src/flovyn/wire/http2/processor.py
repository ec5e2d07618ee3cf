"""What the frames of a connection mean for its streams."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from grpclib import protocol
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    PingReceived,
    RemoteSettingsChanged,
    StreamReset,
)

from flovyn.wire.http2.failure import Termination
from flovyn.wire.http2.slots import Slots

if TYPE_CHECKING:
    from collections.abc import Callable

    from grpclib.protocol import AbstractHandler
    from h2.events import Event

    from flovyn.wire.http2.connection import Connection
    from flovyn.wire.http2.stream import Stream

__all__ = ["FloodError", "Processor"]

_TOLL_RATE = 1_000.0
_TOLL_BURST = 10_000.0
_BACKLOG = 2 * 1024 * 1024
"""Bytes that may wait for a peer that does not read. Data stops at the outbox's mark; what is above answers frames."""


def _ignore(stream_id: int) -> None: ...


class FloodError(Exception):
    """The peer keeps this side busy with frames that carry nothing."""


class Processor(protocol.EventsProcessor):
    """grpclib's event processor, which drains on GOAWAY, shares out slots and has a limit to its patience."""

    connection: Connection
    streams: dict[int, Stream]  # type: ignore[assignment]  # only ours are ever registered

    def __init__(self, handler: AbstractHandler, connection: Connection) -> None:
        super().__init__(handler, connection)
        self.slots: Slots = Slots()
        self.settings_received: bool = False
        self.ending: Termination | None = None
        """Set when the connection takes no new calls, because it drains or is lost."""
        self.on_late_reset: Callable[[int], None] = _ignore
        """Told of a stream that the peer gave up while the last frames of it were on their way to it."""
        self._tolls = _TOLL_BURST
        self._tolled = time.monotonic()

    def process(self, event: Event) -> None:
        kind = event.__class__
        if (price := _TOLLS.get(kind)) and not (isinstance(event, DataReceived) and event.data):
            self._toll(price)
        process: Any = getattr(self, "processors", {}).get(kind)
        if process is not None:  # h2 may learn new events; none of them needs an answer
            process(event)

    def register(self, stream: protocol.Stream) -> Callable[[], None]:
        release = super().register(stream)
        h2, stream_id = self.connection.h2, stream.id or 0

        def release_stream() -> None:
            release()
            h2.forget(stream_id)
            if self.connection.client_side:
                self.slots.release()
            if self.ending is not None and not self.streams:
                self.connection.close()

        return release_stream

    def end(self, termination: Termination) -> None:
        """The connection is over: ends every stream, saying whether its request can have reached the peer."""
        unsent = Termination(termination.reason, unprocessed=True)
        self.ending = self.ending or unsent
        self.connection.close()
        self.handler.close()
        self.slots.close()
        for stream in list(self.streams.values()):
            left = stream.offset < self.connection.outbox.handed
            stream.terminate(termination if left else unsent)
        self.connection.resume_writing()  # who waits to send would wait for ever
        del self.processors  # a table of bound methods, and so a cycle that would keep all this alive

    def process_remote_settings_changed(self, event: RemoteSettingsChanged) -> None:
        super().process_remote_settings_changed(event)
        self.settings_received = True
        self.slots.resize(self.connection.h2.remote_settings.max_concurrent_streams)

    def process_stream_reset(self, event: StreamReset) -> None:
        stream = self.streams.get(event.stream_id)
        if stream is None:
            self.on_late_reset(event.stream_id)
            return
        if not event.remote_reset:
            termination = Termination("the peer broke the rules of HTTP/2 on this stream", malformed=True)
        elif event.error_code == ErrorCodes.REFUSED_STREAM:
            termination = Termination("the peer refused the stream", unprocessed=True, refused=True)
        else:
            termination = Termination(f"the peer reset the stream ({_name(event.error_code)})")
        stream.terminate(termination)
        self.handler.cancel(stream)

    def process_connection_terminated(self, event: ConnectionTerminated) -> None:
        said = (event.additional_data or b"").decode("utf-8", "replace")
        said = f"{_name(event.error_code)}: {said}" if said else _name(event.error_code)
        ending = self.drain(f"the peer closes the connection ({said})")
        last = event.last_stream_id or 0
        for stream_id, stream in list(self.streams.items()):
            if self.connection.client_side and stream_id > last:
                stream.terminate(ending)

    def drain(self, reason: str) -> Termination:
        """Lets what is under way finish and sends new calls elsewhere."""
        self.ending = Termination(reason, unprocessed=True)
        self.slots.close()
        if not self.streams:
            self.connection.close()
        return self.ending

    def check_backlog(self) -> None:
        """A peer that asks and never reads the answers must not fill the memory of this side."""
        if self.connection.outbox.pending > _BACKLOG:
            raise FloodError("the peer does not read the answers to its frames")

    def _toll(self, price: float) -> None:
        now = time.monotonic()
        self._tolls = min(_TOLL_BURST, self._tolls + (now - self._tolled) * _TOLL_RATE) - price
        self._tolled = now
        if self._tolls < 0:
            raise FloodError("the peer floods the connection with frames that carry nothing")


_TOLLS: dict[type, float] = {DataReceived: 1.0, PingReceived: 1.0, RemoteSettingsChanged: 1.0, StreamReset: 4.0}
"""A call that is begun and reset costs more than a frame, so it may be had 250 times a second, 2,500 times in a row."""


def _name(code: ErrorCodes | int | None) -> str:
    return code.name if isinstance(code, ErrorCodes) else f"error {code}"
