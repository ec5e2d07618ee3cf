"""How a stream or a connection ended, and what that says about the request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from grpclib.exceptions import StreamTerminatedError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["StreamFailed", "Termination"]


@dataclass(frozen=True, slots=True)
class Termination:
    """Why no more can be expected from a stream.

    Args:
        reason: A sentence for people, without the name of the peer.
        unprocessed: The peer certainly did not act on the request, so it may be sent again.
        refused: The peer had no room for the stream (REFUSED_STREAM); implies `unprocessed`.
        malformed: The peer broke the protocol.
    """

    reason: str
    unprocessed: bool = False
    refused: bool = False
    malformed: bool = False


class StreamFailed(StreamTerminatedError):
    """Raised inside the wire where a stream ended before its time; never reaches users."""

    def __init__(self, termination: Termination) -> None:
        super().__init__(termination.reason)
        self.give_back: Callable[[], None] | None = None
        """Puts the slot of a refused stream back into circulation; to be called when the pause after it is over."""
        self.termination = termination
