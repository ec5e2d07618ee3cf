"""Received bytes of one stream, handed back to flow control as they are consumed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flovyn.wire.http2.flag import Flag

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ReceiveBuffer"]


class ReceiveBuffer:
    """Takes the place of grpclib's buffer, which sits on an asyncio queue.

    The peer gets credit for what has been consumed, and for more only while a message that does not fit the window is
    being waited for. So what is held is at most one window beyond the message that is being read.
    """

    __slots__ = ("_acknowledge", "_data", "_ended", "_ready", "_unacknowledged")

    def __init__(self, acknowledge: Callable[[int], None]) -> None:
        self._acknowledge = acknowledge
        self._data = bytearray()
        self._unacknowledged = 0
        self._ended = False
        self._ready = Flag()

    def __len__(self) -> int:
        return len(self._data)

    def add(self, data: bytes, ack_size: int) -> None:
        self._data += data
        self._unacknowledged += ack_size  # padding counts for flow control
        self._ready.set()

    def eof(self) -> None:
        """Nothing follows: the peer has ended the stream, or it is lost."""
        self._ended = True
        self._ready.set()

    async def read(self, size: int) -> bytes:
        """The next `size` bytes, or fewer if the stream ends before."""
        while len(self._data) < size and not self._ended:
            self._credit(self._unacknowledged)
            self._ready.clear()
            await self._ready.wait()
        with memoryview(self._data) as view:
            taken = bytes(view[:size])
        del self._data[:size]
        self._credit(self._unacknowledged - len(self._data))
        return taken

    def unacked_size(self) -> int:
        """Takes over what is still owed to flow control, for a stream that will not be read any further."""
        owed, self._unacknowledged = self._unacknowledged, 0
        return owed

    def _credit(self, size: int) -> None:
        if size > 0:
            self._unacknowledged -= size
            self._acknowledge(size)
