"""Waits that grow: what every back-off is made of."""

from __future__ import annotations

import random

__all__ = ["grown"]


def grown(attempt: int, *, first: float, factor: float, longest: float, jitter: float) -> float:
    """How long to wait after attempt number `attempt`, counted from 1, has failed.

    Args:
        attempt: Which one.
        first: The wait after the first, in seconds.
        factor: How much longer each further wait is; 1 at least.
        longest: The longest wait, in seconds.
        jitter: The share of the wait, from 0 to 1, that is left to chance: what failed together must not come back
            together.

    Example:
        >>> [grown(attempt, first=1.0, factor=2.0, longest=60.0, jitter=0) for attempt in (1, 2, 3, 10_000)]
        [1.0, 2.0, 4.0, 60.0]
    """
    wait = first
    # Not `factor ** attempt`: an outage of a night has an attempt whose power no float can hold.
    while attempt > 1 and 0 < wait < longest and factor > 1:
        wait *= factor
        attempt -= 1
    return min(wait, longest) * (1 - jitter * random.random())  # noqa: S311 - a wait is no secret
