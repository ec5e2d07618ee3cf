"""`ctx.patched(id)`: which runs take the new way through changed code (rule 9)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flovyn.replay.commands import RecordOperation
from flovyn.replay.names import PATCHED

if TYPE_CHECKING:
    from flovyn.replay.access import Access
    from flovyn.replay.journal import Journal

__all__ = ["Patches"]


class Patches:
    """The patches that a run has met."""

    __slots__ = ("_access", "_declined", "_journal")

    def __init__(self, journal: Journal, access: Access) -> None:
        self._journal = journal
        self._access = access
        self._declined: dict[str, int] = {}  # with the activation that did

    def patched(self, patch_id: str) -> bool:
        """Whether the activation that runs is to take the new way: it is live, or this or an earlier one took it.

        Raises:
            UsageError: The run is read-only; the answer would be another on replay.
        """
        if self._access.denied("ask whether the workflow is patched"):
            return False
        journal = self._journal
        first = journal.patches.get(patch_id)
        if first is not None and first <= journal.activation:
            return True
        if not journal.live or self._declined.get(patch_id) == journal.activation:
            return False
        if journal.foretold:
            # What a worker without markers did is re-enacted in a live activation, and it went the old way.
            self._declined[patch_id] = journal.activation
            return False
        journal.patches[patch_id] = journal.activation
        journal.commands.append(RecordOperation(f"{PATCHED}{patch_id}", b"true"))
        return True
