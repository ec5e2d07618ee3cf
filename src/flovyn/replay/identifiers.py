"""Ids and randomness that are the same on every replay, derived as every Flovyn SDK derives them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from uuid import UUID, uuid5

if TYPE_CHECKING:
    from flovyn.replay.access import Access

__all__ = ["Identifiers", "Xorshift"]

_MASK: Final = (1 << 64) - 1


class Identifiers:
    """Counts the ids that a run has used; the counter advances on replay too.

    Args:
        workflow_id: The id of the execution.
        access: Whether the run may be changed; the program's own draws do.
    """

    __slots__ = ("_access", "_namespace", "_used", "_workflow_id")

    def __init__(self, workflow_id: str, access: Access) -> None:
        self._access = access
        self._workflow_id = workflow_id
        self._namespace = UUID(workflow_id)
        self._used = 0

    def random_uuid(self) -> UUID:
        """The next id of the platform's sequence: UUIDv5 over the execution's id and a counter.

        Raises:
            UsageError: The run is read-only.
        """
        self._access.denied("draw a random id")
        return self._next("")

    def salted(self, salt: str) -> str:
        """The next id, made so that two activations which both think it is theirs to give never give the same one."""
        return str(self._next(f".{salt}"))

    def skip(self) -> None:
        """Use up one id whose value history knows."""
        self._used += 1

    def _next(self, suffix: str) -> UUID:
        name = f"{self._workflow_id}:{self._used}{suffix}"
        self._used += 1
        return uuid5(self._namespace, name)


class Xorshift:
    """The platform's generator: xorshift64 (13, 7, 17), seeded by the low half of the execution's id.

    Args:
        workflow_id: The id of the execution.
        access: Whether the run may be changed; drawing does.
    """

    __slots__ = ("_access", "_state")

    def __init__(self, workflow_id: str, access: Access) -> None:
        self._access = access
        self._state = UUID(workflow_id).int & _MASK or 1

    def next(self) -> int:
        """The next 64 bits.

        Raises:
            UsageError: The run is read-only.
        """
        self._access.denied("draw random numbers")
        state = self._state
        state ^= (state << 13) & _MASK
        state ^= state >> 7
        state ^= (state << 17) & _MASK
        self._state = state
        return state

    def random(self) -> float:
        """A float in [0, 1]; 1.0 can come up once in 2**64."""
        return self.next() / _MASK
