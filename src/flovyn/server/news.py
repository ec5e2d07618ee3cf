"""Telling whoever listens that there is work in a queue. A hint: nothing may rely on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from flovyn.server.engine import Ready

__all__ = ["News"]


class News:
    """All who listen, by organisation and queue."""

    def __init__(self) -> None:
        self._listeners: dict[tuple[str, str], dict[_Listener, None]] = {}
        self._ended = False

    def __len__(self) -> int:
        return sum(map(len, self._listeners.values()))

    def tell(self, ready: Ready) -> None:
        """There is a piece of work."""
        for listener in self._listeners.get((ready.org_id, ready.queue), ()):
            listener.event.set()

    def end(self) -> None:
        """There will be none any more."""
        self._ended = True
        for listeners in self._listeners.values():
            for listener in listeners:
                listener.event.set()

    async def of(self, org_id: str, queue: str) -> AsyncGenerator[None]:  # noqa: ASYNC900 - its caller closes it
        """One item whenever there was work since the last; however much, and however slowly they are taken."""
        key = (org_id, queue)
        listener = _Listener()
        listeners = self._listeners.setdefault(key, {})
        listeners[listener] = None
        try:
            while True:
                await listener.event.wait()
                if self._ended:
                    break
                listener.event = anyio.Event()
                yield
        finally:
            del listeners[listener]
            if not listeners:
                del self._listeners[key]


class _Listener:
    def __init__(self) -> None:
        self.event = anyio.Event()
