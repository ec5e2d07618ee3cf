"""How the end of a `ctx.run` is written down: a plain value as plain JSON, anything else in an envelope.

A value that is itself an object whose only key is `$flovyn` is put into the envelope too, so that no value of a user
can be taken for one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, assert_never, cast

import msgspec

from flovyn.errors import MalformedMessage
from flovyn.serde.envelope import ErrorInfo

__all__ = ["Answer", "Cancelled", "Deadline", "Failure", "Value", "read_answer", "write_answer"]

_KEY: Final = "$flovyn"
_QUOTED_KEY: Final = b'"$flovyn"'
_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class Value:
    """The body returned; `data` is the JSON of what it returned."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Failure:
    """The body raised."""

    error: ErrorInfo


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The scope around the call was cancelled before the body ended."""


@dataclass(frozen=True, slots=True)
class Deadline:
    """The deadline of a scope around the call passed before the body ended; names the timer that guarded it."""

    timer_id: str


Answer = Value | Failure | Cancelled | Deadline


class _Body(msgspec.Struct, frozen=True):
    v: int
    value: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    error: dict[str, Any] | None = None
    cancelled: bool = False
    deadline: str | None = None


class _Envelope(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    body: _Body = msgspec.field(name=_KEY)


_envelopes = msgspec.json.Decoder(_Envelope)


def write_answer(answer: Answer) -> bytes:
    """The JSON that stands in history for an answer."""
    body: dict[str, Any]
    match answer:
        case Value(data):
            if not _is_ambiguous(data):
                return data
            body = {"value": msgspec.Raw(data)}
        case Failure(error):
            body = {"error": error.as_data()}
        case Cancelled():
            body = {"cancelled": True}
        case Deadline(timer_id):
            body = {"deadline": timer_id}
        case _:
            assert_never(answer)
    return msgspec.json.encode({_KEY: {"v": _VERSION, **body}})


def _is_ambiguous(data: bytes) -> bool:
    if _QUOTED_KEY not in data:
        return False
    plain = msgspec.json.decode(data)
    return isinstance(plain, dict) and list(cast("dict[str, Any]", plain)) == [_KEY]


def read_answer(data: bytes | msgspec.Raw) -> Answer:
    """The reverse of `write_answer`.

    Raises:
        MalformedMessage: The envelope is of a version that this SDK does not know.
    """
    raw = bytes(data)
    body = _body(raw)
    if body is None:
        return Value(raw)
    if body.v == _VERSION:
        if not isinstance(body.value, msgspec.UnsetType):
            return Value(bytes(body.value))
        if body.error is not None:
            return Failure(ErrorInfo.from_data(body.error))
        if body.deadline is not None:
            return Deadline(body.deadline)
        if body.cancelled:
            return Cancelled()
    raise MalformedMessage(f"a recorded operation is of an unknown form: {raw!r}; was it written by a newer SDK?")


def _body(data: bytes) -> _Body | None:
    # Only an object can be mistaken, and only one that names the key: most values are never looked into.
    if _QUOTED_KEY not in data:
        return None
    try:
        return _envelopes.decode(data).body
    except msgspec.DecodeError:
        return None
