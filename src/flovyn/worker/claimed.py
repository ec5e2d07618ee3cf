"""A task from its claim to its end: its attempts, its heartbeat, its pump, in a nursery of its own."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final, NoReturn

import anyio

from flovyn.client import Backoff
from flovyn.errors import CodecError, FailedPrecondition, FlovynError, NotFound, Unimplemented
from flovyn.serde.envelope import format_error
from flovyn.task.pump import Pump
from flovyn.task.wire import WireDesk
from flovyn.wire import methods
from flovyn.wire.messages.flovyn import v1 as pb
from flovyn.wire.payloads import decoded
from flovyn.worker.attempt import Attempt
from flovyn.worker.bodies import Failure, Value, late_failure, run_body
from flovyn.worker.report import WorkItem

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from anyio.abc import TaskGroup

    from flovyn.definitions import Task
    from flovyn.task import CancelCause
    from flovyn.task.facts import Facts
    from flovyn.worker.bodies import Outcome
    from flovyn.worker.slots import Slot
    from flovyn.worker.task_kit import TaskKit

__all__ = ["ClaimedTask"]

logger: logging.Logger = logging.getLogger("flovyn.worker")

_PAUSES: Final = Backoff(initial=0.1, maximum=2.0)

_LAST_WORDS: Final = 1.0
"""Seconds for which the outcome of a task waits until what its body said is sent."""


class ClaimedTask:
    """One task that is this worker's, until it is reported, lost or given up.

    Args:
        info: What the poll brought.
        claim: The metadata to send with every call for it.
        definition: Its definition.
        kit: What all tasks of the worker share.
        slot: Its slot, taken or waited for.
    """

    def __init__(
        self,
        info: pb.TaskExecutionInfo,
        claim: Mapping[str, str],
        definition: Task[..., Any],
        kit: TaskKit,
        slot: Slot,
    ) -> None:
        self._info = info
        self._claim = claim
        self._definition = definition
        self._kit = kit
        self._slot = slot
        self._scope = anyio.CancelScope()
        self._attempt: Attempt | None = None
        self._ended: tuple[str, CancelCause] | None = None
        self._lost = False  # the server has ended it or given it away: there is nothing left to report
        self._abandoned = False  # a body went on for too long after it was cancelled
        self._given_up = False  # it was an asynchronous one, so nobody waits for what comes of it
        self._notes: dict[str, bytes] = {}
        self._nursery: TaskGroup
        self._pump: Pump | None = None  # there once the body has said something

    @property
    def task_id(self) -> str:
        """The id of the task."""
        return self._info.task_execution_id

    @property
    def workflow_id(self) -> str:
        """The workflow execution that has scheduled it; empty if it stands alone."""
        return self._info.workflow_execution_id

    def end(self, reason: str, cause: CancelCause, *, lost: bool = True) -> None:
        """End the task early.

        Args:
            reason: Why.
            cause: What sort of reason that is.
            lost: Whether the server has no use for an outcome any more.
        """
        self._lost = self._lost or lost
        if cause == "cancelled" and not self._definition.cancellable:
            logger.info("task %s is not cancellable and goes on: %s", self._name, reason)
            return
        if self._ended is None:
            self._ended = (reason, cause)
            self._scope.cancel(reason)
            if self._attempt is not None:
                self._cut_short(self._attempt, reason, cause)

    async def run(self) -> None:
        """Run it, as often as its policy says, and report how it ended."""
        async with anyio.create_task_group() as self._nursery:
            self._nursery.start_soon(self._keep_alive)
            try:
                outcome = await self._outcome()
                if self._given_up:
                    logger.warning("the body of task %s, which was abandoned, has ended after all", self._name)
                else:
                    await self._conclude(outcome)
            finally:
                if self._pump is not None:
                    self._pump.close()
                self._nursery.cancel_scope.cancel()

    # --- attempts ---------------------------------------------------------------------------

    async def _outcome(self) -> Outcome:
        """Make the attempts that the policy allows, in this one claim; None if the task was cut short."""
        unread = await self._read_input()
        if unread is not None:
            return unread
        number = self._info.execution_count  # a claim that a dead worker had was an attempt too
        retry = self._definition.retry
        while True:
            if not self._slot.is_held:
                with self._next_scope():
                    await self._slot.held()
            if self._is_ended():
                return None
            outcome = await self._make(number)
            if retry is None or not isinstance(outcome, Failure) or self._is_ended():
                return outcome
            if self._given_up or self._lost:
                return outcome
            if outcome.final or number >= retry.max_attempts:
                return outcome
            wait = retry.delay(number)
            text = "task %s: attempt %d of %d failed, the next one begins in %.2f s"
            logger.info(text, self._name, number, retry.max_attempts, wait)
            self._slot.release()
            with self._next_scope():
                await anyio.sleep(wait)
            number += 1
            self._slot.claim()

    async def _read_input(self) -> Failure | None:
        """Decode the input; a failure if that cannot be done here, though perhaps in another worker."""
        try:
            with self._next_scope():
                self._info = await decoded(self._info, self._kit.codecs)
        except CodecError as fault:
            return Failure(format_error(fault), final=False)
        return None

    async def _make(self, number: int) -> Outcome:
        attempt = self._attempt = Attempt(number, self._definition)
        if attempt.has_limits:
            self._nursery.start_soon(self._keep_limits, attempt)
        try:
            return await run_body(self._definition, self._info.input, attempt, self, self._kit.threads)
        finally:
            self._attempt = None
            attempt.over.set()

    def _next_scope(self) -> anyio.CancelScope:
        """A scope for the next wait, which `end` ends."""
        self._scope = anyio.CancelScope()
        if self._ended is not None:
            self._scope.cancel(self._ended[0])
        return self._scope

    async def _keep_limits(self, attempt: Attempt) -> None:
        """End an attempt that is over its time, or that has not said for too long that it gets on."""
        while not attempt.over.is_set():
            due, limit = attempt.due()
            if due <= anyio.current_time():
                attempt.late = limit
                self._cut_short(attempt, attempt.limit_text(), "timeout")
                return
            with anyio.CancelScope(deadline=due):
                await attempt.over.wait()

    def _cut_short(self, attempt: Attempt, reason: str, cause: CancelCause) -> None:
        if attempt.cancellation.reason is None:
            attempt.cancel(reason, cause)
            self._nursery.start_soon(self._see_off, attempt)

    # --- bodies that do not end -------------------------------------------------------------

    async def _see_off(self, attempt: Attempt) -> None:
        """Wait for a body that was cancelled, for a bounded time, and abandon it then."""
        patience = self._kit.abandon_after
        with anyio.move_on_after(patience):
            await attempt.over.wait()
        if attempt.over.is_set():
            return
        reason = f"its body went on for {patience:g} s after it was cancelled: {attempt.cancellation.reason}"
        self._abandoned = True
        self._kit.ledger.abandoned(attempt, self._item(reason))
        if attempt.abandon():
            advice = "Its thread goes on: a body in a thread has to call its context now and then"
            logger.error("task %s is abandoned: %s. %s", self._name, reason, advice)
            return
        advice = "The worker cannot end before it does: a body must not swallow its cancellation"
        logger.error("task %s is abandoned: %s. %s", self._name, reason, advice)
        await self._give_up(attempt)

    async def _give_up(self, attempt: Attempt) -> None:
        """Let go of everything that an asynchronous body holds which nothing can end, but of the body itself."""
        self._given_up = True
        self._kit.given_up(self)
        self._slot.close()
        if attempt.late is not None and self._ended is None:
            # No further attempt: two of them would run at once.
            await self._drain()
            await self._kit.reporter.fail(self.task_id, late_failure(self._definition, attempt).text, self._claim)
        elif self._pump is not None:
            self._pump.close()

    # --- the end ----------------------------------------------------------------------------

    async def _conclude(self, outcome: Outcome) -> None:
        # An error that a cancelled body ends with is the cancellation's, not the task's.
        if outcome is None or self._lost or (isinstance(outcome, Failure) and self._is_ended()):
            reason = "it was lost" if self._ended is None else self._ended[0]
            logger.info("task %s was cancelled: %s", self._name, reason)
            if not self._abandoned:
                self._kit.ledger.cancelled(self._item(reason))
            return
        # Whatever ends the worker: the work is done. Both waits are bounded, and short once the worker stops.
        with anyio.CancelScope(shield=True):
            await self._report(outcome)

    async def _report(self, outcome: Value | Failure) -> None:
        # First what the body said: who reads along stops reading when the task has ended.
        await self._drain()
        if isinstance(outcome, Value):
            told = await self._kit.reporter.complete(self.task_id, outcome.output, self._claim)
        else:
            told = await self._kit.reporter.fail(self.task_id, outcome.text, self._claim)
        if told:
            self._kit.ledger.finished(self._item())
        else:
            self._kit.ledger.cancelled(self._item("its end could not be reported"))

    async def _drain(self) -> None:
        if self._pump is not None:
            await self._pump.drain(_LAST_WORDS)

    # --- beside the body --------------------------------------------------------------------

    async def _keep_alive(self) -> None:
        """Tell the server that the task is alive, until it does not want to hear of it any more."""
        request = pb.HeartbeatRequest(task_execution_id=self.task_id)
        with self._kit.gauges.count("internal_tasks"):
            while True:
                await anyio.sleep(self._kit.heartbeat_interval)
                if self._given_up:
                    return
                try:
                    await self._kit.transport.unary(methods.HEARTBEAT, request, metadata=self._claim)
                except (FailedPrecondition, NotFound) as refusal:
                    self.end(refusal.message, "cancelled")
                    return
                except Unimplemented:
                    return
                except FlovynError as error:
                    # Whether the server is away is the session's business.
                    logger.debug("no heartbeat for task %s: %s", self.task_id, error)

    def _get_pump(self) -> Pump:
        if self._pump is None:
            self._pump = Pump(self._kit.transport, self.task_id, self._claim, start=self._start, pause=_PAUSES.delay)
        return self._pump

    def _start(self, function: Callable[[], Any]) -> None:
        self._nursery.start_soon(self._counted, function)

    async def _counted(self, function: Callable[[], Any]) -> NoReturn:
        with self._kit.gauges.count("internal_tasks"):
            await function()
        raise AssertionError("a pump runs until it is cancelled")

    # --- for the context --------------------------------------------------------------------

    def desk(self, attempt: Attempt) -> WireDesk:
        return WireDesk(
            self._kit.transport,
            self.task_id,
            self._info.workflow_execution_id,
            self._claim,
            pump=self._get_pump,
            notes=self._notes,
            beat=attempt.beat,
            pause=_PAUSES.delay,
        )

    def facts(self, attempt: Attempt, arguments: Any) -> Facts:
        return {
            "attempt": attempt.number,
            "queue": self._info.queue,
            "workflow_execution_id": self._info.workflow_execution_id or None,
            "arguments": arguments,
            "cancellation": attempt.cancellation,
            "resources": self._kit.resources,
        }

    def _is_ended(self) -> bool:
        return self._ended is not None

    @property
    def _name(self) -> str:
        return f"{self.task_id} ({self._info.kind})"

    def _item(self, reason: str | None = None) -> WorkItem:
        return WorkItem("task", self._info.kind, self.task_id, reason)
