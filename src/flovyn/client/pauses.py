"""How long to wait before the server is asked again whether something has happened."""

from __future__ import annotations

import logging
from typing import Final

import anyio

from flovyn.client.backoff import Backoff

__all__ = ["Outage", "Pauses"]

logger: logging.Logger = logging.getLogger("flovyn.client")

# What is short is asked about often, what is long seldom: in the end so seldom that the answer is late by a fiftieth of
# the time that was waited for it.
_FIRST: Final = 0.002
_GROWTH: Final = 1.6
_LONGEST_AT_FIRST: Final = 0.5
_LONGEST: Final = 5.0
_SHARE: Final = 0.02

_AFTER_NEWS: Final = 0.1

_BYTES_PER_SECOND: Final = 1024 * 1024
"""What one who waits may read for it, whatever the answers weigh."""

_OUTAGE: Final = Backoff()


class Pauses:
    """The pauses of one who waits. Each question is announced, and so is its answer."""

    __slots__ = ("_asked", "_began", "_next", "_weighs", "took")

    def __init__(self) -> None:
        # Not the time: one may be made where there is no event loop.
        self._began: float | None = None
        self._asked = 0.0
        self._next = _FIRST
        self._weighs = 0
        self.took: float = 0.0
        """Seconds that the last answer has taken."""

    def asks(self) -> None:
        """The server is about to be asked."""
        self._asked = anyio.current_time()
        if self._began is None:
            self._began = self._asked

    def answered(self, size: int) -> None:
        """The server has answered.

        Args:
            size: What the answer weighed, in bytes.
        """
        self.took, self._weighs = anyio.current_time() - self._asked, size

    def hurry(self) -> None:
        """Something has happened, so something more may."""
        self._next = min(self._next, _AFTER_NEWS)

    async def wait(self) -> None:
        """Pause before the next question."""
        assert self._began is not None
        waited = anyio.current_time() - self._began
        longest = min(max(_LONGEST_AT_FIRST, waited * _SHARE), _LONGEST)
        # Where an answer takes long, the next question can wait as long.
        pause = max(min(max(self._next, self.took), longest), self._weighs / _BYTES_PER_SECOND)
        self._next = min(self._next * _GROWTH, _LONGEST)
        await anyio.sleep(pause)


class Outage:
    """The pauses of one who waits while the server is away.

    Args:
        what: What is waited for, for the log.
    """

    __slots__ = ("_failures", "_what")

    def __init__(self, what: str) -> None:
        self._what = what
        self._failures = 0

    async def wait(self, error: Exception) -> None:
        """Pause after a failure; the first is logged."""
        if self._failures == 0:
            logger.warning("waiting for %s goes on, though the server is away: %s", self._what, error)
        await anyio.sleep(_OUTAGE.delay(self._failures))
        self._failures += 1

    def over(self) -> None:
        """The server has answered."""
        self._failures = 0
