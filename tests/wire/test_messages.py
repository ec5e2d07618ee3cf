"""Our messages and google's mean the same, and are the same bytes."""

from __future__ import annotations

import math
from typing import Any

import betterproto2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flovyn.wire.coding import decode, encode
from flovyn.wire.messages.flovyn import v1 as pb
from wire.plans import as_google, as_ours, assert_same, edges, full, is_map, plans
from wire.reference import descriptor, google_bytes, google_decode, message_names, our_class

every_message = pytest.mark.parametrize("name", message_names())


def check_both_ways(name: str, plan: dict[str, Any]) -> None:
    ours, google = as_ours(name, plan), as_google(name, plan)
    data = encode(ours)
    assert data == google_bytes(google)
    assert_same(decode(our_class(name), data), google)
    assert encode(decode(our_class(name), data)) == data
    theirs = google_decode(name, data)
    assert theirs is not None
    assert_same(ours, theirs)
    assert google_bytes(theirs) == data


def test_all_messages_are_tested() -> None:
    ours = {
        cls.__name__ for cls in vars(pb).values() if isinstance(cls, type) and issubclass(cls, betterproto2.Message)
    }
    assert {name.rpartition(".")[2] for name in message_names()} == ours | {"Empty"}
    assert len(message_names()) == 123


@every_message
@given(data=st.data())
# One test for each of 123 messages, so each is given a part of what the profile allows.
@settings(max_examples=max(1, settings().max_examples // 4))
def test_any_message(name: str, data: st.DataObject) -> None:
    check_both_ways(name, data.draw(plans(name)))


@every_message
def test_each_field_at_its_edges(name: str) -> None:
    for field in descriptor(name).fields:
        for value in edges(field):
            repeated = field.is_repeated and not is_map(field)
            check_both_ways(name, {field.name: [value, value] if repeated else value})


@every_message
def test_all_fields_at_once(name: str) -> None:
    check_both_ways(name, {})
    check_both_ways(name, full(name))


@every_message
def test_a_new_message_is_what_no_bytes_are(name: str) -> None:
    cls = our_class(name)
    assert decode(cls, b"") == cls()
    assert encode(cls()) == b""


@every_message
def test_fields_in_any_order_of_any_number(name: str) -> None:
    """Later values win, repeated ones add up, messages merge, a oneof has its last member only."""
    pieces = [google_bytes(as_google(name, {key: value})) for key, value in full(name).items()]
    for data in (b"".join(reversed(pieces)), b"".join(pieces + pieces), b"".join(pieces + pieces[::-1] + pieces)):
        google = google_decode(name, data)
        assert_same(decode(our_class(name), data), google)
        assert encode(decode(our_class(name), data)) == google_bytes(google)


def test_a_message_that_comes_twice_is_merged() -> None:
    first = pb.PollResponse(workflow_execution=pb.WorkflowExecution(id="1", kind="k", team_id="t"))
    second = pb.PollResponse(workflow_execution=pb.WorkflowExecution(kind="other", priority_ms=5))
    both = decode(pb.PollResponse, encode(first) + encode(second))
    assert both == pb.PollResponse(pb.WorkflowExecution(id="1", kind="other", team_id="t", priority_ms=5))


def test_a_member_of_a_oneof_that_comes_back_begins_anew() -> None:
    one = encode(pb.WorkflowCommand(set_state=pb.SetStateCommand(key="k")))
    two = encode(pb.WorkflowCommand(set_state=pb.SetStateCommand(value=b"v")))
    other = encode(pb.WorkflowCommand(clear_state=pb.ClearStateCommand()))
    assert decode(pb.WorkflowCommand, one + two).set_state == pb.SetStateCommand("k", b"v")
    back = decode(pb.WorkflowCommand, one + other + two)
    assert back == pb.WorkflowCommand(set_state=pb.SetStateCommand(value=b"v"))
    assert decode(pb.WorkflowCommand, one + other) == pb.WorkflowCommand(clear_state=pb.ClearStateCommand())


def test_a_broken_part_of_a_merged_message_does_not_heal() -> None:
    # Together the two parts would be `kind="ab"`.
    assert google_decode("flovyn.v1.PollResponse", b"\x0a\x03\x12\x02a" + b"\x0a\x01b") is None
    with pytest.raises(Exception, match="it ends within a field"):
        decode(pb.PollResponse, b"\x0a\x03\x12\x02a" + b"\x0a\x01b")


def test_open_enums_keep_what_they_do_not_know() -> None:
    message = decode(pb.SubmitWorkflowCommandsRequest, b"\x18\x4d")
    assert message.status == 77
    assert isinstance(message.status, pb.WorkflowStatus)
    assert encode(message) == b"\x18\x4d"
    known = decode(pb.SubmitWorkflowCommandsRequest, b"\x18\x03")
    assert known.status is pb.WorkflowStatus.COMPLETED


def test_map_entries_are_sorted_and_repaired() -> None:
    message = pb.StartWorkflowRequest(metadata={"b": "1", "a": "2"})
    other = pb.StartWorkflowRequest(metadata={"a": "2", "b": "1"})
    assert encode(message) == encode(other)
    assert encode(message) == b"\x22\x06\x0a\x01a\x12\x012" + b"\x22\x06\x0a\x01b\x12\x011"
    assert decode(pb.StartWorkflowRequest, b"\x22\x00").metadata == {"": ""}
    twice = b"\x22\x06\x0a\x01a\x12\x011" + b"\x22\x06\x12\x012\x0a\x01a"
    assert decode(pb.StartWorkflowRequest, twice).metadata == {"a": "2"}
    # Google's Python runtime takes such an entry for unknown as a whole; its others keep it, and so do we.
    assert decode(pb.StartWorkflowRequest, b"\x22\x05\x0a\x01a\x18\x05").metadata == {"a": ""}


def test_minus_zero_is_not_the_default() -> None:
    assert encode(pb.ReportProgressRequest(progress=0.0)) == b""
    assert encode(pb.ReportProgressRequest(progress=-0.0)) == b"\x11" + b"\0" * 7 + b"\x80"
    assert math.copysign(1, decode(pb.ReportProgressRequest, b"\x11" + b"\0" * 7 + b"\x80").progress) == -1


@pytest.mark.parametrize("convert", [bytes, bytearray, memoryview])
def test_any_buffer_can_be_read(convert: type) -> None:
    data = encode(pb.WorkflowEvent(1, "TASK_COMPLETED", b"{}"))
    event = decode(pb.WorkflowEvent, convert(data))
    assert event == pb.WorkflowEvent(1, "TASK_COMPLETED", b"{}")
    assert type(event.event_data) is bytes


def test_a_decoded_message_shares_nothing_with_another() -> None:
    one, other = decode(pb.PollRequest, b""), decode(pb.PollRequest, b"")
    one.workflow_capabilities.append("x")
    assert other.workflow_capabilities == []
