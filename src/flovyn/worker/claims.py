"""The server's fencing token for a piece of work."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from flovyn.wire.transport import NO_METADATA

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["CLAIM", "claim_of"]

CLAIM: Final = "flovyn-claim"
"""The metadata by which a server names a claim. Optional: not every server fences by one."""


def claim_of(metadata: Mapping[str, str]) -> Mapping[str, str]:
    """What every later call for the same work is to carry."""
    token = metadata.get(CLAIM)
    return NO_METADATA if token is None else {CLAIM: token}
