"""Running task bodies: one scope for each, with its heartbeat beside it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import anyio

from flovyn.errors import CodecError, DefinitionError, FailedPrecondition, FlovynError, NotFound, Unimplemented
from flovyn.serde.envelope import format_error
from flovyn.task import Cancellation, TaskContext
from flovyn.wire import methods
from flovyn.wire.messages.flovyn import v1 as pb
from flovyn.wire.payloads import decoded
from flovyn.worker.bodies import Failure, Value, run_body
from flovyn.worker.claims import claim_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from flovyn.definitions import Task
    from flovyn.serde.chain import CodecChain
    from flovyn.wire.transport import Transport
    from flovyn.worker.polling import PollIdentity
    from flovyn.worker.reports import Reporter
    from flovyn.worker.statistics import Gauges

__all__ = ["ClaimedTask", "TaskRunner"]

logger: logging.Logger = logging.getLogger("flovyn.worker")


class ClaimedTask:
    """One task that is this worker's, until it is reported or lost."""

    __slots__ = ("cancellation", "claim", "info", "lost", "scope")

    def __init__(self, info: pb.TaskExecutionInfo, claim: Mapping[str, str]) -> None:
        self.info: pb.TaskExecutionInfo = info
        self.claim: Mapping[str, str] = claim
        self.cancellation: Cancellation = Cancellation()
        self.scope: anyio.CancelScope = anyio.CancelScope()
        self.lost: bool = False  # the server has ended it or given it away: there is nothing left to report

    @property
    def id(self) -> str:
        return self.info.task_execution_id

    def lose(self, reason: str) -> None:
        """End the body at once; its outcome interests nobody any more."""
        self.lost = True
        self.cancellation.request(reason)
        self.scope.cancel(reason)

    def next_scope(self) -> anyio.CancelScope:
        """A new scope for the next thing that is done for the task, which `lose` then ends."""
        self.scope = anyio.CancelScope()
        if self.lost:
            self.scope.cancel(self.cancellation.reason)
        return self.scope


class TaskRunner:
    """Claims tasks and runs them."""

    __slots__ = (
        "_codecs",
        "_definitions",
        "_gauges",
        "_heartbeat_interval",
        "_identity",
        "_reporter",
        "_running",
        "_transport",
    )

    def __init__(
        self,
        transport: Transport,
        tasks: Sequence[Task[..., Any]],
        *,
        codecs: CodecChain,
        identity: PollIdentity,
        reporter: Reporter,
        heartbeat_interval: float,
        gauges: Gauges,
    ) -> None:
        self._transport = transport
        self._definitions = {task.kind: task for task in tasks}
        self._codecs = codecs
        self._identity = identity
        self._reporter = reporter
        self._heartbeat_interval = heartbeat_interval
        self._gauges = gauges
        self._running: dict[ClaimedTask, None] = {}

    async def poll(self) -> ClaimedTask | None:
        """Ask the server for a task once; None if there is none."""
        reply = await self._transport.unary(
            methods.POLL_TASK,
            pb.PollTaskRequest(
                worker_id=self._identity.worker_id,
                org_id=self._identity.org_id,
                queue=self._identity.queue,
                timeout_seconds=self._identity.seconds,
            ),
        )
        info = reply.message.task
        return None if info is None else ClaimedTask(info, claim_of(reply.metadata))

    def cancel(self, task_id: str, reason: str) -> None:
        """End a task's body at once, if it runs here. The server knows already."""
        for task in self._running:
            if task.id == task_id:
                task.lose(reason)

    def lose_all(self, reason: str) -> None:
        """End all bodies: the server has given their tasks to others."""
        for task in self._running:
            task.lose(reason)

    def announce(self, reason: str) -> None:
        """Say why, before the scopes of all bodies are cancelled from outside."""
        for task in self._running:
            task.cancellation.request(reason)

    async def run(self, task: ClaimedTask) -> None:
        """Run a task, as often as its policy says, and report how it ended."""
        # Should it have been given to this worker twice, the first claim is void.
        self.cancel(task.id, "the task was claimed again")
        self._running[task] = None
        try:
            with self._gauges.count("running_tasks"):
                await self._run(task)
        finally:
            del self._running[task]

    async def _run(self, task: ClaimedTask) -> None:
        definition = self._definitions.get(task.info.kind)
        if definition is None:
            fault = DefinitionError(f"Task kind not found: {task.info.kind}")
            await self._reporter.fail(task.id, format_error(fault), task.claim)
            return
        async with anyio.create_task_group() as beside:
            beside.start_soon(self._heartbeat, task)
            outcome = await self._unread(task) or await _outcome(definition, task)
            beside.cancel_scope.cancel()
            # In the group still (the report is shielded): should the worker be cancelled, leaving the group may raise.
            await self._report(task, outcome)

    async def _unread(self, task: ClaimedTask) -> Failure | None:
        """Decode the input; a failure if that cannot be done here, though perhaps in another worker."""
        try:
            with task.next_scope():
                task.info = await decoded(task.info, self._codecs)
        except CodecError as fault:
            return Failure(format_error(fault), final=False)
        return None

    async def _report(self, task: ClaimedTask, outcome: Value | Failure | None) -> None:
        # An error that a cancelled body ends with is the cancellation's, not the task's.
        cut_short = isinstance(outcome, Failure) and task.cancellation.reason is not None
        if outcome is None or task.lost or cut_short:
            logger.info("task %s (%s) was cancelled: %s", task.id, task.info.kind, task.cancellation.reason)
        elif isinstance(outcome, Value):
            await self._reporter.complete(task.id, outcome.output, task.claim)
        else:
            await self._reporter.fail(task.id, outcome.text, task.claim)

    async def _heartbeat(self, task: ClaimedTask) -> None:
        request = pb.HeartbeatRequest(task_execution_id=task.id)
        with self._gauges.count("internal_tasks"):
            while True:
                await anyio.sleep(self._heartbeat_interval)
                try:
                    await self._transport.unary(methods.HEARTBEAT, request, metadata=task.claim)
                except (FailedPrecondition, NotFound) as refusal:
                    task.lose(refusal.message)
                    return
                except Unimplemented:
                    return
                except FlovynError as error:
                    # Whether the server is away is the session's business.
                    logger.debug("no heartbeat for task %s: %s", task.id, error)


async def _outcome(definition: Task[..., Any], task: ClaimedTask) -> Value | Failure | None:
    """Make the attempts that the task's policy allows, in this one claim; None if the task was cancelled."""
    retry = definition.retry
    attempt = task.info.execution_count  # a claim that a dead worker had was an attempt too
    while True:
        outcome = await run_body(definition, _context(task, attempt), task.info.input, task.next_scope())
        if retry is None or not isinstance(outcome, Failure) or task.cancellation.reason is not None:
            return outcome
        if outcome.final or attempt >= retry.max_attempts:
            return outcome
        wait = retry.delay(attempt)
        text = "task %s (%s): attempt %d of %d failed, the next one begins in %.2f s"
        logger.info(text, task.id, task.info.kind, attempt, retry.max_attempts, wait)
        with task.next_scope() as scope:
            await anyio.sleep(wait)
        if scope.cancelled_caught:
            return None
        attempt += 1


def _context(task: ClaimedTask, attempt: int) -> TaskContext:
    info = task.info
    return TaskContext(
        task_execution_id=info.task_execution_id,
        kind=info.kind,
        attempt=attempt,
        queue=info.queue,
        workflow_execution_id=info.workflow_execution_id or None,
        cancellation=task.cancellation,
    )
