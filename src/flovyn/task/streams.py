"""The events of a task's live stream, as the platform writes them: their kind, and their payload as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flovyn import serde
from flovyn.errors import UsageError

if TYPE_CHECKING:
    from flovyn.task.desk import StreamKind

__all__ = ["data_event", "error_event", "fraction_of", "progress_event", "token_event"]


def token_event(text: str) -> tuple[StreamKind, str]:
    """A piece of text that is being written.

    Example:
        >>> token_event("Hel")[1]
        '{"type":"token","text":"Hel"}'
    """
    return "token", _json({"type": "token", "text": text})


def progress_event(fraction: float, details: str | None) -> tuple[StreamKind, str]:
    """How far the task is."""
    payload: dict[str, Any] = {"type": "progress", "progress": fraction_of(fraction)}
    return "progress", _json(payload if details is None else {**payload, "details": details})


def data_event(data: object) -> tuple[StreamKind, str]:
    """Whatever the body likes to show; raises `PayloadError` for what cannot be written as JSON."""
    return "data", _json({"type": "data", "data": data})


def error_event(message: str, code: str | None) -> tuple[StreamKind, str]:
    """Something that went wrong and that the task survives."""
    payload = {"type": "error", "message": message}
    return "error", _json(payload if code is None else {**payload, "code": code})


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
