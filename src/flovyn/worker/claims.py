"""The server's fencing token for a piece of work."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from flovyn.wire.transport import NO_METADATA

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["CLAIM", "MOST_AT_ONCE", "claim_of", "claim_of_more", "wanting"]

MOST_AT_ONCE: Final = 16
"""How much work one poll brings at most: one worker is not to sit on what another could begin with."""

CLAIM: Final = "flovyn-claim"
"""The metadata by which a server names a claim. Optional: not every server fences by one."""


def claim_of(metadata: Mapping[str, str]) -> Mapping[str, str]:
    """What every later call for the same work is to carry."""
    token = metadata.get(CLAIM)
    return NO_METADATA if token is None else {CLAIM: token}


def claim_of_more(token: str) -> Mapping[str, str]:
    """The same for a piece of work that came with another one."""
    return {CLAIM: token}


def wanting(pieces: int) -> dict[str, str]:
    """Metadata that asks for so many pieces of work. Optional: not every server gives more than one at a time."""
    return {"flovyn-more": str(min(pieces, MOST_AT_ONCE) - 1)}
