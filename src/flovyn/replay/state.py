"""The state of a run: what its code has written so far, never what history says it will write (rule 6)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flovyn.replay.commands import ClearState, SetState

if TYPE_CHECKING:
    from flovyn.replay.access import Access
    from flovyn.replay.journal import Journal

__all__ = ["State"]


class State:
    """What the program can do with its state."""

    __slots__ = ("_access", "_journal", "_values")

    def __init__(self, journal: Journal, access: Access) -> None:
        self._journal = journal
        self._access = access
        self._values: dict[str, bytes] = {}

    def get(self, key: str) -> bytes | None:
        """The JSON under a key; None if there is none."""
        return self._values.get(key)

    def keys(self) -> list[str]:
        """The keys that have a value, sorted."""
        return sorted(self._values)

    def set(self, key: str, data: bytes) -> None:
        """Put JSON under a key.

        Raises:
            DeterminismViolation: History has another write here.
            UsageError: The run is read-only.
        """
        if self._access.denied("set state"):
            return
        if self._journal.call_state("StateSet", key) is None:
            self._journal.commands.append(SetState(key, data))
        self._values[key] = data

    def clear(self, key: str) -> None:
        """Drop a key; it is recorded even if there was nothing under it.

        Raises:
            DeterminismViolation: History has another write here.
            UsageError: The run is read-only.
        """
        if self._access.denied("clear state"):
            return
        if self._journal.call_state("StateCleared", key) is None:
            self._journal.commands.append(ClearState(key))
        self._values.pop(key, None)
