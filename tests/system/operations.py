"""What the tests of operations share: a server, a client and a worker, and a last word on each run's history."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import anyio

import flovyn
from flovyn import Client, Task, Worker, WorkflowHandle
from flovyn.server import serve
from flovyn.testing import History, Replayer
from flovyn.wire import methods
from flovyn.wire.messages.flovyn import v1 as pb

R = TypeVar("R")


@dataclass(frozen=True)
class World:
    """A running server with one worker.

    Attributes:
        client: Connected to it.
        replayer: Knows the worker's workflows.
    """

    client: Client
    replayer: Replayer

    async def result(self, handle: WorkflowHandle[R]) -> R:
        """The result of a workflow, or its error; its whole history replays as it was."""
        outcome: R | flovyn.ExecutionError
        try:
            outcome = await handle.result()
        except flovyn.ExecutionError as error:
            outcome = error
        await self.check(handle.id)
        if isinstance(outcome, flovyn.ExecutionError):
            raise outcome
        return outcome

    async def check(self, workflow_id: str) -> None:
        """The code makes of the history what it made of it when it was written."""
        report = self.replayer.replay(await History.fetch(self.client, workflow_id))
        assert report.status == "equal", str(report)

    async def until(
        self, handle: WorkflowHandle[Any], holds: Callable[[list[flovyn.HistoryEvent]], object]
    ) -> list[flovyn.HistoryEvent]:
        """The history of a workflow, as soon as something is true of it."""
        while True:
            history = await handle.history()
            if holds(history):
                return history
            await anyio.sleep(0.005)

    async def promise(self, handle: WorkflowHandle[Any], name: str) -> str:
        """The id that the server has given a promise."""

        def ids(history: list[flovyn.HistoryEvent]) -> list[str]:
            created = [event.data for event in history if event.type == "PROMISE_CREATED"]
            return [data["promiseId"] for data in created if data["promiseName"] == name]

        return ids(await self.until(handle, ids))[0]

    async def resolve(self, handle: WorkflowHandle[Any], name: str, value: bytes) -> None:
        request = pb.ResolvePromiseRequest(promise_id=await self.promise(handle, name), value=value)
        await self.client.transport.unary(methods.RESOLVE_PROMISE, request)

    async def reject(self, handle: WorkflowHandle[Any], name: str, error: str) -> None:
        request = pb.RejectPromiseRequest(promise_id=await self.promise(handle, name), error=error)
        await self.client.transport.unary(methods.REJECT_PROMISE, request)

    async def signal(self, handle: WorkflowHandle[Any], name: str, value: bytes) -> None:
        request = pb.SignalWorkflowRequest(
            org_id=self.client.org_id, workflow_execution_id=handle.id, signal_name=name, signal_value=value
        )
        await self.client.transport.unary(methods.SIGNAL_WORKFLOW, request)


@asynccontextmanager
async def world(
    workflows: Sequence[Any], tasks: Sequence[Task[..., Any]] = (), *, cache_size: int = 1_000, **options: Any
) -> AsyncGenerator[World]:
    """A server and a worker for the length of a block, which ends within 20 seconds and leaves nothing running."""
    with anyio.fail_after(20):
        async with serve() as server, flovyn.connect(server.url, org_id=server.org_id, token=server.token) as client:
            worker = Worker(client, workflows=workflows, tasks=tasks, cache_size=cache_size, grace=1.0, **options)
            async with worker:
                yield World(client, Replayer(workflows))
    idle = worker.statistics()
    assert (idle.running_workflows, idle.running_tasks, idle.open_polls, idle.internal_tasks) == (0, 0, 0, 0)


def kinds(history: list[flovyn.HistoryEvent], *wanted: str) -> list[str]:
    """The types of events of a history, those that are asked about."""
    return [event.type for event in history if event.type in wanted]
