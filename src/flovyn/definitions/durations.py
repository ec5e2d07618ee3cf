"""Times as the wire has them: whole numbers, rounded up."""

from __future__ import annotations

from datetime import timedelta
from typing import Final, overload

__all__ = ["whole_milliseconds", "whole_seconds"]

_MILLISECOND: Final = timedelta(milliseconds=1)
_SECOND: Final = timedelta(seconds=1)


@overload
def whole_milliseconds(time: timedelta) -> int: ...


@overload
def whole_milliseconds(time: timedelta | None) -> int | None: ...


def whole_milliseconds(time: timedelta | None) -> int | None:
    """A time in milliseconds; None stays None. Rounded up: no limit comes before its time.

    Example:
        >>> whole_milliseconds(timedelta(microseconds=1)), whole_milliseconds(None)
        (1, None)
    """
    return None if time is None else -(-time // _MILLISECOND)


@overload
def whole_seconds(time: timedelta) -> int: ...


@overload
def whole_seconds(time: timedelta | None) -> int | None: ...


def whole_seconds(time: timedelta | None) -> int | None:
    """Likewise, in seconds: no key dies before its time."""
    return None if time is None else -(-time // _SECOND)
