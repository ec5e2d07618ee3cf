"""What a server allows its clients."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["AcceptorOptions"]

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class AcceptorOptions:
    """Limits of each connection, in bytes and seconds.

    Args:
        max_receive_size: Largest message accepted. A longer one is refused from its length prefix, before it is read.
        max_send_size: Largest message sent.
        max_streams: Calls that one connection may have under way. A worker holds few long polls, a busy client some
            hundreds of calls; handlers that are still cleaning up after a reset count too, so a flood of calls that
            are reset at once gains nothing.
        stream_window: Bytes that a client may send ahead of the handler, for each call.
        handshake_within: For how long a new connection may stay silent.
        keepalive_interval: Silence after which a client is pinged; ``math.inf`` for never.
        keepalive_timeout: Silence after the ping after which a client is taken for gone.
    """

    max_receive_size: int = 64 * MIB
    max_send_size: int = 64 * MIB
    max_streams: int = 1_000
    stream_window: int = 1 * MIB
    handshake_within: float = 10.0
    keepalive_interval: float = 30.0
    keepalive_timeout: float = 10.0
