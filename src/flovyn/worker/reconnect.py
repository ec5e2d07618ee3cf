"""When a worker goes back to a server that went away."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from flovyn.definitions.backoff import grown
from flovyn.errors import ConfigurationError, UsageError

__all__ = ["ExponentialReconnect", "FixedReconnect", "NoReconnect", "Outage", "ReconnectStrategy", "next_wait"]


@dataclass(frozen=True, slots=True)
class Outage:
    """What a strategy decides by.

    Attributes:
        attempt: How many sessions have failed in a row, from 1. A session that held for 5 seconds ends the row.
        error: How the last one failed.
        silence: Seconds since the server was last heard.
    """

    attempt: int
    error: Exception
    silence: float


ReconnectStrategy: TypeAlias = Callable[[Outage], float | None]
"""Says how many seconds to wait before the next attempt; None to give up, which ends the worker with `Outage.error`."""


@dataclass(frozen=True, slots=True)
class NoReconnect:
    """Gives up at once: the worker ends with the error when it cannot reach the server, or loses it.

    Example:
        >>> from flovyn import ServerUnavailable
        >>> NoReconnect()(Outage(1, ServerUnavailable("away"), 0.0)) is None
        True
    """

    def __call__(self, _outage: Outage, /) -> None:
        return None


@dataclass(frozen=True, slots=True)
class FixedReconnect:
    """The same wait each time.

    Args:
        delay: Seconds.
        max_attempts: How often in a row; None for without end.

    Raises:
        ConfigurationError: The numbers make no strategy.

    Example:
        >>> from flovyn import ServerUnavailable
        >>> twice = FixedReconnect(0.5, max_attempts=2)
        >>> [twice(Outage(attempt, ServerUnavailable("away"), 0.0)) for attempt in (1, 2, 3)]
        [0.5, 0.5, None]
    """

    delay: float
    max_attempts: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.delay < math.inf:
            raise ConfigurationError(f"a reconnection needs 0 <= delay < inf, not {self.delay}")
        _check_attempts(self.max_attempts)

    def __call__(self, outage: Outage, /) -> float | None:
        return None if _used_up(outage, self.max_attempts) else self.delay


@dataclass(frozen=True, slots=True)
class ExponentialReconnect:
    """A wait that grows, and is left to chance in part.

    Args:
        initial: The longest first wait, in seconds.
        maximum: The longest wait of all, in seconds.
        factor: How much longer each wait may be than the one before.
        jitter: The share of each wait, from 0 to 1, that is left to chance: what lost its server together must not come
            back together.
        max_attempts: How often in a row; None for without end.

    Raises:
        ConfigurationError: The numbers make no strategy.

    Example:
        >>> from flovyn import ServerUnavailable
        >>> growing = ExponentialReconnect(initial=1, maximum=60, jitter=0)
        >>> [growing(Outage(attempt, ServerUnavailable("away"), 0.0)) for attempt in (1, 2, 3, 1000)]
        [1.0, 2.0, 4.0, 60.0]
    """

    initial: float = 0.05
    maximum: float = 5.0
    factor: float = 2.0
    jitter: float = 0.5
    max_attempts: int | None = None

    def __post_init__(self) -> None:
        if not 0 < self.initial <= self.maximum < math.inf:
            raise ConfigurationError(
                f"a reconnection needs 0 < initial <= maximum < inf, not {self.initial} and {self.maximum}"
            )
        if not 1 <= self.factor < math.inf:
            raise ConfigurationError(f"a reconnection needs a factor of at least 1, not {self.factor}")
        if not 0 <= self.jitter <= 1:
            raise ConfigurationError(f"jitter is a share of the wait from 0 to 1, not {self.jitter}")
        _check_attempts(self.max_attempts)

    def __call__(self, outage: Outage, /) -> float | None:
        if _used_up(outage, self.max_attempts):
            return None
        first, longest = float(self.initial), float(self.maximum)
        return grown(outage.attempt, first=first, factor=self.factor, longest=longest, jitter=self.jitter)


def next_wait(strategy: ReconnectStrategy, outage: Outage) -> float:
    """What a strategy says.

    Raises:
        UsageError: It is no number of seconds.
        Exception: The error of the outage, as the strategy gives up.
    """
    wait = strategy(outage)
    if wait is None:
        raise outage.error
    if not _is_wait(wait):
        raise UsageError(f"reconnect={strategy!r} returned {wait!r}: return seconds to wait, or None to give up")
    return wait


def _is_wait(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf


def _used_up(outage: Outage, max_attempts: int | None) -> bool:
    return max_attempts is not None and outage.attempt > max_attempts


def _check_attempts(max_attempts: int | None) -> None:
    if max_attempts is not None and not max_attempts >= 1:
        raise ConfigurationError(f"max_attempts must be at least 1, not {max_attempts}; NoReconnect() makes none")
