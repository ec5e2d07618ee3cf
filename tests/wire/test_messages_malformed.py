"""Bytes that are no message, and messages that cannot be bytes."""

from __future__ import annotations

from typing import Any

import betterproto2
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from flovyn.errors import MalformedMessage, UsageError
from flovyn.wire.coding import decode, encode
from flovyn.wire.messages.flovyn import v1 as pb
from wire.plans import as_ours, full, is_map, plans
from wire.reference import descriptor, google_bytes, google_decode, message_names, our_class

every_message = pytest.mark.parametrize("name", message_names())
# Most damage is dull; these are cheap.
thorough = settings(max_examples=settings().max_examples * 10)
any_message = st.sampled_from(message_names())


def check_like_google(name: str, data: bytes) -> None:
    """Asserts that we accept what google accepts, with the same meaning, and nothing else."""
    google = google_decode(name, data)
    if google is None:
        with pytest.raises(MalformedMessage):
            decode(our_class(name), data)
        return
    ours = encode(decode(our_class(name), data))
    # A map entry with a surplus field is the one thing that google's Python runtime takes differently (see
    # test_map_entries_are_sorted_and_repaired).
    if not _has_map(descriptor(name)):
        assert ours == google_bytes(google)


def _has_map(described: Any) -> bool:
    return any(
        is_map(field) or (field.message_type is not None and _has_map(field.message_type)) for field in described.fields
    )


@every_message
def test_cut_off_anywhere(name: str) -> None:
    data = encode(as_ours(name, full(name)))
    for end in range(len(data)):
        check_like_google(name, data[:end])


@thorough
@given(name=any_message, data=st.binary(max_size=60))
def test_random_bytes(name: str, data: bytes) -> None:
    check_like_google(name, data)


@thorough
@given(st.data(), any_message, st.integers(0, 10_000), st.binary(max_size=3), st.integers(0, 3))
def test_damaged_messages(source: st.DataObject, name: str, at: int, put: bytes, drop: int) -> None:
    data = encode(as_ours(name, source.draw(plans(name))))
    assume(data)
    at %= len(data)
    check_like_google(name, data[:at] + put + data[at + drop :])


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"\xff", "it ends within a field"),
        (b"\x0a", "it ends within a field"),
        (b"\x0a\x05ab", "it ends within a field"),
        (b"\x20", "it ends within a field"),
        (b"\x20\x80", "it ends within a field"),
        (b"\x3d\x00\x00\x00", "it ends within a field"),
        (b"\x39" + b"\x00" * 7, "it ends within a field"),
        (b"\x3a\x02a", "it ends within a field"),
        (b"\x3b", "it ends within a field"),
        (b"\x0a\x02\xff\xff", "text in it is not UTF-8"),
        (b"\x0a\x03\xed\xa0\x80", "text in it is not UTF-8"),
        (b"\x20" + b"\xff" * 10 + b"\x01", "a number of more than ten bytes"),
        (b"\x38" + b"\xff" * 10 + b"\x01", "a number of more than ten bytes"),
        (b"\x0a\x80\x80\x80\x80\x80\x00", "a length over 2 GiB"),
        (b"\x0a\xff\xff\xff\xff\x0f", "a length over 2 GiB"),
        (b"\x3a\xff\xff\xff\xff\x0f", "a length over 2 GiB"),
        (b"\x00\x00", "a field number out of range"),
        (b"\x07", "a field number out of range"),
        (b"\x80\x00", "a field number out of range"),
        (b"\xff\xff\xff\xff\x1f", "a field number out of range"),
        (b"\x88\x80\x80\x80\x80\x00", "a field number out of range"),
        (b"\x0c", "the end of a group that did not begin"),
        (b"\x3b\x44", "the end of a group that did not begin"),
        (b"\x3b" * 200 + b"\x3c" * 200, "groups nested too deeply"),
        (b"\x3e", "a wire type that does not exist"),
        (b"\x0f", "a wire type that does not exist"),
    ],
)
def test_why_bytes_are_refused(data: bytes, why: str) -> None:
    assert google_decode("flovyn.v1.PollRequest", data) is None
    with pytest.raises(MalformedMessage) as caught:
        decode(pb.PollRequest, data)
    assert str(caught.value) == f"not a valid PollRequest: {why}"


