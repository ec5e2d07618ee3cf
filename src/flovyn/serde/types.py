"""Which types can be payloads, found out before the first value comes."""

from __future__ import annotations

from typing import Any, cast

import msgspec
from msgspec import inspect

from flovyn.serde import models

__all__ = ["describe", "refuse_unreadable"]


def describe(type_: Any) -> str:
    """A type as its user would write it."""
    if isinstance(type_, type) and not getattr(type_, "__args__", ()):
        return type_.__qualname__.rpartition("<locals>.")[2]
    return str(type_).replace("typing.", "")


def refuse_unreadable(type_: Any) -> None:
    """Check every type that a type is made of.

    Raises:
        TypeError: One of them is neither msgspec's nor pydantic's, so that decoding would fail on the first value.
    """
    seen: list[object] = []
    waiting: list[object] = [inspect.type_info(type_)]
    while waiting:
        info = waiting.pop()
        if any(info is known for known in seen):
            continue
        seen.append(info)
        if isinstance(info, inspect.CustomType):
            if info.cls is not object and not models.is_model(info.cls):
                msg = f"{describe(info.cls)} has no form in JSON; use a dataclass, a Struct or a plain type instead"
                raise TypeError(msg)
        elif isinstance(info, inspect.Type | inspect.Field):
            waiting.extend(_parts(info))


def _parts(info: msgspec.Struct) -> list[object]:
    parts: list[object] = []
    for name in info.__struct_fields__:
        part: object = getattr(info, name)
        parts.extend(cast("tuple[object, ...]", part) if isinstance(part, tuple) else (part,))
    return parts
