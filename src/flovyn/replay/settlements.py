"""How what the program waits for has ended: by id, the first end counts, and one that comes early is kept."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flovyn.nursery.kernel import Kernel, TaskState
    from flovyn.replay.events import Event

__all__ = ["Settlement", "Settlements"]


@dataclass(slots=True)
class Settlement:
    """One thing that ends some day.

    Attributes:
        event: The event that ended it; None as long as it is open.
        waiters: The tasks of the program that wait for it, in the order in which they came.
    """

    event: Event | None = None
    waiters: list[TaskState] = field(default_factory=list["TaskState"])


class Settlements:
    """Everything of a run that has been started or has ended, by id."""

    __slots__ = ("_by_id", "_kernel")

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._by_id: dict[str, Settlement] = {}

    def get(self, identity: str) -> Settlement:
        """The settlement of an id, made on first use by either side."""
        settlement = self._by_id.get(identity)
        if settlement is None:
            settlement = self._by_id[identity] = Settlement()
        return settlement

    def unite(self, identity: str, other: str) -> None:
        """From now on both keys are of the same thing, for which nobody waits yet; the first of their ends counts."""
        settlement, second = self.get(identity), self.get(other).event
        if second is not None and (settlement.event is None or second.sequence < settlement.event.sequence):
            settlement.event = second
        self._by_id[other] = settlement

    def settle(self, identity: str, event: Event) -> None:
        """An end has come; only the first one counts."""
        settlement = self.get(identity)
        if settlement.event is None:
            settlement.event = event
            waiters, settlement.waiters = settlement.waiters, []
            for task in waiters:
                self._kernel.wake(task)
