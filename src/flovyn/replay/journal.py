"""Matching what the code calls with what history has (rule 3): the N-th call of a kind takes the N-th event of it.

Live, a call beyond history is a new command. Re-enacting an activation, every call must stand in that activation's
own block, and by its end the block must be used up.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, NoReturn

from flovyn.errors import DeterminismViolation
from flovyn.replay.names import PATCHED, RESERVED
from flovyn.replay.recordings import KINDS, RESERVING, WRITES, Kind, Recording, Strand, name_of

if TYPE_CHECKING:
    from flovyn.replay.commands import Command
    from flovyn.replay.events import Event
    from flovyn.replay.history import Block, History

__all__ = ["Journal"]


class Journal:
    """The calls of one run so far, and the commands of the activation that is live.

    Attributes:
        activation: The number of the activation that runs, from 1; 0 before the first.
        live: Whether it is live; otherwise one of the past is re-enacted.
        lenient: Whether calls that history does not have are let pass all the same, though nothing comes of them.
        salt: The live activation's random id.
        commands: What the live activation asks for.
        patches: The patches that history has taken, by id, with the activation that was the first to take one.
        poison: The first disagreement; nothing of a poisoned run is ever submitted.
        unmarked_end: Up to which sequence number a worker without markers wrote; 0 for none.
    """

    __slots__ = (
        "_loaded",
        "_loaded_unmarked",
        "_promises",
        "_strands",
        "activation",
        "commands",
        "lenient",
        "live",
        "patches",
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
        self.patches: dict[str, int] = {}
        self._promises: dict[str, Recording] = {}  # by name, those that were not called yet
        self._strands = {kind: Strand([]) for kind in Kind}
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
            kind = KINDS.get(event.type)
            if kind is None:
                continue
            name = name_of(kind, event)
            if kind is Kind.PROMISE:
                self._promises.setdefault(name, Recording(event, activation))
            elif kind not in RESERVING or not name.startswith(RESERVED):
                self._strands[kind].recordings.append(Recording(event, activation))
            elif name.startswith(PATCHED):
                self.patches.setdefault(name.removeprefix(PATCHED), activation)

    def let_go(self, answered: int) -> None:
        """Forget the recordings that were used up.

        Args:
            answered: So many operations, from the first, are answered.
        """
        for kind, strand in self._strands.items():
            if strand.recordings:
                strand.let_go(min(strand.end, answered if kind is Kind.OPERATION else strand.calls))

    def ignore_unmarked(self) -> None:
        """What a worker without markers wrote, and the code has not called by now, it does not call any more."""
        for strand in self._strands.values():
            left = strand.calls - strand.first
            strand.recordings[left:] = [recording for recording in strand.recordings[left:] if recording.activation]
        self._promises = {name: one for name, one in self._promises.items() if one.activation}

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
            self._check_time(kind, recording, got)
            return recording.event
        self._check_new(kind, got)
        return None

    def call_promise(self, name: str, *, elsewhere: bool) -> Event | None:
        """Create a promise, which is matched by its name; None if no activation of history up to this one did.

        Args:
            name: One that was not created yet.
            elsewhere: A block that does not count has created it: it need not stand in this activation's.

        Raises:
            DeterminismViolation: An activation of the past did not create it, or created it later.
        """
        self._strands[Kind.PROMISE].calls += 1
        recording = self._promises.pop(name, None)
        if recording is not None:
            self._check_time(Kind.PROMISE, recording, name)
            return recording.event
        if not elsewhere:
            if self.live or self.lenient:
                return None
            other = next((name for name, one in self._promises.items() if one.activation == self.activation), None)
            if other is not None:
                self.compare(Kind.PROMISE, "Promise name", other, name)
            self._check_new(Kind.PROMISE, name)
        return None

    def call_state(self, write: str, key: str) -> Event | None:
        """Write state; None if it is new.

        Args:
            write: "StateSet" or "StateCleared".
            key: The key.

        Raises:
            DeterminismViolation: An activation of the past did not make this write, or made it later.
        """
        self._skip_clears(write, key)
        recorded = self.call(Kind.STATE, f"{write} {key}")
        if recorded is not None:
            expected = WRITES[recorded.type]
            if expected != write:
                index = self._strands[Kind.STATE].calls - 1
                self.violate(
                    f"Type mismatch at sequence {index}: expected {expected}, got {write}", expected=expected, got=write
                )
            self.compare(Kind.STATE, "State key", recorded.data.key or "", key)
        return recorded

    def _skip_clears(self, write: str, key: str) -> None:
        """Some workers without markers write each clear again with every activation; the code makes it once."""
        strand = self._strands[Kind.STATE]
        while (next_one := strand.at(strand.calls)) is not None and not next_one.activation:
            event = next_one.event
            if event.type != "STATE_CLEARED" or (WRITES[event.type], event.data.key) == (write, key):
                return
            del strand.recordings[strand.calls - strand.first]

    def _check_time(self, kind: Kind, recording: Recording, got: str) -> None:
        activation = recording.activation
        if activation not in (0, self.activation):
            self.violate(
                f"{kind.value} call made too early at sequence {self._strands[kind].calls - 1}: history has it in "
                f"activation {activation}, the code made it in activation {self.activation}",
                expected=name_of(kind, recording.event),
                got=got,
            )

    def _check_new(self, kind: Kind, got: str) -> None:
        if not self.live and not self.lenient:
            self.violate(
                f"{kind.value} call not in history at sequence {self._strands[kind].calls - 1}: activation "
                f"{self.activation} did not make it",
                expected=None,
                got=got,
            )

    def call_operation(self, name: str) -> int:
        """Make the next `ctx.run`; returns its number. Its record may stand in a later block than its call.

        Raises:
            DeterminismViolation: History has another name here.
        """
        strand = self._strands[Kind.OPERATION]
        index = strand.calls
        strand.calls += 1
        self.answer(index, name)
        return index

    def answer(self, index: int, name: str) -> Recording | None:
        """The record of the operation with this number, if history has it.

        Args:
            index: The number.
            name: What the code called; the call may have been made before there was a record to compare it with.

        Raises:
            DeterminismViolation: History has another name here.
        """
        recording = self._strands[Kind.OPERATION].at(index)
        if recording is not None:
            self.compare(Kind.OPERATION, "Operation name", recording.event.data.operation, name, index=index)
        return recording

    @property
    def foretold(self) -> bool:
        """Whether what a worker without markers wrote still has calls that the code has not made."""
        if self.activation > 1 or not self.unmarked_end:
            return False
        nexts = [strand.at(strand.calls) for strand in self._strands.values()]
        return any(one is not None and not one.activation for one in [*nexts, *self._promises.values()])

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
        left = [
            (kind, strand.recordings[strand.calls - strand.first])
            for kind, strand in self._strands.items()
            if strand.calls - strand.first < len(strand.recordings)
        ]
        left += [(Kind.PROMISE, one) for one in self._promises.values()]
        for kind, recording in left:
            if 0 < recording.activation <= self.activation:
                self.violate(
                    f"{kind.value} call missing at sequence {self._strands[kind].calls}: activation "
                    f"{self.activation} made it, the code does not",
                    expected=name_of(kind, recording.event),
                    got=None,
                )

    def compare(self, kind: Kind, what: str, expected: str, got: str, *, index: int | None = None) -> None:
        """Both sides of a call must be the same: of the one with this number, or else of the one that was just made.

        `what` is as the platform's messages have it.

        Raises:
            DeterminismViolation: They are not.
        """
        if expected != got:
            index = self._strands[kind].calls - 1 if index is None else index
            self.violate(
                f"{what} mismatch at sequence {index}: expected '{expected}', got '{got}'", expected=expected, got=got
            )

    def violate(self, text: str, *, expected: str | None, got: str | None) -> NoReturn:
        """Poison the run; whatever the user's code does with the exception, the first disagreement stands."""
        violation = DeterminismViolation(f"Determinism violation: {text}", expected=expected, got=got)
        if self.poison is None:
            self.poison = violation
        raise violation
