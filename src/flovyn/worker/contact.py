"""When the server was last heard."""

from __future__ import annotations

import anyio

__all__ = ["Contact"]


class Contact:
    """The last sign of life of the server, on the clock of the host's event loop.

    A server gives the work of a silent worker to another after a while, its lease. It hears us exactly when we hear
    it, so a worker that has heard nothing for a lease owns nothing any more.
    """

    __slots__ = ("_heard",)

    def __init__(self) -> None:
        self._heard = anyio.current_time()

    def heard(self) -> None:
        """The server has answered just now."""
        self._heard = anyio.current_time()

    def silence(self) -> float:
        """Seconds since the server was last heard."""
        return anyio.current_time() - self._heard
