"""Which submissions of a history count, in order (rules 4 and 5).

A submission stands in history as a block: the events that its commands made, up to the one that suspends or ends the
workflow. It counts if its marker says that it follows the end of the last one that counts. The rest is foreign: late
or repeated submissions that a server without fencing took, and blocks that hold nothing of the program.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flovyn.errors import DeterminismViolation, FlovynError
from flovyn.replay.events import ENDINGS, EXTERNAL, SUSPENDED, Event
from flovyn.replay.marker import Marker
from flovyn.replay.names import ACTIVATION

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Block", "History", "HistoryGap"]

_ENDED_TASK = frozenset({"TASK_COMPLETED", "TASK_FAILED", "TASK_CANCELLED"})


class HistoryGap(FlovynError):
    """The history that was read has a hole; nothing may run on it. It has to be read again."""


class Block:
    """The events of one submission."""

    __slots__ = ("end", "events", "marker")

    def __init__(self, events: list[Event]) -> None:
        self.events: list[Event] = events
        self.end: Event = events[-1]
        self.marker: Marker | None = next(
            (
                Marker.decode(event.data.result)
                for event in events
                if event.type == "OPERATION_COMPLETED" and event.data.operation == ACTIVATION
            ),
            None,
        )


class History:
    """A history as far as it has been read; grows by `extend`, never shrinks.

    Attributes:
        length: The sequence number of the last event read.
        last: The end of the last block that counts, as a sequence number; 0 for none.
        kept: The blocks that count, in order.
        foreign: The blocks that do not.
        externals: What the outside world told, in order.
        armed: The timers that are armed on the server, by id, with the sequence number of their start.
        ended_tasks: The tasks that have a terminal event.
        ended: The event that ended the workflow, if one did.
    """

    __slots__ = ("_block", "armed", "ended", "ended_tasks", "externals", "foreign", "kept", "last", "length")

    def __init__(self) -> None:
        self.length: int = 0
        self.last: int = 0
        self.kept: list[Block] = []
        self.foreign: list[Block] = []
        self.externals: list[Event] = []
        self.armed: dict[str, int] = {}
        self.ended_tasks: dict[str, None] = {}
        self.ended: Event | None = None
        self._block: list[Event] = []

    def extend(self, events: Iterable[Event]) -> None:
        """Read on.

        Raises:
            HistoryGap: The first of these events does not follow the last one read, or there is a hole among them.
            DeterminismViolation: A block was written by something that leaves no markers.
        """
        for event in events:
            if event.sequence != self.length + 1:
                raise HistoryGap(f"history has event {event.sequence} after event {self.length}")
            self.length = event.sequence
            self._read(event)

    def _read(self, event: Event) -> None:
        kind = event.type
        if kind in EXTERNAL:
            self.externals.append(event)
            if kind == "TIMER_FIRED":
                self.armed.pop(event.data.timer_id or "", None)
            elif kind in _ENDED_TASK:
                self.ended_tasks[event.data.task] = None
            return
        if kind == "WORKFLOW_STARTED":
            return
        if kind == "TIMER_STARTED":
            self.armed[event.data.timer_id or ""] = event.sequence
        elif kind == "TIMER_CANCELLED":
            self.armed.pop(event.data.timer_id or "", None)
        self._block.append(event)
        if kind == SUSPENDED or kind in ENDINGS:
            block, self._block = Block(self._block), []
            self._place(block)

    def _place(self, block: Block) -> None:
        ending = block.end.type in ENDINGS
        if ending:
            self.ended = block.end
        marker = block.marker
        if marker is None:
            if ending:  # a server ends a workflow by itself (a forced cancel): no code of ours stands behind it
                return
            raise DeterminismViolation(
                f"the events up to {block.end.sequence} were not written by this SDK (they carry no "
                f"{ACTIVATION!r}); a run can only be continued by the SDK that began it"
            )
        if marker.hold:
            self.foreign.append(block)
            return
        if marker.after == self.last:
            self.kept.append(block)
            self.last = block.end.sequence
        elif ending and marker.after < self.last:
            # It did end the workflow: what it followed counts, what came between does not.
            self.foreign += [kept for kept in self.kept if kept.end.sequence > marker.after]
            self.kept = [*(kept for kept in self.kept if kept.end.sequence <= marker.after), block]
            self.last = block.end.sequence
        elif marker.after > self.last:
            raise HistoryGap(
                f"the submission that ends at {block.end.sequence} follows {marker.after}, but the last one that "
                f"counts ends at {self.last}"
            )
        else:
            self.foreign.append(block)

    def foreign_tasks(self) -> list[str]:
        """Ids of the tasks that run away with blocks that do not count."""
        return self._foreign_only("TASK_SCHEDULED")

    def foreign_timers(self) -> list[str]:
        """Ids of the timers, reserved ones left out, that blocks armed which do not count."""
        return [timer for timer in self._foreign_only("TIMER_STARTED") if not timer.startswith("$")]

    def _foreign_only(self, kind: str) -> list[str]:
        if not self.foreign:
            return []
        kept = {_identity(event): None for block in self.kept for event in block.events if event.type == kind}
        return [
            identity
            for block in self.foreign
            for event in block.events
            if event.type == kind and (identity := _identity(event)) not in kept
        ]


def _identity(event: Event) -> str:
    return event.data.task if event.type == "TASK_SCHEDULED" else event.data.timer_id or ""
