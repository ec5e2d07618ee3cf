"""Histories as the wire carries them, applied to a run without keeping the host's loop for long."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import anyio

from flovyn.errors import MalformedMessage
from flovyn.replay import holds_before, read_event
from flovyn.wire import coding
from flovyn.wire.messages.flovyn import v1 as pb
from flovyn.wire.payloads import decoded

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flovyn.replay import Execution
    from flovyn.serde.chain import CodecChain

__all__ = ["apply", "holds_in"]

_PIECE_EVENTS: Final = 100
"""How many events are read between two looks at the clock: well under a millisecond's worth."""

_SLICE_SECONDS: Final = 0.003

_EVENTS_TAG: Final = 0x0A
"""What each event of a GetEventsResponse begins with: field 1, length-delimited."""


async def apply(execution: Execution, raw: bytes, codecs: CodecChain) -> None:
    """Load the events in a (piece of a) GetEvents response; the concatenation of messages is a message.

    Raises:
        MalformedMessage: These are no events.
        CodecError: A payload in them cannot be decoded. Nothing may run on such a history.
        HistoryGap: They do not follow the last one that was read.
        DeterminismViolation: They were not written by this SDK.
    """
    since = time.perf_counter()
    encoded = codecs.may_concern(raw)
    for piece in _pieces(raw):
        response = coding.decode(pb.GetEventsResponse, piece)
        if encoded:
            response = await decoded(response, codecs)
        execution.load(
            read_event(event.sequence_number, event.event_type, event.event_data) for event in response.events
        )
        if time.perf_counter() - since > _SLICE_SECONDS:
            await anyio.lowlevel.checkpoint()
            since = time.perf_counter()


def holds_in(raw: bytes) -> int:
    """How many times in a row the run with this history has been held until now; 0 if it cannot be read."""
    try:
        events = coding.decode(pb.GetEventsResponse, raw).events
    except MalformedMessage:
        return 0
    return holds_before((event.event_type, event.event_data) for event in reversed(events))


def _pieces(raw: bytes) -> Iterator[bytes]:
    """A GetEventsResponse as several, of some events each; what is no event stays in one piece with what follows."""
    begin = position = count = 0
    end = len(raw)
    while position < end and raw[position] == _EVENTS_TAG:
        # The length: seven bits a byte, the lowest first, up to a byte whose highest bit is not set.
        position, shift, length = position + 1, 0, 0
        while position < end:
            byte = raw[position]
            position += 1
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        position += length
        count += 1
        if count == _PIECE_EVENTS and position < end:
            yield raw[begin:position]
            begin, count = position, 0
    if begin < end:
        yield raw[begin:]
