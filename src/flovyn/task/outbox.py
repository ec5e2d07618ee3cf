"""What a task has said and the server has not heard yet: bounded, and in order."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import anyio

if TYPE_CHECKING:
    from collections.abc import Callable

    from flovyn.wire.transport import Method

__all__ = ["Message", "Outbox"]

_LINES: Final = 1_000
"""As many lines of a task's log as the server keeps."""

_EVENTS: Final = 256
_WAIT_FOR_ROOM: Final = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Message:
    """One call to be made.

    Args:
        method: Which.
        request: With what.
        latest: The slot in which only the last message counts, such as the task's progress. Making such a call twice
            does no harm. None for what stands in a row.
    """

    method: Method[Any, Any]
    request: Any
    latest: str | None = None


class Outbox:
    """Three sorts of messages, each in its own order: what only counts last, log lines, and events of the stream.

    Args:
        on_message: Called when there is something to be sent, for whoever sends it.
    """

    __slots__ = ("_events", "_full", "_latest", "_lines", "_on_message", "_room", "_turn", "closed", "dropped")

    def __init__(self, on_message: Callable[[], None]) -> None:
        self._on_message = on_message
        self._latest: dict[str, Message] = {}
        self._lines: deque[Message] = deque()
        self._events: deque[Message] = deque()
        self._turn = 0
        self._room = anyio.Event()
        self._full = False  # an event has waited for room in vain; until there is some, none waits
        self.closed: bool = False
        self.dropped: int = 0

    def __len__(self) -> int:
        return len(self._latest) + len(self._lines) + len(self._events)

    def put(self, message: Message) -> None:
        """Take a message; returns at once."""
        if self.closed:
            return
        if message.latest is not None:
            self._latest[message.latest] = message
        else:
            self._lines.append(message)
            if len(self._lines) > _LINES:
                self._lines.popleft()
                self.dropped += 1
        self._on_message()

    async def put_event(self, message: Message) -> None:
        """Take an event of the stream; waits for room, for a bounded time, and then drops it."""
        if len(self._events) >= _EVENTS and not self._full and not self.closed:
            with anyio.move_on_after(_WAIT_FOR_ROOM) as waiting:
                await self._has_room()
            self._full = waiting.cancelled_caught
        if self.closed:
            return
        if len(self._events) >= _EVENTS:
            self.dropped += 1
            return
        self._events.append(message)
        self._on_message()

    def take(self) -> Message | None:
        """The next message to be sent: the sorts take turns, so that none keeps another waiting."""
        for _ in range(3):
            self._turn = (self._turn + 1) % 3
            if self._turn == 0 and self._latest:
                return self._latest.pop(next(iter(self._latest)))
            if self._turn == 1 and self._lines:
                return self._lines.popleft()
            if self._turn == 2 and self._events:
                message = self._events.popleft()
                self._make_room()
                return message
        return None

    def restore(self, message: Message, *, event: bool) -> None:
        """Put a message back that could not be sent, as the next one of its sort."""
        if message.latest is not None:
            self._latest.setdefault(message.latest, message)
        else:
            (self._events if event else self._lines).appendleft(message)

    def close(self) -> None:
        """Take no more, and forget what is left."""
        self.closed = True
        self.dropped += len(self._lines) + len(self._events)
        self._latest.clear()
        self._lines.clear()
        self._events.clear()
        self._make_room()

    async def _has_room(self) -> None:
        while len(self._events) >= _EVENTS and not self.closed:
            await self._room.wait()

    def _make_room(self) -> None:
        self._full = False
        self._room.set()
        self._room = anyio.Event()
