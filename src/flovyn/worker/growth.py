"""A word of warning about histories that have grown long."""

from __future__ import annotations

import logging
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from flovyn.wire.messages.flovyn import v1 as pb

__all__ = ["LongHistories"]

logger: logging.Logger = logging.getLogger("flovyn.worker")

_MANY_EVENTS: Final = 10_000
_MANY_BYTES: Final = 3 * 1024 * 1024
_REMEMBERED: Final = 10_000
"""How many runs this worker remembers to have warned of."""


class LongHistories:
    """Warns of each run at most once that it has many events, and once that they are large."""

    __slots__ = ("_warned",)

    def __init__(self) -> None:
        self._warned: OrderedDict[str, dict[str, None]] = OrderedDict()

    def look(self, polled: pb.WorkflowExecution, *, events: int, size: int) -> None:
        """The history of a run has been read.

        Args:
            polled: The run.
            events: How many events it has.
            size: How many bytes they take on the wire.
        """
        if events >= _MANY_EVENTS:
            self._warn(polled, "events", f"{events} events")
        if size >= _MANY_BYTES:
            self._warn(polled, "bytes", f"{size / 1024 / 1024:.1f} MiB")

    def forget(self, workflow_id: str) -> None:
        """The run has ended."""
        self._warned.pop(workflow_id, None)

    def _warn(self, polled: pb.WorkflowExecution, limit: str, length: str) -> None:
        warned = self._warned.setdefault(polled.id, {})
        if limit in warned:
            return
        warned[limit] = None
        while len(self._warned) > _REMEMBERED:
            self._warned.popitem(last=False)
        logger.warning(
            "workflow %s %s has a history of %s, which is read as a whole whenever a worker picks the run up anew; "
            "have it start a successor and end before it is that long",
            polled.kind,
            polled.id,
            length,
        )
