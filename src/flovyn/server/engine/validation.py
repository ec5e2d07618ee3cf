"""Refusals of values that cannot be meant, each naming the field and the value."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from flovyn.errors import InvalidArgument
from flovyn.server import limits

__all__ = ["given", "name", "queue_name", "shown", "text", "uuid", "within"]

_SHOWN_LENGTH: Final = 80


def given(value: str, field: str) -> str:
    """A text that must be there.

    Raises:
        InvalidArgument: It is empty.
    """
    if not value:
        raise InvalidArgument(f"{field} is empty")
    return value


def name(value: str, field: str) -> str:
    """A text that must be there and short.

    Raises:
        InvalidArgument: It is empty or too long.
    """
    return text(given(value, field), field)


def text(value: str, field: str, limit: int = limits.NAME_LENGTH) -> str:
    """A text that must be short.

    Raises:
        InvalidArgument: It is too long.
    """
    if len(value) > limit:
        raise InvalidArgument(f"{field} has {len(value)} characters; at most {limit} are allowed")
    return value


def queue_name(value: str, field: str, default: str = limits.DEFAULT_QUEUE) -> str:
    """The one spelling of a queue's name.

    Raises:
        InvalidArgument: It is too long.
    """
    return text(value, field, limits.QUEUE_LENGTH) or default


def shown(value: str) -> str:
    """A text from outside as an error message shows it: quoted, and short, for the message travels in a header."""
    return repr(value if len(value) <= _SHOWN_LENGTH else value[:_SHOWN_LENGTH] + "…")


def uuid(value: str, field: str) -> str:
    """The canonical spelling of a UUID.

    Raises:
        InvalidArgument: It is none.
    """
    try:
        return str(UUID(value))
    except ValueError:
        raise InvalidArgument(f"{field} {shown(value)} is not a UUID") from None


def within(value: int, field: str, low: int, high: int) -> int:
    """A number between two bounds, inclusive.

    Raises:
        InvalidArgument: It is not.
    """
    if not low <= value <= high:
        raise InvalidArgument(f"{field} is {value}; it must be between {low} and {high}")
    return value
