"""Where a task's context sends what its body says, and gets the task's state from."""

from __future__ import annotations

from typing import Final, Literal, Protocol, TypeAlias

__all__ = ["LOG_LEVELS", "Desk", "LocalDesk", "LogLevel", "StreamKind"]

LogLevel: TypeAlias = Literal["DEBUG", "INFO", "WARN", "ERROR"]
"""How much a line of a task's log matters, in the platform's words."""

StreamKind: TypeAlias = Literal["token", "progress", "data", "error"]
"""What an event of a task's stream is."""

LOG_LEVELS: Final[tuple[LogLevel, ...]] = ("DEBUG", "INFO", "WARN", "ERROR")


class Desk(Protocol):
    """Takes what a body says. It belongs to the event loop: a body in a thread reaches it through a bridge.

    The plain methods return at once and raise nothing; whether the server hears of it is not their caller's business.
    """

    def progress(self, fraction: float, details: str) -> None:
        """How far the task is."""
        ...

    def log(self, level: LogLevel, message: str) -> None:
        """A line for the task's log."""
        ...

    def heartbeat(self, details: bytes | None) -> None:
        """The body is alive, and perhaps what it wants a later attempt to know."""
        ...

    async def last_heartbeat(self) -> bytes | None:
        """What a heartbeat said last, in this attempt or an earlier one."""
        ...

    async def stream(self, kind: StreamKind, payload: str) -> None:
        """An event for whoever follows the task live; waits a moment for room."""
        ...

    async def get(self, key: str) -> bytes | None:
        """The value under a key of the task's state; None if there is none."""
        ...

    async def set(self, key: str, value: bytes) -> None:
        """Write a value under a key."""
        ...

    async def clear(self, key: str) -> None:
        """Drop a key."""
        ...

    async def clear_all(self) -> None:
        """Drop every key."""
        ...

    async def keys(self) -> list[str]:
        """The keys that have a value."""
        ...


class LocalDesk:
    """The desk of a context that no worker has made, in a unit test: it keeps the state, and nobody hears the rest."""

    __slots__ = ("_details", "_state")

    def __init__(self) -> None:
        self._state: dict[str, bytes] = {}
        self._details: bytes | None = None

    def progress(self, fraction: float, details: str) -> None: ...

    def log(self, level: LogLevel, message: str) -> None: ...

    def heartbeat(self, details: bytes | None) -> None:
        if details is not None:
            self._details = details

    async def last_heartbeat(self) -> bytes | None:
        return self._details

    async def stream(self, kind: StreamKind, payload: str) -> None: ...

    async def get(self, key: str) -> bytes | None:
        return self._state.get(key)

    async def set(self, key: str, value: bytes) -> None:
        self._state[key] = value

    async def clear(self, key: str) -> None:
        self._state.pop(key, None)

    async def clear_all(self) -> None:
        self._state.clear()

    async def keys(self) -> list[str]:
        return sorted(self._state)
