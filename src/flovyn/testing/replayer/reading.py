"""From an exported document to events, with the place of whatever cannot be read.

Exports differ: the keys of the REST API are in camelCase, those of other tools in snake_case; the data of an event is
an object, or JSON in a string, or, as protobuf writes `bytes`, base64. What a payload says is never touched, down to
the last digit of a number.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from typing import Final, NoReturn, TypeVar

import msgspec

from flovyn.errors import MalformedHistory

__all__ = ["Document", "RecordedEvent", "compact", "read_document"]

T = TypeVar("T")

LARGEST: Final = 64 * 1024 * 1024
"""Bytes of a document. A server hands out histories of a few MiB at most."""

_SNAKE: Final = re.compile(r"(?<=[a-z0-9])_([a-z0-9])")

_Members = dict[str, msgspec.Raw]


@dataclass(frozen=True, slots=True)
class RecordedEvent:
    """One event of a history.

    Attributes:
        sequence: Its position, counted from 1.
        type: What happened, in the platform's words, such as ``TASK_COMPLETED``.
        data: What the platform tells about it: a JSON object without white space, or nothing.
    """

    sequence: int
    type: str
    data: bytes = b""


@dataclass(frozen=True, slots=True)
class Document:
    """What a document says; None for what it does not say."""

    events: tuple[RecordedEvent, ...]
    workflow_id: str | None
    kind: str | None
    org_id: str | None
    queue: str | None
    input: bytes | None


def read_document(data: str | bytes, source: str | None) -> Document:
    """Read an exported history: an object with `events`, or the bare array of them.

    Raises:
        MalformedHistory: It cannot be read; the error names the place.
    """
    return _Reader(source).document(data)


def compact(data: bytes) -> bytes:
    """JSON without its white space, and otherwise to the letter."""
    return msgspec.json.format(data, indent=-1)


class _Reader:
    def __init__(self, source: str | None) -> None:
        self._source = source

    def document(self, data: str | bytes) -> Document:
        if len(data) > LARGEST:
            self._refuse(f"it is larger than {LARGEST // 1024 // 1024} MiB, which no history is", "")
        raw = self._text(data, "")
        events = raw
        head: _Members = {}
        if raw[:1] != b"[":
            head = self._members(raw, "")
            if "events" not in head:
                self._refuse('there are no "events" in it', "")
            events = bytes(head["events"])
        listed = self._decode(events, list[msgspec.Raw], "events")
        if not listed:
            self._refuse("a history has one event at least", "events")
        read = tuple(self._event(bytes(item), number) for number, item in enumerate(listed, 1))
        started = self._members(read[0].data, "events[0].data") if read[0].data else {}
        given = head.get("input", started.get("input"))
        return Document(
            events=read,
            workflow_id=self._name(head, "", "id", "workflowExecutionId", "workflowId"),
            kind=self._name(head, "", "kind", "workflowKind") or self._name(started, "events[0].data", "kind"),
            org_id=self._name(head, "", "orgId"),
            queue=self._name(head, "", "queue"),
            input=None if given is None else compact(bytes(given)),
        )

    def _event(self, raw: bytes, number: int) -> RecordedEvent:
        place = f"events[{number - 1}]"
        members = self._members(raw, place)
        key, sequence = self._pick(members, place, "sequenceNumber", "sequence")
        # Protobuf's JSON may write a number as a string.
        value = self._decode(sequence, int, f"{place}.{key}", strict=False)
        if value != number:
            self._refuse(
                f"this is event {value}, but {number} is due: events stand in order, from 1, without holes",
                f"{place}.{key}",
            )
        key, name = self._pick(members, place, "eventType", "type")
        kind = self._decode(name, str, f"{place}.{key}")
        key, data = next(((key, members[key]) for key in ("data", "eventData") if key in members), ("", None))
        return RecordedEvent(number, kind, b"" if data is None else self._data(bytes(data), f"{place}.{key}"))

    def _data(self, raw: bytes, place: str) -> bytes:
        if raw[:1] == b'"':
            raw = self._unwrapped(self._decode(raw, str, place), place)
        if raw in {b"", b"null"}:
            return b""
        members = self._members(raw, place)
        if any(_SNAKE.search(key) for key in self._decode(raw, _Members, place)):
            raw = msgspec.json.encode(members)
        return compact(raw)

    def _unwrapped(self, text: str, place: str) -> bytes:
        text = text.strip()
        if text in {"", "null"} or text[0] == "{":
            return self._text(text, place)
        try:
            return self._text(base64.b64decode(text, validate=True), place)
        except binascii.Error:
            self._refuse("this text is neither a JSON object nor base64", place)

    def _text(self, data: str | bytes, place: str) -> bytes:
        """The bytes of a JSON document: UTF-8, well-formed, no white space around it."""
        try:
            raw = (data.decode("utf-8-sig") if isinstance(data, bytes) else data).strip().encode()
        except UnicodeError as error:
            self._refuse(f"it is not UTF-8: {error}", place)
        if raw:
            self._decode(raw, msgspec.Raw, place)
        return raw

    def _members(self, raw: bytes, place: str) -> _Members:
        members = self._decode(raw, _Members, place)
        camel = {_SNAKE.sub(lambda found: found[1].upper(), key): value for key, value in members.items()}
        if len(camel) != len(members):
            self._refuse("a key stands in it twice, in camelCase and in snake_case", place)
        return camel

    def _pick(self, members: _Members, place: str, *keys: str) -> tuple[str, bytes]:
        key = next((key for key in keys if key in members), None)
        if key is None:
            self._refuse(f"there is no {keys[0]!r} in it", place)
        return key, bytes(members[key])

    def _name(self, members: _Members, place: str, *keys: str) -> str | None:
        for key in keys:
            value = members.get(key)
            if value is not None and bytes(value) != b"null":
                return self._decode(bytes(value), str, f"{place}.{key}" if place else key)
        return None

    def _decode(self, raw: bytes, type_: type[T], place: str, *, strict: bool = True) -> T:
        try:
            return msgspec.json.decode(raw, type=type_, strict=strict)
        except (msgspec.DecodeError, UnicodeError) as error:
            self._refuse(str(error), place)
        except RecursionError:
            self._refuse("it is nested too deeply", place)

    def _refuse(self, message: str, place: str) -> NoReturn:
        raise MalformedHistory(message, source=self._source, place=place or None) from None
