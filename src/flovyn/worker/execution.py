"""One activation of a workflow from the poll to the accepted submission, and the cache of suspended runs."""

from __future__ import annotations

import logging
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

import anyio

from flovyn.client import Backoff
from flovyn.errors import (
    DefinitionError,
    DeterminismError,
    FailedPrecondition,
    MalformedMessage,
    NotFound,
    PayloadTooLarge,
    ServerError,
    ServerUnavailable,
    TransportError,
)
from flovyn.replay import (
    Activation,
    Execution,
    HistoryGap,
    RunInfo,
    Status,
    Submission,
    fail,
    hold,
    holds_before,
    read_event,
)
from flovyn.wire import coding, methods
from flovyn.wire.messages.flovyn import v1 as pb
from flovyn.wire.transport import Method, Reply
from flovyn.worker.cache import Cached, ExecutionCache
from flovyn.worker.claims import CLAIM
from flovyn.worker.commands import submission_request
from flovyn.worker.operations import drive
from flovyn.workflow import WorkflowContext

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from flovyn.definitions import Workflow
    from flovyn.wire.transport import Transport

__all__ = ["Executions", "FaultPolicy"]

Q = TypeVar("Q")
R = TypeVar("R")

logger: logging.Logger = logging.getLogger("flovyn.worker")

FaultPolicy = Literal["hold", "fail"]

# The history is skipped by prefix, so it is read as bytes; only what is new is ever decoded.
_RAW_EVENTS: Final = Method(methods.GET_EVENTS.path, pb.GetEventsRequest, bytes, methods.GET_EVENTS.shape)

# What the server says when the run is not this worker's any more: somebody else has it, or it has ended.
_LOST: Final = (FailedPrecondition, NotFound)

_EVENTS_AT_ONCE: Final = 1_000
"""How much of a history is read before the host's loop gets a turn: some milliseconds' worth."""

# What was worked out, and the effects behind it, are not thrown away for an outage of some seconds.
_OUTAGE: Final = Backoff()
_CALLS: Final = 8

_REREADS: Final = 5
_REREAD_SECONDS: Final = 0.05


@dataclass(frozen=True, slots=True)
class _Setup:
    """What every activation of a worker needs."""

    transport: Transport
    workflows: Mapping[str, Workflow[..., Any]]
    cancel_task: Callable[[str, str], None]
    on_fault: FaultPolicy
    step_limit: int


class Executions:
    """Runs activations, one at a time for each run.

    Args:
        transport: Carries the calls.
        workflows: The definitions, by whose kind runs are found.
        cancel_task: Cancels a task at once if it runs in this very worker; gets its id and the reason.
        on_fault: What becomes of a run whose code disagrees with its history: `hold` suspends it until a fixed
            deployment picks it up, `fail` ends it.
        cache_size: How many suspended runs are kept alive.
        step_limit: How many scheduler steps one activation may take.
    """

    def __init__(
        self,
        transport: Transport,
        workflows: Sequence[Workflow[..., Any]],
        *,
        cancel_task: Callable[[str, str], None],
        on_fault: FaultPolicy = "hold",
        cache_size: int = 1_000,
        step_limit: int = 100_000,
    ) -> None:
        by_kind = {workflow.kind: workflow for workflow in workflows}
        self._setup = _Setup(transport, by_kind, cancel_task, on_fault, step_limit)
        self._cache = ExecutionCache(cache_size)

    def close(self) -> None:
        """Evict every run that is kept alive."""
        self._cache.close()

    async def execute(self, polled: pb.WorkflowExecution, claim: Mapping[str, str]) -> None:
        """Run one activation and submit what it asks for.

        Args:
            polled: What the poll brought.
            claim: The metadata to send with every call for this work.

        Raises:
            TransportError: The connection is gone; the server will hand the run out again.
            FailedPrecondition: The run is not this worker's any more.
            NotFound: The server does not know it any more.
        """
        step = _Step(self._setup, self._cache.take(polled.id), polled, claim)
        try:
            await step.run()
        finally:
            # Kept alive only if its submission was accepted; whatever else happened, it is not to be trusted.
            if step.execution is not None and not step.reusable:
                step.execution.close()
        if step.execution is not None and step.reusable:
            self._cache.keep(polled.id, Cached(step.execution, step.applied))


