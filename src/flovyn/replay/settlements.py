"""How what the program waits for ends: by id, the first end counts, and one that comes early is kept."""

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
        held: Whether the program has asked for it, and so holds on to it.
    """

    event: Event | None = None
    waiters: list[TaskState] = field(default_factory=list["TaskState"])
    held: bool = False


class Settlements:
    """What of a run is open, and what ended before the program asked for it, by id.

    What has ended is kept by whoever asked for it, and by nobody else: a run may outlive many thousand tasks.
    """

    __slots__ = ("_by_id", "_kernel")

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._by_id: dict[str, Settlement] = {}

    def begin(self, identity: str) -> None:
        """Something has begun; it may have ended already."""
        self._of(identity)

    def get(self, identity: str) -> Settlement:
        """How something that has begun ends; ask once, and hold on to the answer."""
        settlement = self._of(identity)
        settlement.held = True
        if settlement.event is not None:
            del self._by_id[identity]
        return settlement

    def is_open(self, identity: str) -> bool:
        """Whether something that has begun has not ended yet."""
        settlement = self._by_id.get(identity)
        return settlement is not None and settlement.event is None

    def early(self, identity: str) -> Event | None:
        """Take the end that came before anybody asked for it."""
        settlement = self._by_id.get(identity)
        if settlement is None or settlement.event is None:
            return None
        del self._by_id[identity]
        return settlement.event

    def settle(self, identity: str, event: Event) -> None:
        """An end has come; only the first one counts."""
        settlement = self._of(identity)
        if settlement.event is None:
            settlement.event = event
            if settlement.held:
                del self._by_id[identity]
            waiters, settlement.waiters = settlement.waiters, []
            for task in waiters:
                self._kernel.wake(task)

    def _of(self, identity: str) -> Settlement:
        settlement = self._by_id.get(identity)
        if settlement is None:
            settlement = self._by_id[identity] = Settlement()
        return settlement
