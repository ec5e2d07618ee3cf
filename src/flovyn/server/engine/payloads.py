"""JSON that comes from outside: checked once, then carried as it is."""

from __future__ import annotations

from typing import Final

import msgspec

from flovyn.errors import InvalidArgument

__all__ = ["NULL", "checked", "is_final_error"]

NULL: Final = msgspec.Raw(b"null")

_decode: Final = msgspec.json.Decoder[object]().decode
_ENVELOPES: Final = ("[flovyn:error ", "[flovyn:encoded ")
"""What the last line of an error text begins with, if our SDK wrote it: in plain text, or encoded by codecs."""


class _Envelope(msgspec.Struct):
    retryable: bool = True


_decode_envelope: Final = msgspec.json.Decoder(_Envelope).decode


def checked(data: bytes, field: str) -> msgspec.Raw:
    """The payload, ready to be written into an event; no bytes at all mean null.

    Raises:
        InvalidArgument: It is not JSON; every history with it would be unreadable for good.
    """
    if not data:
        return NULL
    try:
        _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidArgument(f"{field} is not JSON: {error}") from None
    return msgspec.Raw(data)


def is_final_error(text: str) -> bool:
    """Whether an error text ends in our envelope, and that says that no further attempt can help."""
    last = text[text.rfind("\n") + 1 :]
    if not (last.startswith(_ENVELOPES) and last.endswith("]")):
        return False
    try:
        return not _decode_envelope(last[last.index(" ") : -1]).retryable
    except (msgspec.DecodeError, RecursionError):
        return False
