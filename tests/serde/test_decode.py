from __future__ import annotations

import datetime as dt
import enum
from collections.abc import AsyncIterator, Callable
from dataclasses import InitVar, dataclass, field
from decimal import Decimal
from typing import Annotated, Any, Generic, Literal, NamedTuple, TypedDict, TypeVar
from uuid import UUID

import msgspec
import pytest

from flovyn.errors import PayloadError
from flovyn.serde import codec_for, decode

T = TypeVar("T")


@dataclass
class Item:
    sku: str
    price: float


@dataclass
class Order:
    id: str
    items: list[Item] = field(default_factory=list[Item])


@dataclass
class Tree:
    value: int
    children: list[Tree]


class Address(TypedDict):
    street: str


class Point(NamedTuple):
    x: int
    y: int


@dataclass
class Page(Generic[T]):
    entries: list[T]


class Cat(msgspec.Struct, tag=True):
    lives: int


class Dog(msgspec.Struct, tag=True):
    tricks: set[str]


@pytest.mark.parametrize(
    ("data", "type_", "value"),
    [
        (b"", type(None), None),
        (b"", int | None, None),
        (b"null", None, None),
        (b'{"a":[1]}', None, {"a": [1]}),
        (b'{"a":[1]}', Any, {"a": [1]}),
        (b'{"a":[1]}', object, {"a": [1]}),
        (b"1" + b"0" * 40, int, 10**40),
        (b'"AP8="', bytes, b"\x00\xff"),
        (b'"1.10"', Decimal, Decimal("1.10")),
        (b'"PT60.001S"', dt.timedelta, dt.timedelta(seconds=60, milliseconds=1)),
        (b'"2026-01-02T03:04:05Z"', dt.datetime, dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)),
        (b'"00000000-0000-0000-0000-000000000001"', UUID, UUID(int=1)),
        (b'{"id":"o","items":[{"sku":"s","price":1}]}', Order, Order("o", [Item("s", 1.0)])),
        (b'{"value":1,"children":[{"value":2,"children":[]}]}', Tree, Tree(1, [Tree(2, [])])),
        (b'{"street":"x"}', Address, {"street": "x"}),
        (b"[1,2]", Point, Point(1, 2)),
        (b'{"entries":[{"sku":"s","price":1}]}', Page[Item], Page([Item("s", 1.0)])),
        (b'{"type":"Dog","tricks":["roll"]}', Cat | Dog, Dog({"roll"})),
        (b'{"3":[1,"x"]}', dict[int, tuple[int, str]], {3: (1, "x")}),
        (b'"a"', Literal["a", "b"], "a"),
        (b"3", Annotated[int, msgspec.Meta(ge=0)], 3),
    ],
)
def test_reads(data: bytes, type_: Any, value: object) -> None:
    result = decode(data, type_)
    assert result == value
    assert type(result) is type(value)


@pytest.mark.parametrize(
    ("data", "type_", "path", "message"),
    [
        (b"", int, "$", "the payload does not fit int: Expected `int`, got `null`, at $"),
        (
            b'{"id":"o","items":[{"sku":"s","price":1},{"sku":"s","price":"x"}]}',
            Order,
            "$.items[1].price",
            "the payload does not fit Order: Expected `float`, got `str`, at $.items[1].price",
        ),
        (
            b"[{}]",
            list[Item],
            "$[0]",
            f"the payload does not fit list[{__name__}.Item]: Object missing required field `sku`, at $[0]",
        ),
        (b'{"x":1}', dict[int, int], "$", "the payload does not fit dict[int, int]: Expected `int`, got `str`, at $"),
        (b"1e999", Any, "$", "the payload does not fit Any: Number out of range, at $"),
        (b'{"a":', Any, None, "the payload for Any is not JSON: Input data was truncated"),
        (b"NaN", float, None, "the payload for float is not JSON: JSON is malformed: invalid character (byte 0)"),
        (b'"\xff"', str, None, "the payload for str is not JSON: "),
        (b'"\\ud800"', str, None, "the payload for str is not JSON: "),
        (
            b"[[1]]",
            frozenset[Any],
            "$",
            "the payload does not fit frozenset[Any]: unhashable type: 'list', at $",
        ),
    ],
)
def test_refuses_what_does_not_fit(data: bytes, type_: Any, path: str | None, message: str) -> None:
    with pytest.raises(PayloadError) as caught:
        decode(data, type_)
    assert caught.value.path == path
    assert caught.value.message.startswith(message) if path is None else caught.value.message == message


