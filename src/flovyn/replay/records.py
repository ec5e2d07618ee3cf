"""How the end of a `ctx.run` is written down: a value as the payload that it is, anything else as no value can be.

A payload is never mistaken for anything else, since `serde` writes no value as an object whose only key is `$flovyn`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never

import msgspec

from flovyn.errors import MalformedMessage
from flovyn.serde.envelope import ErrorInfo
from flovyn.serde.reserved import body_of, wrap

__all__ = ["Answer", "Cancelled", "Deadline", "Failure", "Value", "read_answer", "write_answer"]


@dataclass(frozen=True, slots=True)
class Value:
    """The body returned; `data` is the payload of what it returned."""

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


def write_answer(answer: Answer) -> bytes:
    """The JSON that stands in history for an answer."""
    match answer:
        case Value(data):
            return data
        case Failure(error):
            return wrap(error=error.as_data())
        case Cancelled():
            return wrap(cancelled=True)
        case Deadline(timer_id):
            return wrap(deadline=timer_id)
        case _:
            assert_never(answer)


def read_answer(data: bytes | msgspec.Raw) -> Answer:
    """The reverse of `write_answer`.

    Raises:
        MalformedMessage: The answer is of a version or a form that this SDK does not know.
    """
    raw = bytes(data)
    body = body_of(raw)
    if body is None:
        return Value(raw)
    if body.is_known:
        if body.error is not None:
            return Failure(ErrorInfo.from_data(body.error))
        if body.deadline is not None:
            return Deadline(body.deadline)
        if body.cancelled:
            return Cancelled()
        if body.encoded is not None or not isinstance(body.value, msgspec.UnsetType):
            return Value(raw)  # whoever reads the value knows what that is
    raise MalformedMessage(f"a recorded operation is of an unknown form: {raw!r}; was it written by a newer SDK?")
