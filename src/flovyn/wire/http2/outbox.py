"""Outgoing bytes of one connection and the only task that sends them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
from anyio.abc import SocketAttribute

from flovyn.wire.http2.flag import Flag

if TYPE_CHECKING:
    from collections.abc import Callable

    from anyio.abc import ByteStream

__all__ = ["HIGH_WATER", "Outbox"]

HIGH_WATER = 256 * 1024
"""Bytes queued above which senders of data wait. Control frames are queued regardless."""


class Outbox:
    """The part of asyncio's transport that grpclib uses.

    Nothing is ever sent from a calling task: cancelled in the middle of a send it would leave half a frame on the wire
    and the connection useless for everybody else. Frames of one turn of the event loop leave in one send.
    """

    def __init__(self, stream: ByteStream, *, pause: Callable[[], None], resume: Callable[[], None]) -> None:
        self._stream = stream
        self._pause = pause
        self._resume = resume
        self._chunks: list[bytes] = []
        self._wake = Flag()
        self._paused = False
        self._closing = False
        self.pending: int = 0
        self.queued: int = 0
        """Bytes ever written: the offset at which the next frame begins."""
        self.handed: int = 0
        """Bytes ever given to the operating system: what lies beyond certainly did not reach the peer."""

    def write(self, data: bytes) -> None:
        if self._closing or not data:
            return
        self._chunks.append(data)
        self.pending += len(data)
        self.queued += len(data)
        self._wake.set()
        if self.pending > HIGH_WATER and not self._paused:
            self._paused = True
            self._pause()

    def close(self) -> None:
        """Sends what is queued, then ends the connection."""
        self._closing = True
        self._wake.set()

    def is_closing(self) -> bool:
        return self._closing

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name == "peername":
            return self._stream.extra(SocketAttribute.remote_address, default)
        return default

    async def run(self) -> None:
        """Sends until closed; raises what the stream raises."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            if not self._chunks:
                return  # woken by `close`
            data = b"".join(self._chunks)
            self._chunks.clear()
            self.pending = 0
            self.handed += len(data)
            await self._stream.send(data)
            if self._closing:
                self._wake.set()
            if self._paused and self.pending <= HIGH_WATER:
                self._paused = False
                self._resume()

    async def discard(self) -> None:
        """Closes the stream at once."""
        await anyio.aclose_forcefully(self._stream)
