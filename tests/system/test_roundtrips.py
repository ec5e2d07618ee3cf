"""Values of every type that can be a payload, through a client, a workflow, a task, and back: exactly as they were."""

from __future__ import annotations

import datetime as dt
import enum
import math
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Generic, Literal, NamedTuple, TypedDict, TypeVar, cast
from uuid import UUID

import anyio
import msgspec
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import flovyn
from flovyn import Client, TaskContext, Worker, WorkflowContext, task, workflow
from flovyn.server import serve

pytestmark = pytest.mark.anyio

T = TypeVar("T")


class Colour(enum.Enum):
    RED = "red"
    GREEN = "green"


class Size(enum.IntEnum):
    SMALL = 1
    LARGE = 2


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


class Point(NamedTuple):
    x: int
    y: float


class Address(TypedDict, total=False):
    street: str
    number: int | None


class Cat(msgspec.Struct, tag=True, frozen=True):
    lives: int


class Dog(msgspec.Struct, tag=True, frozen=True, rename="camel"):
    known_tricks: frozenset[str]


class Wire(msgspec.Struct, array_like=True):
    kind: Literal["a", "b"]
    blob: bytes


class Customer(pydantic.BaseModel):
    name: str
    since: dt.datetime
    tags: list[str] = []


@dataclass(frozen=True)
class Key:
    part: int


@dataclass
class Page(Generic[T]):
    entries: list[T]
    more: bool


@dataclass
class Tree:
    value: int | float | str | None
    children: list[Tree]


@dataclass
class Times:
    moment: dt.datetime
    day: dt.date
    clock: dt.time
    span: dt.timedelta


@dataclass
class Everything:
    """One field for each type, in one payload."""

    nothing: None
    flag: bool
    number: int
    real: float
    exact: Decimal
    text: str
    raw: bytes
    buffer: bytearray
    who: UUID
    times: Times
    colour: Colour
    size: Size
    rights: Rights
    point: Point
    address: Address
    pet: Cat | Dog | None
    wire: Wire
    customer: Customer
    customers: dict[str, list[Customer]]
    pages: Page[Page[Key]]
    tree: Tree
    words: set[str]
    keys: frozenset[Key]
    pair: tuple[int, str]
    many: tuple[float, ...]
    by_number: dict[int, str]
    by_day: dict[dt.date, Colour]
    by_id: dict[UUID, bytes]
    either: int | str | list[int] | None
    anything: Any


texts = st.text(st.characters(exclude_categories=["Cs"]))
reals = st.floats(allow_nan=False, allow_infinity=False)
zones = st.integers(-23 * 60, 23 * 60).map(lambda minutes: dt.timezone(dt.timedelta(minutes=minutes)))
times = st.builds(
    Times,
    st.datetimes(dt.datetime(2, 1, 1), dt.datetime(9998, 1, 1), timezones=st.just(dt.UTC) | zones),
    st.dates(),
    st.times(),
    st.timedeltas(),
)
customers = st.builds(
    Customer, name=texts, since=st.datetimes(dt.datetime(1900, 1, 1), timezones=st.just(dt.UTC)), tags=st.lists(texts)
)
trees: st.SearchStrategy[Tree] = st.deferred(
    lambda: st.builds(Tree, st.none() | st.integers() | reals | texts, st.lists(trees, max_size=2))
)
plain: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | reals | texts,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(texts | st.sampled_from(["$flovyn", "v", "encoded"]), inner)
    ),
    max_leaves=6,
)
keys = st.builds(Key, st.integers())
everything = st.builds(
    Everything,
    nothing=st.none(),
    flag=st.booleans(),
    number=st.integers() | st.integers(-(10**40), 10**40),
    real=reals,
    exact=st.decimals(allow_nan=False, allow_infinity=False),
    text=texts,
    raw=st.binary(),
    buffer=st.binary().map(bytearray),
    who=st.uuids(),
    times=times,
    colour=st.sampled_from(Colour),
    size=st.sampled_from(Size),
    rights=st.integers(0, 3).map(Rights),
    point=st.builds(Point, st.integers(), reals),
    address=st.fixed_dictionaries({}, optional={"street": texts, "number": st.none() | st.integers()}),
    pet=st.none() | st.builds(Cat, st.integers()) | st.builds(Dog, st.frozensets(texts)),
    wire=st.builds(Wire, st.sampled_from(["a", "b"]), st.binary()),
    customer=customers,
    customers=st.dictionaries(texts, st.lists(customers, max_size=2), max_size=2),
    pages=st.builds(Page[Page[Key]], st.lists(st.builds(Page[Key], st.lists(keys), st.booleans())), st.booleans()),
    tree=trees,
    words=st.sets(texts),
    keys=st.frozensets(keys),
    pair=st.tuples(st.integers(), texts),
    many=st.lists(reals).map(tuple),
    by_number=st.dictionaries(st.integers(), texts),
    by_day=st.dictionaries(st.dates(), st.sampled_from(Colour)),
    by_id=st.dictionaries(st.uuids(), st.binary()),
    either=st.none() | st.integers() | texts | st.lists(st.integers()),
    anything=plain,
)


@task
async def one(ctx: TaskContext, value: Everything) -> Everything:
    return value


@task
async def several(
    ctx: TaskContext, who: UUID, tree: Tree, *, customers: list[Customer], pet: Cat | Dog | None = None
) -> tuple[UUID, Tree, list[Customer], Cat | Dog | None]:
    return who, tree, customers, pet


@task
async def anything(ctx: TaskContext, value: Any) -> Any:
    return value


@workflow
async def through(ctx: WorkflowContext, value: Everything) -> Everything:
    there = await ctx.schedule(one, value)
    assert there == value

    def effect() -> Everything:
        return there

    recorded = await ctx.run("effect", effect)
    parts = await ctx.schedule(several, value.who, value.tree, customers=[value.customer], pet=value.pet)
    assert parts == (value.who, value.tree, [value.customer], value.pet)
    assert await ctx.schedule(anything, value.anything) == value.anything
    return recorded


@pytest.fixture(scope="module")
async def client(anyio_backend: Any) -> AsyncGenerator[Client]:
    """One server for all examples."""
    async with serve() as server, flovyn.connect(server.url, org_id=server.org_id, token=server.token) as client:
        async with Worker(client, workflows=[through], tasks=[one, several, anything], grace=1.0):
            yield client


def exactly(value: object) -> object:
    """What equality leaves out: the sign of zero, the type of a number, the offset of a moment; no order of hashes."""
    kind: Any = type(value)
    match value:
        case float():
            return kind, repr(value), math.copysign(1, value)
        case dict():
            return frozenset((exactly(key), exactly(part)) for key, part in cast("dict[object, object]", value).items())
        case set() | frozenset():
            return kind, frozenset(map(exactly, cast("set[object]", value)))
        case list() | tuple():
            return kind, tuple(map(exactly, cast("list[object]", value)))
        case dt.datetime():
            return value.replace(tzinfo=None, fold=0), value.utcoffset()
        case dt.time():
            return value.replace(fold=0)
        case _:
            for fields in ("__dataclass_fields__", "__struct_fields__", "model_fields"):
                if hasattr(kind, fields):
                    return kind, tuple(exactly(getattr(value, name)) for name in getattr(kind, fields))
            return kind, repr(value)


# An example is a whole workflow with three tasks, so there are fewer of them.
@settings(max_examples=settings().max_examples // 3)
@given(everything)
async def test_what_goes_in_comes_out(client: Client, value: Everything) -> None:
    with anyio.fail_after(10):
        result = await (await client.start(through, value)).result()
    assert result == value
    assert exactly(result) == exactly(value)
