"""One codec for each type: msgspec's, or pydantic's where the type is one of pydantic's."""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, Any, Final, NoReturn, Protocol, cast

import msgspec

from flovyn.errors import CodecError, PayloadError
from flovyn.serde import models
from flovyn.serde.faults import UNWRITABLE, explain, find_fault, hides_non_finite
from flovyn.serde.reserved import OPENING, body_of, escaped, wrap
from flovyn.serde.types import Record, check, describe, remedy

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Codec", "as_data", "codec_for", "decode", "encode"]

_LOCATED: Final = re.compile(r" - at (?:`key` in )?`\$(?P<path>[^`]*)`$")


class Codec(Protocol):
    """Writes and reads the payloads of one type."""

    def encode(self, value: object) -> bytes:
        """Write a value as JSON; raises `PayloadError` for what cannot be written."""
        ...

    def decode(self, data: bytes) -> Any:
        """Read a value from JSON; raises `PayloadError` for what does not fit."""
        ...

    def schema(self) -> bytes:
        """The JSON Schema of the type, as JSON: the same bytes for the same type, in every process."""
        ...


# --- writing --------------------------------------------------------------------------------

_write: Final = msgspec.json.Encoder(enc_hook=models.to_data).encode

# Two things msgspec writes without a word though they cannot be read back: NaN and the infinities, which become null,
# and a datetime without a zone, or with one that is off by seconds. What is written shows where there may be one, and
# searching it costs less than a look at the value. (On some hundred bytes this is twice as fast as `in`.)
_find_null: Final = re.compile(b"null").search
_find_time_not_in_utc: Final = re.compile(rb"T\d\d:\d\d:\d\d(?:\.\d+)?[^Z.\d]").search


def _write_checked(value: object, optional: Sequence[str] = ()) -> bytes:
    try:
        data = _write(value)
    except UNWRITABLE as error:
        raise explain(value, error, _write) from None
    suspicious = _find_null(data) is not None and not _accounts_for(value, optional, data) and hides_non_finite(value)
    if suspicious or _find_time_not_in_utc(data) is not None:
        fault = find_fault(value, _write, naive=False)
        if fault is not None:
            raise fault
    return escaped(data) if data[:11] == OPENING else data


def _accounts_for(value: Any, optional: Sequence[str], data: bytes) -> bool:
    """Whether each null is a field without a value: most often it is, and that is cheaper to see than any other way."""
    nulls = 0
    if value.__class__ is dict:
        for part in cast("dict[object, object]", value).values():
            nulls += part is None
    else:
        for name in optional:
            nulls += getattr(value, name, None) is None
    return data.count(b"null") == nulls


def _write_naive_too(value: object, optional: Sequence[str] = ()) -> bytes:  # noqa: ARG001 - as the other has it
    try:
        data = _write(value)
    except UNWRITABLE as error:
        raise explain(value, error, _write) from None
    fault = find_fault(value, _write, naive=True)
    if fault is not None:
        raise fault
    return escaped(data)


# --- reading --------------------------------------------------------------------------------

_NOT_A_VALUE: Final = wrap(value=None)


def _takes(read: Callable[[bytes], Any]) -> bool:
    """Whether a type would be read from an object that is not the value that it seems."""
    try:
        read(_NOT_A_VALUE)
    except Exception:  # noqa: BLE001 - the type's own code may have a say in it
        return False
    return True


def _unwrapped(data: bytes) -> bytes:
    """The value under `value`, if it was put there.

    Raises:
        CodecError: The payload is encoded, and nobody has decoded it.
    """
    body = body_of(data)
    if body is None or not body.is_known:
        return data
    if body.encoded is not None:
        names = [step.get("codec", "") for step in body.encoded.by]
        raise CodecError(
            f"the payload is encoded by {', '.join(names)}, and nothing has decoded it: give those codecs to "
            "connect(codecs=[...]), or to whatever reads it",
            codec=names[-1] if names else None,
        )
    return data if isinstance(body.value, msgspec.UnsetType) else bytes(body.value)


class _MsgspecCodec:
    __slots__ = ("_ambiguous", "_read", "_type")

    def __init__(self, type_: Any, read: Callable[[bytes], Any]) -> None:
        self._type = type_
        self._read = read
        self._ambiguous = _takes(read)

    # msgspec writes a value by what it is, not by what was declared; a method around it would only cost time.
    encode = staticmethod(_write_checked)

    def decode(self, data: bytes) -> Any:
        if self._ambiguous:
            data = _unwrapped(data)
        try:
            return self._read(data or b"null")
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, TypeError) as error:
            inner = _unwrapped(data)
            if inner is not data:
                return self.decode(inner)
            _refuse(self._type, error)

    def schema(self) -> bytes:
        return msgspec.json.encode(models.schema_of(self._type))


