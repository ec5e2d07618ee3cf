"""Typed names, definitions by kind, and the options of schedules and starts."""

from __future__ import annotations

import copy
import pickle
import re
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from flovyn.definitions import (
    Name,
    Promise,
    Query,
    RetryPolicy,
    Signal,
    StateKey,
    definition_of,
    task,
    task_by_kind,
    workflow,
    workflow_by_kind,
)
from flovyn.errors import DefinitionError, PayloadError, UsageError

SORTS: list[type[Name[Any]]] = [Promise, Signal, StateKey, Query]


class Order(msgspec.Struct):
    id: str


@task(queue="slow", retry=RetryPolicy(max_attempts=2))
async def charge(ctx: object, order: Order) -> int: ...  # type: ignore[empty-body]


@workflow
async def place(ctx: object, order: Order) -> int: ...  # type: ignore[empty-body]


@pytest.mark.parametrize("sort", SORTS)
def test_a_name_is_frozen_and_compared_by_its_sort_and_text(sort: type[Name[Any]]) -> None:
    name = sort("approval")
    assert name == sort("approval")
    assert len({name, sort("approval"), sort("other")}) == 2
    assert [other("approval") == name for other in SORTS].count(True) == 1
    assert name != "approval"
    with pytest.raises(AttributeError, match="cannot be changed: make another one"):
        name.name = "other"
    with pytest.raises(AttributeError, match="cannot be changed: make another one"):
        del name.name


def test_a_name_knows_its_type() -> None:
    promise = Promise[bool | None]("approval")
    assert promise.codec.decode(b"true") is True
    assert promise.codec.decode(b"null") is None
    with pytest.raises(PayloadError):
        promise.codec.decode(b'"yes"')
    assert Signal[Order]("o").codec.decode(b'{"id":"a"}') == Order("a")
    assert Signal("o").codec.decode(b'{"id":"a"}') == {"id": "a"}
    assert repr(promise) == "Promise[bool | None]('approval')"
    assert repr(Signal[Order]("o")) == "Signal[Order]('o')"
    assert repr(StateKey[Any]("k")) == "StateKey('k')"


def test_a_name_can_be_copied_and_sent() -> None:
    name = StateKey[list[int]]("seen")
    for other in (pickle.loads(pickle.dumps(name)), copy.deepcopy(name)):
        assert other == name
        assert other.type == list[int]


def test_a_type_that_cannot_be_read_is_told_when_it_is_needed() -> None:
    with pytest.raises(PayloadError, match="the type complex cannot be a payload"):
        _ = Promise[complex]("c").codec


@pytest.mark.parametrize("name", ["", "$flovyn.x", 7, None])
def test_a_name_is_text_that_is_not_the_sdks_own(name: Any) -> None:
    with pytest.raises(UsageError, match=re.escape(f"{name!r} cannot be used as Signal name: use")):
        Signal(name)


def test_by_kind_payloads_are_written_as_they_are() -> None:
    resize = task_by_kind("image.resize", result=Order)
    assert (resize.kind, resize.name, resize.has_code, charge.has_code) == ("image.resize", "image.resize", False, True)
    assert resize.encode_input((), {}) == b"null"
    assert resize.encode_input(([1, 2],), {}) == b"[1,2]"
    assert resize.encode_input((None,), {}) == b"null"
    assert resize.encode_input((), {"a": 1}) == b'{"a":1}'
    assert resize.decode_output(b'{"id":"x"}') == Order("x")
    assert task_by_kind("k").decode_output(b'{"id":"x"}') == {"id": "x"}
    assert msgspec.json.decode(resize.input_schema) == {}
    for args, kwargs in (((1, 2), {}), ((1,), {"a": 2})):
        with pytest.raises(DefinitionError, match="^the task kind 'image.resize' takes one payload: give one"):
            resize.encode_input(args, kwargs)
    assert repr(resize) == "<task 'image.resize' at the task kind 'image.resize'>"


