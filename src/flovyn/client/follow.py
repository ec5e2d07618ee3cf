"""Going through a history as it is written."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Self

from flovyn.client.ending import EndFinder
from flovyn.client.history import HistoryEvent, read_history_event

if TYPE_CHECKING:
    from flovyn.client.watch import Watch
    from flovyn.wire.messages.flovyn import v1 as pb

__all__ = ["HistoryFollower"]


class HistoryFollower(AsyncIterator[HistoryEvent]):
    """The events of a workflow, up to the one that ends it. A class, not a generator: nothing has to be closed.

    Args:
        watch: What reads them.
        workflow_id: The execution.
        after: The number of the last event that is not wanted.
        ended: The number of a failure that was retried, which ends nothing.
    """

    __slots__ = ("_after", "_ended", "_finder", "_left", "_tail", "_watch")

    def __init__(self, watch: Watch, workflow_id: str, *, after: int, ended: int) -> None:
        self._watch = watch
        self._tail = watch.tail(workflow_id)
        self._finder = EndFinder(ended)
        self._after = after
        self._left: deque[pb.WorkflowEvent] = deque()
        self._ended = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> HistoryEvent:
        while not self._left:
            if self._ended:
                raise StopAsyncIteration
            events = await self._tail.more()
            self._tail.hurry()
            self._ended = self._finder.look(events) is not None
            self._left.extend(event for event in events if event.sequence_number > self._after)
        event = await self._watch.decoded(self._left[0])
        self._left.popleft()  # not before: a cancelled scope must not lose an event
        return read_history_event(event)
