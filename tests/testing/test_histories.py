"""Reading histories: whatever a tool exports is read, and whatever is no history is told by file and place."""

from __future__ import annotations

import base64
import json
import string
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flovyn import MalformedHistory, UsageError
from flovyn.testing import History, RecordedEvent
from flovyn.testing.replayer import reading

RUN = "550e8400-e29b-41d4-a716-446655440000"
STARTED = {"input": {"a_key": 1}, "kind": "order"}
EXPECTED = History(
    workflow_id=RUN,
    kind="order",
    input=b'{"a_key":1}',
    events=(
        RecordedEvent(1, "WORKFLOW_STARTED", b'{"input":{"a_key":1},"kind":"order"}'),
        RecordedEvent(
            2, "TASK_COMPLETED", b'{"taskExecutionId":"t","output":{"a_key":[1.50,123456789012345678901234]}}'
        ),
        RecordedEvent(3, "WORKFLOW_SUSPENDED"),
    ),
)
COMPLETED = '{"taskExecutionId": "t", "output": {"a_key": [1.50, 123456789012345678901234]}}'


def document(*events: str, **head: Any) -> str:
    heads = "".join(f"{json.dumps(key)}: {json.dumps(value)}, " for key, value in ({"id": RUN} | head).items())
    return f'{{{heads}"events": [{", ".join(events)}]}}'


def rest(number: int, kind: str, data: str) -> str:
    return f'{{"sequenceNumber": {number}, "eventType": "{kind}", "data": {data}, "createdAt": "2026-01-01T00:00:00Z"}}'


def snake(number: int, kind: str, data: str) -> str:
    return f'{{"sequence_number": "{number}", "event_type": "{kind}", "event_data": {data}}}'


def in_base64(number: int, kind: str, data: str) -> str:
    text = "" if data == "null" else base64.b64encode(data.encode()).decode()
    return f'{{"sequenceNumber": {number}, "eventType": "{kind}", "eventData": "{text}"}}'


def in_text(number: int, kind: str, data: str) -> str:
    return f'{{"sequence": {number}, "type": "{kind}", "data": {json.dumps(data)}}}'


@pytest.mark.parametrize("write", [rest, snake, in_base64, in_text])
def test_every_spelling_gives_the_same_history_to_the_letter(write: Any) -> None:
    started = write(1, "WORKFLOW_STARTED", json.dumps(STARTED))
    events = [started, write(2, "TASK_COMPLETED", COMPLETED), write(3, "WORKFLOW_SUSPENDED", "null")]
    assert History.from_json(document(*events)) == EXPECTED
    assert History.from_json(f"\ufeff\n{document(*events)}\n".encode()) == EXPECTED
    assert History.from_json(f" [{', '.join(events)}]", workflow_id=RUN) == EXPECTED


def test_keys_of_the_platform_become_camel_case_and_payloads_stay_as_they_are() -> None:
    data = '{"task_execution_id": "t", "output": {"a_key": [1.50, 123456789012345678901234]}}'
    event = History.from_json(document(rest(1, "TASK_COMPLETED", data), kind="order")).events[0]
    assert event.data == EXPECTED.events[1].data


def test_the_head_says_what_the_first_event_does_not() -> None:
    head = {"workflow_execution_id": RUN.upper(), "workflow_kind": "other", "org_id": "o", "queue": "q", "input": [1.0]}
    text = json.dumps({**head, "status": "RUNNING", "events": [json.loads(rest(1, "WORKFLOW_STARTED", "{}"))]})
    read = History.from_json(text)
    assert (read.workflow_id, read.kind, read.org_id, read.queue, read.input) == (RUN, "other", "o", "q", b"[1.0]")


def test_a_file_may_be_named_after_its_execution(tmp_path: Path) -> None:
    path = tmp_path / f"{RUN}.json"
    path.write_text(f"[{rest(1, 'WORKFLOW_STARTED', json.dumps(STARTED))}]", encoding="utf-8")
    read = History.read(path)
    assert (read.workflow_id, read.source) == (RUN, str(path))
    other = tmp_path / "order.json"
    other.write_text(read.to_json(), encoding="utf-8")
    assert History.read(other) == read


payloads = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(string.ascii_lowercase + "_$"), inner, max_size=3)
    ),
    max_leaves=8,
)
events = st.lists(
    st.tuples(
        st.text(string.ascii_uppercase + "_", min_size=1),
        st.none() | st.dictionaries(st.sampled_from(["output", "taskExecutionId", "error", "kind"]), payloads),
    ),
    min_size=1,
    max_size=5,
)


@given(events, payloads, st.booleans(), st.uuids())
def test_what_is_written_is_what_is_read(listed: Any, given_input: Any, escaped: bool, identity: Any) -> None:
    dump = json.JSONEncoder(ensure_ascii=escaped, separators=(",", ":")).encode
    history = History(
        workflow_id=str(identity),
        kind="order",
        org_id="o",
        queue="q",
        input=dump(given_input).encode(),
        events=tuple(
            RecordedEvent(number, kind, b"" if data is None else dump(data).encode())
            for number, (kind, data) in enumerate([("WORKFLOW_STARTED", None), *listed], 1)
        ),
    )
    assert History.from_json(history.to_json()) == history


