"""Histories as they grow, over a protocol that has no call for it: read again and again, and only decoded where new."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import anyio

from flovyn.client.ending import EndFinder
from flovyn.client.pauses import Outage, Pauses
from flovyn.client.retries import passes
from flovyn.wire import coding, methods
from flovyn.wire.messages.flovyn import v1 as pb
from flovyn.wire.payloads import decoded
from flovyn.wire.raw import RAW_EVENTS
from flovyn.wire.transport import NO_METADATA

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from flovyn.client.calls import Calls
    from flovyn.serde.chain import CodecChain

__all__ = ["Tail", "Watch"]

# A server that is asked to holds its answer back until the workflow has ended. So many may be held at once; any more
# are asked for again and again, as all are where the server does not wait.
_WAIT: Final = "flovyn-wait"
_WAIT_SECONDS: Final = 20
_WAITS_AT_ONCE: Final = 100
_NOT: Final = {_WAIT: "0"}
_LONG: Final = {_WAIT: str(_WAIT_SECONDS)}

# However many wait, they leave the connection and the server to those who work: a client's worker among them.
_READS_AT_ONCE: Final = 4


class Watch:
    """Reads histories, for all handles of one client.

    Args:
        calls: What reads them; it leaves payloads as they are.
        codecs: What decodes them. Of a history that is read again and again only what is asked for is decoded.
    """

    __slots__ = ("_calls", "_can_wait", "_codecs", "_slots", "_waiting")

    def __init__(self, calls: Calls, codecs: CodecChain) -> None:
        self._calls = calls
        self._codecs = codecs
        self._slots = anyio.Semaphore(_READS_AT_ONCE)
        self._can_wait = False  # as far as is known
        self._waiting = 0

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
        return Tail(workflow_id, self._read, self.pauses())

    async def ending(self, workflow_id: str, *, after: int = 0) -> pb.WorkflowEvent:
        """Wait for the event that ends a workflow.

        Args:
            workflow_id: The execution.
            after: The number of an event that ended it before it was retried.

        Raises:
            CodecError: It cannot be decoded.
        """
        tail = Tail(workflow_id, self._read_ended, self.pauses(), held_for=_WAIT_SECONDS)
        finder = EndFinder(after)
        while (ending := finder.look(await tail.more())) is None:
            pass
        return await self.decoded(ending)

    async def decoded(self, event: pb.WorkflowEvent) -> pb.WorkflowEvent:
        """An event with its payloads decoded.

        Raises:
            CodecError: One of them cannot be.
        """
        return await decoded(event, self._codecs)

    async def _read(self, workflow_id: str) -> bytes:
        """Read a history once, undecoded, and not again if that fails."""
        async with self._slots:
            return await self._ask(workflow_id)

    async def _read_ended(self, workflow_id: str) -> bytes:
        """Likewise; once the workflow has ended, if the server can wait for that."""
        if not self._can_wait or self._waiting >= _WAITS_AT_ONCE:
            async with self._slots:
                return await self._ask(workflow_id, _NOT)
        self._waiting += 1
        try:
            return await self._ask(workflow_id, _LONG)
        finally:
            self._waiting -= 1

    async def _ask(self, workflow_id: str, metadata: Mapping[str, str] = NO_METADATA) -> bytes:
        request = pb.GetEventsRequest(workflow_execution_id=workflow_id)
        reply = await self._calls.reply(RAW_EVENTS, request, metadata=metadata)
        self._can_wait = self._can_wait or _WAIT in reply.metadata
        return reply.message


class Tail:
    """The events of one workflow, each of them once, as they are written.

    A server that is away meanwhile is waited for: whoever waits is limited by the scope around it, and by nothing else.

    Args:
        workflow_id: The execution.
        read: Reads its history once, undecoded.
        pauses: The pauses between two reads.
        held_for: Seconds for which the server may hold an answer back. After so many there is no pause.
    """

    __slots__ = ("_held_for", "_outage", "_pauses", "_raw", "_read", "_seen", "_workflow_id")

    def __init__(
        self, workflow_id: str, read: Callable[[str], Awaitable[bytes]], pauses: Pauses, *, held_for: float = math.inf
    ) -> None:
        self._workflow_id = workflow_id
        self._read = read
        self._pauses = pauses
        self._held_for = held_for
        self._outage = Outage(f"workflow {workflow_id}")
        self._raw = b""
        self._seen = 0

    async def more(self) -> list[pb.WorkflowEvent]:
        """Wait until there are events that were not given yet; these. Their payloads are as they came.

        Raises:
            ServerError: The server refuses; NotFound if it knows no such execution.
            MalformedMessage: What it answers is no history.
        """
        while not (events := await self._look()):
            if self._pauses.took < self._held_for:
                await self._pauses.wait()
        return events

    def hurry(self) -> None:
        """Look again soon: whoever follows what happens wants to see what comes of it."""
        self._pauses.hurry()

    async def _look(self) -> list[pb.WorkflowEvent]:
        while True:
            self._pauses.asks()
            try:
                raw = await self._read(self._workflow_id)
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