class _Step:
    """One activation."""

    def __init__(
        self, setup: _Setup, cached: Cached | None, polled: pb.WorkflowExecution, claim: Mapping[str, str]
    ) -> None:
        self._setup = setup
        self._polled = polled
        self._claim = claim
        self._salt = secrets.token_hex(4)
        self.execution = None if cached is None else cached.execution
        self.applied = b"" if cached is None else cached.applied
        self.reusable = False
        self._raw = b""
        self._faulted = False

    async def run(self) -> None:
        await self._submit(await self._submission())

    # --- from the poll to a submission ------------------------------------------------------

    async def _submission(self) -> Submission:
        try:
            execution = await self._load()
            if execution.result is not None:
                await self._send_cancels(execution)
            activation = Activation(execution, at_ms=self._polled.workflow_task_time_millis, salt=self._salt)
            await drive(activation)
            return activation.submission()
        except DeterminismError as error:
            return self._faulty(error, self._setup.on_fault)
        except (TransportError, *_LOST) as error:
            if isinstance(error, MalformedMessage):
                return self._faulty(error, "hold")
            raise
        except Exception as error:  # noqa: BLE001 - there is nothing that it may not be
            # A fault of the SDK or of the server never fails a workflow: the activation is given up and tried again
            # later. Without a word the server would wait for it, since this worker lives.
            return self._faulty(error, "hold")

    def _faulty(self, error: Exception, policy: FaultPolicy) -> Submission:
        polled, at_ms = self._polled, self._polled.workflow_task_time_millis
        self._faulted = True
        logger.error("workflow %s %s cannot go on (%s): %s", polled.kind, polled.id, policy, error, exc_info=error)
        if policy == "fail":
            return fail(error, at_ms=at_ms, salt=self._salt)
        return hold(error, at_ms=at_ms, salt=self._salt, holds=self._holds())

    def _holds(self) -> int:
        try:
            events = coding.decode(pb.GetEventsResponse, self._raw).events
        except MalformedMessage:
            return 0
        return holds_before((event.event_type, event.event_data) for event in reversed(events))

    async def _load(self) -> Execution:
        """The run with all of its history applied that there is."""
        for _ in range(_REREADS):
            raw = await self._read()
            try:
                execution = await self._continued(raw) or await self._rebuilt(raw)
            except HistoryGap as gap:
                logger.warning("workflow %s: %s; reading it again", self._polled.id, gap)
                self._drop()
                await anyio.sleep(_REREAD_SECONDS)
            else:
                self.applied = raw
                return execution
        raise MalformedMessage(f"the history of workflow {self._polled.id} has a hole, however often it is read")

    async def _read(self) -> bytes:
        request = pb.GetEventsRequest(workflow_execution_id=self._polled.id)
        self._raw = (await self._call(_RAW_EVENTS, request)).message
        return self._raw

    async def _call(self, method: Method[Q, R], request: Q) -> Reply[R]:
        """Call for this run; again if the server was away for a moment, so that the call had no effect."""
        for attempt in range(_CALLS - 1):
            try:
                return await self._setup.transport.unary(method, request, metadata=self._claim)
            except ServerUnavailable as error:
                logger.info("workflow %s: %s; trying again", self._polled.id, error)
                await anyio.sleep(_OUTAGE.delay(attempt))
        return await self._setup.transport.unary(method, request, metadata=self._claim)

    async def _continued(self, raw: bytes) -> Execution | None:
        """The cached run, if the history that it has applied is a prefix of this one and ends with its own block."""
        execution = self.execution
        if execution is None or not raw.startswith(self.applied):
            return None
        await _apply(execution, raw[len(self.applied) :])
        return execution if execution.is_current else None

    async def _rebuilt(self, raw: bytes) -> Execution:
        polled = self._polled
        workflow = self._setup.workflows.get(polled.kind)
        if workflow is None:
            known = ", ".join(self._setup.workflows) or "none"
            raise DefinitionError(f"this worker was handed workflow kind {polled.kind!r}; it knows: {known}")
        self._drop()
        info = RunInfo(polled.id, polled.org_id, polled.kind, polled.queue, polled.input)
        self.execution = Execution(workflow, info, WorkflowContext, step_limit=self._setup.step_limit)
        await _apply(self.execution, raw)
        return self.execution

    def _drop(self) -> None:
        if self.execution is not None:
            self.execution.close()
            self.execution = None

    # --- from a submission to its consequences ----------------------------------------------

    async def _submit(self, submission: Submission) -> None:
        try:
            submission = await self._sent(submission)
        except ServerError as error:  # nothing of this activation has happened
            polled = self._polled
            logger.warning("workflow %s %s: the server refused the submission: %s", polled.kind, polled.id, error)
            return
        execution = self.execution
        if execution is None or self._faulted or submission.status is not Status.SUSPENDED:
            return
        if execution.owed():
            if not await self._counts(execution):
                return
            await self._send_cancels(execution)
        self.reusable = True

    async def _sent(self, submission: Submission) -> Submission:
        """Send it; what is too large for the wire fails the workflow. Returns what was accepted.

        What cannot be written, or is refused for what is in it, holds the workflow: it would be so every time.
        """
        try:
            await self._send(submission)
        except (TransportError, *_LOST):
            raise
        except PayloadTooLarge as error:
            polled = self._polled
            logger.error("workflow %s %s asks for too much at once: %s", polled.kind, polled.id, error)
            submission = fail(error, at_ms=polled.workflow_task_time_millis, salt=self._salt, failure_type="ERROR")
        except Exception as error:
            if self._faulted:
                raise
            submission = self._faulty(error, "hold")
        else:
            return submission
        await self._send(submission)
        return submission

    async def _send(self, submission: Submission) -> None:
        after = 0 if self.execution is None else self.execution.history.length
        request = submission_request(self._polled.id, submission, after=after)
        await self._call(methods.SUBMIT_WORKFLOW_COMMANDS, request)

    async def _counts(self, execution: Execution) -> bool:
        """Whether the submission that was just accepted is one that counts; a server that fences accepts no other."""
        if CLAIM in self._claim:
            return True
        raw = await self._read()
        if not raw.startswith(self.applied):
            return False
        try:
            await _apply(execution, raw[len(self.applied) :])
        except HistoryGap:
            return False
        self.applied = raw
        return execution.is_current

    async def _send_cancels(self, execution: Execution) -> None:
        """Tell the server, and this very worker, of every task that the program has given up (rule 8)."""
        for task_id in execution.owed():
            self._setup.cancel_task(task_id, "cancelled by its workflow")
            try:
                await self._setup.transport.unary(methods.CANCEL_TASK, pb.CancelTaskRequest(task_execution_id=task_id))
            except ServerError as error:
                # It has ended, or the server does not know it: either way there is nothing left to cancel.
                logger.debug("CancelTask %s was refused: %s", task_id, error)
            execution.answered[task_id] = None


async def _apply(execution: Execution, raw: bytes) -> None:
    """Load the events in a (piece of a) GetEvents response; the concatenation of messages is a message."""
    events = coding.decode(pb.GetEventsResponse, raw).events
    for first in range(0, len(events), _EVENTS_AT_ONCE):
        if first:
            await anyio.lowlevel.checkpoint()
        execution.load(
            read_event(event.sequence_number, event.event_type, event.event_data)
            for event in events[first : first + _EVENTS_AT_ONCE]
        )