@pytest.mark.parametrize(
    ("name", "data"),
    [
        # A field that reaches beyond the message that it is in, though not beyond the data.
        ("PollResponse", b"\x0a\x02\x0a\x05abcde"),
        ("PollResponse", b"\x0a\x01\x0a\x01a"),
        ("PollResponse", b"\x0a\x02\x30\x80\x01"),
        ("PollResponse", b"\x0a\x03\x7d\x00\x00\x00\x00"),
        ("GetEventsResponse", b"\x0a\x80\x10\x08"),
        ("StartWorkflowRequest", b"\x22\x02\x0a\x05abcde"),
        ("StartWorkflowRequest", b"\x22\x03\x0a\x01\xff"),
        ("StartWorkflowRequest", b"\x22\x02\x18\x80\x01"),
        ("StartWorkflowRequest", b"\x22\x01\x00"),
        ("ReportProgressRequest", b"\x11\x00\x00"),
        ("WorkflowCommand", b"\x82\x01\x05a"),
        ("WorkflowCommand", b"\x82"),
    ],
)
def test_more_that_is_refused(name: str, data: bytes) -> None:
    assert google_decode(f"flovyn.v1.{name}", data) is None
    with pytest.raises(MalformedMessage):
        decode(our_class(f"flovyn.v1.{name}"), data)


@example("PollRequest", b"\xa0\x80\x80\x80\x00\x05")  # a tag of five bytes
@example("PollRequest", b"\x0a\x81\x80\x80\x80\x00a")  # a length of five bytes
@example("PollRequest", b"\x20" + b"\xff" * 9 + b"\x7f")  # bits beyond the 64th
@example("PollRequest", b"\x08\x05\x22\x01a\x3b\x08\x01\x3c")  # other wire types than expected
@example("PollRequest", b"\x7a\x02\xff\xff")  # an unknown field is not text
@example("StartWorkflowResponse", b"\x10\x80\x80\x80\x80\x80\x01")  # true beyond 32 bits
@example("SubmitWorkflowCommandsRequest", b"\x18\x80\x80\x80\x80\x10")  # an enum beyond 32 bits
@example("WorkflowExecution", b"\x40\x80\x80\x80\x80\x10")  # an int32 beyond 32 bits
@example("WorkflowCommand", b"\x82\x81\x00\x00\x92\x01\x00")  # long tags
@given(st.just("PollRequest"), st.just(b""))
def test_what_is_odd_but_accepted(name: str, data: bytes) -> None:
    assert google_decode(f"flovyn.v1.{name}", data) is not None
    check_like_google(f"flovyn.v1.{name}", data)


def wrong(value: Any) -> Any:
    """A value of another type than the checker would let pass."""
    return value


