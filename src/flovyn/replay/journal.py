"""Matching what the code calls with what history has (rule 3): the N-th call of a kind takes the N-th event of it.

Live, a call beyond history is a new command. Re-enacting an activation, every call must stand in that activation's
own block, and by its end the block must be used up.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from flovyn.errors import DeterminismViolation
from flovyn.replay.names import RESERVED

if TYPE_CHECKING:
    from flovyn.replay.commands import Command
    from flovyn.replay.events import Event
    from flovyn.replay.history import Block, History

__all__ = ["Journal", "Kind", "Recording"]


class Kind(enum.Enum):
    """What is numbered; the value is how the platform's messages name it."""

    TASK = "Task"
    TIMER = "Timer"
    OPERATION = "Operation"


_KINDS = {"TASK_SCHEDULED": Kind.TASK, "TIMER_STARTED": Kind.TIMER, "OPERATION_COMPLETED": Kind.OPERATION}


class Recording(NamedTuple):
    """An event of a block that counts, with the number of that block, from 1; 0 if no marker stands before it."""

    event: Event
    activation: int


@dataclass(slots=True)
class _Strand:
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
        return self.recordings[index - self.first] if index < self.end else None

    def let_go(self, end: int) -> None:
        """Forget the recordings before a number."""
        del self.recordings[: end - self.first]
        self.first = end


class Journal:
    """The calls of one run so far, and the commands of the activation that is live.

    Attributes:
        activation: The number of the activation that runs, from 1; 0 before the first.
        live: Whether it is live; otherwise one of the past is re-enacted.
        lenient: Whether calls that history does not have are let pass all the same, though nothing comes of them.
        salt: The live activation's random id.
        commands: What the live activation asks for.
        poison: The first disagreement; nothing of a poisoned run is ever submitted.
        unmarked_end: Up to which sequence number a worker without markers wrote; 0 for none.
    """

    __slots__ = (
        "_loaded",
        "_loaded_unmarked",
        "_strands",
        "activation",
        "commands",
        "lenient",
        "live",
        "poison",
        "salt",
        "unmarked_end",
    )

    def __init__(self) -> None:
        self.activation: int = 0
        self.live: bool = False
        self.lenient: bool = False
        self.salt: str = ""
        self.commands: list[Command] = []
        self.poison: DeterminismViolation | None = None
        self._strands = {kind: _Strand([]) for kind in Kind}
        self._loaded = 0
        self._loaded_unmarked = 0
        self.unmarked_end: int = 0

    def load(self, history: History) -> None:
        """Take in what has come to count: what a worker without markers wrote first, then block by block."""
        self._load(history.unmarked[self._loaded_unmarked :], 0)
        self._loaded_unmarked = len(history.unmarked)
        if history.unmarked:
            self.unmarked_end = history.unmarked[-1].sequence
        kept = history.kept
        for block in islice(kept, len(kept) - (history.counted - self._loaded), None):
            self._loaded += 1
            self._load(block.events, self._loaded)

    def load_final(self, block: Block) -> None:
        """Take in the block that ended the workflow: only its re-enactment calls it again."""
        self._load(block.events, self.activation + 1)

    def _load(self, events: list[Event], activation: int) -> None:
        for event in events:
            kind = _KINDS.get(event.type)
            if kind is not None and not _name(kind, event).startswith(RESERVED):
                self._strands[kind].recordings.append(Recording(event, activation))

    def let_go(self, answered: int) -> None:
        """Forget the recordings that were used up.

        Args:
            answered: So many operations, from the first, are answered.
        """
        for kind, strand in self._strands.items():
            strand.let_go(min(strand.end, answered if kind is Kind.OPERATION else strand.calls))

    def ignore_unmarked(self) -> None:
        """What a worker without markers wrote, and the code has not called by now, it does not call any more."""
        for strand in self._strands.values():
            left = strand.calls - strand.first
            strand.recordings[left:] = [recording for recording in strand.recordings[left:] if recording.activation]

    def call(self, kind: Kind, got: str) -> Event | None:
        """Make the next call of a kind; None if it is new.

        Args:
            kind: What is called.
            got: What the code calls, for the message if history has nothing like it here.

        Raises:
            DeterminismViolation: An activation of the past did not make this call, or made it later.
        """
        strand = self._strands[kind]
        index = strand.calls
        strand.calls += 1
        recording = strand.at(index)
        if recording is not None:
            event, activation = recording
            if activation not in (0, self.activation):
                self.violate(
                    f"{kind.value} call made too early at sequence {index}: history has it in activation "
                    f"{activation}, the code made it in activation {self.activation}",
                    expected=_name(kind, event),
                    got=got,
                )
            return event
        if not self.live and not self.lenient:
            self.violate(
                f"{kind.value} call not in history at sequence {index}: activation {self.activation} did not make it",
                expected=None,
                got=got,
            )
        return None

    def call_operation(self, name: str) -> int:
        """Make the next `ctx.run`; returns its number. Its record may stand in a later block than its call.

        Raises:
            DeterminismViolation: History has another name here.
        """
        strand = self._strands[Kind.OPERATION]
        index = strand.calls
        strand.calls += 1
        recording = strand.at(index)
        if recording is not None:
            self.compare(Kind.OPERATION, "Operation name", recording.event.data.operation, name)
        return index

    def answer(self, index: int) -> Recording | None:
        """The record of the operation with this number, if history has it."""
        return self._strands[Kind.OPERATION].at(index)

    @property
    def records(self) -> int:
        """How many operations history has a record of."""
        return self._strands[Kind.OPERATION].end

    def calls(self, kind: Kind) -> int:
        """How many calls of a kind have been made."""
        return self._strands[kind].calls

    def check_used_up(self) -> None:
        """At the end of an activation of the past: its block must hold no call that the code did not make.

        Raises:
            DeterminismViolation: It does.
        """
        for kind, strand in self._strands.items():
            recording = strand.at(strand.calls)
            if recording is not None and 0 < recording.activation <= self.activation:
                self.violate(
                    f"{kind.value} call missing at sequence {strand.calls}: activation {self.activation} made it, "
                    "the code does not",
                    expected=_name(kind, recording.event),
                    got=None,
                )

    def compare(self, kind: Kind, what: str, expected: str, got: str) -> None:
        """Both sides of a call that was just made must be the same; `what` as the platform's messages have it.

        Raises:
            DeterminismViolation: They are not.
        """
        if expected != got:
            index = self._strands[kind].calls - 1
            self.violate(
                f"{what} mismatch at sequence {index}: expected '{expected}', got '{got}'", expected=expected, got=got
            )

    def violate(self, text: str, *, expected: str | None, got: str | None) -> NoReturn:
        """Poison the run; whatever the user's code does with the exception, the first disagreement stands."""
        violation = DeterminismViolation(f"Determinism violation: {text}", expected=expected, got=got)
        if self.poison is None:
            self.poison = violation
        raise violation


def _name(kind: Kind, event: Event) -> str:
    data = event.data
    if kind is Kind.TASK:
        return data.kind or ""
    return (data.timer_id or "") if kind is Kind.TIMER else data.operation
