"""Which submissions of a history count, in order (rules 4 and 5).

A submission stands in history as a block: the events that its commands made, from its marker up to the one that
suspends or ends the workflow. It counts if its marker says that it follows the end of the last one that counts. The
rest is foreign: late or repeated submissions that a server without fencing took, and failures that were retried.

What a worker without markers wrote before the first block that counts is kept as it is: together with that block it is
the first activation.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from flovyn.errors import DeterminismViolation, FlovynError
from flovyn.replay.events import ENDINGS, EXTERNAL, STARTED, SUSPENDED, Event
from flovyn.replay.marker import Marker
from flovyn.replay.names import ACTIVATION, RESERVED, timer_of

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Block", "History", "HistoryGap"]

# What the code of a workflow asks for: no server writes these by itself.
_CALLED: Final = frozenset(
    {
        "TASK_SCHEDULED",
        "TIMER_STARTED",
        "OPERATION_COMPLETED",
        "PROMISE_CREATED",
        "CHILD_WORKFLOW_INITIATED",
        "STATE_SET",
        "STATE_CLEARED",
        SUSPENDED,
    }
)
_ENDED_CHILD: Final = frozenset({"CHILD_WORKFLOW_COMPLETED", "CHILD_WORKFLOW_FAILED", "CHILD_WORKFLOW_CANCELLED"})
_ENDED_TASK: Final = frozenset({"TASK_COMPLETED", "TASK_FAILED", "TASK_CANCELLED"})


class HistoryGap(FlovynError):
    """The history that was read has a hole; nothing may run on it. It has to be read again."""


class Block:
    """The events of one submission.

    Attributes:
        events: The marker first.
        end: The event that suspends or ends the workflow.
        marker: What the activation behind it had seen.
    """

    __slots__ = ("end", "events", "marker")

    def __init__(self, events: list[Event], marker: Marker) -> None:
        self.events: list[Event] = events
        self.end: Event = events[-1]
        self.marker: Marker = marker


class History:
    """A history as far as it has been read; grows by `extend`.

    What nobody will ask for any more is let go of, so a long history costs no more than what is still open in it.

    Attributes:
        length: The sequence number of the last event read.
        last: The end of the last block that counts, as a sequence number; 0 for none.
        counted: How many blocks count, the one that ended the workflow left out.
        newest: The marker of the last of them.
        kept: The blocks that count and were not let go of, in order.
        final: The block that ended the workflow, if it counts and was not retried.
        foreign: The markers of the blocks that do not count.
        unmarked: What a worker without markers wrote, before any block that counts.
        armed: The timers that are armed on the server, by id, with the sequence number of their start.
        fired: The timers of the program whose firing was read, but not delivered to it.
        ended_tasks: The tasks whose terminal event was read, but not delivered to the program.
        ended_children: Likewise the children, by id where the event has one, else by name.
        promises: The names of the promises that exist, whoever created them, by id.
        promise_names: Their names.
        stray_children: The open children of blocks that do not count: their names, by id.
        stray_tasks: The open tasks of blocks that do not count.
        stray_timers: The timers that such blocks have armed, reserved ones left out.
        ended: The event that ended the workflow, if one did.
        parent_id: The run that started this one as a child; None if none did, or the server does not tell.
    """

    __slots__ = (
        "_ids",
        "_marker",
        "_open",
        "_unseen",
        "armed",
        "counted",
        "ended",
        "ended_children",
        "ended_tasks",
        "final",
        "fired",
        "foreign",
        "kept",
        "last",
        "length",
        "newest",
        "parent_id",
        "promise_names",
        "promises",
        "stray_children",
        "stray_tasks",
        "stray_timers",
        "unmarked",
    )

    def __init__(self) -> None:
        self.length: int = 0
        self.last: int = 0
        self.counted: int = 0
        self.newest: Marker | None = None
        self.kept: deque[Block] = deque()
        self.final: Block | None = None
        self.foreign: list[Marker] = []
        self.unmarked: list[Event] = []
        self.armed: dict[str, int] = {}
        self.fired: dict[str, None] = {}
        self.ended_tasks: dict[str, None] = {}
        self.ended_children: dict[str, None] = {}
        self.promises: dict[str, str] = {}
        self.promise_names: dict[str, None] = {}
        self.stray_children: dict[str, str] = {}
        self.stray_tasks: dict[str, None] = {}
        self.stray_timers: dict[str, None] = {}
        self.ended: Event | None = None
        self.parent_id: str | None = None
        self._ids: dict[str, int] = {}  # of the blocks that count, with their ends
        self._unseen: deque[Event] = deque()
        self._open: list[Event] = []
        self._marker: Marker | None = None

    # --- reading ----------------------------------------------------------------------------

    def extend(self, events: Iterable[Event]) -> None:
        """Read on.

        Raises:
            HistoryGap: The first of these events does not follow the last one read, or there is a hole among them.
            DeterminismViolation: Something that leaves no markers has written behind a block that counts.
        """
        for event in events:
            if event.sequence != self.length + 1:
                raise HistoryGap(f"history has event {event.sequence} after event {self.length}")
            self.length = event.sequence
            kind = event.type
            if kind in EXTERNAL:
                self._unseen.append(event)
                if kind == "TIMER_FIRED":
                    self._disarm(event)
                    timer = timer_of(event.data.timer_id or "")
                    if timer is not None:
                        self.fired[timer] = None
                elif kind in _ENDED_TASK:
                    self.ended_tasks[event.data.task] = None
                    self.stray_tasks.pop(event.data.task, None)
                elif kind in _ENDED_CHILD:
                    self.ended_children[event.data.child or event.data.child_name] = None
                    self.stray_children.pop(event.data.child, None)
            elif kind == STARTED:
                self.parent_id = event.data.parent_workflow_execution_id
            else:
                self._read(kind, event)

    def _read(self, kind: str, event: Event) -> None:
        if kind == "OPERATION_COMPLETED" and event.data.operation == ACTIVATION and self._marker is None:
            self._marker = Marker.decode(event.data.result)
        marker = self._marker
        if kind == "TIMER_STARTED":
            # A submission that is taken once more arms nothing: a server knows the ids of its timers.
            if marker is None or marker.id not in self._ids:
                self.armed[event.data.timer_id or ""] = event.sequence
        elif kind == "TIMER_CANCELLED":
            self._disarm(event)
        elif kind == "PROMISE_CREATED":
            name = event.data.promise_name or ""
            self.promises[event.data.promise_id or ""] = name
            self.promise_names[name] = None
        if marker is None:
            self._read_unmarked(kind, event)
            return
        self._open.append(event)
        if kind == SUSPENDED or kind in ENDINGS:
            block = Block(self._open, marker)
            self._open, self._marker = [], None
            if not marker.hold:  # nothing of the program is in one that holds it
                self._place(block, marker)

    def _disarm(self, event: Event) -> None:
        timer = event.data.timer_id or ""
        self.armed.pop(timer, None)
        self.stray_timers.pop(timer, None)

    def _read_unmarked(self, kind: str, event: Event) -> None:
        if kind in ENDINGS:  # a server ends a workflow by itself (a forced cancel), or the code of another SDK did
            self.ended = event
        elif kind in _CALLED:
            if self.last:
                raise DeterminismViolation(
                    f"event {event.sequence} ({kind}) was written by something that leaves no {ACTIVATION!r}, behind "
                    "activations that do: a run cannot go back to the SDK that it came from"
                )
            self.unmarked.append(event)

    def _place(self, block: Block, marker: Marker) -> None:
        ending = block.end.type in ENDINGS
        if ending:
            self.ended = block.end
        if marker.after == self.last:
            self.reopen()
        elif marker.after > self.last:
            raise HistoryGap(
                f"the submission that ends at {block.end.sequence} follows {marker.after}, but the last one that "
                f"counts ends at {self.last}"
            )
        elif not ending:
            self._disown(block)
            return
        else:
            # It did end the workflow: what it followed counts, what came between does not.
            self.reopen()
            while self.kept and self.kept[-1].end.sequence > marker.after:
                self._disown(self.kept.pop())
                self.counted -= 1
        self.last = block.end.sequence
        self._ids.setdefault(marker.id, block.end.sequence)
        if ending:
            self.final = block
        else:
            self.kept.append(block)
            self.counted += 1
            self.newest = marker

    def reopen(self) -> None:
        """The workflow goes on though it had ended: the end was retried, and nothing of its activation counts.

        What comes next follows it all the same. The server has closed the timers.
        """
        final = self.final
        if final is not None:
            self.final = self.ended = None
            self.armed = {timer: start for timer, start in self.armed.items() if start > final.end.sequence}
            self._disown(final)

    def _disown(self, block: Block) -> None:
        self.foreign.append(block.marker)
        # Ids are salted with the activation's, so two blocks have one in common only if they are the same submission.
        repeated = self._ids.get(block.marker.id, block.end.sequence) != block.end.sequence
        if not repeated:
            for event in block.events:
                if event.type == "TASK_SCHEDULED" and event.data.task not in self.ended_tasks:
                    self.stray_tasks[event.data.task] = None
                elif event.type == "CHILD_WORKFLOW_INITIATED":
                    child = event.data.child
                    if child and child not in self.ended_children:
                        self.stray_children[child] = event.data.child_name
                elif event.type == "TIMER_STARTED" and not (event.data.timer_id or "").startswith(RESERVED):
                    self.stray_timers[event.data.timer_id or ""] = None

    # --- what was read ----------------------------------------------------------------------

    @property
    def opening(self) -> int:
        """Where a worker without markers has begun to write, as a sequence number; 0 if none did."""
        return self.unmarked[0].sequence if self.unmarked else 0

    def unseen(self, last: int) -> list[Event]:
        """The events of the outside world that no activation was shown, up to a sequence number."""
        events: list[Event] = []
        for event in self._unseen:
            if event.sequence > last:
                break
            events.append(event)
        return events

    def see(self, last: int) -> None:
        """Let go of the events of the outside world up to a sequence number."""
        while self._unseen and self._unseen[0].sequence <= last:
            self._unseen.popleft()

    def deliver(self, event: Event) -> None:
        """The program was told of an event: what has ended by it, the program itself knows from now on."""
        if event.type in _ENDED_TASK:
            self.ended_tasks.pop(event.data.task, None)
        elif event.type in _ENDED_CHILD:
            self.ended_children.pop(event.data.child or event.data.child_name, None)
        elif event.type == "TIMER_FIRED":
            self.fired.pop(timer_of(event.data.timer_id or "") or "", None)

    def let_go(self, activations: int) -> None:
        """Let go of the blocks of the first activations, which have been re-enacted."""
        while self.kept and self.counted - len(self.kept) < activations:
            self.kept.popleft()
