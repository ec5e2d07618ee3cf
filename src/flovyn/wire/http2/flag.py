"""An event that can be cleared."""

from __future__ import annotations

import anyio

__all__ = ["Flag"]


class Flag:
    """A level that tasks can wait for. Setting it is synchronous; a waiter sees the level, never an old edge.

    AnyIO's events cannot be cleared, and one that is never waited for should cost nothing.
    """

    __slots__ = ("_event", "_up")

    def __init__(self, *, up: bool = False) -> None:
        self._up = up
        self._event: anyio.Event | None = None

    def is_set(self) -> bool:
        return self._up

    def set(self) -> None:
        self._up = True
        if self._event is not None:
            self._event.set()
            self._event = None

    def clear(self) -> None:
        self._up = False

    async def wait(self) -> None:
        # A loop: between the set and the turn of this task somebody may have cleared the level again.
        while not self._up:
            if self._event is None:
                self._event = anyio.Event()
            await self._event.wait()
