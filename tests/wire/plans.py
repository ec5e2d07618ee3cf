"""Plans of messages: the value of each field that is set, from which ours and google's are built alike."""

from __future__ import annotations

import functools
import math
from typing import Any

import betterproto2
from hypothesis import strategies as st

from wire.reference import Descriptor, Google, descriptor, google_class, our_class

Plan = dict[str, Any]

UNKNOWN = "?"
"""The key under which a plan has the bytes of fields that the protocol does not know."""

TEXTS = ("", "a", "é", "\N{SNOWMAN}", "\U0001f600", "\x00", "x" * 127, "y" * 128, "z" * 20_000)
BLOBS = (b"", b"\x00", b"\xff" * 127, b"\x80" * 128, b"{}" * 10_000)
INT32 = (0, 1, -1, 127, 128, 16_383, 16_384, 2**31 - 1, -(2**31))
INT64 = (*INT32, 2**31, 2**56, 2**63 - 1, -(2**63))
DOUBLES = (0.0, -0.0, 1.5, math.inf, -math.inf, math.nan, 5e-324)
MAPS: tuple[dict[str, str], ...] = (
    {},
    {"": ""},
    {"b": "1", "a": "2", "": "0", "ab": "", "é": "3", "\U0001f600": "4", "￿": "x" * 200},
)

UNKNOWN_FIELDS = (
    b"\xc0\x3e\x05",  # a number
    b"\xc1\x3e\x00\x01\x02\x03\x04\x05\x06\x07",  # 64 bits
    b"\xc2\x3e\x03abc",
    b"\xc3\x3e\x08\x01\xc3\x3e\xc4\x3e\xc4\x3e",  # a group in a group
    b"\xc5\x3e\x00\x01\x02\x03",  # 32 bits
    b"\xfa\xff\xff\xff\x0f\x00",  # the highest number that a field can have
    b"\xc0\xbe\x00\x85\x00",  # numbers that are longer than they need be
)


def is_map(field: Descriptor) -> bool:
    return field.message_type is not None and bool(field.message_type.GetOptions().map_entry)


def edges(field: Descriptor) -> tuple[Any, ...]:
    """Values of a field that are easily got wrong."""
    if is_map(field):
        return MAPS
    kinds: dict[int, tuple[Any, ...]] = {
        field.TYPE_STRING: TEXTS,
        field.TYPE_BYTES: BLOBS,
        field.TYPE_INT32: INT32,
        field.TYPE_INT64: INT64,
        field.TYPE_DOUBLE: DOUBLES,
        field.TYPE_BOOL: (False, True),
        field.TYPE_ENUM: (0, 1, 2, 77, -1, 2**31 - 1, -(2**31)),
        field.TYPE_MESSAGE: ({}, {UNKNOWN: UNKNOWN_FIELDS[0]}),
    }
    return kinds[field.type]


def full(name: str) -> Plan:
    """A plan with every field set that can be set at once, two values in each repeated one."""
    plan: Plan = {UNKNOWN: UNKNOWN_FIELDS[2]}
    oneofs: set[str] = set()
    for field in descriptor(name).fields:
        oneof = field.containing_oneof
        if oneof is not None and oneof.name in oneofs:
            continue
        if oneof is not None:
            oneofs.add(oneof.name)
        value = full(field.message_type.full_name) if _is_message(field) else edges(field)[1]
        plan[field.name] = [value, value] if field.is_repeated and not is_map(field) else value
    return plan


def _is_message(field: Descriptor) -> bool:
    return field.message_type is not None and not is_map(field)


@functools.cache
def plans(name: str) -> st.SearchStrategy[Plan]:
    """Any plan of a message."""
    described = descriptor(name)
    optional: dict[str, st.SearchStrategy[Any]] = {UNKNOWN: st.lists(st.sampled_from(UNKNOWN_FIELDS)).map(b"".join)}
    choices: list[st.SearchStrategy[Plan]] = []
    for oneof in described.oneofs:
        if len(oneof.fields) > 1:
            members = [st.fixed_dictionaries({member.name: _values(member)}) for member in oneof.fields]
            choices.append(st.one_of(st.just({}), *members))
    for field in described.fields:
        if field.containing_oneof is None or len(field.containing_oneof.fields) == 1:
            optional[field.name] = _values(field)
    plain = st.fixed_dictionaries({}, optional=optional)
    return st.tuples(plain, *choices).map(lambda parts: {key: value for part in parts for key, value in part.items()})


