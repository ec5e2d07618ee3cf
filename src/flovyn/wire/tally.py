"""How the calls of a channel ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["Tally"]


class Tally:
    """Counts each call that is made inside ``with tally:``; blocks may overlap."""

    __slots__ = ("cancelled", "failed", "repeated", "started", "succeeded")

    def __init__(self) -> None:
        self.started: int = 0
        self.succeeded: int = 0
        self.failed: int = 0
        self.cancelled: int = 0
        self.repeated: int = 0

    @property
    def active(self) -> int:
        return self.started - self.succeeded - self.failed - self.cancelled

    def __enter__(self) -> None:
        self.started += 1

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if exc is None:
            self.succeeded += 1
        elif isinstance(exc, Exception):
            self.failed += 1
        else:
            self.cancelled += 1