ONE = rest(1, "WORKFLOW_STARTED", '{"kind": "order"}')
DEEP = "[" * 100_000
BAD: list[tuple[str, str | bytes, str | None, str]] = [
    ("nothing", "", None, "Input data was truncated"),
    ("white space", " \n ", None, "Input data was truncated"),
    ("not JSON", "hello", None, "JSON is malformed: invalid character (byte 0)"),
    ("a cut file", document(ONE)[:-9], None, "Input data was truncated"),
    ("a number", "7", None, "Expected `object`, got `int`"),
    ("not UTF-8", b"\xff\xfe[]", None, "it is not UTF-8"),
    ("deep", DEEP, None, "it is nested too deeply"),
    ("no events", "{}", None, 'there are no "events" in it'),
    ("events of another type", '{"events": 7}', "events", "Expected `array`, got `int`"),
    ("an empty array", "[]", "events", "a history has one event at least"),
    ("an event that is none", "[7]", "events[0]", "Expected `object`, got `int`"),
    ("no number", document('{"eventType": "A"}'), "events[0]", "there is no 'sequenceNumber' in it"),
    ("no type", document('{"sequenceNumber": 1}'), "events[0]", "there is no 'eventType' in it"),
    (
        "a number that is none",
        document(snake(0, "A", "{}").replace('"0"', '"x"')),
        "events[0].sequenceNumber",
        "Expected `int`, got `str`",
    ),
    (
        "a type that is none",
        document('{"sequenceNumber": 1, "eventType": 5}'),
        "events[0].eventType",
        "Expected `str`, got `int`",
    ),
    ("a late start", document(rest(2, "A", "{}")), "events[0].sequenceNumber", "this is event 2, but 1 is due"),
    ("a hole", document(ONE, rest(3, "A", "{}")), "events[1].sequenceNumber", "this is event 3, but 2 is due"),
    ("one twice", document(ONE, ONE), "events[1].sequenceNumber", "this is event 1, but 2 is due"),
    ("a number without end", document(ONE, rest(10**400, "A", "{}")), "events[1].sequenceNumber", ""),
    ("data of another type", document(rest(1, "A", "[1]")), "events[0].data", "Expected `object`, got `array`"),
    (
        "data in base64 of another type",
        document(in_base64(1, "A", "[1]")),
        "events[0].eventData",
        "Expected `object`, got `array`",
    ),
    (
        "base64 that is none",
        document(rest(1, "A", '"a?b"')),
        "events[0].data",
        "this text is neither a JSON object nor base64",
    ),
    ("base64 of no JSON", document(in_base64(1, "A", "hello")), "events[0].eventData", "JSON is malformed"),
    ("base64 of no text", document(rest(1, "A", '"/w=="')), "events[0].data", "it is not UTF-8"),
    ("text that is cut", document(rest(1, "A", '"{\\"a"')), "events[0].data", "Input data was truncated"),
    (
        "a key in two spellings",
        document(rest(1, "A", '{"taskId": "1", "task_id": "2"}')),
        "events[0].data",
        "a key stands in it twice",
    ),
    (
        "two numbers",
        document('{"sequenceNumber": 1, "sequence_number": 2, "type": "A"}'),
        "events[0]",
        "a key stands in it twice",
    ),
    ("no id", f"[{ONE}]", None, "it does not say which execution this is"),
    ("an id that is none", document(ONE, id="seven"), "id", "the id of an execution is a UUID, not 'seven'"),
    ("an id of another type", document(ONE, id=7), "id", "Expected `str`, got `int`"),
    ("no kind", document(rest(1, "WORKFLOW_STARTED", "{}")), None, "it does not say which workflow this is"),
    ("a kind of another type", document(ONE, kind={}), "kind", "Expected `str`, got `object`"),
    (
        "a kind in the first event of another type",
        document(rest(1, "A", '{"kind": 1}')),
        "events[0].data.kind",
        "Expected `str`, got `int`",
    ),
]


@pytest.mark.parametrize(("text", "place", "message"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_what_is_no_history_is_told_by_file_and_place(
    text: str | bytes, place: str | None, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "history.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(MalformedHistory) as raised:
        History.read(path)
    assert (raised.value.source, raised.value.place) == (str(path), place)
    assert raised.value.message.startswith(f"{path}: {place}: {message}" if place else f"{path}: {message}")
    assert isinstance(raised.value, UsageError)


def test_a_document_without_a_name_is_told_by_its_place_only() -> None:
    with pytest.raises(MalformedHistory, match="^events: Expected"):
        History.from_json('{"events": 7}')


def test_what_is_larger_than_any_history_is_not_even_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "LARGEST", 1024 * 1024)
    with pytest.raises(MalformedHistory, match="larger than 1 MiB"):
        History.from_json(" " * 1024 * 1024 + "7")


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(MalformedHistory, match="history.json: the file cannot be read: No such file or directory"):
        History.read(tmp_path / "history.json")
