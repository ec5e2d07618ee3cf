"""The server's clock."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Clock"]


class Clock:
    """The time in epoch milliseconds, which never goes backwards.

    If the machine's clock is set forward (or it was asleep), this one follows. If it is set back, this one goes on from
    where it is: otherwise every timer, lease and deadline would last longer by as much.

    Args:
        wall: The machine's clock in epoch nanoseconds.
        steady: Nanoseconds since whenever, which nobody sets.
    """

    def __init__(self, wall: Callable[[], int] = time.time_ns, steady: Callable[[], int] = time.monotonic_ns) -> None:
        self._wall = wall
        self._steady = steady
        self._ahead = wall() - steady()

    def __call__(self) -> int:
        """The time now."""
        steady = self._steady()
        self._ahead = max(self._ahead, self._wall() - steady)
        return (steady + self._ahead) // 1_000_000