def test_deep_nesting_is_refused_not_fatal() -> None:
    with pytest.raises(PayloadError):
        decode(b"[" * 100_000, Any)


class Point2(NamedTuple):
    x: list[int]


class Mixed(enum.Enum):
    ONE = 1
    TWO = "two"


@dataclass
class Halved:
    half: InitVar[int]


@dataclass
class Handler:
    callback: Callable[[], int]


@pytest.mark.parametrize(
    ("type_", "reason"),
    [
        (complex, "complex has no form in JSON"),
        (Handler, "Callable has no form in JSON"),
        (list[Handler | None], "Callable has no form in JSON"),
        (AsyncIterator[int], "AsyncIterator has no form in JSON"),
        (
            list[complex],
            "^the type list\\[complex\\] cannot be a payload: complex has no form in JSON; use a dataclass",
        ),
        (Handler, "payload: Handler.callback: Callable has no form in JSON"),
        (Order | Item, "Type unions may not contain more than one dataclass"),
        (Order | Item, "could not be told apart in JSON: make each a msgspec.Struct with tag=True, or declare one$"),
        (str | bytes, "could not be told apart in JSON"),
        (list[int] | set[int], "could not be told apart in JSON"),
        (set[list[int]], "list cannot be in a set, as it has no hash; use a tuple or a frozen class"),
        (frozenset[Item], "Item cannot be in a set, as it has no hash"),
        (set[tuple[int, dict[str, int]]], "tuple cannot be in a set"),
        (set[Point2], "Point2 cannot be in a set"),
        (dict[tuple[int, int], str], "tuple cannot be the key of a dict in JSON; use text or numbers as keys"),
        (dict[bool, int], "bool cannot be the key of a dict in JSON"),
        (dict[str | None, int], "none cannot be the key of a dict in JSON"),
        (Mixed, "all str or all int values.*; give its members texts or integers as values$"),
        (Halved, "fields are not supported; make it a plain field$"),
    ],
)
def test_types_that_cannot_be_read_are_refused_before_the_first_value(type_: Any, reason: str) -> None:
    with pytest.raises(PayloadError, match=reason):
        codec_for(type_)


@dataclass(frozen=True)
class Frozen:
    x: int


class Bits(enum.Flag):
    ONE = 1
    TWO = 2


class Wire(msgspec.Struct, array_like=True, tag=True, frozen=True):
    x: int


@pytest.mark.parametrize(
    ("value", "type_"),
    [
        ({Frozen(1)}, set[Frozen]),
        (frozenset({(1, Frozen(2))}), frozenset[tuple[int, Frozen]]),
        ({Wire(1)}, set[Wire]),
        ({1: "a"}, dict[int | float, str]),
        ({UUID(int=1): 1}, dict[UUID, int]),
        ({dt.date(2026, 1, 2): 1}, dict[dt.date, int]),
        ({b"k": 1}, dict[bytes, int]),
        (Bits.ONE | Bits.TWO, Bits),
        (bytearray(b"x"), bytearray),
    ],
)
def test_what_can_be_in_sets_and_keys(value: object, type_: Any) -> None:
    assert decode(codec_for(type_).encode(value), type_) == value


def test_codecs_are_made_once() -> None:
    assert codec_for(list[Order]) is codec_for(list[Order])
    assert codec_for(Any) is codec_for(None)


def test_a_type_that_cannot_be_hashed_still_has_a_codec() -> None:
    assert codec_for(Annotated[int, ["unhashable"]]).decode(b"1") == 1


def test_schema_of_anything() -> None:
    assert msgspec.json.decode(codec_for(object).schema()) == {"description": "any JSON value"}
    items = msgspec.json.decode(codec_for(list[object]).schema())["items"]
    assert items == {"description": "any JSON value"}


def test_schema() -> None:
    assert msgspec.json.decode(codec_for(Order).schema())["$ref"] == "#/$defs/Order"
