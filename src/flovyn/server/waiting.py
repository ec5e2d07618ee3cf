"""Long polls: who waits for which work, first come, first served."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from flovyn.server.engine import Poller, Ready
    from flovyn.server.store.workers import Of

__all__ = ["Waiter", "Waiters"]


class Waiter:
    """A poll that found nothing and waits.

    Attributes:
        poller: What it waits for.
        called_for: The kind of the work that it was woken for and has not looked for yet.
    """

    def __init__(self, poller: Poller) -> None:
        self.poller = poller
        self.called_for: str | None = None
        self._event = anyio.Event()

    def call(self, kind: str) -> None:
        """Wake it."""
        self.called_for = kind
        self._event.set()

    async def wait(self) -> None:
        """Until it is woken."""
        await self._event.wait()
        # The caller may have gone in the very moment it was woken: then it must not take the work with it.
        await anyio.lowlevel.checkpoint_if_cancelled()

    def looked(self, found: Sequence[str]) -> None:
        """It has looked for work, and taken some of these kinds or found none; from here on it can be woken again.

        One that took other work than it was woken for leaves that to somebody else: the call stays, to be passed on.
        """
        if not found or self.called_for in found:
            self.called_for = None
        self._event = anyio.Event()


class Waiters:
    """All polls that wait."""

    def __init__(self) -> None:
        self._queues: dict[tuple[Of, str, str], dict[Waiter, None]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._queues.values()))

    def of(self, poller: Poller) -> int:
        """How many wait where this one waits, or would."""
        return len(self._queues.get((poller.of, poller.org_id, poller.queue), ()))

    @property
    def called(self) -> bool:
        """Whether one of them has been woken and has not looked yet."""
        return any(waiter.called_for is not None for queue in self._queues.values() for waiter in queue)

    def wake(self, ready: Ready) -> None:
        """Wake the one that has waited longest of those who can do this work and are not awake already."""
        self._wake((ready.of, ready.org_id, ready.queue), ready.kind)

    def wake_all(self) -> None:
        """Wake every one: nobody knows any more what there is."""
        for queue in self._queues.values():
            for waiter in queue:
                if waiter.called_for is None:
                    waiter.call("")

    def _wake(self, key: tuple[Of, str, str], kind: str) -> None:
        for waiter in self._queues.get(key, ()):
            if waiter.called_for is None and waiter.poller.takes(kind):
                waiter.call(kind)
                return

    @contextmanager
    def place(self, poller: Poller) -> Generator[Waiter]:
        """A place at the end of the queue, given up on leaving; a call that was not followed goes to the next."""
        key = (poller.of, poller.org_id, poller.queue)
        waiter = Waiter(poller)
        queue = self._queues.setdefault(key, {})
        queue[waiter] = None
        try:
            yield waiter
        finally:
            del queue[waiter]
            if not queue:
                del self._queues[key]
            if waiter.called_for is not None:
                self._wake(key, waiter.called_for)
