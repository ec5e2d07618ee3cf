"""Histories in pieces: every event once and in order, and the host's loop gets its turns."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flovyn import MalformedMessage
from flovyn.wire import coding
from flovyn.wire.messages.flovyn import v1 as pb
from flovyn.worker import histories


def pieces(raw: bytes) -> list[bytes]:
    return list(histories._pieces(raw))


def events(*sizes: int) -> list[pb.WorkflowEvent]:
    return [pb.WorkflowEvent(number, "T", b"x" * size) for number, size in enumerate(sizes, 1)]


@given(st.lists(st.integers(0, 300) | st.sampled_from([16_000, 17_000]), max_size=450))
def test_the_pieces_are_the_whole_cut_between_events(sizes: list[int]) -> None:
    whole = events(*sizes)
    cut = pieces(coding.encode(pb.GetEventsResponse(events=whole)))
    decoded = [coding.decode(pb.GetEventsResponse, piece).events for piece in cut]
    assert [event for piece in decoded for event in piece] == whole
    assert [len(piece) for piece in decoded[:-1]] == [100] * (len(decoded) - 1)


def test_what_is_no_event_stays_with_its_bytes() -> None:
    """A field of a newer server (number 15, a varint of 5) between the events."""
    some = coding.encode(pb.GetEventsResponse(events=events(*[0] * 150)))
    cut = pieces(some + b"\x78\x05" + some)
    assert b"".join(cut) == some + b"\x78\x05" + some
    assert [len(coding.decode(pb.GetEventsResponse, piece).events) for piece in cut] == [100, 200]


@pytest.mark.parametrize("cut", [b"\x0a", b"\x0a\x05ab", b"\x0a\xff", b"\x0a\xff\xff\xff\xff\x7f"])
def test_a_history_that_is_cut_off_is_malformed_not_endless(cut: bytes) -> None:
    whole = coding.encode(pb.GetEventsResponse(events=events(*[0] * 100)))
    assert b"".join(pieces(whole + cut)) == whole + cut
    with pytest.raises(MalformedMessage):
        for piece in pieces(whole + cut):
            coding.decode(pb.GetEventsResponse, piece)
