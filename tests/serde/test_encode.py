from __future__ import annotations

import asyncio
import enum
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Annotated, Any, NamedTuple
from uuid import UUID

import msgspec
import pytest

from flovyn.errors import PayloadError
from flovyn.serde import codec_for, decode, encode


@dataclass
class Item:
    sku: str
    price: float | None = None
    more: Any = None


@dataclass
class Order:
    id: str
    items: list[Item]


class Place(msgspec.Struct, rename="camel"):
    street_name: str
    inner: Any = None


class Point(NamedTuple):
    x: Any
    y: Any


class Colour(enum.Enum):
    RED = "red"


@pytest.mark.parametrize(
    ("value", "data"),
    [
        (None, b"null"),
        (10**30, b"1000000000000000000000000000000"),
        ([10**30, None], b"[1000000000000000000000000000000,null]"),
        (b"\x00\xff", b'"AP8="'),
        (Decimal("1.10"), b'"1.10"'),
        (timedelta(minutes=1, milliseconds=1), b'"PT60.001S"'),
        (datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), b'"2026-01-02T03:04:05Z"'),
        (UUID(int=1), b'"00000000-0000-0000-0000-000000000001"'),
        (Colour.RED, b'"red"'),
        (Point(1, None), b"[1,null]"),
        ({3: "a"}, b'{"3":"a"}'),
        (Order("o", [Item("s", 1.5)]), b'{"id":"o","items":[{"sku":"s","price":1.5,"more":null}]}'),
        (Place("x"), b'{"streetName":"x","inner":null}'),
    ],
)
def test_writes(value: object, data: bytes) -> None:
    assert encode(value) == data


NAN = float("nan")
NAIVE = datetime(2026, 1, 2, 3, 4, 5)
ODD = datetime(2026, 1, 2, tzinfo=timezone(timedelta(hours=1, seconds=5)))


@pytest.mark.parametrize(
    ("value", "path", "reason"),
    [
        (NAN, "$", "nan is not a JSON number; use None or a string"),
        ([1.0, float("-inf")], "$[1]", "-inf is not a JSON number; use None or a string"),
        (Order("o", [Item("a", 1.0), Item("b", NAN)]), "$.items[1].price", "nan is not a JSON number"),
        ({"a b": {"c": NAN}}, "$['a b'].c", "nan is not a JSON number"),
        (Place("x", [NAN]), "$.inner[0]", "nan is not a JSON number"),
        (Point(None, {NAN}), "$.y[...]", "nan is not a JSON number"),
        ([10**30, NAN], "$[1]", "nan is not a JSON number"),
        (object(), "$", "a object has no form in JSON"),
        (Order("o", [Item("a", more=[1j])]), "$.items[0].more[0]", "a complex has no form in JSON"),
        ({"k": {(1, 2): 3}}, "$.k", "keys of a dict must be text or numbers"),
        (["fine", "\ud800"], "$[1]", "the text has half of a surrogate pair, which UTF-8 cannot carry"),
        ([{"\ud800": 1}], "$[0]", "the text has half of a surrogate pair, which UTF-8 cannot carry"),
        ({"k": {True: 3}}, "$.k", "keys of a dict must be text or numbers"),
        ({"at": NAIVE}, "$.at", "2026-01-02 03:04:05 has no time zone, so each machine would read another moment"),
        (Order("o", [Item("s", more=(NAIVE,))]), "$.items[0].more[0]", "2026-01-02 03:04:05 has no time zone"),
        ([ODD], "$[0]", "its time zone is 1:00:05 from UTC, and JSON has no seconds there; convert it with astimezone"),
        ([NAIVE, time(1, tzinfo=ODD.tzinfo)], "$[0]", "2026-01-02 03:04:05 has no time zone"),
        ([10**5_000], "$[0]", "Exceeds the limit (4300 digits) for integer string conversion"),
        ((1 for _ in ()), "$", "a generator has no form in JSON"),
    ],
)
def test_refuses_with_the_path(value: object, path: str, reason: str) -> None:
    with pytest.raises(PayloadError, match=f"^cannot write {re.escape(path)}: {re.escape(reason)}") as caught:
        encode(value)
    assert caught.value.path == path


def test_a_payload_may_say_null_and_hold_no_nan() -> None:
    assert encode(["null", None, 1.5, b"\xcb\x7f\xf0"]) == b'["null",null,1.5,"y3/w"]'


def test_texts_that_look_like_times_are_texts() -> None:
    value = ["2026-01-02T03:04:05", "at T03:04:05+01:00", datetime(2026, 1, 2, tzinfo=UTC)]
    assert encode(value) == b'["2026-01-02T03:04:05","at T03:04:05+01:00","2026-01-02T00:00:00Z"]'


def test_a_datetime_without_a_zone_can_be_asked_for() -> None:
    wall = codec_for(list[Annotated[datetime, msgspec.Meta(tz=False)]])
    assert wall.encode([NAIVE]) == b'["2026-01-02T03:04:05"]'
    assert wall.decode(b'["2026-01-02T03:04:05"]') == [NAIVE]
    with pytest.raises(PayloadError, match=re.escape("cannot write $[0]: nan is not a JSON number")):
        wall.encode([NAN])


