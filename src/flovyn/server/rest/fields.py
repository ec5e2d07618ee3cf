"""Fields that several bodies have: their types, with the bounds that the OpenAPI document tells too."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from flovyn.errors import InvalidArgument
from flovyn.server import limits
from flovyn.server.engine import validation
from flovyn.server.engine.payloads import NULL
from flovyn.server.store.listing import Window

__all__ = [
    "Key",
    "Limit",
    "Metadata",
    "Name",
    "Offset",
    "Priority",
    "Queue",
    "Ttl",
    "Version",
    "Windowed",
    "json_or_none",
    "moment",
    "null",
    "ttl_seconds",
]

_LONGEST_PRIORITY_S: Final = 2**31 - 1

Name = Annotated[str, Meta(min_length=1, max_length=limits.NAME_LENGTH)]
Version = Annotated[str, Meta(max_length=limits.NAME_LENGTH)]
Queue = Annotated[str, Meta(max_length=limits.QUEUE_LENGTH, description='Empty means "default".')]
Key = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=limits.NAME_LENGTH,
        description="Repeating the request with the same key finds what the first one made.",
    ),
]
Ttl = Annotated[
    str,
    Meta(
        pattern=r"^[0-9]{1,7}[smhd]$",
        description='How long the key counts: a number with "s", "m", "h" or "d" behind it, from 1s to 30d; 1d if not '
        "given.",
        examples=["7d"],
    ),
]
Priority = Annotated[
    int,
    Meta(
        ge=-_LONGEST_PRIORITY_S,
        le=_LONGEST_PRIORITY_S,
        description="By how many seconds it stands earlier in its queue than its age says.",
    ),
]
Metadata = Annotated[dict[str, str], Meta(description="Whatever is to be remembered with it.")]
Limit = Annotated[int, Meta(ge=1, le=limits.PAGE_MAX, description="The most entries.")]
Offset = Annotated[int, Meta(ge=0, le=2**62, description="How many entries to leave out.")]

_SECONDS_OF: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


class Windowed(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Which part of a list is wanted."""

    limit: Limit = limits.PAGE_DEFAULT
    offset: Offset = 0

    @property
    def window(self) -> Window:
        """The same, for the store."""
        return Window(self.limit, self.offset)


def moment(at_ms: int) -> datetime:
    """Epoch milliseconds as people write them."""
    return datetime.fromtimestamp(at_ms / 1000, UTC)


def ttl_seconds(ttl: str | None) -> int | None:
    """How many seconds a text such as ``2h`` stands for; the engine says whether they are too many.

    Raises:
        InvalidArgument: A line ends behind it, which is all that the pattern lets through.
    """
    if ttl is None:
        return None
    if ttl.endswith("\n"):
        raise InvalidArgument(f"idempotencyKeyTTL {validation.shown(ttl)} has a line end in it")
    return int(ttl[:-1]) * _SECONDS_OF[ttl[-1]]


def null() -> msgspec.Raw:
    """The payload of a body that has none."""
    return NULL


def json_or_none(data: bytes | None) -> Any:
    """What was stored, as it is, if it is JSON at all: of some things workers may say what they like."""
    if not data:
        return None
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
