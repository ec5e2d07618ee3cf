"""Errors as text: a line for people, and behind it one line for the other side's SDK.

The wire knows an error only as a string. Ours ends in a last line ``[flovyn:error {json}]`` that carries what a string
loses: type, cause chain, group members, whether a retry can help, and the remote traceback. A reader that does not
know the line shows it as part of the text; a text without it is read as a bare message.
"""

from __future__ import annotations

import traceback
from dataclasses import dataclass, field
from typing import Any, cast

import msgspec

__all__ = ["ErrorInfo", "format_error", "members_of", "parse_error"]

_OPENING = "[flovyn:error "
_CLOSING = "]"

# An error is stored in every history that sees it, so each part is bounded, and all that is behind the first together.
_MESSAGE_LIMIT = 4_096
_TRACEBACK_LIMIT = 4_096
_INNER_LIMIT = 1_024
_INNER_TOTAL = 16_384
_INNER_COST = 64
_DEPTH_LIMIT = 4
_MEMBERS_LIMIT = 8


@dataclass(frozen=True, slots=True)
class ErrorInfo:
    """What is known of an error that happened elsewhere.

    Attributes:
        message: The text of the exception, without its type.
        type: The type name of the exception; None if the other side did not tell.
        retryable: Whether the failing side thinks that another attempt can help.
        reason: Why something was cancelled or given up, where that is not the message.
        traceback: The remote traceback as text, its newest frames if it was too long.
        cause: The error that caused this one.
        members: The members of an exception group.
    """

    message: str
    type: str | None = None
    retryable: bool = True
    reason: str | None = None
    traceback: str | None = None
    cause: ErrorInfo | None = None
    members: tuple[ErrorInfo, ...] = field(default=())

    def __str__(self) -> str:
        return f"{self.type}: {self.message}" if self.type and self.message else self.type or self.message

    def as_data(self) -> dict[str, Any]:
        """This error as plain JSON data, without the keys that say nothing."""
        data: dict[str, Any] = {"type": self.type, "message": self.message}
        if not self.retryable:
            data["retryable"] = False
        if self.reason is not None:
            data["reason"] = self.reason
        if self.cause is not None:
            data["cause"] = self.cause.as_data()
        if self.members:
            data["members"] = [member.as_data() for member in self.members]
        if self.traceback is not None:
            data["traceback"] = self.traceback
        return data

    @classmethod
    def from_data(cls, data: dict[str, Any]) -> ErrorInfo:
        """The reverse of `as_data`; keys of newer writers are ignored."""
        cause, members = data.get("cause"), cast("list[object]", data.get("members") or [])
        return cls(
            message=str(data.get("message", "")),
            type=data.get("type"),
            retryable=bool(data.get("retryable", True)),
            reason=data.get("reason"),
            traceback=data.get("traceback"),
            cause=cls.from_data(cast("dict[str, Any]", cause)) if isinstance(cause, dict) else None,
            members=tuple(cls.from_data(cast("dict[str, Any]", one)) for one in members if isinstance(one, dict)),
        )

    @classmethod
    def from_exception(cls, error: BaseException, *, retryable: bool = True, reason: str | None = None) -> ErrorInfo:
        """Describe an exception, its cause chain and, for a group, its members; a group of one is its member."""
        error, room = _flat(error), _Room()
        return cls(
            message=_clip(_utf8(_text(error)), _MESSAGE_LIMIT),
            type=type(error).__qualname__,
            retryable=retryable,
            reason=None if reason is None else _clip(_utf8(reason), _MESSAGE_LIMIT),
            traceback=_traceback(error),
            cause=_cause(error, 0, room),
            members=_members(error, 0, room),
        )


class _Room:
    """What is left for the errors behind the first: its causes, its members, theirs."""

    def __init__(self) -> None:
        self.left = _INNER_TOTAL

    def clip(self, text: str) -> str:
        clipped = _clip(text, max(0, min(_INNER_LIMIT, self.left)))
        self.left -= len(clipped) + _INNER_COST
        return clipped


def _inner(error: BaseException, depth: int, room: _Room) -> ErrorInfo:
    message = room.clip(_utf8(_text(error)))
    cause = _cause(error, depth, room)
    return ErrorInfo(message, type(error).__qualname__, cause=cause, members=_members(error, depth, room))


def _cause(error: BaseException, depth: int, room: _Room) -> ErrorInfo | None:
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is None or depth == _DEPTH_LIMIT or room.left <= 0:
        return None
    return _inner(_flat(cause), depth + 1, room)


def _members(error: BaseException, depth: int, room: _Room) -> tuple[ErrorInfo, ...]:
    members = members_of(error)[:_MEMBERS_LIMIT] if depth < _DEPTH_LIMIT else ()
    return tuple(_inner(_flat(member), depth + 1, room) for member in members if room.left > 0)


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - the user's own code
        return "<the text of this exception cannot be had: its __str__ fails>"


def members_of(error: BaseException) -> tuple[BaseException, ...]:
    """The members of an exception group; nothing for any other exception."""
    return cast("BaseExceptionGroup[BaseException]", error).exceptions if isinstance(error, BaseExceptionGroup) else ()


def _flat(error: BaseException) -> BaseException:
    while len(members := members_of(error)) == 1:
        error = members[0]
    return error


def _traceback(error: BaseException) -> str:
    text = _utf8("".join(traceback.format_exception(type(error), error, error.__traceback__, chain=False)))
    return text if len(text) <= _TRACEBACK_LIMIT else "…" + text[-_TRACEBACK_LIMIT:]


def _utf8(text: str) -> str:
    """A lone surrogate cannot be written as UTF-8, and an error text must never be what fails."""
    return text.encode(errors="backslashreplace").decode()


def _clip(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[:limit] + "…"


def format_error(error: BaseException | ErrorInfo, *, retryable: bool = True, reason: str | None = None) -> str:
    """Write an error as the wire's text.

    Args:
        error: The exception, or what is known of it.
        retryable: Whether another attempt can help; ignored for an `ErrorInfo`, which knows.
        reason: Why it was given up; ignored for an `ErrorInfo`.

    Returns:
        A readable text whose last line is the envelope.

    Example:
        >>> print(format_error(ErrorInfo("no such card", type="ValueError")))
        ValueError: no such card
        [flovyn:error {"type":"ValueError","message":"no such card"}]
    """
    info = (
        error if isinstance(error, ErrorInfo) else ErrorInfo.from_exception(error, retryable=retryable, reason=reason)
    )
    return f"{info}\n{_OPENING}{msgspec.json.encode(info.as_data()).decode()}{_CLOSING}"


def parse_error(text: str) -> ErrorInfo:
    """Read an error text of any SDK.

    Example:
        >>> parse_error("Task failed: out of stock")
        ErrorInfo(message='Task failed: out of stock', type=None, retryable=True, reason=None, traceback=None, \
cause=None, members=())
    """
    readable, newline, last = text.rpartition("\n")
    if newline and last.startswith(_OPENING) and last.endswith(_CLOSING):
        try:
            data = msgspec.json.decode(last[len(_OPENING) : -len(_CLOSING)])
        except msgspec.DecodeError:  # somebody cut or edited the text: what is readable is what there is
            return ErrorInfo(message=readable)
        if isinstance(data, dict):
            return ErrorInfo.from_data(cast("dict[str, Any]", data))
    return ErrorInfo(message=text)
