from __future__ import annotations

import datetime as dt
import enum
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from flovyn.serde import decode, encode


class Size(enum.IntEnum):
    SMALL = 1
    LARGE = 2


@dataclass
class Everything:
    text: str
    number: int
    real: float
    exact: Decimal
    raw: bytes
    when: dt.datetime
    how_long: dt.timedelta
    who: UUID
    size: Size
    words: set[str]
    table: dict[str, list[int | None]]
    either: int | str | None
    pair: tuple[bool, dt.date]
    inner: Everything | None


text = st.text(st.characters(exclude_categories=["Cs"]))
everything: st.SearchStrategy[Everything] = st.deferred(
    lambda: st.builds(
        Everything,
        text=text,
        number=st.integers(),
        real=st.floats(allow_nan=False, allow_infinity=False),
        exact=st.decimals(allow_nan=False, allow_infinity=False),
        raw=st.binary(),
        when=st.datetimes(timezones=st.just(dt.UTC)),
        how_long=st.timedeltas(),
        who=st.uuids(),
        size=st.sampled_from(Size),
        words=st.sets(text),
        table=st.dictionaries(text, st.lists(st.none() | st.integers())),
        either=st.none() | st.integers() | text,
        pair=st.tuples(st.booleans(), st.dates()),
        inner=st.none() | everything,
    )
)
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | text,
    lambda inner: st.lists(inner) | st.dictionaries(text, inner),
)


@given(everything)
def test_typed_values_come_back(value: Everything) -> None:
    assert decode(encode(value), Everything) == value


@given(plain)
def test_plain_data_comes_back(value: Any) -> None:
    assert decode(encode(value), Any) == value
