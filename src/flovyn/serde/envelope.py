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

from flovyn.errors import RemoteError

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

# What is read is not all written by us, and nothing in it may be nested too deeply to be gone through.
_READ_DEPTH = 16


def _text_or_none(value: object) -> str | None:
    return value if isinstance(value, str) else None


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
        attempts: How many attempts were made before it was given up, where there can be several.
    """

    message: str
    type: str | None = None
    retryable: bool = True
    reason: str | None = None
    traceback: str | None = None
    cause: ErrorInfo | None = None
    members: tuple[ErrorInfo, ...] = field(default=())
    attempts: int | None = None

    def __str__(self) -> str:
        return f"{self.type}: {self.message}" if self.type and self.message else self.type or self.message

    def as_data(self) -> dict[str, Any]:
        """This error as plain JSON data, without the keys that say nothing."""
        data: dict[str, Any] = {"type": self.type, "message": self.message}
        if not self.retryable:
            data["retryable"] = False
        if self.reason is not None:
            data["reason"] = self.reason
        if self.attempts is not None:
            data["attempts"] = self.attempts
        if self.cause is not None:
            data["cause"] = self.cause.as_data()
        if self.members:
            data["members"] = [member.as_data() for member in self.members]
        if self.traceback is not None:
            data["traceback"] = self.traceback
        return data

    @classmethod
    def from_data(cls, data: dict[str, Any]) -> ErrorInfo:
        """The reverse of `as_data`; keys of newer writers, and what is no data of an error, are ignored."""
        return cls._from_data(data, 0)

    @classmethod
    def _from_data(cls, data: dict[str, Any], depth: int) -> ErrorInfo:
        attempts = data.get("attempts")
        within = depth < _READ_DEPTH
        cause, members = (data.get("cause"), data.get("members")) if within else (None, None)
        return cls(
            message=str(data.get("message", "")),
            type=_text_or_none(data.get("type")),
            retryable=bool(data.get("retryable", True)),
            reason=_text_or_none(data.get("reason")),
            traceback=_text_or_none(data.get("traceback")),
            cause=cls._from_data(cast("dict[str, Any]", cause), depth + 1) if isinstance(cause, dict) else None,
            members=tuple(
                cls._from_data(cast("dict[str, Any]", one), depth + 1)
                for one in (cast("list[object]", members) if isinstance(members, list) else ())
                if isinstance(one, dict)
            ),
            attempts=attempts if isinstance(attempts, int) else None,
        )

    @classmethod
    def from_exception(
        cls, error: BaseException, *, retryable: bool = True, reason: str | None = None, attempts: int | None = None
    ) -> ErrorInfo:
        """Describe an exception, its cause chain and, for a group, its members; a group of one is its member."""
        error, room = _flat(error), _Room()
        return cls(
            message=_clip(_utf8(_text(error)), _MESSAGE_LIMIT),
            type=_type(error),
            retryable=retryable,
            reason=None if reason is None else _clip(_utf8(reason), _MESSAGE_LIMIT),
            traceback=_traceback(error),
            cause=_cause(error, 0, room),
            members=_members(error, 0, room),
            attempts=attempts,
        )

    def as_exception(self) -> RemoteError | None:
        """What was raised elsewhere, to be the cause of what is raised here; None if it is not told what it was."""
        return None if self.type is None else _exception(self)


def _exception(info: ErrorInfo) -> RemoteError:
    members = [_exception(member) for member in info.members]
    error = RemoteError(info.message, type=info.type or "Exception", traceback=info.traceback, members=members)
    error.__cause__ = None if info.cause is None else _exception(info.cause)
    return error


class _Room:
    """What is left for the errors behind the first: its causes, its members, theirs."""

    def __init__(self) -> None:
        self.left = _INNER_TOTAL

    def clip(self, text: str) -> str:
        clipped = _clip(text, max(0, min(_INNER_LIMIT, self.left)))
        self.left -= len(clipped) + _INNER_COST
        return clipped

    def clip_traceback(self, text: str) -> str | None:
        clipped = _newest(text, max(0, min(_TRACEBACK_LIMIT, self.left)))
        self.left -= len(clipped)
        return clipped or None


def _inner(error: BaseException, depth: int, room: _Room) -> ErrorInfo:
    message = room.clip(_utf8(_text(error)))
    # One that has come from elsewhere already is handed on with the traceback that it came with.
    remote = error.traceback if isinstance(error, RemoteError) else None
    traceback = None if remote is None else room.clip_traceback(_utf8(remote))
    cause, members = _cause(error, depth, room), _members(error, depth, room)
    return ErrorInfo(message, _type(error), traceback=traceback, cause=cause, members=members)


def _cause(error: BaseException, depth: int, room: _Room) -> ErrorInfo | None:
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is None or depth == _DEPTH_LIMIT or room.left <= 0:
        return None
    return _inner(_flat(cause), depth + 1, room)


def _members(error: BaseException, depth: int, room: _Room) -> tuple[ErrorInfo, ...]:
    members = _grouped(error)[:_MEMBERS_LIMIT] if depth < _DEPTH_LIMIT else ()
    return tuple(_inner(_flat(member), depth + 1, room) for member in members if room.left > 0)


def _type(error: BaseException) -> str:
    return error.type if isinstance(error, RemoteError) else type(error).__qualname__


def _text(error: BaseException) -> str:
    try:
        return error.message if isinstance(error, RemoteError) else str(error)
    except Exception:  # noqa: BLE001 - the user's own code
        return "<the text of this exception cannot be had: its __str__ fails>"


def members_of(error: BaseException) -> tuple[BaseException, ...]:
    """The members of an exception group; nothing for any other exception."""
    return cast("BaseExceptionGroup[BaseException]", error).exceptions if isinstance(error, BaseExceptionGroup) else ()


def _grouped(error: BaseException) -> tuple[BaseException, ...]:
    return error.members if isinstance(error, RemoteError) else members_of(error)


def _flat(error: BaseException) -> BaseException:
    while len(members := members_of(error)) == 1:
        error = members[0]
    return error


def _traceback(error: BaseException) -> str:
    text = _utf8("".join(traceback.format_exception(type(error), error, error.__traceback__, chain=False)))
    return _newest(text, _TRACEBACK_LIMIT)


def _newest(text: str, limit: int) -> str:
    return text if len(text) <= limit else "…" + text[len(text) - limit :]


def _utf8(text: str) -> str:
    """A lone surrogate cannot be written as UTF-8, and an error text must never be what fails."""
    return text.encode(errors="backslashreplace").decode()


def _clip(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[:limit] + "…"


def format_error(
    error: BaseException | ErrorInfo,
    *,
    retryable: bool = True,
    reason: str | None = None,
    attempts: int | None = None,
) -> str:
    """Write an error as the wire's text.

    Args:
        error: The exception, or what is known of it.
        retryable: Whether another attempt can help; ignored for an `ErrorInfo`, which knows.
        reason: Why it was given up; likewise.
        attempts: How many attempts were made; likewise.

    Returns:
        A readable text whose last line is the envelope.

    Example:
        >>> print(format_error(ErrorInfo("no such card", type="ValueError")))
        ValueError: no such card
        [flovyn:error {"type":"ValueError","message":"no such card"}]
    """
    info = error
    if not isinstance(info, ErrorInfo):
        info = ErrorInfo.from_exception(info, retryable=retryable, reason=reason, attempts=attempts)
    return f"{info}\n{_OPENING}{msgspec.json.encode(info.as_data()).decode()}{_CLOSING}"


def parse_error(text: str) -> ErrorInfo:
    """Read an error text of any SDK.

    Example:
        >>> parse_error("Task failed: out of stock")
        ErrorInfo(message='Task failed: out of stock', type=None, retryable=True, reason=None, traceback=None, \
cause=None, members=(), attempts=None)
    """
    readable, newline, last = text.rpartition("\n")
    if newline and last.startswith(_OPENING) and last.endswith(_CLOSING):
        try:
            data = msgspec.json.decode(last[len(_OPENING) : -len(_CLOSING)])
        except (
            msgspec.DecodeError,
            RecursionError,
        ):  # somebody cut or edited the text: what is readable is what there is
            return ErrorInfo(message=readable)
        if isinstance(data, dict):
            return ErrorInfo.from_data(cast("dict[str, Any]", data))
    return ErrorInfo(message=text)
