from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, Generic, TypeVar

import msgspec
import pydantic
import pytest

from flovyn.errors import CodecError, PayloadError
from flovyn.serde import codec_for, decode, encode, models

T = TypeVar("T")


class Address(pydantic.BaseModel):
    street: str
    lat: float | None = None


class Customer(pydantic.BaseModel):
    full_name: str = pydantic.Field(alias="fullName", min_length=1)
    since: datetime
    address: Address | None = None

    @pydantic.computed_field
    def initials(self) -> str:
        return self.full_name[0]


class Cat(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")
    lives: int


class Dog(pydantic.BaseModel):
    tricks: frozenset[str]


@pydantic.dataclasses.dataclass
class Checked:
    count: pydantic.PositiveInt


@dataclass
class Sale:
    customer: Customer
    notes: list[Address]


class Deal(msgspec.Struct):
    customer: Customer | None = None


ADA = Customer(fullName="Ada", since=datetime(2026, 1, 2, tzinfo=UTC), address=Address(street="x"))
ADA_DATA = b'{"fullName":"Ada","since":"2026-01-02T00:00:00Z","address":{"street":"x","lat":null}}'


@pytest.mark.parametrize(
    ("value", "type_", "data"),
    [
        (ADA, Customer, ADA_DATA),
        ([ADA], list[Customer], b"[" + ADA_DATA + b"]"),
        ({"a": None, "b": ADA}, dict[str, Customer | None], b'{"a":null,"b":' + ADA_DATA + b"}"),
        (Sale(ADA, [Address(street="y", lat=1.5)]), Sale, None),
        (Deal(ADA), Deal, b'{"customer":' + ADA_DATA + b"}"),
        (Dog(tricks=frozenset({"roll"})), Cat | Dog, b'{"tricks":["roll"]}'),
        (Cat(lives=9), Annotated[Cat | Dog, "a pet"], b'{"lives":9}'),
        (Checked(3), Checked, b'{"count":3}'),
        ([Checked(3)], list[Checked], b'[{"count":3}]'),
    ],
)
def test_models_come_back(value: object, type_: Any, data: bytes | None) -> None:
    written = encode(value, type_)
    assert data is None or written == data
    assert decode(written, type_) == value
    assert type(decode(written, type_)) is type(value)


class Settings(pydantic.BaseModel):
    """Everything has a default: any object would do."""

    fast: bool = False


class Page(pydantic.BaseModel, Generic[T]):
    entries: list[T]


class Id(pydantic.RootModel[int]): ...


class Point(msgspec.Struct):
    x: int


@pytest.mark.parametrize(
    ("value", "type_", "data"),
    [
        # What pydantic would write in a way of its own is written as everywhere.
        ((Id(3), b"\xff"), tuple[Id, bytes], b'[3,"/w=="]'),
        ({"a": (Id(3), timedelta(minutes=1))}, dict[str, tuple[Id, timedelta]], b'{"a":[3,"PT60S"]}'),
        ([(Id(3), Decimal("1.10"))], list[tuple[Id, Decimal]], b'[[3,"1.10"]]'),
        # What only msgspec knows stands beside what only pydantic does.
        ((Id(3), Point(1)), tuple[Id, Point], b'[3,{"x":1}]'),
        (Page[Id](entries=[Id(1)]), Page[Id], b'{"entries":[1]}'),
        ([Page[Dog](entries=[])], list[Page[Dog]], b'[{"entries":[]}]'),
    ],
)
def test_models_beside_other_types(value: Any, type_: Any, data: bytes) -> None:
    codec = codec_for(type_)
    assert codec.encode(value) == data
    assert codec.decode(data) == value


def test_a_dataclass_with_models_everywhere() -> None:
    @dataclass
    class Shelf:
        first: Customer
        rest: dict[str, list[Address | None]]
        blob: bytes

    shelf = Shelf(ADA, {"a": [Address(street="y"), None]}, b"\x00")
    assert decode(encode(shelf, Shelf), Shelf) == shelf
    misfit = encode(shelf).replace(b'"street":"y"', b'"street":1')
    with pytest.raises(PayloadError) as caught:
        decode(misfit, Shelf)
    assert caught.value.path == "$.rest[...][0].street"


def test_a_union_of_models_inside_another_type_says_what_to_do() -> None:
    @dataclass
    class Owner:
        pet: Cat | Dog

    with pytest.raises(PayloadError, match="could not be told apart in JSON: make each a msgspec.Struct with tag=True"):
        codec_for(Owner)


def test_an_object_that_is_no_value_is_not_taken_for_a_model() -> None:
    assert decode(b"{}", Settings) == Settings()
    assert decode(b'{"$flovyn":{"v":1,"value":{"fast":true}}}', Settings) == Settings(fast=True)
    with pytest.raises(CodecError, match="the payload is encoded by zlib"):
        decode(b'{"$flovyn":{"v":1,"encoded":{"by":[{"codec":"zlib"}],"data":""}}}', Settings)


def test_models_say_themselves_which_datetimes_they_take() -> None:
    naive = Customer(fullName="Ada", since=datetime(2026, 1, 2))
    assert decode(encode(naive, Customer), Customer) == naive
    with pytest.raises(PayloadError, match="has no time zone") as caught:
        encode([naive, datetime(2026, 1, 2)])
    assert caught.value.path == "$[1]"


def test_rules_of_models_are_made_once() -> None:
    made = models.adapter.cache_info().misses
    for _ in range(3):
        decode(encode(Sale(ADA, [Address(street="z")])), Sale)
    assert models.adapter.cache_info().misses <= made + 2


def test_models_are_written_alike_without_a_declared_type() -> None:
    assert encode([ADA]) == b"[" + ADA_DATA + b"]"


@pytest.mark.parametrize(
    ("data", "type_", "path", "message"),
    [
        (
            b'{"fullName":"","since":0}',
            Customer,
            "$.fullName",
            "String should have at least 1 character, at $.fullName",
        ),
        (b'[{"street":1,"lat":"x"}]', list[Address], "$[0].street", "Input should be a valid string (and 1 more)"),
        (b"{", Address, "$", "Invalid JSON: EOF"),
        (
            b'{"customer":{"fullName":"","since":0}}',
            Deal,
            "$.customer.fullName",
            "the payload does not fit Deal: String should have at least 1 character, at $.customer.fullName",
        ),
    ],
)
def test_misfits_have_a_path(data: bytes, type_: Any, path: str, message: str) -> None:
    with pytest.raises(PayloadError) as caught:
        decode(data, type_)
    assert caught.value.path == path
    assert message in str(caught.value)


@pytest.mark.parametrize("type_", [Address, Any])
def test_nan_in_a_model_is_found(type_: Any) -> None:
    with pytest.raises(PayloadError) as caught:
        encode(Address(street="x", lat=float("nan")), type_)
    assert caught.value.path == "$.lat"


def test_a_value_of_another_type_is_refused() -> None:
    with pytest.raises(PayloadError, match="cannot write the value as Address"):
        encode(1, Address)


def test_a_model_that_pydantic_cannot_build_is_refused() -> None:
    with pytest.raises(PayloadError, match="cannot be a payload"):
        codec_for(list[Address] | type("Opaque", (), {}))


def test_schemas_of_models_inside_stand_at_the_root() -> None:
    schema = msgspec.json.decode(codec_for(Sale).schema())
    assert set(schema["$defs"]) == {"Address", "Sale"}
    assert msgspec.json.decode(codec_for(Address).schema())["title"] == "Address"


def test_payloads_work_where_pydantic_is_not_installed() -> None:
    code = """
import sys
sys.modules["pydantic"] = None
from flovyn import serde
assert serde.decode(serde.encode([1]), list[int]) == [1]
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
