"""One run as a worker has it for the length of an activation: its history, and the program that stands for it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final, TypeVar

import anyio

from flovyn.client import Backoff
from flovyn.errors import MalformedMessage, ServerUnavailable
from flovyn.replay import HistoryGap
from flovyn.wire.messages.flovyn import v1 as pb
from flovyn.wire.payloads import decoded
from flovyn.wire.raw import RAW_EVENTS
from flovyn.worker.claims import CLAIM
from flovyn.worker.histories import apply, holds_in

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from flovyn.replay import Execution
    from flovyn.serde.chain import CodecChain
    from flovyn.wire.transport import Method, Reply, Transport
    from flovyn.worker.cache import Cached

__all__ = ["Run"]

Q = TypeVar("Q")
R = TypeVar("R")

logger: logging.Logger = logging.getLogger("flovyn.worker")

# What was worked out, and the effects behind it, are not thrown away for an outage of some seconds.
_OUTAGE: Final = Backoff()
_CALLS: Final = 8

_REREADS: Final = 5
_REREAD_SECONDS: Final = 0.05


class Run:
    """One run that was claimed.

    Args:
        transport: Carries the calls.
        cached: What was kept of the run, if anything was.
        polled: What the poll brought.
        claim: The metadata to send with every call for this work.
        codecs: What decodes the payloads of its history and its input.
        make: Makes the program anew; raises if its kind is unknown.

    Attributes:
        execution: The program, once it is loaded.
        applied: The bytes of the history that it has applied.
    """

    __slots__ = ("_claim", "_codecs", "_make", "_raw", "_transport", "applied", "execution", "polled")

    def __init__(
        self,
        transport: Transport,
        cached: Cached | None,
        polled: pb.WorkflowExecution,
        claim: Mapping[str, str],
        codecs: CodecChain,
        make: Callable[[pb.WorkflowExecution], Execution],
    ) -> None:
        self._transport = transport
        self._claim = claim
        self._codecs = codecs
        self._make = make
        self._raw = b""
        self.polled: pb.WorkflowExecution = polled
        self.execution: Execution | None = None if cached is None else cached.execution
        self.applied: bytes = b"" if cached is None else cached.applied

    @property
    def is_fenced(self) -> bool:
        """Whether the server takes no submission but that of whoever has the claim."""
        return CLAIM in self._claim

    async def load(self) -> Execution:
        """The program with all of the history applied that there is.

        Raises:
            MalformedMessage: The history cannot be read, or has a hole, however often it is read.
            CodecError: A payload of it cannot be decoded here.
            DefinitionError: This worker does not know the kind.
        """
        hole: HistoryGap | None = None
        for attempt in range(_REREADS):
            raw = (self._brought() if attempt == 0 else None) or await self._read()
            try:
                execution = await self._continued(raw) or await self._rebuilt(raw)
            except HistoryGap as gap:
                logger.warning("workflow %s: %s; reading it again", self.polled.id, gap)
                hole = gap
                self.drop()
                await anyio.sleep(_REREAD_SECONDS)
            else:
                self.applied = raw
                return execution
        try:
            raise MalformedMessage(
                f"the history of workflow {self.polled.id} has a hole, however often it is read: {hole}"
            ) from hole
        finally:
            del hole  # or it would hold this frame, which holds it

    async def call(self, method: Method[Q, R], request: Q) -> Reply[R]:
        """Call for this run; again if the server was away for a moment, so that the call had no effect."""
        for attempt in range(_CALLS - 1):
            try:
                return await self._transport.unary(method, request, metadata=self._claim)
            except ServerUnavailable as error:
                logger.info("workflow %s: %s; trying again", self.polled.id, error)
                await anyio.sleep(_OUTAGE.delay(attempt))
        return await self._transport.unary(method, request, metadata=self._claim)

    async def counts(self, execution: Execution) -> bool:
        """Whether the submission that was just accepted is one that counts; a server that fences accepts no other."""
        if self.is_fenced:
            return True
        raw = await self._read()
        if not raw.startswith(self.applied):
            return False
        try:
            await apply(execution, raw[len(self.applied) :], self._codecs)
        except HistoryGap:
            return False
        self.applied = raw
        return execution.is_current

    def holds(self) -> int:
        """How many times in a row the run has been held until now."""
        return holds_in(self._raw)

    def drop(self) -> None:
        """Evict the program."""
        if self.execution is not None:
            self.execution.close()
            self.execution = None

    def _brought(self) -> bytes | None:
        """The history, if the poll has brought it, or brought what is new in it; else it is to be read."""
        polled, execution = self.polled, self.execution
        if polled.history_after:
            if execution is None or execution.history.length != polled.history_after:
                return None
            self._raw = self.applied + polled.history
        else:
            self._raw = polled.history
        return self._raw

    async def _read(self) -> bytes:
        request = pb.GetEventsRequest(workflow_execution_id=self.polled.id)
        self._raw = (await self.call(RAW_EVENTS, request)).message
        return self._raw

    async def _continued(self, raw: bytes) -> Execution | None:
        """The cached run, if the history that it has applied is a prefix of this one and ends with its own block."""
        execution = self.execution
        if execution is None or not raw.startswith(self.applied):
            return None
        await apply(execution, raw[len(self.applied) :], self._codecs)
        return execution if execution.is_current else None

    async def _rebuilt(self, raw: bytes) -> Execution:
        self.drop()
        self.execution = self._make(await decoded(self.polled, self._codecs))
        await apply(self.execution, raw, self._codecs)
        return self.execution