@pytest.mark.parametrize(
    ("message", "fault"),
    [
        (pb.PollRequest(worker_id=wrong(5)), "PollRequest.worker_id: expected str, got int"),
        (pb.PollRequest(worker_id=wrong(b"w")), "PollRequest.worker_id: expected str, got bytes"),
        (pb.PollRequest(worker_id=wrong(None)), "PollRequest.worker_id: expected str, got NoneType"),
        (pb.PollRequest(worker_pool_id=wrong(5)), "PollRequest.worker_pool_id: expected str, got int"),
        (pb.PollRequest(timeout_seconds=wrong("5")), "PollRequest.timeout_seconds: expected int, got str"),
        (pb.PollRequest(timeout_seconds=wrong(1.5)), "PollRequest.timeout_seconds: expected int, got float"),
        (pb.PollRequest(timeout_seconds=wrong(None)), "PollRequest.timeout_seconds: expected int, got NoneType"),
        (
            pb.PollRequest(timeout_seconds=2**63),
            "PollRequest.timeout_seconds: 9223372036854775808 does not fit 64 bits",
        ),
        (
            pb.PollRequest(workflow_capabilities=wrong("abc")),
            "PollRequest.workflow_capabilities: expected list, got str",
        ),
        (
            pb.PollRequest(workflow_capabilities=["a", wrong(None)]),
            "PollRequest.workflow_capabilities[1]: expected str, got NoneType",
        ),
        (
            pb.PollRequest(worker_id="a\ud800"),
            "PollRequest.worker_id: text that cannot be written as UTF-8 (surrogates not allowed at 1)",
        ),
        (
            pb.WorkflowEvent(sequence_number=-(2**31) - 1),
            "WorkflowEvent.sequence_number: -2147483649 does not fit 32 bits",
        ),
        (pb.WorkflowEvent(event_data=wrong("{}")), "WorkflowEvent.event_data: expected bytes, got str"),
        (pb.WorkflowEvent(event_data=wrong(None)), "WorkflowEvent.event_data: expected bytes, got NoneType"),
        (pb.GetStateResponse(found=wrong("no")), "GetStateResponse.found: expected bool, got str"),
        (pb.GetStateResponse(found=wrong(0)), "GetStateResponse.found: expected bool, got int"),
        (pb.ReportProgressRequest(progress=wrong("0.5")), "ReportProgressRequest.progress: expected float, got str"),
        (pb.StartWorkflowRequest(metadata=wrong(None)), "StartWorkflowRequest.metadata: expected dict, got NoneType"),
        (pb.StartWorkflowRequest(metadata=wrong([])), "StartWorkflowRequest.metadata: expected dict, got list"),
        (
            pb.StartWorkflowRequest(metadata={"a": wrong(1)}),
            "StartWorkflowRequest.metadata['a']: expected str, got int",
        ),
        (
            pb.StartWorkflowRequest(metadata={wrong(1): "a"}),
            "StartWorkflowRequest.metadata, a key: expected str, got int",
        ),
        (
            pb.SubmitWorkflowCommandsRequest(status=wrong(2**31)),
            "SubmitWorkflowCommandsRequest.status: 2147483648 does not fit 32 bits",
        ),
        (
            pb.SubmitWorkflowCommandsRequest(
                commands=[pb.WorkflowCommand(), pb.WorkflowCommand(set_state=pb.SetStateCommand(key=wrong(1)))]
            ),
            "SubmitWorkflowCommandsRequest.commands[1].set_state.key: expected str, got int",
        ),
        (
            pb.WorkflowCommand(set_state=pb.SetStateCommand(), clear_state=pb.ClearStateCommand()),
            "WorkflowCommand: both set_state and clear_state are set; at most one of command_data can be",
        ),
        (
            pb.StartChildWorkflowRequest(workflow_kind="", workflow_definition_id=""),
            "StartChildWorkflowRequest: both workflow_kind and workflow_definition_id are set; "
            "at most one of workflow_execution_identifier can be",
        ),
        (pb.PollTaskResponse(task=wrong("t")), "PollTaskResponse.task: expected TaskExecutionInfo, got str"),
        (
            pb.WorkflowCommand(suspend_workflow=wrong(pb.CancelWorkflowCommand("enough"))),
            "WorkflowCommand.suspend_workflow: expected SuspendWorkflowCommand, got CancelWorkflowCommand",
        ),
        (
            pb.GetEventsResponse(events=[pb.WorkflowEvent(), wrong(None)]),
            "GetEventsResponse.events[1]: expected WorkflowEvent, got NoneType",
        ),
        (
            pb.GetEventsResponse(events=wrong((pb.WorkflowEvent(),))),
            "GetEventsResponse.events: expected list, got tuple",
        ),
    ],
)
def test_why_a_message_cannot_be_written(message: betterproto2.Message, fault: str) -> None:
    with pytest.raises(UsageError) as caught:
        encode(message)
    assert str(caught.value) == fault


def test_what_is_not_of_the_protocol() -> None:
    class Other(betterproto2.Message):
        pass

    with pytest.raises(UsageError, match=r"Other is not a message of the protocol$"):
        encode(Other())
    with pytest.raises(UsageError, match=r"^int is not a message of the protocol$"):
        decode(int, b"")