def test_by_kind_there_is_nothing_to_run() -> None:
    settle = workflow_by_kind("settle")
    with pytest.raises(DefinitionError, match="^the workflow kind 'settle' has no code here: schedule or start it"):
        _ = settle.invoke(None, b"null")
    with pytest.raises(DefinitionError, match="^the workflow kind 'settle' has no code here"):
        _ = settle(None)
    with pytest.raises(DefinitionError, match="^the task kind '': kind='' has to be a text that is not empty"):
        task_by_kind("")
    with pytest.raises(DefinitionError, match="^the workflow kind 'x': the result: the type complex cannot be"):
        workflow_by_kind("x", result=complex)
    assert definition_of(settle) is settle


def test_options_of_a_task_are_a_changed_copy() -> None:
    changed = charge.options(
        schedule_to_close=5,
        priority=-60,
        idempotency_key="k",
        idempotency_key_ttl=timedelta(days=1),
        on_cancel="wait",
    )
    assert (changed.queue, changed.schedule_to_close, changed.priority, changed.idempotency_key) == (
        "slow",
        timedelta(seconds=5),
        timedelta(minutes=-1),
        "k",
    )
    assert (changed.idempotency_key_ttl, changed.on_cancel, changed.retry) == (
        timedelta(days=1),
        "wait",
        RetryPolicy(max_attempts=2),
    )
    again = changed.options(queue="gpu", on_cancel="abandon")
    assert (again.queue, again.idempotency_key, again.on_cancel) == ("gpu", "k", "abandon")
    assert (charge.priority, charge.on_cancel, charge.idempotency_key) == (None, "request", None)


def test_options_of_a_workflow_are_a_changed_copy() -> None:
    changed = place.options(queue="gpu", priority=timedelta(hours=1), child_name="june", on_cancel="abandon")
    assert (changed.queue, changed.priority, changed.child_name, changed.on_cancel) == (
        "gpu",
        timedelta(hours=1),
        "june",
        "abandon",
    )
    assert (place.queue, place.priority, place.child_name, place.on_cancel) == (None, None, None, "request")
    assert changed.options().child_name == "june"


BAD: list[tuple[dict[str, Any], str]] = [
    ({"queue": ""}, "queue='' has to be a text that is not empty; leave it out for the default"),
    ({"queue": 7}, "queue=7 has to be a text"),
    ({"priority": float("nan")}, "priority=nan has to be a number of seconds within 2147483647"),
    ({"priority": timedelta(days=30_000)}, "priority=datetime.timedelta(days=30000) has to be a number of seconds"),
    ({"priority": "high"}, "priority='high' has to be a number of seconds or a timedelta"),
    ({"on_cancel": "ignore"}, 'on_cancel=\'ignore\' has to be "request", "wait" or "abandon"'),
]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        *BAD,
        ({"schedule_to_close": True}, "schedule_to_close=True has to be a number of seconds or a timedelta"),
        ({"idempotency_key": ""}, "an idempotency_key has 1 to 255 characters, not 0"),
        ({"idempotency_key": "k" * 256}, "an idempotency_key has 1 to 255 characters, not 256"),
        ({"idempotency_key_ttl": 60}, "means nothing without an idempotency_key"),
        (
            {"idempotency_key": "k", "idempotency_key_ttl": timedelta(days=31)},
            "idempotency_key_ttl=datetime.timedelta(days=31) has to be from 0:00:01 to 30 days, 0:00:00",
        ),
        ({"idempotency_key": "k", "idempotency_key_ttl": 0.5}, "has to be from 0:00:01 to 30 days, 0:00:00"),
    ],
)
def test_options_of_a_task_that_cannot_work(options: dict[str, Any], message: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        charge.options(**options)
    assert re.match(rf"{re.escape(__file__)}:\d+: options of charge: ", caught.value.message)
    assert message in caught.value.message


@pytest.mark.parametrize(
    ("options", "message"), [*BAD, ({"child_name": "$x"}, "'$x' cannot be used as child workflow")]
)
def test_options_of_a_workflow_that_cannot_work(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        place.options(**options)
    assert message in caught.value.message
