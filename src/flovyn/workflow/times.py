"""Times as arguments, checked."""

from __future__ import annotations

import math
from datetime import datetime, timedelta

from flovyn.errors import UsageError

__all__ = ["instant", "length"]


def length(what: str, value: object) -> float:
    """A length of time in seconds.

    Args:
        what: The argument, for the message.
        value: Seconds, or a timedelta.

    Raises:
        UsageError: It is negative, not a number, or no time at all.
    """
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or math.isnan(seconds) or seconds < 0:
        raise UsageError(f"{what}={value!r} has to be a timedelta or a number of seconds, and not negative")
    return seconds


def instant(what: str, value: object) -> float:
    """A point in time in Unix seconds.

    Args:
        what: The argument, for the message.
        value: A datetime with a time zone.

    Raises:
        UsageError: It has none, or is no datetime.
    """
    if not isinstance(value, datetime):
        raise UsageError(f"{what}={value!r} has to be a datetime with a time zone")
    if value.utcoffset() is None:
        raise UsageError(
            f"{what}={value!r} has no time zone, so nobody knows which moment is meant: "
            "write datetime(..., tzinfo=UTC), or start from ctx.current_time()"
        )
    return value.timestamp()
