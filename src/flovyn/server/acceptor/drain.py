"""Coming to rest: no new connections and calls, while those that are under way are answered."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import anyio

from flovyn.errors import ServerUnavailable

if TYPE_CHECKING:
    from collections.abc import Generator

__all__ = ["Drain"]


class Drain:
    """Lets whoever ends a server wait for the calls that are under way.

    Attributes:
        accepting: The scope in which connections are accepted.
    """

    def __init__(self) -> None:
        self.accepting: anyio.CancelScope = anyio.CancelScope()
        self._begun = False
        self._calls = 0
        self._resting = anyio.Event()

    @contextmanager
    def call(self) -> Generator[None]:
        """A call that is under way."""
        self._calls += 1
        try:
            yield
        finally:
            self._calls -= 1
            if self._begun and not self._calls:
                self._resting.set()

    def admit(self) -> None:
        """Refuse a new call if it comes too late.

        Raises:
            ServerUnavailable: It does.
        """
        if self._begun:
            raise ServerUnavailable("the server is about to end; nothing has happened")

    async def rest(self) -> None:
        """Take no more, and wait until the last call is answered."""
        self._begun = True
        self.accepting.cancel()
        if self._calls:
            await self._resting.wait()
