"""What can be chosen about a channel, and what it counts."""

from __future__ import annotations

from dataclasses import dataclass

from flovyn.errors import ConfigurationError

__all__ = ["ChannelOptions", "ChannelStatistics"]

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class ChannelOptions:
    """Limits of a channel, in bytes and seconds.

    Args:
        max_receive_size: Largest message accepted. A longer one is refused from its length prefix, before it is read.
        max_send_size: Largest message sent.
        stream_window: Bytes that the server may send ahead of the reader, for each call.
        connect_within: For how long a connection may take until the server has sent its HTTP/2 settings.
        keepalive_interval: Silence after which the server is pinged, also while no call is under way; ``math.inf``
            for never.
        keepalive_timeout: Silence after the ping after which the server is taken for dead, and its calls are lost.

    Raises:
        ConfigurationError: An option is out of range.

    Example:
        >>> ChannelOptions(max_receive_size=4 * 1024 * 1024).max_receive_size
        4194304
    """

    max_receive_size: int = 64 * MIB
    max_send_size: int = 64 * MIB
    stream_window: int = 4 * MIB
    connect_within: float = 20.0
    keepalive_interval: float = 30.0
    keepalive_timeout: float = 10.0

    def __post_init__(self) -> None:
        for name, low, high in (
            ("max_receive_size", 1, 2**32 - 1),
            ("max_send_size", 1, 2**32 - 1),
            ("stream_window", 65_535, 2**31 - 1),
            ("connect_within", 0.001, float("inf")),
            ("keepalive_interval", 0.001, float("inf")),
            ("keepalive_timeout", 0.001, float("inf")),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise ConfigurationError(f"{name} must be between {low:g} and {high:g}, not {value!r}")


@dataclass(frozen=True, slots=True)
class ChannelStatistics:
    """A snapshot of a channel. The first four are gauges: all zero when nothing is under way.

    Args:
        open_connections: Connections that exist now, also those that only finish their calls.
        dialing: Connections that are being made.
        active_calls: Calls that are under way.
        waiting_calls: Those of them that wait for the server to allow another stream.
        connections_opened: Connections made so far.
        dials_failed: Connections that could not be made.
        calls_started: Calls begun.
        calls_succeeded: Calls answered with a message and status OK.
        calls_failed: Calls that ended with an error, the server's or the connection's.
        calls_cancelled: Calls left before they ended.
        calls_repeated: Calls sent again because the server certainly had not acted on them.
    """

    open_connections: int
    dialing: int
    active_calls: int
    waiting_calls: int
    connections_opened: int
    dials_failed: int
    calls_started: int
    calls_succeeded: int
    calls_failed: int
    calls_cancelled: int
    calls_repeated: int
