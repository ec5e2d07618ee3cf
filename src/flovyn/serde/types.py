"""Which types can be payloads, found out before the first value comes."""

from __future__ import annotations

import re
from typing import Any, Final, NamedTuple, NoReturn, cast

import msgspec
from msgspec import inspect

from flovyn.serde import models

__all__ = ["Facts", "Record", "check", "describe", "remedy"]

# What an object's key can be: whatever has a form as text, or is a number.
_KEYS: Final = (
    inspect.AnyType,
    inspect.IntType,
    inspect.FloatType,
    inspect.StrType,
    inspect.BytesType,
    inspect.EnumType,
    inspect.LiteralType,
    inspect.DateTimeType,
    inspect.DateType,
    inspect.TimeType,
    inspect.TimeDeltaType,
    inspect.UUIDType,
    inspect.DecimalType,
)

_MUTABLE: Final = (
    inspect.ListType,
    inspect.SetType,
    inspect.DictType,
    inspect.TypedDictType,
    inspect.ByteArrayType,
)

_REMEDIES: Final = (
    (
        re.compile("unions? .*(may not|must|multiple)", re.DOTALL),
        "the alternatives could not be told apart in JSON: make each a msgspec.Struct with tag=True, or declare one",
    ),
    (re.compile("^Enums must contain"), "give its members texts or integers as values"),
    (re.compile("InitVar"), "make it a plain field"),
)


def describe(type_: Any) -> str:
    """A type as its user would write it."""
    if isinstance(type_, type) and not getattr(type_, "__args__", ()):
        return type_.__qualname__.rpartition("<locals>.")[2]
    return str(type_).replace("typing.", "")


def remedy(text: str) -> str:
    """What msgspec says of a type, with what to do about it."""
    return next((f"{text}; {advice}" for pattern, advice in _REMEDIES if pattern.search(text)), text)


class Record(NamedTuple):
    """A dataclass or a Struct.

    Attributes:
        cls: The class.
        optional: Its fields that may have no value.
    """

    cls: type[Any]
    optional: tuple[str, ...]


class Facts(NamedTuple):
    """What is known of a type.

    Attributes:
        naive: Whether a datetime without a time zone is asked for somewhere in it (`Meta(tz=False)`).
        record: The type itself, if it is a dataclass or a Struct with fields that may have no value.
    """

    naive: bool
    record: Record | None


def check(type_: Any) -> Facts:
    """Check every type that a type is made of.

    Raises:
        TypeError: Of one of them no value could be read, or only some.
    """
    naive = False
    seen: list[object] = []
    whole = inspect.type_info(type_)
    waiting: list[tuple[str, object]] = [("", whole)]
    while waiting:
        where, info = waiting.pop()
        if any(info is known for known in seen):
            continue
        seen.append(info)
        _check_one(where, info)
        naive = naive or (isinstance(info, inspect.DateTimeType) and info.tz is False)
        if isinstance(info, inspect.Type | inspect.Field):
            waiting.extend(_parts(where, info))
    return Facts(naive, _record(whole))


def _record(info: inspect.Type) -> Record | None:
    if not isinstance(info, inspect.DataclassType | inspect.StructType):
        return None
    optional = [field.name for field in info.fields if _may_be_none(field.type)]
    return Record(info.cls, tuple(optional)) if optional else None


def _may_be_none(info: inspect.Type) -> bool:
    kinds = info.types if isinstance(info, inspect.UnionType) else (info,)
    return any(isinstance(kind, inspect.NoneType) for kind in kinds)


def _check_one(where: str, info: object) -> None:
    match info:
        case inspect.CustomType(cls):
            if cls is not object and not models.is_model(cls):
                _refuse(
                    where, f"{describe(cls)} has no form in JSON; use a dataclass, a Struct or a plain type instead"
                )
        case inspect.SetType(item) | inspect.FrozenSetType(item):
            if not _hashable(item):
                _refuse(where, f"{_name(item)} cannot be in a set, as it has no hash; use a tuple or a frozen class")
        case inspect.DictType(key):
            kinds = key.types if isinstance(key, inspect.UnionType) else (key,)
            for kind in kinds:
                if not isinstance(kind, _KEYS):
                    _refuse(where, f"{_name(kind)} cannot be the key of a dict in JSON; use text or numbers as keys")
        case _:
            pass


def _hashable(info: inspect.Type) -> bool:
    match info:
        case inspect.StructType(cls) | inspect.DataclassType(cls) | inspect.CustomType(cls):
            return getattr(cls, "__hash__", None) is not None
        case inspect.UnionType(types):
            return all(map(_hashable, types))
        case inspect.VarTupleType(item):
            return _hashable(item)
        case inspect.TupleType(items):
            return all(map(_hashable, items))
        case inspect.NamedTupleType(_, fields):
            return all(_hashable(field.type) for field in fields)
        case _:
            return not isinstance(info, _MUTABLE)


def _name(info: inspect.Type) -> str:
    cls = getattr(info, "cls", None)
    return describe(cls) if cls is not None else type(info).__name__.removesuffix("Type").lower()


def _refuse(where: str, text: str) -> NoReturn:
    raise TypeError(f"{where}: {text}" if where else text)


def _parts(where: str, info: msgspec.Struct) -> list[tuple[str, object]]:
    cls = getattr(info, "cls", None)
    inside = describe(cls) if cls is not None else where
    if isinstance(info, inspect.Field):
        inside = f"{where}.{info.name}"
    parts: list[tuple[str, object]] = []
    for name in info.__struct_fields__:
        part: object = getattr(info, name)
        many = cast("tuple[object, ...]", part) if isinstance(part, tuple) else (part,)
        parts.extend((inside, one) for one in many)
    return parts
