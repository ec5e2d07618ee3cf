"""How often something is tried again, and how long is waited in between."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import timedelta
from typing import cast

from flovyn.definitions.backoff import grown
from flovyn.errors import ConfigurationError, NonRetryableError
from flovyn.serde.envelope import members_of

__all__ = ["RetryPolicy", "is_final"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often something that fails is tried again.

    The wait after the first failure is `initial_interval`; each further one is `multiplier` times as long, up to
    `max_interval`. Times are in seconds or timedeltas.

    Args:
        max_attempts: How many attempts there are in all, the first one included.
        initial_interval: The wait after the first attempt.
        multiplier: How much longer each further wait is.
        max_interval: The longest wait.
        jitter: The share of each wait, from 0 to 1, that is left to chance: with 0.1 a wait of 10 s is one of 9 s to
            10 s, so that what failed together does not come back together.
        non_retryable: Exceptions after which no attempt follows, whatever is left. `NonRetryableError` always is one.

    Raises:
        ConfigurationError: The numbers make no policy.

    Example:
        >>> policy = RetryPolicy(max_attempts=5, initial_interval=1, jitter=0, non_retryable=(PermissionError,))
        >>> [policy.delay(attempt) for attempt in (1, 2, 3, 4)]
        [1.0, 2.0, 4.0, 8.0]
        >>> policy.allows(4, TimeoutError()), policy.allows(5, TimeoutError()), policy.allows(1, PermissionError())
        (True, False, False)
    """

    max_attempts: int = 3
    initial_interval: timedelta | float = 1.0
    multiplier: float = 2.0
    max_interval: timedelta | float = 60.0
    jitter: float = 0.1
    non_retryable: tuple[type[BaseException], ...] = ()

    def __post_init__(self) -> None:
        if not self.max_attempts >= 1:
            raise ConfigurationError(f"max_attempts must be at least 1, not {self.max_attempts}")
        if not self.multiplier >= 1:
            raise ConfigurationError(f"multiplier must be at least 1, not {self.multiplier}")
        if not 0 <= self.jitter <= 1:
            raise ConfigurationError(f"jitter is a share of the wait from 0 to 1, not {self.jitter}")
        first, longest = _seconds(self.initial_interval), _seconds(self.max_interval)
        if not 0 <= first <= longest < math.inf:
            raise ConfigurationError(
                f"a policy needs 0 <= initial_interval <= max_interval, both finite, not {first} and {longest}"
            )
        _check_classes(self.non_retryable)

    def delay(self, attempt: int) -> float:
        """Seconds to wait after attempt number `attempt` has failed, counted from 1."""
        return grown(
            attempt,
            first=_seconds(self.initial_interval),
            factor=self.multiplier,
            longest=_seconds(self.max_interval),
            jitter=self.jitter,
        )

    def allows(self, attempt: int, error: BaseException) -> bool:
        """Whether another attempt follows attempt number `attempt`, counted from 1, that failed with an error."""
        return attempt < self.max_attempts and not is_final(error, self.non_retryable)


def is_final(error: BaseException, non_retryable: tuple[type[BaseException], ...] = ()) -> bool:
    """Whether no further attempt can help after an error; of a group, one such member is enough."""
    return isinstance(error, (NonRetryableError, *non_retryable)) or any(
        is_final(member, non_retryable) for member in members_of(error)
    )


def _seconds(value: timedelta | float) -> float:
    return value.total_seconds() if isinstance(value, timedelta) else float(value)


def _check_classes(classes: object) -> None:
    """Refuse what no annotation can keep a caller from: one class where a tuple belongs, or names of classes."""
    if not isinstance(classes, tuple):
        raise ConfigurationError(f"non_retryable takes a tuple of exception classes, not {classes!r}")
    for error in cast("tuple[object, ...]", classes):
        if not (isinstance(error, type) and issubclass(error, BaseException)):
            raise ConfigurationError(f"non_retryable takes exception classes, not {error!r}")
