"""What is wrong with a message that cannot be encoded; looked for only after that has failed."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Final, get_args, get_type_hints

import betterproto2

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from betterproto2 import FieldMetadata

__all__ = ["first_fault"]

# Those of the protocol; it has no others.
TYPES: Final[Mapping[str, type]] = {
    betterproto2.TYPE_STRING: str,
    betterproto2.TYPE_BYTES: bytes,
    betterproto2.TYPE_BOOL: bool,
    betterproto2.TYPE_INT32: int,
    betterproto2.TYPE_INT64: int,
    betterproto2.TYPE_ENUM: int,
    betterproto2.TYPE_DOUBLE: float,
}
BITS: Final[Mapping[str, int]] = {
    betterproto2.TYPE_INT32: 32,
    betterproto2.TYPE_INT64: 64,
    betterproto2.TYPE_ENUM: 32,
}


def first_fault(message: betterproto2.Message) -> str | None:
    """The first thing about the message that cannot be written, named by message and field; None if all is well.

    Example:
        >>> from flovyn.wire.messages.flovyn import v1 as pb
        >>> first_fault(pb.WorkflowEvent(sequence_number=2**40))
        'WorkflowEvent.sequence_number: 1099511627776 does not fit 32 bits'
    """
    return next(_faults(type(message).__name__, message), None)


def _faults(where: str, message: Any) -> Iterator[str]:
    chosen: dict[str, str] = {}
    cls: type[object] = message.__class__
    hints = get_type_hints(cls)
    for field in dataclasses.fields(message):
        meta: FieldMetadata = field.metadata["betterproto"]
        value = getattr(message, field.name, None)
        if value is None and (meta.optional or meta.group):
            continue
        if meta.group is not None:
            if meta.group in chosen:
                yield f"{where}: both {chosen[meta.group]} and {field.name} are set; at most one of {meta.group} can be"
            chosen[meta.group] = field.name
        yield from _field_faults(f"{where}.{field.name}", meta, hints[field.name], value)


def _field_faults(where: str, meta: FieldMetadata, hint: Any, value: Any) -> Iterator[str]:
    kind: type[object] = value.__class__
    if meta.map_meta is not None:
        if not issubclass(kind, dict):
            yield f"{where}: expected dict, got {kind.__name__}"
            return
        for key, item in value.items():
            yield from _value_faults(f"{where}, a key", meta.map_meta[0].proto_type, str, key)
            yield from _value_faults(f"{where}[{key!r}]", meta.map_meta[1].proto_type, str, item)
    elif meta.repeated:
        if kind is not list:
            yield f"{where}: expected list, got {kind.__name__}"
            return
        for index, item in enumerate(value):
            yield from _value_faults(f"{where}[{index}]", meta.proto_type, hint, item)
    else:
        yield from _value_faults(where, meta.proto_type, hint, value)


def _value_faults(where: str, proto_type: str, hint: Any, value: object) -> Iterator[str]:
    if proto_type == betterproto2.TYPE_MESSAGE:
        # The hint is that of the whole field: `X | None` or `list[X]`.
        (expected,) = (part for part in get_args(hint) if part is not type(None))
        if type(value) is expected:
            yield from _faults(where, value)
            return
    else:
        expected = TYPES[proto_type]
    if not isinstance(value, expected) and not (expected is float and isinstance(value, int)):
        yield f"{where}: expected {expected.__name__}, got {type(value).__name__}"
    elif isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as error:
            yield f"{where}: text that cannot be written as UTF-8 ({error.reason} at {error.start})"
    elif isinstance(value, int) and proto_type in BITS:
        bits = BITS[proto_type]
        if not -(1 << bits - 1) <= value < 1 << bits - 1:
            yield f"{where}: {value} does not fit {bits} bits"
