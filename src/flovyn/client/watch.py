"""Waiting for workflows to end, over a protocol that has no call for it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import anyio

from flovyn.client.backoff import Backoff
from flovyn.client.ending import find_ending
from flovyn.errors import ConnectionLost, DeadlineExceeded, ServerUnavailable
from flovyn.wire import methods
from flovyn.wire.messages.flovyn import v1 as pb

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flovyn.wire.transport import Transport

__all__ = ["Watch"]

logger: logging.Logger = logging.getLogger("flovyn.client")

# A short workflow is asked about often, a long one seldom.
_FIRST_PAUSE: Final = 0.002
_PAUSE_GROWTH: Final = 1.6
_LONGEST_PAUSE: Final = 0.5

# However many wait, they leave the connection and the server to those who work: a client's worker among them.
_READS_AT_ONCE: Final = 4

_OUTAGE: Final = Backoff()


class Watch:
    """Reads histories, for all handles of one client."""

    __slots__ = ("_slots", "_transport")

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._slots = anyio.Semaphore(_READS_AT_ONCE)

    async def events(self, workflow_id: str) -> Sequence[pb.WorkflowEvent]:
        """Read a history once."""
        reply = await self._transport.unary(methods.GET_EVENTS, pb.GetEventsRequest(workflow_execution_id=workflow_id))
        return reply.message.events

    async def ending(self, workflow_id: str) -> pb.WorkflowEvent:
        """Wait for the event that ends a workflow."""
        pause, failures = _FIRST_PAUSE, 0
        while True:
            asked = anyio.current_time()
            try:
                async with self._slots:
                    events = await self.events(workflow_id)
            except (ServerUnavailable, ConnectionLost, DeadlineExceeded) as error:
                if failures == 0:
                    logger.warning("waiting for workflow %s goes on, though the server is away: %s", workflow_id, error)
                await anyio.sleep(_OUTAGE.delay(failures))
                failures += 1
                continue
            failures = 0
            ending = find_ending(events)
            if ending is not None:
                return ending
            await anyio.sleep(pause)
            # Where an answer takes long, the next question can wait as long.
            pause = min(max(pause * _PAUSE_GROWTH, anyio.current_time() - asked), _LONGEST_PAUSE)
