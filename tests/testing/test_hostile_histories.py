"""Histories that somebody has tampered with: typed errors and reports, never anything else."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from hypothesis import given, note
from hypothesis import strategies as st

from flovyn import MalformedHistory
from flovyn.testing import History, Replayer
from replay.replay_platform import evict
from testing.cases import everything, whole

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-2, 40)
    | st.just(10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["", "x", "charge", "null", "{}", "e30=", "WORKFLOW_COMPLETED", "TASK_COMPLETED", "$flovyn.x"])
)
values = scalars | st.lists(scalars, max_size=2) | st.dictionaries(st.sampled_from(["id", "$flovyn", "v"]), scalars)


@cache
def good() -> str:
    try:
        return whole().to_json()
    finally:
        evict()


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every container in a document, with each of its keys."""
    keys: list[Any] = list(value) if is_object(value) else list(range(len(value))) if is_array(value) else []
    return [(value, key) for key in keys] + [place for key in keys for place in places(value[key])]


def is_object(value: Any) -> bool:
    return isinstance(value, dict)


def is_array(value: Any) -> bool:
    return isinstance(value, list)


def tamper(document: Any, data: st.DataObject) -> None:
    container, key = data.draw(st.sampled_from(places(document)), label="place")
    match data.draw(st.sampled_from(["replace", "remove", "twice", "swap"]), label="how"):
        case "replace":
            container[key] = data.draw(values)
        case "remove":
            del container[key]
        case "twice" if is_array(container):
            container.insert(key, container[key])
        case _:
            other, other_key = data.draw(st.sampled_from(places(document)), label="with")
            container[key], other[other_key] = json.loads(json.dumps([other[other_key], container[key]]))


def renumber(document: Any) -> None:
    """So that more than the numbering is put to the test."""
    events: Any = document.get("events") if is_object(document) else None
    for number, event in enumerate(events if is_array(events) else [], 1):
        if is_object(event):
            event["sequenceNumber"] = number


@given(st.data())
def test_a_history_that_was_tampered_with_is_refused_or_reported(data: st.DataObject) -> None:
    document = json.loads(good())
    for _ in range(data.draw(st.integers(1, 3))):
        tamper(document, data)
    if data.draw(st.booleans(), label="renumbered"):
        renumber(document)
    text = json.dumps(document)
    note(text)
    try:
        history = History.from_json(text, source="bad.json")
    except MalformedHistory as error:
        assert error.message.startswith("bad.json: ")
        return
    assert History.from_json(history.to_json()) == history
    report = Replayer([everything]).replay(history)
    note(str(report))
    assert report.status in {"equal", "violation", "error"}
    assert (report.error is None) == (report.status == "equal")
    json.dumps(report.as_data())


@given(st.data())
def test_a_file_that_was_cut_or_overwritten_is_refused_or_read(data: st.DataObject) -> None:
    text = bytearray(good().encode())
    place = data.draw(st.integers(0, len(text)))
    text[place : place + data.draw(st.integers(0, 40))] = data.draw(st.binary(max_size=8))
    try:
        History.from_json(bytes(text), source="bad.json")
    except MalformedHistory as error:
        assert error.message.startswith("bad.json: ")