def nested(value: Any, depth: int, around: Callable[[Any], Any]) -> Any:
    for _ in range(depth):
        value = around(value)
    return value


def test_what_is_nested_too_deeply_is_refused_and_quickly() -> None:
    # How deep is too deep differs from Python to Python; this much is for all of them.
    with pytest.raises(PayloadError, match=r"^cannot write \$: it is nested too deeply$"):
        encode(nested(1, 100_000, lambda inner: [inner]))


def test_a_fault_is_found_however_deep_it_is() -> None:
    with pytest.raises(PayloadError, match="a object has no form in JSON") as caught:
        encode(nested(object(), 20_000, lambda inner: {"a": inner}))
    assert caught.value.path is not None
    assert caught.value.path.startswith("$.a.a.a")
    assert len(caught.value.path) < 250


def test_what_is_as_deep_as_can_be_written_can_be_read() -> None:
    value: Any = 1
    for _ in range(500):
        value = [value]
    assert decode(encode(value), Any) == value


def test_a_coroutine_that_nobody_awaited_is_named() -> None:
    coroutine = asyncio.sleep(0)
    try:
        with pytest.raises(PayloadError) as caught:
            encode({"result": coroutine})
    finally:
        coroutine.close()
    expected = "cannot write $.result: it is a coroutine that was never awaited; write `await sleep(...)`"
    assert str(caught.value) == expected


def test_what_has_to_be_awaited_is_named() -> None:
    class Later:
        def __await__(self) -> Any:
            yield

    with pytest.raises(
        PayloadError, match=r"cannot write \$\[0\]: a .*Later is something to be awaited; write `await`"
    ):
        encode([Later()])


def _self_containing_list() -> object:
    value: list[object] = [1]
    value.append({"again": value})
    return value


def _self_containing_item() -> object:
    item = Item("a")
    item.more = [item]
    return Order("o", [item])


@pytest.mark.parametrize(
    ("make", "path"), [(_self_containing_list, "$[1].again"), (_self_containing_item, "$.items[0].more[0]")]
)
def test_a_value_that_contains_itself(make: Callable[[], object], path: str) -> None:
    with pytest.raises(PayloadError) as caught:
        encode(make())
    assert str(caught.value) == f"cannot write {path}: the value contains itself"


def test_a_value_that_stands_twice_does_not_contain_itself() -> None:
    shared = [NAN]
    with pytest.raises(PayloadError) as caught:
        encode([{"a": 1}, shared, shared])
    assert caught.value.path == "$[1][0]"
    item = Item("a")
    assert encode([item, item, None]).count(b'"a"') == 2


@pytest.mark.parametrize(
    "value", [{"$flovyn": 1}, {"$flovyn": {"v": 1, "value": 2}}, {"$flovyn": {"v": 1, "error": {}}}]
)
def test_no_value_can_be_taken_for_something_else(value: Any) -> None:
    written = encode(value)
    assert msgspec.json.decode(written) == {"$flovyn": {"v": 1, "value": value}}
    for type_ in (Any, dict[str, Any], object, None):
        assert decode(written, type_) == value
    assert encode([value]) == msgspec.json.encode([value])


def test_a_field_of_a_struct_may_have_any_name() -> None:
    class Odd(msgspec.Struct):
        inner: Any = msgspec.field(name="$flovyn")

    class Strict(msgspec.Struct):
        inner: int = msgspec.field(name="$flovyn")

    for value in (Odd({"v": 1}), Odd(None), Strict(3)):
        assert decode(encode(value), type(value)) == value


@dataclass
class Loose:
    """With fields that may have no value, which is the most common reason for a null."""

    note: str | None = None
    count: Any = 0
    more: float | None = None


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (Loose(None, NAN), "$.count"),
        (Loose(NAN), "$.note"),  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
        (Loose(None, [None, NAN]), "$.count[1]"),
        (Loose("null", more=NAN), "$.more"),
        ({"a": None, "b": NAN}, "$.b"),
        ({"a": None, "b": [NAN]}, "$.b[0]"),
    ],
)
def test_a_nan_is_not_taken_for_a_field_without_a_value(value: Any, path: str) -> None:
    for codec in (codec_for(value.__class__), codec_for(Any)):
        with pytest.raises(PayloadError) as caught:
            codec.encode(value)
        assert caught.value.path == path


def test_fields_without_a_value_are_written() -> None:
    assert encode(Loose(), Loose) == b'{"note":null,"count":0,"more":null}'
    assert encode(Loose("null", [None, "null"]), Loose) == b'{"note":"null","count":[null,"null"],"more":null}'
    assert encode(LooseStruct(), Loose) == b"{}"


class LooseStruct(msgspec.Struct, omit_defaults=True):
    note: str | None = None
