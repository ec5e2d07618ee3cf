"""Who waits for which run to end."""

from __future__ import annotations

import anyio

__all__ = ["Endings"]


class Endings:
    """All calls that are held open until a run ends. A hint: whoever is woken looks for himself."""

    def __init__(self) -> None:
        self._waiting: dict[str, dict[anyio.Event, None]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def tell(self, run_id: str) -> None:
        """A run has ended."""
        for event in self._waiting.get(run_id, ()):
            event.set()

    def wake_all(self) -> None:
        """Let everybody look."""
        for run_id in self._waiting:
            self.tell(run_id)

    async def wait(self, run_id: str) -> None:
        """Until a run has ended, or might have."""
        event = anyio.Event()
        waiting = self._waiting.setdefault(run_id, {})
        waiting[event] = None
        try:
            await event.wait()
        finally:
            del waiting[event]
            if not waiting:
                del self._waiting[run_id]