class _RecordCodec(_MsgspecCodec):
    """For a dataclass or a Struct with fields that may have no value."""

    __slots__ = ("_cls", "_optional")

    def __init__(self, type_: Any, read: Callable[[bytes], Any], record: Record) -> None:
        super().__init__(type_, read)
        self._cls = record.cls
        self._optional = record.optional

    def encode(self, value: object) -> bytes:  # type: ignore[override] # pyright: ignore[reportIncompatibleMethodOverride]
        return _write_checked(value, self._optional if value.__class__ is self._cls else ())


class _NaiveCodec(_MsgspecCodec):
    """For a type that asks for datetimes without a time zone."""

    __slots__ = ()

    encode = staticmethod(_write_naive_too)


def _msgspec_codec(type_: Any) -> Codec:
    try:
        read = msgspec.json.Decoder(type_, dec_hook=models.from_data).decode
        facts = check(type_)
    except (TypeError, ValueError, NameError) as error:
        raise PayloadError(f"the type {describe(type_)} cannot be a payload: {remedy(str(error))}") from None
    if facts.naive:
        return _NaiveCodec(type_, read)
    return _MsgspecCodec(type_, read) if facts.record is None else _RecordCodec(type_, read, facts.record)


def _refuse(type_: Any, error: Exception) -> NoReturn:
    reason, path = str(error), ""
    located = _LOCATED.search(reason)
    # A TypeError: what is to be in a set has no hash, which only shows when it is read.
    if located is None and not isinstance(error, msgspec.ValidationError | TypeError):
        raise PayloadError(f"the payload for {describe(type_)} is not JSON: {reason}") from None
    while located is not None:  # the hook that reads models has located the fault within its own part
        reason, path = reason[: located.start()], path + located["path"]
        located = _LOCATED.search(reason)
    raise PayloadError(f"the payload does not fit {describe(type_)}: {reason}, at ${path}", path=f"${path}") from None


class _ModelCodec:
    """A type of pydantic's own making: its rules decide, msgspec writes the result."""

    __slots__ = ("_adapter", "_ambiguous", "_type")

    def __init__(self, type_: Any) -> None:
        self._type = type_
        try:
            self._adapter = models.adapter(type_)
        except models.SchemaError as error:
            raise PayloadError(f"the type {describe(type_)} cannot be a payload: {error}") from None
        self._ambiguous = _takes(self._adapter.load)

    def encode(self, value: object) -> bytes:
        try:
            data = self._adapter.dump(value)
        except UNWRITABLE as error:
            raise PayloadError(f"cannot write the value as {describe(self._type)}: {error}", path="$") from None
        return _write_checked(data)

    def decode(self, data: bytes) -> Any:
        if self._ambiguous:
            data = _unwrapped(data)
        try:
            return self._adapter.load(data or b"null")
        except models.Misfit as error:
            inner = _unwrapped(data)
            if inner is not data:
                return self.decode(inner)
            raise PayloadError(
                f"the payload does not fit {describe(self._type)}: {error}, at {error.path}", path=error.path
            ) from None

    def schema(self) -> bytes:
        return msgspec.json.encode(self._adapter.schema())


def _build(type_: Any) -> Codec:
    if not models.is_model_type(type_):
        return _msgspec_codec(type_)
    first, second = (_ModelCodec, _msgspec_codec) if models.is_pure(type_) else (_msgspec_codec, _ModelCodec)
    try:
        return first(type_)
    except PayloadError as error:
        try:
            return second(type_)
        except PayloadError:
            raise error from None


_cached = functools.lru_cache(maxsize=1024)(_build)
_PLAIN: Final = _msgspec_codec(Any)


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
            datetime without a time zone, a coroutine that nobody awaited, a value that contains itself); `path` says
            where.

    Example:
        >>> encode({"items": [1, 2]})
        b'{"items":[1,2]}'
    """
    return (_PLAIN if type_ is Any else codec_for(type_)).encode(value)


def as_data(value: object) -> Any:
    """A value as the plain data that its payload is, in an order that is the same in every process.

    Raises:
        PayloadError: Something in the value cannot be written.

    Example:
        >>> as_data({"names": {"b", "a"}})
        {'names': ['a', 'b']}
    """
    _PLAIN.encode(value)  # refuses what must not be written
    return msgspec.json.decode(msgspec.json.encode(value, enc_hook=models.to_data, order="deterministic"))


def decode(data: bytes, type_: Any) -> Any:
    """Read a value from a payload.

    Args:
        data: JSON; no bytes at all count as ``null``.
        type_: The type of the value; `Any` or `None` for plain JSON data.

    Raises:
        PayloadError: The data is not JSON or does not fit; `path` says where.
        CodecError: The payload is encoded, and nothing has decoded it.

    Example:
        >>> decode(b'{"when": "2026-01-02T03:04:05Z"}', dict[str, str])
        {'when': '2026-01-02T03:04:05Z'}
    """
    return codec_for(type_).decode(data)
