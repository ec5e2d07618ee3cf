from __future__ import annotations

import asyncio
import enum
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
import pytest

from flovyn.errors import PayloadError
from flovyn.serde import encode


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
        ((1 for _ in ()), "$", "a generator has no form in JSON"),
    ],
)
def test_refuses_with_the_path(value: object, path: str, reason: str) -> None:
    with pytest.raises(PayloadError, match=f"^cannot write {re.escape(path)}: {re.escape(reason)}") as caught:
        encode(value)
    assert caught.value.path == path


def test_a_payload_may_say_null_and_hold_no_nan() -> None:
    assert encode(["null", None, 1.5, b"\xcb\x7f\xf0"]) == b'["null",null,1.5,"y3/w"]'


def test_a_coroutine_that_nobody_awaited_is_named() -> None:
    coroutine = asyncio.sleep(0)
    try:
        with pytest.raises(PayloadError) as caught:
            encode({"result": coroutine})
    finally:
        coroutine.close()
    expected = "cannot write $.result: it is a coroutine that was never awaited; write `await sleep(...)`"
    assert str(caught.value) == expected


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
