"""Writes ``flovyn/wire/coding/generated.py``: a compiled encoder and decoder for each message.

What the generated code does, and why it is fast:

* An encoder collects the pieces in field order and joins them once. A tag and a short length are one ready-made piece.
* A decoder expects the fields in order, as everybody writes them: it asks for each tag once, falling through from one
  field to the next, and goes round again only for what comes out of order. The values are locals until the message is
  made, past its ``__init__``.
* Neither checks what Python notices by itself: wrong types show as TypeError and the like, the end of the data as
  IndexError. `flovyn.wire.coding` turns them into readable errors. A field that reaches beyond its message is noticed
  once, at the end, because the place has passed the end then.

Only the kinds of fields that the protocol has are known here; another one stops the generator.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from google.protobuf.descriptor_pb2 import FieldDescriptorProto as Field

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto

__all__ = ["module"]

KINDS = {
    Field.TYPE_STRING: "string",
    Field.TYPE_BYTES: "bytes",
    Field.TYPE_BOOL: "bool",
    Field.TYPE_INT32: "int32",
    Field.TYPE_INT64: "int64",
    Field.TYPE_DOUBLE: "double",
    Field.TYPE_ENUM: "enum",
    Field.TYPE_MESSAGE: "message",
}
VARINT, FIXED64, DELIMITED = 0, 1, 2
WIRE_TYPES = {"bool": VARINT, "int32": VARINT, "int64": VARINT, "enum": VARINT, "double": FIXED64}
"""By kind; what is not here is delimited."""
PYTHON_TYPES = {"string": "str", "bytes": "bytes", "bool": "bool", "int32": "int", "int64": "int", "double": "float"}
DEFAULTS = {"string": '""', "bytes": 'b""', "bool": "False", "int32": "0", "int64": "0", "double": "0.0"}

PREAMBLE = '''"""How each message of the protocol is written and read."""

# ruff: noqa: C901, N802, PLR0912, PLR0915, SLF001
# pyright: reportPrivateUsage=false

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from flovyn.wire.coding.primitives import (
    DOUBLE, NUMBERS, ZERO, Defect, double, int32, int64, length, merged, prefixed, put_entries, read_entry,
    read_int32, read_int64, read_varint, skip, tag, varint,
)
from flovyn.wire.messages.flovyn import v1 as pb
from flovyn.wire.messages.google.protobuf import Empty

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["DECODERS", "ENCODERS"]

new: Final = object.__new__
'''


@dataclass(frozen=True, slots=True)
class Slot:
    """One field, as the coders see it."""

    name: str
    number: int
    kind: str
    type: str
    """The Python type of one value."""
    repeated: bool
    presence: bool
    """Whether it can be absent; it is None then."""
    oneof: str | None
    """The name of its oneof, if it is in one."""

    @property
    def local(self) -> str:
        """Its local variable; numbered, as a name might clash."""
        return f"v{self.number}"

    @property
    def tag(self) -> int:
        return self.number << 3 | WIRE_TYPES.get(self.kind, DELIMITED)

    @property
    def key(self) -> bytes:
        """Its tag as it is written."""
        return varint(self.tag)

    @property
    def prefix(self) -> str:
        """The table of its tag followed by each short length."""
        return f"P{self.tag}"


def varint(n: int) -> bytes:
    return bytes((n,)) if n < 128 else bytes((n & 127 | 128,)) + varint(n >> 7)


def module(files: Iterable[FileDescriptorProto]) -> str:
    """The source of the module."""
    messages = [(_python_type(f".{file.package}.{m.name}"), m) for file in files for m in file.message_type]
    slots = {name: sorted(_slots(message), key=lambda slot: slot.number) for name, message in messages}
    every = [slot for fields in slots.values() for slot in fields]
    prefixes = sorted({slot.tag for slot in every if slot.kind not in WIRE_TYPES})
    enums = sorted({slot.type for slot in every if slot.kind == "enum"})
    lines = [PREAMBLE]
    lines += [f"P{tag}: Final = prefixed({tag})" for tag in prefixes]
    lines += [f"{_enum_table(enum)}: Final = {{member.value: member for member in {enum}}}" for enum in enums]
    for name, fields in slots.items():
        lines += ["", "", *_encoder(name, fields), "", "", *_decoder(name, fields)]
    lines += ["", "", "ENCODERS: Final[dict[type[Any], Callable[[Any], bytes]]] = {"]
    lines += [f"    {name}: encode_{_short(name)}," for name in slots]
    lines += ["}", "DECODERS: Final[dict[type[Any], Callable[[bytes, int, int], Any]]] = {"]
    lines += [f"    {name}: decode_{_short(name)}," for name in slots]
    return "\n".join([*lines, "}", ""])


def _slots(message: DescriptorProto) -> Iterator[Slot]:
    entries = {nested.name: nested for nested in message.nested_type if nested.options.map_entry}
    for field in message.field:
        where = f"{message.name}.{field.name}"
        kind = KINDS.get(field.type)
        repeated = field.label == Field.LABEL_REPEATED
        entry = entries.get(field.type_name.rpartition(".")[2])
        if entry is not None:
            if any(part.type != Field.TYPE_STRING for part in entry.field):
                raise SystemExit(f"{where}: only maps from strings to strings are known to the generator")
            kind, repeated = "map", False
        if kind is None or (repeated and kind not in {"string", "bytes", "message"}):
            raise SystemExit(f"{where}: a kind of field that the generator does not know")
        yield Slot(
            name=field.name,
            number=field.number,
            kind=kind,
            type=PYTHON_TYPES.get(kind) or _python_type(field.type_name),
            repeated=repeated,
            presence=not repeated and (kind == "message" or field.HasField("oneof_index")),
            oneof=_oneof(message, field),
        )


def _oneof(message: DescriptorProto, field: Field) -> str | None:
    # An `optional` field is the only member of a oneof that exists for nothing else.
    if field.proto3_optional or not field.HasField("oneof_index"):
        return None
    name: str = message.oneof_decl[field.oneof_index].name
    return name


def _python_type(full_name: str) -> str:
    name = _short(full_name)
    return name if full_name.startswith(".google.") else f"pb.{name}"


def _short(name: str) -> str:
    return name.rpartition(".")[2]


def _enum_table(enum: str) -> str:
    return f"OF_{_short(enum)}"


def _indented(lines: Iterable[str], depth: int) -> list[str]:
    return [" " * 4 * depth + line for line in lines]


# --- writing --------------------------------------------------------------------------------


def _encoder(name: str, fields: list[Slot]) -> Iterator[str]:
    """Code that writes a message."""
    oneofs = any(slot.oneof for slot in fields)
    yield f"def encode_{_short(name)}(o: {name}) -> bytes:"
    if not fields:
        yield "    return o._unknown_fields"
        return
    yield "    r: list[bytes] = []"
    if oneofs:
        yield "    n = 0"
    for slot in fields:
        yield f"    {slot.local} = o.{slot.name}"
        yield from _indented(_write_field(slot), 1)
    if oneofs:
        yield "    if n > 1:"
        yield "        raise ValueError"
    yield "    if o._unknown_fields:"
    yield "        r.append(o._unknown_fields)"
    yield '    return b"".join(r)'


def _write_field(slot: Slot) -> Iterator[str]:
    v = slot.local
    if slot.kind == "map":
        # Compared with the empty value rather than asked for truth, so that None does not pass for empty.
        yield f"if {v} != {{}}:"
        yield f"    put_entries(r, {slot.prefix}, {v})"
    elif slot.repeated:
        yield f"if {v} != []:"
        yield f"    if {v}.__class__ is not list:"
        yield "        raise TypeError"
        yield f"    for i{slot.number} in {v}:"
        yield from _indented(_write_value(slot, f"i{slot.number}"), 2)
    elif slot.presence:
        yield f"if {v} is not None:"
        if slot.oneof:
            yield "    n += 1"
        yield from _indented(_write_value(slot, v), 1)
    elif slot.kind == "bool":
        yield f"if {v} is True:"
        yield f"    r.append({slot.key + bytes((1,))!r})"
        yield f"elif {v} is not False:"
        yield "    raise TypeError"
    elif slot.kind == "double":
        # By its bytes, as -0.0 equals 0.0 but is not the default.
        yield f"x{slot.number} = double({v})"
        yield f"if x{slot.number} != ZERO:"
        yield f"    r.append({slot.key!r})"
        yield f"    r.append(x{slot.number})"
    else:
        yield f"if {v} != {DEFAULTS.get(slot.kind, '0')}:"
        yield from _indented(_write_value(slot, v), 1)


def _write_value(slot: Slot, v: str) -> Iterator[str]:
    """Code that writes a value that is there."""
    if slot.kind in {"int32", "int64", "enum"}:
        long = "int64" if slot.kind == "int64" else "int32"
        yield f"r.append({slot.key!r})"
        yield f"r.append(NUMBERS[{v}] if 0 <= {v} < 128 else {long}({v}))"
        return
    if slot.kind == "string":
        yield f"x = {v}.encode()"
    elif slot.kind == "bytes":
        yield f"x = {v}"
    elif slot.kind == "message":
        # Many messages have the same field names, so another one would pass for this one.
        yield f"if {v}.__class__ is not {slot.type}:"
        yield "    raise TypeError"
        yield f"x = encode_{_short(slot.type)}({v})"
    else:
        raise SystemExit(f"{slot.name}: cannot be optional or repeated")
    yield "k = len(x)"
    yield f"r.append({slot.prefix}[k] if k < 128 else {slot.key!r} + varint(k))"
    yield "r.append(x)"


# --- reading --------------------------------------------------------------------------------


def _decoder(name: str, fields: list[Slot]) -> Iterator[str]:
    """Code that reads a message between two places of the data."""
    oneofs = sorted({slot.oneof for slot in fields if slot.oneof})
    if len(oneofs) > 1:
        raise SystemExit(f"{name}: only one oneof a message is known to the generator")
    members = [slot for slot in fields if slot.oneof]
    yield f"def decode_{_short(name)}(d: bytes, p: int, e: int) -> {name}:"
    for slot in fields:
        if not slot.oneof:
            yield from _indented(_initial(slot), 1)
    if members:
        yield "    w: str | None = None"
        yield "    v: Any = None"
    if any(slot.kind == "message" for slot in members):
        yield "    m: Callable[[bytes, int, int], Any] | None = None"
        yield "    s: list[int] = []"
    yield "    u: list[bytes] | None = None"
    yield "    if p < e:"
    next_tag = _next_tag(fields)
    yield from _indented(next_tag[2:], 2)
    yield "        while True:"
    for slot in fields:
        yield f"            if t == {slot.tag}:"
        yield from _indented(_read_field(slot, members), 4)
        yield from _indented(next_tag, 4)
        if slot.repeated or slot.kind == "map":
            yield "                continue"
    yield from _indented(_read_other(fields, next_tag), 3)
    yield "        if p != e:"
    yield '            raise Defect("it ends within a field")'
    for slot in fields:
        if slot.kind == "message" and slot.presence and not slot.oneof:
            yield f"    if len(s{slot.number}) > 2:"
            yield f"        {slot.local} = merged(decode_{_short(slot.type)}, d, s{slot.number})"
    if any(slot.kind == "message" for slot in members):
        yield "    if m is not None and len(s) > 2:"
        yield "        v = merged(m, d, s)"
    yield f"    o = new({name})"
    for slot in fields:
        yield f"    o.{slot.name} = {'None' if slot.oneof else slot.local}"
    yield '    o._unknown_fields = b"" if u is None else b"".join(u)'
    if members:
        yield "    if w is not None:"
        yield "        setattr(o, w, v)"
    yield "    return o"


def _initial(slot: Slot) -> Iterator[str]:
    if slot.kind == "map":
        yield f"{slot.local}: dict[str, str] = {{}}"
    elif slot.repeated:
        yield f"{slot.local}: list[{slot.type}] = []"
    elif slot.presence:
        yield f"{slot.local}: {slot.type} | None = None"
        if slot.kind == "message":
            yield f"s{slot.number}: list[int] = []"
    elif slot.kind == "enum":
        yield f"{slot.local} = {_enum_table(slot.type)}[0]"
    else:
        yield f"{slot.local} = {DEFAULTS[slot.kind]}"


def _next_tag(fields: list[Slot]) -> list[str]:
    """Code that goes on to the next field. Where all tags have one byte, longer ones are met as unknown first."""
    lines = ["if p >= e:", "    break"]
    if any(slot.tag > 127 for slot in fields):
        return [*lines, "q = p", "t = d[p]", "p += 1", "if t > 127:", "    t, p = tag(d, q)"]
    return [*lines, "t = d[p]", "p += 1"]


def _read_other(fields: list[Slot], next_tag: list[str]) -> Iterator[str]:
    """Code for a tag that no field took: it is out of order, longer than it need be, or unknown."""
    keep = ["p = skip(d, p, t)", "if u is None:", "    u = []", "u.append(d[q:p])", *next_tag]
    if any(slot.tag > 127 for slot in fields):
        yield _unless_known(fields)
        yield from _indented(keep, 1)
        return
    whole = ["q = p - 1", "t, p = tag(d, q)"]
    if not fields:
        yield from [*whole, *keep]
        return
    yield _unless_known(fields)
    yield from _indented([*whole, _unless_known(fields), *_indented(keep, 1)], 1)


def _unless_known(fields: list[Slot]) -> str:
    if len(fields) == 1:
        return f"if t != {fields[0].tag}:"
    return f"if t not in {{{', '.join(str(slot.tag) for slot in fields)}}}:"


def _read_field(slot: Slot, members: list[Slot]) -> Iterator[str]:
    """Code that reads the value of a field, behind its tag, into its local variable."""
    if slot.kind in {"int32", "int64"}:
        yield from _read_number(slot.local, f"read_{slot.kind}")
        return
    if slot.kind == "bool":
        yield from _read_number("c", "read_varint")
        yield f"{slot.local} = c != 0"
        return
    if slot.kind == "enum":
        yield from _read_number("c", "read_int32")
        yield f"x{slot.number} = {_enum_table(slot.type)}.get(c)"
        # One that this version does not know is kept as it is.
        yield f"{slot.local} = {slot.type}(c) if x{slot.number} is None else x{slot.number}"
        return
    if slot.kind == "double":
        yield f"({slot.local},) = DOUBLE.unpack_from(d, p)"
        yield "p += 8"
        return
    yield from _read_length(slot)
    value = {"string": "d[p:k].decode()", "bytes": "d[p:k]"}.get(slot.kind) or f"decode_{_short(slot.type)}(d, p, k)"
    if slot.kind == "map":
        yield "x, y = read_entry(d, p, k)"
        yield f"{slot.local}[x] = y"
    elif slot.repeated:
        yield f"{slot.local}.append({value})"
    elif slot.oneof:
        yield from _read_member(slot, value, merging=any(member.kind == "message" for member in members))
    else:
        yield f"{slot.local} = {value}"
        if slot.kind == "message":
            yield f"s{slot.number} += (p, k)"
    yield "p = k"


def _read_member(slot: Slot, value: str, *, merging: bool) -> Iterator[str]:
    """Code that reads a member of a oneof; whichever was there before is gone."""
    if slot.kind == "message":
        yield f'if w != "{slot.name}":'
        yield "    s = []"
        yield f"    m = decode_{_short(slot.type)}"
        yield "s += (p, k)"
    elif merging:
        yield "m = None"
    yield f'w = "{slot.name}"'
    yield f"v = {value}"


def _read_number(target: str, long: str) -> Iterator[str]:
    yield f"{target} = d[p]"
    yield "p += 1"
    yield f"if {target} > 127:"
    yield f"    {target}, p = {long}(d, p - 1)"


def _read_length(slot: Slot) -> Iterator[str]:
    """Code that reads a length; ``k`` is the end of the value then."""
    yield "c = d[p]"
    yield "p += 1"
    if slot.kind in {"bytes", "message"}:
        # Payloads are rarely shorter than 128 bytes and often shorter than 16 KiB.
        yield "if c > 127:"
        yield "    if d[p] < 128:"
        yield "        c += (d[p] << 7) - 128"
        yield "        p += 1"
        yield "    else:"
        yield "        c, p = length(d, p - 1)"
    else:
        yield "if c > 127:"
        yield "    c, p = length(d, p - 1)"
    yield "k = p + c"
