"""The events of a task's live stream, as the platform writes them."""

from __future__ import annotations

from typing import Any, Final

from flovyn import serde
from flovyn.errors import UsageError
from flovyn.wire.messages.flovyn import v1 as pb

__all__ = ["StreamEvent", "data_event", "error_event", "fraction_of", "progress_event", "token_event"]

StreamEvent = tuple[pb.StreamEventType, str]
"""The type of an event, and its payload as JSON."""

_TOKEN: Final = pb.StreamEventType.TOKEN
_PROGRESS: Final = pb.StreamEventType.PROGRESS
_DATA: Final = pb.StreamEventType.DATA
_ERROR: Final = pb.StreamEventType.ERROR


def token_event(text: str) -> StreamEvent:
    """A piece of text that is being written.

    Example:
        >>> token_event("Hel")[1]
        '{"type":"token","text":"Hel"}'
    """
    return _TOKEN, _json({"type": "token", "text": text})


def progress_event(fraction: float, details: str | None) -> StreamEvent:
    """How far the task is."""
    payload: dict[str, Any] = {"type": "progress", "progress": fraction_of(fraction)}
    return _PROGRESS, _json(payload if details is None else {**payload, "details": details})


def data_event(data: object) -> StreamEvent:
    """Whatever the body likes to show; raises `PayloadError` for what cannot be written as JSON."""
    return _DATA, _json({"type": "data", "data": data})


def error_event(message: str, code: str | None) -> StreamEvent:
    """Something that went wrong and that the task survives."""
    payload = {"type": "error", "message": message}
    return _ERROR, _json(payload if code is None else {**payload, "code": code})


def fraction_of(value: float) -> float:
    """A share of the work, as a float.

    Raises:
        UsageError: It is no number from 0 to 1.
    """
    if not _is_fraction(value):
        raise UsageError(f"progress is a number from 0 to 1, not {value!r}")
    return float(value)


def _is_fraction(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1  # so no NaN


def _json(payload: dict[str, Any]) -> str:
    return serde.encode(payload).decode()
