"""gRPC's framing of messages, for both ends: five bytes before each one, and limits in both directions."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from flovyn.errors import MalformedMessage, PayloadTooLarge

if TYPE_CHECKING:
    from flovyn.wire.http2.stream import Stream

__all__ = ["frame", "receivable", "receive_frame", "sendable"]

_PREFIX = struct.Struct(">BI")


def sendable(data: bytes, limit: int, option: str) -> bytes:
    """A message that may be sent.

    Raises:
        PayloadTooLarge: It is over `limit`, which `option` raises.
    """
    if len(data) > limit:
        raise PayloadTooLarge(
            f"a message of {len(data)} bytes is over the limit of {limit} ({option})", size=len(data), limit=limit
        )
    return data


def receivable(size: int, limit: int, option: str) -> int:
    """The size of a message that may be received.

    Raises:
        PayloadTooLarge: It is over `limit`, which `option` raises.
    """
    if size > limit:
        raise PayloadTooLarge(
            f"the peer sends a message of {size} bytes, over the limit of {limit} ({option})", size=size, limit=limit
        )
    return size


def frame(data: bytes, limit: int, option: str) -> bytes:
    """A message as it goes into the stream.

    Raises:
        PayloadTooLarge: It is over `limit`, which `option` raises.
    """
    return _PREFIX.pack(0, len(data)) + sendable(data, limit, option)


async def receive_frame(stream: Stream, limit: int, option: str) -> bytes | None:
    """The next message, or None after the last one.

    Raises:
        PayloadTooLarge: Its prefix announces more than `limit`, which `option` raises; nothing of it is read.
        MalformedMessage: It is compressed, which was not agreed, or it breaks off.
    """
    prefix = await stream.recv_data(_PREFIX.size)
    if not prefix:
        return None
    compressed, size = _PREFIX.unpack(prefix)
    if compressed:
        raise MalformedMessage("the peer sent a compressed message, which was not agreed")
    return await stream.recv_data(receivable(size, limit, option)) if size else b""
