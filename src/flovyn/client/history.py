"""A workflow's history as a client sees it: what happened, in order, as plain data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from flovyn.errors import MalformedMessage

if TYPE_CHECKING:
    from flovyn.wire.messages.flovyn import v1 as pb

__all__ = ["HistoryEvent", "read_history_event"]


@dataclass(frozen=True, slots=True)
class HistoryEvent:
    """One entry of a workflow's history.

    Attributes:
        sequence: Its position, counted from 1.
        type: What happened, in the platform's words, such as ``TASK_COMPLETED``.
        data: What the platform tells about it, as JSON data.
    """

    sequence: int
    type: str
    data: Any


def read_history_event(event: pb.WorkflowEvent) -> HistoryEvent:
    """Decode an event of the wire.

    Raises:
        MalformedMessage: Its data is not JSON.
    """
    try:
        data = msgspec.json.decode(event.event_data) if event.event_data else None
    except msgspec.DecodeError as error:
        raise MalformedMessage(
            f"event {event.sequence_number} ({event.event_type}) of the history is not JSON: {error}"
        ) from error
    return HistoryEvent(event.sequence_number, event.event_type, data)
