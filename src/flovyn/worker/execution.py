"""From a poll to an accepted submission: the runs of a worker, and those that it keeps alive between activations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flovyn.errors import DefinitionError
from flovyn.replay import Execution, RunInfo
from flovyn.replay.tripwires import watching
from flovyn.worker.cache import Cached, ExecutionCache
from flovyn.worker.cancels import send_cancels
from flovyn.worker.growth import LongHistories
from flovyn.worker.runs import Run
from flovyn.worker.step import Step
from flovyn.workflow import WorkflowContext

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import NoReturn

    from flovyn.definitions import Workflow
    from flovyn.serde.chain import CodecChain
    from flovyn.wire.messages.flovyn import v1 as pb
    from flovyn.wire.transport import Transport
    from flovyn.worker.options import WorkerOptions

__all__ = ["Executions"]


class Executions:
    """Runs activations, one at a time for each run.

    Args:
        transport: Carries the calls.
        workflows: The definitions, by whose kind runs are found.
        codecs: What decodes the payloads of histories and inputs.
        cancel_task: Cancels a task at once if it runs in this very worker; gets its id and the reason.
        workflow_ended: Told of each workflow whose end was accepted, by its id.
        options: How the worker works.
    """

    def __init__(
        self,
        transport: Transport,
        workflows: Sequence[Workflow[..., Any]],
        *,
        codecs: CodecChain,
        cancel_task: Callable[[str, str], None],
        workflow_ended: Callable[[str], None],
        options: WorkerOptions,
    ) -> None:
        self._transport = transport
        self._workflows = {workflow.kind: workflow for workflow in workflows}
        self._codecs = codecs
        self._cancel_task = cancel_task
        self._workflow_ended = workflow_ended
        self._options = options
        self._tripwires = watching(workflows, options.tripwires)
        self._cache = ExecutionCache(options.cache_size, age=options.cache_age)
        self._long = LongHistories()

    def close(self) -> None:
        """Evict every run that is kept alive."""
        self._cache.close()

    async def keep_young(self) -> NoReturn:
        """Evict the runs that are not used for too long, until cancelled."""
        await self._cache.keep_young()

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
        run = Run(self._transport, self._cache.take(polled.id), polled, claim, self._codecs, self._make)
        private = bool(self._codecs.names)
        step = Step(
            run,
            self._options.on_violation,
            self._send_cancels,
            self._long,
            ended=self._workflow_ended,
            private=private,
        )
        reusable = False
        try:
            reusable = await step.run()
        finally:
            # Kept alive only if its submission was accepted; whatever else happened, it is not to be trusted.
            if not reusable:
                run.drop()
        if run.execution is not None:
            self._cache.keep(polled.id, Cached(run.execution, run.applied))

    def _make(self, polled: pb.WorkflowExecution) -> Execution:
        workflow = self._workflows.get(polled.kind)
        if workflow is None:
            known = ", ".join(self._workflows) or "none"
            raise DefinitionError(f"this worker was handed workflow kind {polled.kind!r}; it knows: {known}")
        info = RunInfo(polled.id, polled.org_id, polled.kind, polled.queue, polled.input)
        return Execution(
            workflow, info, WorkflowContext, step_limit=self._options.step_limit, tripwires=self._tripwires
        )

    async def _send_cancels(self, task_ids: Sequence[str]) -> list[str]:
        return await send_cancels(self._transport, task_ids, cancel_here=self._cancel_task)
