"""Why a value cannot be written, and where in it the fault is.

msgspec's encoder does not say where, and of some faults it says nothing at all: a NaN becomes null, a time zone that is
off by seconds is cut to minutes. So a value that failed, or looks suspicious, is searched here. That is slow, and done
on the way to an error or on suspicion only.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
import inspect
import math
import re
from collections.abc import Callable, Hashable, Iterable, Iterator
from decimal import Decimal
from typing import Any, Final, cast
from uuid import UUID

import msgspec

from flovyn.errors import PayloadError
from flovyn.serde import models

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
    trail = _Trail()
    suspect: tuple[object, object] | None = (None, value)
    while suspect is not None:
        step, part = suspect
        split = _splitter(cast("Hashable", type(part)))
        reason = _reason(part, write, whole=split is None, naive=naive or trail.models > 0)
        if part in trail:
            reason = "the value contains itself"
        if reason is not None:
            path = trail.path(step)
            return PayloadError(f"cannot write {path}: {reason}", path=path)
        if split is not None:
            trail.enter(step, part, iter(split(part)))
        suspect = trail.next()
    return None


class _Trail:
    """Where a search stands: a value may be nested deeper than Python's own stack.

    Attributes:
        models: How many models of pydantic's are around: their own rules say which datetimes they take.
    """

    __slots__ = ("_ids", "_levels", "models")

    def __init__(self) -> None:
        self._levels: list[tuple[object, object, Iterator[tuple[object, object]]]] = []
        self._ids: dict[int, None] = {}
        self.models: int = 0

    def __contains__(self, value: object) -> bool:
        return id(value) in self._ids

    def enter(self, step: object, value: object, parts: Iterator[tuple[object, object]]) -> None:
        self._levels.append((step, value, parts))
        self._ids[id(value)] = None
        self.models += models.is_model(type(value))

    def next(self) -> tuple[object, object] | None:
        """The next part that may be at fault, with the step to it; None if there is none any more."""
        while self._levels:
            _, value, parts = self._levels[-1]
            for step, part in parts:
                if not _is_fine(part):
                    return step, part
            self._levels.pop()
            del self._ids[id(value)]
            self.models -= models.is_model(type(value))
        return None

    def path(self, step: object) -> str:
        steps = [*(before for before, _, _ in self._levels), step][1:]
        path = "$" + "".join(map(_shown, steps))
        return path if len(path) <= _LONGEST_PATH else f"{path[: _LONGEST_PATH // 2]}…{path[-_LONGEST_PATH // 2 :]}"


# Most of a payload, and never at fault.
_FINE: Final = frozenset({type(None), bool, bytes, bytearray, dt.date, dt.timedelta, Decimal, UUID})
_SMALL: Final = 1 << 64


def _is_fine(part: Any) -> bool:
    kind = part.__class__
    if kind is str:
        return cast("str", part).isascii()
    if kind is int:
        return -_SMALL < cast("int", part) < _SMALL
    return kind in _FINE or (kind is float and math.isfinite(part))


def _shown(step: object) -> str:
    if step is ...:
        return "[...]"
    return f".{step}" if isinstance(step, str) and step.isidentifier() else f"[{step!r}]"


# --- the parts of a value -------------------------------------------------------------------

_Parts = Iterable[tuple[object, object]]


@functools.lru_cache(maxsize=1024)
def _splitter(cls: Hashable) -> Callable[[Any], _Parts] | None:
    """What gives the parts of a value with the steps to them; None if it has none to be looked at by themselves."""
    kind = cast("type[Any]", cls)
    for base, split in _CONTAINERS:
        if issubclass(kind, base):
            return split
    names: Iterable[str] | None = None
    if issubclass(kind, tuple):
        names = getattr(cls, "_fields", None)
        if names is None:
            return enumerate
    elif issubclass(kind, msgspec.Struct):
        names = kind.__struct_fields__
    elif dataclasses.is_dataclass(cls):
        names = [field.name for field in dataclasses.fields(cls)]
    elif hasattr(kind, "__attrs_attrs__"):
        names = [attribute.name for attribute in cast("Any", kind).__attrs_attrs__]
    elif models.is_model(kind):
        names = kind.model_fields
    if names is None:
        return None
    listed = list(names)
    return lambda value: [(name, getattr(value, name, None)) for name in listed]


def _mapping(value: dict[object, object]) -> _Parts:
    return value.items()


def _set(value: Iterable[object]) -> _Parts:
    return ((..., part) for part in value)


_CONTAINERS: Final[tuple[tuple[type[Any], Callable[[Any], _Parts]], ...]] = (
    (dict, _mapping),
    (list, enumerate),
    (set, _set),
    (frozenset, _set),
)


# --- what is wrong with one part ------------------------------------------------------------


def _reason(value: Any, write: Callable[[object], bytes], *, whole: bool, naive: bool) -> str | None:
    """Why a part cannot be written, its own parts left aside if it is not a whole; None if it can."""
    if isinstance(value, float):
        return None if math.isfinite(value) else f"{value} is not a JSON number; use None or a string"
    if isinstance(value, dt.datetime):
        return _reason_of_time(value, naive=naive)
    if isinstance(value, dt.time):
        return _reason_of_offset(value.utcoffset())
    if isinstance(value, dict):
        return _reason_of_keys(cast("dict[object, object]", value), write)
    if not whole or _writable(value, write):
        return None
    return _unwritable(value, write)


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
