"""How many pieces of work run at once."""

from __future__ import annotations

from collections import deque

import anyio

__all__ = ["Slot", "Slots"]


class Slots:
    """The slots of one sort of work. Whoever waits for one is served, in order, before any new work is asked for.

    Args:
        limit: How many there are.
    """

    __slots__ = ("_changed", "_limit", "_taken", "_waiting", "open")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._taken = 0
        self._waiting: deque[Slot] = deque()
        self._changed: anyio.Event | None = None  # there while somebody waits for it
        self.open: int = 0
        """How many pieces of work are under way, with a slot or between two."""

    @property
    def left(self) -> int:
        """How many are free."""
        return self._limit - self._taken

    async def free(self) -> None:
        """Wait until one is free and nobody waits for it."""
        while self._taken >= self._limit:
            await self._change()

    async def idle(self) -> None:
        """Wait until no piece of work is under way."""
        while self.open:
            await self._change()

    def slot(self) -> Slot:
        """One for a new piece of work; taken at once if one is free."""
        self.open += 1
        slot = Slot(self)
        slot.claim()
        return slot

    def claim(self, slot: Slot) -> bool:
        if self._taken < self._limit:
            self._taken += 1
            return True
        self._waiting.append(slot)
        return False

    def release(self, slot: Slot, *, held: bool) -> None:
        if not held:
            self._waiting.remove(slot)
        elif self._waiting:
            self._waiting.popleft().grant()
        else:
            self._taken -= 1
        self._tell()

    def close(self) -> None:
        self.open -= 1
        self._tell()

    async def _change(self) -> None:
        if self._changed is None:
            self._changed = anyio.Event()
        await self._changed.wait()

    def _tell(self) -> None:
        changed, self._changed = self._changed, None
        if changed is not None:
            changed.set()


class Slot:
    """The slot of one piece of work. It can be given back for a while, and claimed again."""

    __slots__ = ("_closed", "_slots", "_turn", "is_held")

    def __init__(self, slots: Slots) -> None:
        self._slots = slots
        self._turn: anyio.Event | None = None  # there while it stands in line
        self._closed = False
        self.is_held: bool = False
        """Whether it is ours."""

    def claim(self) -> None:
        """Take it, or get in line for it."""
        self.is_held = self._slots.claim(self)
        if not self.is_held:
            self._turn = anyio.Event()

    async def held(self) -> None:
        """Wait until it is ours. Only after `claim`."""
        if self._turn is not None:
            await self._turn.wait()

    def grant(self) -> None:
        """It is ours now."""
        turn, self._turn = self._turn, None
        self.is_held = True
        if turn is not None:
            turn.set()

    def release(self) -> None:
        """Give it back, or leave the line."""
        if self.is_held or self._turn is not None:
            self._slots.release(self, held=self.is_held)
        self.is_held, self._turn = False, None

    def close(self) -> None:
        """The piece of work is not under way any more. May be said twice."""
        if not self._closed:
            self._closed = True
            self.release()
            self._slots.close()
