"""One codec for each type: msgspec's, or pydantic's where the type is one of pydantic's."""

from __future__ import annotations

import functools
import re
from typing import Any, Protocol

import msgspec

from flovyn.errors import PayloadError
from flovyn.serde import models
from flovyn.serde.faults import UNWRITABLE, explain, hides_non_finite
from flovyn.serde.types import describe, refuse_unreadable

__all__ = ["Codec", "codec_for", "decode", "encode"]

_LOCATED = re.compile(r" - at (?:`key` in )?`(?P<path>\$[^`]*)`$")


class Codec(Protocol):
    """Writes and reads the payloads of one type."""

    def encode(self, value: object) -> bytes:
        """Write a value as JSON; raises `PayloadError` for what cannot be written."""
        ...

    def decode(self, data: bytes) -> Any:
        """Read a value from JSON; raises `PayloadError` for what does not fit."""
        ...

    def schema(self) -> bytes:
        """The JSON Schema of the type, as JSON."""
        ...


_find_null = re.compile(b"null").search  # twice as fast as `in` on a payload of some hundred bytes
_write = msgspec.json.Encoder(enc_hook=models.to_data).encode


def _write_checked(value: object) -> bytes:
    try:
        data = _write(value)
    except UNWRITABLE as error:
        raise explain(value, error, _write) from None
    # msgspec writes NaN and the infinities as null, without a word; only a payload with a null can hide one.
    if _find_null(data) is not None and hides_non_finite(value):
        raise explain(value, None, _write)
    return data


class _MsgspecCodec:
    __slots__ = ("_read", "_type")

    def __init__(self, type_: Any) -> None:
        self._type = type_
        try:
            self._read = msgspec.json.Decoder(type_, dec_hook=models.from_data).decode
            refuse_unreadable(type_)
        except (TypeError, ValueError, NameError) as error:
            raise PayloadError(f"the type {describe(type_)} cannot be a payload: {error}") from None

    # msgspec writes a value by what it is, not by what was declared; a method around it would only cost time.
    encode = staticmethod(_write_checked)

    def decode(self, data: bytes) -> Any:
        try:
            return self._read(data or b"null")
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise _unreadable(self._type, error) from None

    def schema(self) -> bytes:
        return msgspec.json.encode(models.schema_of(self._type))


def _unreadable(type_: Any, error: Exception) -> PayloadError:
    text = str(error)
    located = _LOCATED.search(text)
    if located is None and not isinstance(error, msgspec.ValidationError):
        return PayloadError(f"the payload for {describe(type_)} is not JSON: {text}")
    path = located["path"] if located else "$"
    reason = text[: located.start()] if located else text
    return PayloadError(f"the payload does not fit {describe(type_)}: {reason}, at {path}", path=path)


class _ModelCodec:
    """A type of pydantic's own making: its rules decide, msgspec writes the result."""

    __slots__ = ("_adapter", "_type")

    def __init__(self, type_: Any) -> None:
        self._type = type_
        try:
            self._adapter = models.Adapter(type_)
        except models.SchemaError as error:
            raise PayloadError(f"the type {describe(type_)} cannot be a payload: {error}") from None

    def encode(self, value: object) -> bytes:
        try:
            data = self._adapter.dump(value)
        except UNWRITABLE as error:
            raise PayloadError(f"cannot write the value as {describe(self._type)}: {error}", path="$") from None
        return _write_checked(data)

    def decode(self, data: bytes) -> Any:
        try:
            return self._adapter.load(data or b"null")
        except models.Misfit as error:
            raise PayloadError(
                f"the payload does not fit {describe(self._type)}: {error}, at {error.path}", path=error.path
            ) from None

    def schema(self) -> bytes:
        return msgspec.json.encode(self._adapter.schema())


def _build(type_: Any) -> Codec:
    return _ModelCodec(type_) if models.is_model_type(type_) else _MsgspecCodec(type_)


_cached = functools.lru_cache(maxsize=1024)(_build)
_PLAIN = _MsgspecCodec(Any)


def codec_for(type_: Any) -> Codec:
    """The codec of a type.

    Args:
        type_: Any type that msgspec or pydantic reads; `Any` or `None` for plain JSON data.

    Raises:
        PayloadError: Values of this type cannot be read from a payload.

    Example:
        >>> codec_for(list[int]).decode(b"[1, 2]")
        [1, 2]
    """
    if type_ is Any or type_ is None:
        return _PLAIN
    try:
        hash(type_)
    except TypeError:  # such as Annotated with a list in it
        return _build(type_)
    return _cached(type_)


def encode(value: object, type_: Any = Any) -> bytes:
    """Write a value as a payload.

    Args:
        value: Plain data, dataclasses, msgspec Structs, TypedDicts, NamedTuples, enums, datetimes, timedeltas, UUIDs,
            Decimals, integers of any size, bytes, sets, pydantic models; nested to any depth.
        type_: The declared type. Only where it is made of pydantic models does it matter: they are then written by
            pydantic's own rules for that type.

    Raises:
        PayloadError: Something in the value cannot be written (an object of another type, NaN or an infinity, a
            coroutine that nobody awaited, a value that contains itself); `path` says where.

    Example:
        >>> encode({"items": [1, 2]})
        b'{"items":[1,2]}'
    """
    return (_PLAIN if type_ is Any else codec_for(type_)).encode(value)


def decode(data: bytes, type_: Any) -> Any:
    """Read a value from a payload.

    Args:
        data: JSON; no bytes at all count as ``null``.
        type_: The type of the value; `Any` or `None` for plain JSON data.

    Raises:
        PayloadError: The data is not JSON or does not fit; `path` says where.

    Example:
        >>> decode(b'{"when": "2026-01-02T03:04:05Z"}', dict[str, str])
        {'when': '2026-01-02T03:04:05Z'}
    """
    return codec_for(type_).decode(data)
