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
from flovyn.wire.payloads import decoded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flovyn.serde.chain import CodecChain
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
    """Reads histories, for all handles of one client.

    Args:
        transport: What carries the calls; it leaves payloads as they are.
        codecs: What decodes them. Of a history that is read again and again only the end is decoded.
    """

    __slots__ = ("_codecs", "_slots", "_transport")

    def __init__(self, transport: Transport, codecs: CodecChain) -> None:
        self._transport = transport
        self._codecs = codecs
        self._slots = anyio.Semaphore(_READS_AT_ONCE)

    async def events(self, workflow_id: str) -> Sequence[pb.WorkflowEvent]:
        """Read a history once. Without codecs, what is encoded in it stays as it is.

        Raises:
            CodecError: Something in it cannot be decoded.
        """
        read = await self._read(workflow_id)
        return (await decoded(read, self._codecs)).events if self._codecs.names else read.events

    async def _read(self, workflow_id: str) -> pb.GetEventsResponse:
        request = pb.GetEventsRequest(workflow_execution_id=workflow_id)
        return (await self._transport.unary(methods.GET_EVENTS, request)).message

    async def ending(self, workflow_id: str) -> pb.WorkflowEvent:
        """Wait for the event that ends a workflow.

        Raises:
            CodecError: It cannot be decoded.
        """
        pause, failures = _FIRST_PAUSE, 0
        while True:
            asked = anyio.current_time()
            try:
                async with self._slots:
                    events = (await self._read(workflow_id)).events
            except (ServerUnavailable, ConnectionLost, DeadlineExceeded) as error:
                if failures == 0:
                    logger.warning("waiting for workflow %s goes on, though the server is away: %s", workflow_id, error)
                await anyio.sleep(_OUTAGE.delay(failures))
                failures += 1
                continue
            failures = 0
            ending = find_ending(events)
            if ending is not None:
                return await decoded(ending, self._codecs)
            await anyio.sleep(pause)
            # Where an answer takes long, the next question can wait as long.
            pause = min(max(pause * _PAUSE_GROWTH, anyio.current_time() - asked), _LONGEST_PAUSE)
