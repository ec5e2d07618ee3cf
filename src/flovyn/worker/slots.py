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
        self._changed = anyio.Event()
        self.open: int = 0
        """How many pieces of work are under way, with a slot or between two."""

    async def free(self) -> None:
        """Wait until one is free and nobody waits for it."""
        while self._taken >= self._limit:
            await self._changed.wait()

    async def idle(self) -> None:
        """Wait until no piece of work is under way."""
        while self.open:
            await self._changed.wait()

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
        self._change()

    def close(self) -> None:
        self.open -= 1
        self._change()

    def _change(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()


class Slot:
    """The slot of one piece of work. It can be given back for a while, and claimed again."""

    __slots__ = ("_closed", "_granted", "_slots")

    def __init__(self, slots: Slots) -> None:
        self._slots = slots
        self._granted: anyio.Event | None = None
        self._closed = False

    def claim(self) -> None:
        """Take it, or get in line for it."""
        self._granted = anyio.Event()
        if self._slots.claim(self):
            self._granted.set()

    async def held(self) -> None:
        """Wait until it is ours. Only after `claim`."""
        assert self._granted is not None
        if not self._granted.is_set():
            await self._granted.wait()

    def grant(self) -> None:
        assert self._granted is not None
        self._granted.set()

    def release(self) -> None:
        """Give it back, or leave the line."""
        granted, self._granted = self._granted, None
        if granted is not None:
            self._slots.release(self, held=granted.is_set())

    def close(self) -> None:
        """The piece of work is not under way any more. May be said twice."""
        if not self._closed:
            self._closed = True
            self.release()
            self._slots.close()
