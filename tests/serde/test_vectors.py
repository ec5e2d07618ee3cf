"""The table of payloads that all SDKs share, both ways; tests/vectors/README.md says how it is spelt."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from dataclasses import make_dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from flovyn.definitions import task
from flovyn.serde import decode, encode

VECTORS: list[dict[str, Any]] = json.loads(
    (Path(__file__).parents[1] / "vectors" / "payloads.json").read_text(encoding="utf-8")
)

Reader = tuple[Any, Callable[[Any], Any]]
"""A type, and how its value is made of what the table says."""


def moment(parts: list[int]) -> dt.datetime:
    *parts, east = parts
    return dt.datetime(*parts, tzinfo=dt.timezone(dt.timedelta(minutes=east)))  # type: ignore[arg-type,misc] # pyright: ignore[reportArgumentType]


SIMPLE: dict[str, Reader] = {
    "null": (type(None), lambda said: said),
    "bool": (bool, lambda said: said),
    "int": (int, int),
    "float": (float, float.fromhex),
    "text": (str, lambda said: "".join(map(chr, said))),
    "bytes": (bytes, bytes.fromhex),
    "datetime": (dt.datetime, moment),
    "date": (dt.date, lambda said: dt.date(*said)),
    "time": (dt.time, lambda said: dt.time(*said)),
    "duration": (dt.timedelta, lambda said: dt.timedelta(microseconds=int(said))),
    "uuid": (UUID, UUID),
    "decimal": (Decimal, lambda said: Decimal((said[0], tuple(map(int, said[1])), said[2]))),
    "any": (Any, lambda said: said),
}


def reader(name: str) -> Reader:
    outer, opening, inner = name.partition("<")
    if not opening:
        return SIMPLE[outer]
    inner = inner[:-1]
    if outer == "tuple":
        parts = [reader(part.strip()) for part in inner.split(",")]
        make = [each for _, each in parts]
        kinds = tuple(kind for kind, _ in parts)
        return tuple.__class_getitem__(kinds), lambda said: tuple(
            each(part) for each, part in zip(make, said, strict=True)
        )
    kind, one = reader(inner)
    made: dict[str, Reader] = {
        "list": (list[kind], lambda said: [one(part) for part in said]),  # type: ignore[valid-type]
        "set": (set[kind], lambda said: {one(part) for part in said}),  # type: ignore[valid-type]
        "map": (dict[str, kind], lambda said: {key: one(part) for key, part in said.items()}),  # type: ignore[valid-type]
        "optional": (kind | None, lambda said: None if said is None else one(said)),
    }
    return made[outer]


def typed(vector: dict[str, Any]) -> tuple[Any, Any]:
    """The type of an entry, and its value."""
    if vector["type"] != "object":
        kind, make = reader(vector["type"])
        return kind, make(vector["is"])
    fields = {name: (*reader(of), said) for name, (of, said) in vector["is"].items()}
    optional = [name for name, (_, _, said) in fields.items() if said is None]
    cls = make_dataclass(
        "Object", [(name, kind, *([None] if name in optional else [])) for name, (kind, _, _) in fields.items()]
    )
    return cls, cls(**{name: make(said) for name, (_, make, said) in fields.items()})


def same(left: Any, right: Any) -> bool:
    """Equal, of one type, and minus zero is not zero."""
    return left == right and repr(left) == repr(right)


def name_of(vector: dict[str, Any]) -> str:
    return f"{vector['type']}: {vector['name']}"


@pytest.mark.parametrize("vector", VECTORS, ids=name_of)
def test_we_write_what_the_table_says(vector: dict[str, Any]) -> None:
    kind, value = typed(vector)
    assert encode(value, kind).decode() == vector["json"]


@pytest.mark.parametrize(
    ("vector", "spelling"),
    [
        pytest.param(vector, spelling, id=f"{name_of(vector)} {number}")
        for vector in VECTORS
        for number, spelling in enumerate([vector["json"], *vector["also"]])
    ],
)
def test_we_read_what_anybody_writes(vector: dict[str, Any], spelling: str) -> None:
    kind, value = typed(vector)
    read = decode(spelling.encode(), kind)
    assert type(read) is type(value)
    assert read == value if vector["type"] in {"map<int>", "datetime"} else same(read, value)


@pytest.mark.parametrize("vector", VECTORS, ids=name_of)
def test_what_we_write_is_json_to_any_reader(vector: dict[str, Any]) -> None:
    plain = json.loads(vector["json"])
    for spelling in vector["also"]:
        json.loads(spelling)
    if vector["type"] in {"null", "bool", "any"} and "$flovyn" not in str(vector["is"]):
        assert plain == vector["is"]
    if vector["type"] == "int":
        assert str(plain) == vector["is"]
    if vector["type"] == "float":
        assert plain.hex() == vector["is"]
    if vector["type"] == "text":
        assert list(map(ord, plain)) == vector["is"]


def test_each_entry_has_a_name_of_its_own() -> None:
    assert len({name_of(vector) for vector in VECTORS}) == len(VECTORS) >= 80


def test_several_arguments_are_an_object_by_name() -> None:
    """What another SDK has to send to call a function with several parameters, and may leave out."""

    @task
    async def charge(
        ctx: object, order: str, amount: int, *, currency: str = "EUR", note: str | None = None
    ) -> None: ...

    written = b'{"order":"o","amount":1,"currency":"EUR","note":null}'
    assert charge.encode_input(("o",), {"amount": 1}) == written
    for spelling in (written, b'{"amount":1, "order":"o"}', b'{"order":"o","amount":1,"newer":{}}'):
        args, kwargs = charge.decode_input(spelling)
        assert (args, kwargs) == (("o", 1), {"currency": "EUR", "note": None})
