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
from flovyn.wire.transport import NO_METADATA

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from flovyn.serde.chain import CodecChain
    from flovyn.wire.transport import Transport

__all__ = ["Watch"]

logger: logging.Logger = logging.getLogger("flovyn.client")

# A short workflow is asked about often, a long one seldom.
_FIRST_PAUSE: Final = 0.002
_PAUSE_GROWTH: Final = 1.6
_LONGEST_PAUSE: Final = 0.5

# A server that is asked to holds its answer back until the workflow has ended. So many may be held at once; any more
# are asked for again and again, as all are where the server does not wait.
_WAIT: Final = "flovyn-wait"
_WAIT_SECONDS: Final = 20
_WAITS_AT_ONCE: Final = 100
_NOT: Final = {_WAIT: "0"}
_LONG: Final = {_WAIT: str(_WAIT_SECONDS)}

# However many wait, they leave the connection and the server to those who work: a client's worker among them.
_READS_AT_ONCE: Final = 4

_OUTAGE: Final = Backoff()


class Watch:
    """Reads histories, for all handles of one client.

    Args:
        transport: What carries the calls; it leaves payloads as they are.
        codecs: What decodes them. Of a history that is read again and again only the end is decoded.
    """

    __slots__ = ("_can_wait", "_codecs", "_slots", "_transport", "_waiting")

    def __init__(self, transport: Transport, codecs: CodecChain) -> None:
        self._transport = transport
        self._codecs = codecs
        self._slots = anyio.Semaphore(_READS_AT_ONCE)
        self._can_wait = False  # as far as is known
        self._waiting = 0

    async def events(self, workflow_id: str) -> Sequence[pb.WorkflowEvent]:
        """Read a history once. Without codecs, what is encoded in it stays as it is.

        Raises:
            CodecError: Something in it cannot be decoded.
        """
        read = await self._read(workflow_id)
        return (await decoded(read, self._codecs)).events if self._codecs.names else read.events

    async def _read(self, workflow_id: str, metadata: Mapping[str, str] = NO_METADATA) -> pb.GetEventsResponse:
        request = pb.GetEventsRequest(workflow_execution_id=workflow_id)
        reply = await self._transport.unary(methods.GET_EVENTS, request, metadata=metadata)
        self._can_wait = self._can_wait or _WAIT in reply.metadata
        return reply.message

    async def _look(self, workflow_id: str) -> pb.GetEventsResponse:
        """Read a history, when it has ended if that can be waited for."""
        if not self._can_wait or self._waiting >= _WAITS_AT_ONCE:
            async with self._slots:
                return await self._read(workflow_id, _NOT)
        self._waiting += 1
        try:
            return await self._read(workflow_id, _LONG)
        finally:
            self._waiting -= 1

    async def ending(self, workflow_id: str) -> pb.WorkflowEvent:
        """Wait for the event that ends a workflow.

        Raises:
            CodecError: It cannot be decoded.
        """
        pause, failures = _FIRST_PAUSE, 0
        while True:
            asked = anyio.current_time()
            try:
                events = (await self._look(workflow_id)).events
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
            if anyio.current_time() - asked >= _WAIT_SECONDS:
                continue
            await anyio.sleep(pause)
            # Where an answer takes long, the next question can wait as long.
            pause = min(max(pause * _PAUSE_GROWTH, anyio.current_time() - asked), _LONGEST_PAUSE)
