"""What history has of the program's calls, kind by kind."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from flovyn.replay.events import Event

__all__ = ["KINDS", "RESERVING", "WRITES", "Kind", "Recording", "Strand", "name_of"]


class Kind(enum.StrEnum):  # each call and each recording is looked up by its kind, and a plain enum's hash is Python
    """What is numbered; the value is how the platform's messages name it."""

    TASK = "Task"
    TIMER = "Timer"
    OPERATION = "Operation"
    PROMISE = "Promise"
    CHILD = "Child workflow"
    STATE = "State"


KINDS: Final = {
    "TASK_SCHEDULED": Kind.TASK,
    "TIMER_STARTED": Kind.TIMER,
    "OPERATION_COMPLETED": Kind.OPERATION,
    "PROMISE_CREATED": Kind.PROMISE,
    "CHILD_WORKFLOW_INITIATED": Kind.CHILD,
    "STATE_SET": Kind.STATE,
    "STATE_CLEARED": Kind.STATE,
}
WRITES: Final = {"STATE_SET": "StateSet", "STATE_CLEARED": "StateCleared"}
# What stands outside the numbering is named by its own name, not by one of the user's.
RESERVING: Final = frozenset({Kind.TIMER, Kind.OPERATION})


class Recording(msgspec.Struct, frozen=True, gc=False):
    """An event of a block that counts, with the number of that block, from 1; 0 if no marker stands before it."""

    event: Event
    activation: int


@dataclass(slots=True)
class Strand:
    """The recordings of one kind, and how many calls have been made; those that were used up are let go of."""

    recordings: list[Recording]
    calls: int = 0
    first: int = 0

    @property
    def end(self) -> int:
        """How many recordings history has."""
        return self.first + len(self.recordings)

    def at(self, index: int) -> Recording | None:
        """The recording with this number, if history has it."""
        place = index - self.first
        return self.recordings[place] if place < len(self.recordings) else None

    def let_go(self, end: int) -> None:
        """Forget the recordings before a number."""
        del self.recordings[: end - self.first]
        self.first = end


def name_of(kind: Kind, event: Event) -> str:
    """What an event of a kind is about, for people."""
    data = event.data
    match kind:
        case Kind.TASK:
            return data.kind or ""
        case Kind.TIMER:
            return data.timer_id or ""
        case Kind.OPERATION:
            return data.operation
        case Kind.PROMISE:
            return data.promise_name or ""
        case Kind.CHILD:
            return data.child_name
        case Kind.STATE:
            return f"{WRITES[event.type]} {data.key or ''}"
