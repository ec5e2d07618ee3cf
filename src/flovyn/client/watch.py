"""Histories as they grow, over a protocol that has no call for it: read again and again, and only decoded where new."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import anyio

from flovyn.client.ending import EndFinder
from flovyn.client.pauses import Outage, Pauses
from flovyn.client.retries import passes
from flovyn.wire import coding, methods
from flovyn.wire.messages.flovyn import v1 as pb
from flovyn.wire.payloads import decoded
from flovyn.wire.raw import RAW_EVENTS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flovyn.client.calls import Calls
    from flovyn.serde.chain import CodecChain

__all__ = ["Tail", "Watch"]

# However many wait, they leave the connection and the server to those who work: a client's worker among them.
_READS_AT_ONCE: Final = 4


class Watch:
    """Reads histories, for all handles of one client.

    Args:
        calls: What reads them; it leaves payloads as they are.
        codecs: What decodes them. Of a history that is read again and again only what is asked for is decoded.
    """

    __slots__ = ("_calls", "_codecs", "_slots")

    def __init__(self, calls: Calls, codecs: CodecChain) -> None:
        self._calls = calls
        self._codecs = codecs
        self._slots = anyio.Semaphore(_READS_AT_ONCE)

    async def events(self, workflow_id: str) -> Sequence[pb.WorkflowEvent]:
        """Read a history once. Without codecs, what is encoded in it stays as it is.

        Raises:
            CodecError: Something in it cannot be decoded.
        """
        read = await self._once(workflow_id)
        return (await decoded(read, self._codecs)).events if self._codecs.names else read.events

    async def last(self, workflow_id: str) -> int:
        """The number of the last event of a history."""
        return max((event.sequence_number for event in (await self._once(workflow_id)).events), default=0)

    async def _once(self, workflow_id: str) -> pb.GetEventsResponse:
        request = pb.GetEventsRequest(workflow_execution_id=workflow_id)
        return await self._calls.repeatedly(methods.GET_EVENTS, request)

    def pauses(self) -> Pauses:
        """The pauses of one who waits for something on the server."""
        return Pauses()

    def tail(self, workflow_id: str) -> Tail:
        """A history that is read to its end and beyond, as it is written."""
        return Tail(self, workflow_id)

    async def ending(self, workflow_id: str, *, after: int = 0) -> pb.WorkflowEvent:
        """Wait for the event that ends a workflow.

        Args:
            workflow_id: The execution.
            after: The number of an event that ended it before it was retried.

        Raises:
            CodecError: It cannot be decoded.
        """
        tail, finder = self.tail(workflow_id), EndFinder(after)
        while (ending := finder.look(await tail.more())) is None:
            pass
        return await self.decoded(ending)

    async def decoded(self, event: pb.WorkflowEvent) -> pb.WorkflowEvent:
        """An event with its payloads decoded.

        Raises:
            CodecError: One of them cannot be.
        """
        return await decoded(event, self._codecs)

    async def read(self, workflow_id: str) -> bytes:
        """Read a history once, undecoded, and not again if that fails."""
        async with self._slots:
            return await self._calls.once(RAW_EVENTS, pb.GetEventsRequest(workflow_execution_id=workflow_id))


class Tail:
    """The events of one workflow, each of them once, as they are written.

    A server that is away meanwhile is waited for: whoever waits is limited by the scope around it, and by nothing else.
    """

    __slots__ = ("_outage", "_pauses", "_raw", "_seen", "_watch", "_workflow_id")

    def __init__(self, watch: Watch, workflow_id: str) -> None:
        self._watch = watch
        self._workflow_id = workflow_id
        self._pauses = watch.pauses()
        self._outage = Outage(f"workflow {workflow_id}")
        self._raw = b""
        self._seen = 0

    async def more(self) -> list[pb.WorkflowEvent]:
        """Wait until there are events that were not given yet; these. Their payloads are as they came.

        Raises:
            ServerError: The server refuses; NotFound if it knows no such execution.
            MalformedMessage: What it answers is no history.
        """
        while not (events := await self._read()):
            await self._pauses.wait()
        return events

    def hurry(self) -> None:
        """Look again soon: whoever follows what happens wants to see what comes of it."""
        self._pauses.hurry()

    async def _read(self) -> list[pb.WorkflowEvent]:
        while True:
            self._pauses.asks()
            try:
                raw = await self._watch.read(self._workflow_id)
            except Exception as error:
                if not passes(error):
                    raise
                await self._outage.wait(error)
                continue
            self._outage.over()
            self._pauses.answered(len(raw))
            return self._new(raw)

    def _new(self, raw: bytes) -> list[pb.WorkflowEvent]:
        # The concatenation of messages is a message, so what is behind a prefix of one is one.
        known = len(self._raw) if raw.startswith(self._raw) else 0
        self._raw = raw
        if known == len(raw):
            return []
        events = coding.decode(pb.GetEventsResponse, raw[known:]).events
        new = [event for event in events if event.sequence_number > self._seen]
        self._seen = max((event.sequence_number for event in new), default=self._seen)
        return new
