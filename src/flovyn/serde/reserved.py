"""The one JSON object that is not the value that it seems: ``{"$flovyn": {"v": 1, …}}``.

JSON has no room beside a value, so what stands in a payload's place without being a plain value is put into an object
whose only key is `$flovyn`: a payload that codecs have encoded, an outcome of a `ctx.run` that is no value. A user's
own value of that form goes into one too, under ``value``, and so can never be taken for either.
"""

from __future__ import annotations

import re
from typing import Any, Final, cast

import msgspec

__all__ = ["OPENING", "Body", "Encoded", "body_of", "escaped", "is_reserved", "wrap"]

_KEY: Final = "$flovyn"
_VERSION: Final = 1

OPENING: Final = b'{"$flovyn":'
"""What msgspec writes first of such an object; other writers may put white space between."""
_mentions_key: Final = re.compile(rb'"\$flovyn"').search


class Encoded(msgspec.Struct, frozen=True, omit_defaults=True):
    """A payload that codecs have encoded.

    Attributes:
        by: The codecs in the order in which they were applied: each the name under ``codec``, and what it wants to be
            told for decoding under keys of its own.
        data: What they have made of the payload.
    """

    by: list[dict[str, str]]
    data: bytes = b""


class Body(msgspec.Struct, frozen=True):
    """What stands behind the key; one of the fields beside the version is set."""

    v: int
    value: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    error: dict[str, Any] | None = None
    cancelled: bool = False
    deadline: str | None = None
    encoded: Encoded | None = None

    @property
    def is_known(self) -> bool:
        """Whether it is of a version that this SDK knows."""
        return self.v == _VERSION


class _Object(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    body: Body = msgspec.field(name=_KEY)


_decode: Final = msgspec.json.Decoder(_Object).decode
_encode: Final = msgspec.json.Encoder().encode


def wrap(**body: Any) -> bytes:
    """Write such an object.

    Example:
        >>> wrap(cancelled=True)
        b'{"$flovyn":{"v":1,"cancelled":true}}'
    """
    return _encode({_KEY: {"v": _VERSION, **body}})


def body_of(data: bytes) -> Body | None:
    """What stands in such an object; None for a plain value, which is most often told without decoding it."""
    if _mentions_key(data) is None:
        return None
    try:
        return _decode(data).body
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def escaped(data: bytes) -> bytes:
    """A value as msgspec has written it, put under ``value`` if it is an object whose only key is `$flovyn`."""
    return wrap(value=msgspec.Raw(data)) if data[:11] == OPENING and is_reserved(data) else data


def is_reserved(data: bytes) -> bool:
    """Whether JSON is an object whose only key is `$flovyn`."""
    if _mentions_key(data) is None:
        return False
    try:
        plain = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return isinstance(plain, dict) and list(cast("dict[str, Any]", plain)) == [_KEY]
