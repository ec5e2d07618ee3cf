"""Claiming tasks, and the tasks that run."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import anyio

from flovyn.errors import DefinitionError
from flovyn.serde.envelope import format_error
from flovyn.wire import methods
from flovyn.wire.messages.flovyn import v1 as pb
from flovyn.worker.claimed import ClaimedTask
from flovyn.worker.claims import claim_of, claim_of_more, wanting
from flovyn.worker.report import WorkItem
from flovyn.worker.task_kit import TaskKit

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from flovyn.definitions import Task
    from flovyn.serde.chain import CodecChain
    from flovyn.task import CancelCause, Resources
    from flovyn.wire.transport import Transport
    from flovyn.worker.options import WorkerOptions
    from flovyn.worker.polling import PollIdentity
    from flovyn.worker.report import Ledger
    from flovyn.worker.reports import Reporter
    from flovyn.worker.slots import Slot
    from flovyn.worker.statistics import Gauges

__all__ = ["PolledTask", "TaskRunner"]


class PolledTask(NamedTuple):
    """A task as a poll brings it, with the metadata to send with every call for it."""

    info: pb.TaskExecutionInfo
    claim: Mapping[str, str]


class TaskRunner:
    """Claims tasks and runs them."""

    def __init__(  # noqa: PLR0913 - the parts of a worker, by name
        self,
        transport: Transport,
        tasks: Sequence[Task[..., Any]],
        *,
        codecs: CodecChain,
        identity: PollIdentity,
        reporter: Reporter,
        ledger: Ledger,
        resources: Resources,
        options: WorkerOptions,
        gauges: Gauges,
    ) -> None:
        self._transport = transport
        self._definitions = {task.kind: task for task in tasks}
        self._identity = identity
        self._running: dict[ClaimedTask, None] = {}
        self._stopping: str | None = None
        self._kit = TaskKit(
            transport=transport,
            codecs=codecs,
            reporter=reporter,
            ledger=ledger,
            gauges=gauges,
            # Bodies in threads share their limit with nobody, and their slots are limit enough: a thread that was
            # abandoned must not keep the next one from starting.
            threads=anyio.CapacityLimiter(math.inf),
            resources=resources,
            heartbeat_interval=options.task_heartbeat_interval,
            abandon_after=options.abandon_after,
            given_up=self._leave,
        )

    async def poll(self, at_most: int) -> list[PolledTask]:
        """Ask the server for so many tasks once."""
        reply = await self._transport.unary(
            methods.POLL_TASK,
            pb.PollTaskRequest(
                worker_id=self._identity.worker_id,
                org_id=self._identity.org_id,
                queue=self._identity.queue,
                timeout_seconds=self._identity.seconds,
            ),
            metadata=wanting(at_most),
        )
        info = reply.message.task
        if info is None:
            return []
        more = [PolledTask(other, claim_of_more(other.claim)) for other in reply.message.more]
        return [PolledTask(info, claim_of(reply.metadata)), *more]

    def cancel(self, task_id: str, reason: str) -> None:
        """End a task at once, if it runs here. The server knows already."""
        self._end_claims_of(task_id, reason, "cancelled")

    def workflow_ended(self, workflow_id: str) -> None:
        """End the tasks of a workflow at once: with its end, the server has cancelled those that were open."""
        for task in [*self._running]:
            if task.workflow_id == workflow_id:
                task.end("its workflow has ended", "cancelled")

    def lose_all(self, reason: str) -> None:
        """End all tasks: the server has given them to others."""
        for task in [*self._running]:
            task.end(reason, "lost")

    def stop_all(self, reason: str) -> None:
        """End all tasks, and each that is still to begin."""
        self._stopping = reason
        for task in [*self._running]:
            task.end(reason, "stopping", lost=False)

    async def run(self, work: PolledTask, slot: Slot) -> None:
        """Run a task to its end."""
        info, claim = work
        definition = self._definitions.get(info.kind)
        if definition is None:
            await self._refuse(info, claim)
            return
        # Should it have been given to this worker twice, the first claim is void.
        self._end_claims_of(info.task_execution_id, "the task was claimed again", "lost")
        task = ClaimedTask(info, claim, definition, self._kit, slot)
        self._running[task] = None
        self._kit.gauges.add("running_tasks", 1)
        if self._stopping is not None:
            task.end(self._stopping, "stopping", lost=False)
        try:
            await task.run()
        finally:
            self._leave(task)

    def _leave(self, task: ClaimedTask) -> None:
        if task in self._running:
            del self._running[task]
            self._kit.gauges.add("running_tasks", -1)

    def _end_claims_of(self, task_id: str, reason: str, cause: CancelCause) -> None:
        for task in [*self._running]:
            if task.task_id == task_id:
                task.end(reason, cause)

    async def _refuse(self, info: pb.TaskExecutionInfo, claim: Mapping[str, str]) -> None:
        fault = DefinitionError(f"Task kind not found: {info.kind}")
        with self._kit.gauges.count("running_tasks"):
            await self._kit.reporter.fail(info.task_execution_id, format_error(fault), claim)
        self._kit.ledger.finished(WorkItem("task", info.kind, info.task_execution_id))
