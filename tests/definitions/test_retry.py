"""Retry policies by numbers, and functions for `ctx.run` with their options."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flovyn import ConfigurationError, DefinitionError, NonRetryableError, RetryPolicy, UsageError, effect


class Declined(NonRetryableError): ...


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"max_attempts": 0}, "max_attempts must be at least 1, not 0"),
        ({"multiplier": 0.5}, "multiplier must be at least 1, not 0.5"),
        ({"multiplier": math.nan}, "multiplier must be at least 1, not nan"),
        ({"jitter": -0.1}, "jitter is a share of the wait from 0 to 1, not -0.1"),
        ({"jitter": 1.5}, "jitter is a share of the wait from 0 to 1, not 1.5"),
        (
            {"initial_interval": timedelta(minutes=2)},
            "a policy needs 0 <= initial_interval <= max_interval, both finite, not 120.0 and 60.0",
        ),
        (
            {"initial_interval": -1},
            "a policy needs 0 <= initial_interval <= max_interval, both finite, not -1.0 and 60.0",
        ),
        (
            {"max_interval": math.inf},
            "a policy needs 0 <= initial_interval <= max_interval, both finite, not 1.0 and inf",
        ),
        ({"non_retryable": ("ValueError",)}, "non_retryable takes exception classes, not 'ValueError'"),
        ({"non_retryable": (int,)}, "non_retryable takes exception classes, not <class 'int'>"),
        ({"non_retryable": ValueError}, "non_retryable takes a tuple of exception classes, not <class 'ValueError'>"),
    ],
)
def test_numbers_that_make_no_policy(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        RetryPolicy(**options)
    assert caught.value.message == text


def test_waits_grow_up_to_the_longest() -> None:
    policy = RetryPolicy(
        max_attempts=9, initial_interval=timedelta(seconds=3), multiplier=3, max_interval=timedelta(minutes=1), jitter=0
    )
    assert [policy.delay(attempt) for attempt in (1, 2, 3, 4, 5)] == [3.0, 9.0, 27.0, 60.0, 60.0]
    assert policy.delay(10**9) == 60.0
    assert RetryPolicy(initial_interval=0, jitter=0).delay(10**9) == 0.0
    assert RetryPolicy(multiplier=1, jitter=0).delay(10**9) == 1.0


@given(st.integers(1, 100), st.floats(0, 1))
def test_chance_makes_waits_shorter_by_its_share_at_most(attempt: int, jitter: float) -> None:
    longest = RetryPolicy(jitter=0).delay(attempt)
    wait = RetryPolicy(jitter=jitter).delay(attempt)
    assert longest * (1 - jitter) <= wait <= longest


def test_waits_differ() -> None:
    assert len({RetryPolicy(jitter=1).delay(1) for _ in range(10)}) > 1


@pytest.mark.parametrize(
    ("attempt", "error", "another"),
    [
        (1, ValueError(), True),
        (2, ValueError(), True),
        (3, ValueError(), False),
        (1, Declined("no"), False),
        (1, KeyError("x"), False),
        (1, LookupError(), True),
        (1, ExceptionGroup("", [ValueError(), ValueError()]), True),
        (1, ExceptionGroup("", [ValueError(), ExceptionGroup("", [Declined("no")])]), False),
        (1, ExceptionGroup("", [KeyError("x")]), False),
    ],
    ids=repr,
)
def test_what_another_attempt_follows(attempt: int, error: BaseException, another: bool) -> None:
    assert RetryPolicy(max_attempts=3, non_retryable=(KeyError,)).allows(attempt, error) is another


async def asynchronous(number: int) -> int:
    return number


def synchronous(number: int) -> int:
    return number


class Callables:
    async def method(self, number: int) -> int:
        return number

    async def __call__(self, number: int) -> int:
        return number


@pytest.mark.parametrize(
    "fn",
    [asynchronous, partial(asynchronous, 1), Callables().method, Callables()],
    ids=["function", "partial", "method", "instance"],
)
def test_asynchronous_functions_can_be_limited(fn: Callable[..., Any]) -> None:
    assert effect(fn, start_to_close=timedelta(minutes=1)).start_to_close == timedelta(minutes=1)
    assert effect(fn, start_to_close=0.5).start_to_close == timedelta(seconds=0.5)


@pytest.mark.parametrize("fn", [synchronous, partial(synchronous, 1), int], ids=["function", "partial", "class"])
def test_synchronous_functions_cannot(fn: Callable[..., Any]) -> None:
    with pytest.raises(UsageError, match="start_to_close=1 cannot be kept, since nothing ends a synchronous function"):
        effect(fn, start_to_close=1)
    assert effect(fn, retry=RetryPolicy()).start_to_close is None


@pytest.mark.parametrize("limit", [0, -1, math.inf, math.nan])
def test_a_limit_is_a_positive_time(limit: float) -> None:
    with pytest.raises(DefinitionError, match=r"effect\(asynchronous\): start_to_close=.* has to be a positive time"):
        effect(asynchronous, start_to_close=limit)


def test_an_effect_can_be_called_as_its_function() -> None:
    assert effect(synchronous, retry=RetryPolicy())(3) == 3
    assert effect(synchronous, retry=RetryPolicy())(number=4) == 4


def test_an_effect_has_one_set_of_options() -> None:
    with pytest.raises(UsageError, match="it is an effect already; give all its options at once"):
        effect(effect(asynchronous), retry=RetryPolicy())
