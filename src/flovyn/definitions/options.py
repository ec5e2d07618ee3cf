"""Checks of the options that definitions share; each error names the option, its value and the remedy."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Literal, TypeAlias, get_args

from flovyn.definitions.limits import LARGEST_PRIORITY, LONGEST_KEY, LONGEST_TTL, SHORTEST_TTL
from flovyn.errors import DefinitionError

__all__ = ["OnCancel", "check_key", "check_on_cancel", "check_text", "duration", "signed_duration"]

OnCancel: TypeAlias = Literal["request", "wait", "abandon"]
"""What becomes of a task or a child whose scope is cancelled: `request` asks it to end and goes on at once, `wait` asks
and stays until it has ended, `abandon` leaves it alone."""


def duration(where: str, option: str, value: timedelta | float | None) -> timedelta | None:
    """A time that has to be positive, in seconds or as a timedelta; None stays None.

    Raises:
        DefinitionError: It is not.
    """
    if value is None:
        return None
    seconds = _seconds(where, option, value)
    if not (seconds > 0 and math.isfinite(seconds)):
        msg = f"{where}: {option}={value!r} has to be a positive time; None is no limit"
        raise DefinitionError(msg)
    return value if isinstance(value, timedelta) else timedelta(seconds=seconds)


def signed_duration(where: str, option: str, value: timedelta | float | None) -> timedelta | None:
    """A time that may be negative, in seconds or as a timedelta; None stays None.

    Raises:
        DefinitionError: It is not finite, or does not fit the wire.
    """
    if value is None:
        return None
    seconds = _seconds(where, option, value)
    if not abs(seconds) <= LARGEST_PRIORITY.total_seconds():
        msg = f"{where}: {option}={value!r} has to be a number of seconds within {LARGEST_PRIORITY.total_seconds():.0f}"
        raise DefinitionError(msg)
    return timedelta(seconds=seconds)


def check_key(where: str, key: str | None, ttl: timedelta | None) -> None:
    """Refuse an idempotency key, or a time to live for one, that no server takes.

    Raises:
        DefinitionError: The key is empty or too long, or its time to live is out of range or without a key.
    """
    if key is not None and not 0 < len(key) <= LONGEST_KEY:
        msg = f"{where}: an idempotency_key has 1 to {LONGEST_KEY} characters, not {len(key)}"
        raise DefinitionError(msg)
    if ttl is None:
        return
    if key is None:
        msg = f"{where}: idempotency_key_ttl={ttl!r} means nothing without an idempotency_key"
        raise DefinitionError(msg)
    if not SHORTEST_TTL <= ttl <= LONGEST_TTL:
        msg = f"{where}: idempotency_key_ttl={ttl!r} has to be from {SHORTEST_TTL} to {LONGEST_TTL}"
        raise DefinitionError(msg)


def check_text(where: str, option: str, value: object) -> None:
    """Refuse an empty text where leaving the option out is what is meant.

    Raises:
        DefinitionError: It is empty, or no text.
    """
    if value is not None and (not isinstance(value, str) or not value.strip()):  # pyright: ignore[reportUnnecessaryIsInstance]
        msg = f"{where}: {option}={value!r} has to be a text that is not empty; leave it out for the default"
        raise DefinitionError(msg)


def check_on_cancel(where: str, value: str | None) -> None:
    """Refuse anything but the three words.

    Raises:
        DefinitionError: It is another one.
    """
    if value is not None and value not in get_args(OnCancel):
        msg = f'{where}: on_cancel={value!r} has to be "request", "wait" or "abandon"'
        raise DefinitionError(msg)


def _seconds(where: str, option: str, value: object) -> float:
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, int | float):
        msg = f"{where}: {option}={value!r} has to be a number of seconds or a timedelta"
        raise DefinitionError(msg)
    return value
