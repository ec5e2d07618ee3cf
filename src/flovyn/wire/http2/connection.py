"""One HTTP/2 connection as grpclib sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from grpclib import protocol
from h2.exceptions import ProtocolError

from flovyn.wire.http2.flag import Flag
from flovyn.wire.http2.outbox import Outbox
from flovyn.wire.http2.stream import Stream

if TYPE_CHECKING:
    from anyio.abc import ByteStream
    from grpclib.utils import Wrapper

    from flovyn.wire.http2.state import HttpState

__all__ = ["Connection"]


class Connection(protocol.Connection):
    """grpclib's connection over an `Outbox`."""

    def __init__(self, h2: HttpState, byte_stream: ByteStream, *, client_side: bool) -> None:
        # Not calling the base: it creates asyncio events.
        self.h2: HttpState = h2
        self._connection = h2
        self.outbox: Outbox = Outbox(byte_stream, pause=self.pause_writing, resume=self.resume_writing)
        self._transport: Any = self.outbox
        self.client_side = client_side
        self.write_ready: Any = Flag(up=True)
        self.stream_close_waiter: Any = Flag()

    def ack(self, stream_id: int, size: int) -> None:
        if not size:
            return
        try:
            self.h2.acknowledge_received_data(size, stream_id)
        except ProtocolError:
            return  # the connection is closed already; there is nobody to give credit to
        self.flush()

    def create_stream(self, *, stream_id: int | None = None, wrapper: Wrapper | None = None) -> Stream:  # noqa: ARG002
        return Stream(self, stream_id=stream_id)

    def close(self) -> None:
        self.outbox.close()

    def ping_ack_process(self) -> None:
        """Any received byte proves that the peer lives, so an answered ping needs no note of its own."""
