"""Why a value cannot be written, and where in it the fault is.

msgspec's encoder does not say where, and of some faults it says nothing at all: a NaN becomes null, a time zone that is
off by seconds is cut to minutes. So a value that failed, or looks suspicious, is searched here. That is slow, and done
on the way to an error or on suspicion only.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import inspect
import math
import re
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec

from flovyn.errors import PayloadError
from flovyn.serde import models

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

__all__ = ["UNWRITABLE", "explain", "find_fault", "hides_non_finite"]

UNWRITABLE: Final = (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError)

# A float64 in MessagePack whose exponent is all ones. Text cannot contain it (not UTF-8), other bytes may.
_NON_FINITE = re.compile(rb"\xcb[\x7f\xff][\xf0-\xff]")
_write_msgpack = msgspec.msgpack.Encoder(enc_hook=models.to_data).encode

_LONGEST_PATH: Final = 200
_SURROGATE: Final = "the text has half of a surrogate pair, which UTF-8 cannot carry"

_MINUTE: Final = dt.timedelta(minutes=1)
_NOTHING: Final = dt.timedelta(0)


def hides_non_finite(value: object) -> bool:
    """Whether a value that was written may contain a NaN or an infinity.

    MessagePack keeps them, and its encoder is as fast as that for JSON.
    """
    try:
        return _NON_FINITE.search(_write_msgpack(value)) is not None
    except OverflowError:  # an integer beyond 64 bits, which JSON can write
        return True


def explain(value: object, error: Exception, write: Callable[[object], bytes]) -> PayloadError:
    """Find the part of a value that cannot be written.

    Args:
        value: What was to be written.
        error: What the encoder said.
        write: The encoder, which writes one part or raises.
    """
    fault = find_fault(value, write, naive=True)
    if fault is None:
        deep = isinstance(error, RecursionError)
        fault = PayloadError(f"cannot write $: {'it is nested too deeply' if deep else error}", path="$")
    return fault


def find_fault(value: object, write: Callable[[object], bytes], *, naive: bool) -> PayloadError | None:
    """Search a value, in the order in which it would be written.

    Args:
        value: The value.
        write: The encoder, which is asked about what is not known here.
        naive: Whether a datetime without a time zone is fine.
    """
    # A value may be nested deeper than Python's own stack.
    above: list[tuple[str, object, Iterator[tuple[str, object]]]] = []
    around: dict[int, None] = {}
    models_around = 0  # their own rules say which datetimes they take
    step, part = "$", value
    while True:
        parts = _parts(part)
        reason = _reason(part, parts, write, naive=naive or models_around > 0)
        if id(part) in around:
            reason = "the value contains itself"
        if reason is not None:
            path = _path([*(before for before, _, _ in above), step])
            return PayloadError(f"cannot write {path}: {reason}", path=path)
        if parts:
            above.append((step, part, iter(parts)))
            around[id(part)] = None
            models_around += models.is_model(type(part))
        while above:
            following = next(above[-1][2], None)
            if following is not None:
                step, part = following
                break
            _, done, _ = above.pop()
            del around[id(done)]
            models_around -= models.is_model(type(done))
        else:
            return None


def _path(steps: list[str]) -> str:
    path = "".join(steps)
    return path if len(path) <= _LONGEST_PATH else f"{path[: _LONGEST_PATH // 2]}…{path[-_LONGEST_PATH // 2 :]}"


# --- the parts of a value -------------------------------------------------------------------


def _parts(value: Any) -> list[tuple[str, object]]:
    for kind, parts in _CONTAINERS:
        if isinstance(value, kind):
            return parts(value)
    type_: Any = value.__class__
    if dataclasses.is_dataclass(type_):
        return _named(value, [field.name for field in dataclasses.fields(type_)])
    if hasattr(type_, "__attrs_attrs__"):
        return _named(value, [attribute.name for attribute in type_.__attrs_attrs__])
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


# --- what is wrong with one part ------------------------------------------------------------


def _reason(
    value: Any, parts: list[tuple[str, object]], write: Callable[[object], bytes], *, naive: bool
) -> str | None:
    """Why a part cannot be written, its own parts left aside; None if it can."""
    if value is None or isinstance(value, bool):
        return None
    if isinstance(value, float):
        return None if math.isfinite(value) else f"{value} is not a JSON number; use None or a string"
    if isinstance(value, dt.datetime):
        return _reason_of_time(value, naive=naive)
    if isinstance(value, dt.time):
        return _reason_of_offset(value.utcoffset())
    if isinstance(value, dict):
        return _reason_of_keys(cast("dict[object, object]", value), write)
    if parts:
        return None
    return None if _writable(value, write) else _unwritable(value, write)


def _reason_of_keys(value: dict[object, object], write: Callable[[object], bytes]) -> str | None:
    if _writable(dict.fromkeys(value), write):
        return None
    text = all(isinstance(key, str) for key in value)
    return _SURROGATE if text else "keys of a dict must be text or numbers"


def _reason_of_time(value: dt.datetime, *, naive: bool) -> str | None:
    offset = value.utcoffset()
    if offset is None and not naive:
        return (
            f"{value} has no time zone, so each machine would read another moment in it; make it aware "
            "(datetime.now(UTC)), or declare it as Annotated[datetime, msgspec.Meta(tz=False)] if it is no moment"
        )
    return _reason_of_offset(offset)


def _reason_of_offset(offset: dt.timedelta | None) -> str | None:
    if offset is None or offset % _MINUTE == _NOTHING:
        return None
    return f"its time zone is {offset} from UTC, and JSON has no seconds there; convert it with astimezone(UTC)"


def _writable(value: object, write: Callable[[object], bytes]) -> bool:
    try:
        write(value)
    except UNWRITABLE:
        return False
    return True


def _unwritable(value: Any, write: Callable[[object], bytes]) -> str:
    if inspect.iscoroutine(value):
        return f"it is a coroutine that was never awaited; write `await {value.cr_code.co_name}(...)`"
    if inspect.isawaitable(value):
        return f"a {type(value).__qualname__} is something to be awaited; write `await` before it"
    if isinstance(value, str):
        return _SURROGATE
    try:
        write(value)
    except TypeError:
        return f"a {type(value).__qualname__} has no form in JSON; use a dataclass, a Struct or plain data instead"
    except UNWRITABLE as error:
        return str(error)
    return "it cannot be written"  # pragma: no cover - it could not, a moment ago