def _values(field: Descriptor) -> st.SearchStrategy[Any]:
    text = st.text(st.characters(exclude_categories=["Cs"]))
    if is_map(field):
        return st.dictionaries(text, text)
    kinds: dict[int, st.SearchStrategy[Any]] = {
        field.TYPE_STRING: text,
        field.TYPE_BYTES: st.binary(),
        field.TYPE_INT32: st.integers(-(2**31), 2**31 - 1),
        field.TYPE_INT64: st.integers(-(2**63), 2**63 - 1),
        field.TYPE_DOUBLE: st.floats(),
        field.TYPE_BOOL: st.booleans(),
        field.TYPE_ENUM: st.integers(-(2**31), 2**31 - 1) | st.integers(0, 15),
    }
    value = plans(field.message_type.full_name) if field.type == field.TYPE_MESSAGE else kinds[field.type]
    value = value | st.sampled_from(edges(field))
    return st.lists(value, max_size=4) if field.is_repeated else value


def as_google(name: str, plan: Plan) -> Google:
    message = google_class(name)()
    _fill_google(message, plan)
    return message


def _fill_google(message: Google, plan: Plan) -> None:
    fields = message.DESCRIPTOR.fields_by_name
    for key, value in plan.items():
        if key == UNKNOWN:
            message.MergeFromString(value)
        elif is_map(fields[key]):
            getattr(message, key).update(value)
        elif fields[key].is_repeated and fields[key].message_type is not None:
            for item in value:
                _fill_google(getattr(message, key).add(), item)
        elif fields[key].is_repeated:
            getattr(message, key).extend(value)
        elif fields[key].message_type is not None:
            getattr(message, key).SetInParent()
            _fill_google(getattr(message, key), value)
        else:
            setattr(message, key, value)


def as_ours(name: str, plan: Plan) -> betterproto2.Message:
    fields = descriptor(name).fields_by_name
    values: Plan = {}
    for key, value in plan.items():
        if key == UNKNOWN:
            continue
        nested = fields[key].message_type
        if nested is None or is_map(fields[key]):
            values[key] = value
        elif fields[key].is_repeated:
            values[key] = [as_ours(nested.full_name, item) for item in value]
        else:
            values[key] = as_ours(nested.full_name, value)
    message = our_class(name)(**values)
    message._unknown_fields = plan.get(UNKNOWN, b"")
    return message


def assert_same(ours: betterproto2.Message, google: Google) -> None:
    """Asserts that both say the same, field by field, as their own accessors tell."""
    assert type(ours).__name__ == google.DESCRIPTOR.name
    for field in google.DESCRIPTOR.fields:
        mine, theirs = getattr(ours, field.name), getattr(google, field.name)
        if is_map(field):
            assert mine == dict(theirs), field.full_name
        elif field.is_repeated:
            assert len(mine) == len(theirs), field.full_name
            for one, other in zip(mine, theirs, strict=True):
                _assert_same_value(field, one, other)
        elif field.has_presence:
            assert (mine is not None) == google.HasField(field.name), field.full_name
            if mine is not None:
                _assert_same_value(field, mine, theirs)
        else:
            _assert_same_value(field, mine, theirs)


def _assert_same_value(field: Descriptor, mine: Any, theirs: Any) -> None:
    if field.message_type is not None:
        assert_same(mine, theirs)
    elif field.type == field.TYPE_DOUBLE:
        assert math.copysign(1, mine) == math.copysign(1, theirs), field.full_name
        assert mine == theirs or (math.isnan(mine) and math.isnan(theirs)), field.full_name
    else:
        assert mine == theirs, field.full_name
