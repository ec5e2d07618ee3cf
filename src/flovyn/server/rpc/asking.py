"""What a caller asks for by metadata, beside what the platform's messages can say."""

from __future__ import annotations

from typing import Final

from flovyn.errors import InvalidArgument

__all__ = ["MORE_METADATA", "number"]

MORE_METADATA: Final = "flovyn-more"
"""The metadata by which a poll is asked for so many further pieces of work, if there are."""


def number(name: str, value: str) -> int:
    """A number that is given as metadata.

    Raises:
        InvalidArgument: It is none.
    """
    if value.isdecimal() and value.isascii() and len(value) < 10:
        return int(value)
    raise InvalidArgument(f"{name} is a number, not {value!r}")
