"""Why a value cannot be written, and where in it the fault is.

msgspec's encoder says neither where nor, for NaN, that anything was wrong. So a value that failed is searched here,
by writing its parts again one by one; that is slow, and only ever done on the way to an error.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
import re
from typing import TYPE_CHECKING, Any

import msgspec

from flovyn.errors import PayloadError
from flovyn.serde import models

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["UNWRITABLE", "explain", "hides_non_finite"]

UNWRITABLE = (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError)

# A float64 in MessagePack whose exponent is all ones. Text cannot contain it (not UTF-8), other bytes may.
_NON_FINITE = re.compile(rb"\xcb[\x7f\xff][\xf0-\xff]")
_write_msgpack = msgspec.msgpack.Encoder(enc_hook=models.to_data).encode


def hides_non_finite(value: object) -> bool:
    """Whether a value that was written contains a NaN or an infinity.

    MessagePack keeps them, and its encoder is as fast as that for JSON; only a suspicion is looked at float by float.
    """
    try:
        if _NON_FINITE.search(_write_msgpack(value)) is None:
            return False
    except OverflowError:  # an integer beyond 64 bits, which JSON can write
        pass
    waiting: list[object] = [msgspec.to_builtins(value, enc_hook=models.to_data)]
    while waiting:
        part = waiting.pop()
        if isinstance(part, float) and not math.isfinite(part):
            return True
        waiting.extend(inner for _, inner in _parts(part))
    return False


def explain(value: object, error: Exception | None, write: Callable[[object], bytes]) -> PayloadError:
    """Find the innermost part of a value that cannot be written.

    Args:
        value: What was to be written.
        error: What the encoder said; None for a non-finite number.
        write: The encoder, which writes one part or raises.
    """
    path = "$"
    above: list[object] = []
    while True:
        if any(value is outer for outer in above):
            return PayloadError(f"cannot write {path}: the value contains itself", path=path)
        above.append(value)
        for step, part in _parts(value):
            # An encoder that runs into a cycle fails everywhere on it, so the first failing part is on the way.
            failure = _failure(part, write)
            if failure is not None:
                value, path, error = part, path + step, failure
                break
        else:
            return PayloadError(f"cannot write {path}: {_reason(value, error)}", path=path)


def _failure(part: object, write: Callable[[object], bytes]) -> Exception | None:
    # Scalars are most of a payload, and none but floats and text can fail.
    if part is None or isinstance(part, bool | int):
        return None
    if isinstance(part, float):
        return None if math.isfinite(part) else ValueError("not finite")
    try:
        hidden = b"null" in write(part) and hides_non_finite(part)
    except UNWRITABLE as error:
        return error
    return ValueError("not finite") if hidden else None


def _parts(value: Any) -> list[tuple[str, object]]:
    for kind, parts in _CONTAINERS:
        if isinstance(value, kind):
            return parts(value)
    type_: Any = value.__class__
    if dataclasses.is_dataclass(type_):
        return _named(value, [field.name for field in dataclasses.fields(type_)])
    return _named(value, type_.model_fields) if models.is_model(type_) else []


def _named(value: object, names: Iterable[str]) -> list[tuple[str, object]]:
    return [(_key(name), getattr(value, name, None)) for name in names]


def _mapping(value: Any) -> list[tuple[str, object]]:
    return [(_key(key), part) for key, part in value.items()]


def _sequence(value: Any) -> list[tuple[str, object]]:
    if hasattr(value, "_fields"):
        return _named(value, value._fields)
    return [(f"[{index}]", part) for index, part in enumerate(value)]


def _set(value: Any) -> list[tuple[str, object]]:
    return [("[...]", part) for part in value]


def _struct(value: Any) -> list[tuple[str, object]]:
    return _named(value, value.__struct_fields__)


_CONTAINERS: list[tuple[type, Callable[[Any], list[tuple[str, object]]]]] = [
    (dict, _mapping),
    (list, _sequence),
    (tuple, _sequence),
    (set, _set),
    (frozenset, _set),
    (msgspec.Struct, _struct),
]


def _key(key: object) -> str:
    return f".{key}" if isinstance(key, str) and key.isidentifier() else f"[{key!r}]"


def _reason(value: Any, error: Exception | None) -> str:
    if isinstance(value, float):
        return f"{value} is not a JSON number; use None or a string"
    if inspect.iscoroutine(value):
        return f"it is a coroutine that was never awaited; write `await {value.cr_code.co_name}(...)`"
    if isinstance(value, str):
        return "the text has half of a surrogate pair, which UTF-8 cannot carry"
    if isinstance(error, TypeError) and isinstance(value, dict):
        return "keys of a dict must be text or numbers"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, TypeError):
        return f"a {type(value).__qualname__} has no form in JSON; use a dataclass, a Struct or plain data instead"
    return str(error)
