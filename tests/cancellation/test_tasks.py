"""How soon the body of a task ends whose workflow, in the same worker, does not want it any more."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import anyio
import anyio.lowlevel
import pytest

from flovyn import Client, TaskContext, Worker, WorkflowContext, WorkflowFailed, task, workflow
from flovyn.testing import Environment, environment
from flovyn.wire import methods
from flovyn.wire.messages.flovyn import v1 as pb
from flovyn.wire.transport import NO_METADATA, Method, Reply, Transport

pytestmark = pytest.mark.anyio

Q = TypeVar("Q")
R = TypeVar("R")

LIMIT_S = 10
NEVER_S = 50.0
"""No heartbeat of a task tells it anything in these tests."""


class Watching:
    """A transport that tells of each submission that was accepted, in the moment in which the worker learns of it."""

    def __init__(self, transport: Transport, accepted: Callable[[pb.WorkflowStatus], None]) -> None:
        self._transport = transport
        self._accepted = accepted

    async def unary(self, method: Method[Q, R], request: Q, *, metadata: Mapping[str, str] = NO_METADATA) -> Reply[R]:
        reply = await self._transport.unary(method, request, metadata=metadata)
        if isinstance(request, pb.SubmitWorkflowCommandsRequest):
            self._accepted(request.status)
        return reply

    def server_stream(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError

    async def client_stream(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError


class Busy:
    """The body of a task that goes from checkpoint to checkpoint."""

    def __init__(self) -> None:
        self.begun = anyio.Event()
        self.checkpoints = 0
        self.at: list[int] = []  # where it was when the submissions behind its begin were accepted
        self.ended: list[tuple[int, str | None, str | None]] = []

    def note(self, status: pb.WorkflowStatus) -> None:
        if self.begun.is_set():
            self.at.append(self.checkpoints)

    async def run(self, ctx: TaskContext) -> None:
        self.begun.set()
        try:
            while True:
                await anyio.lowlevel.checkpoint()
                self.checkpoints += 1
        finally:
            self.ended.append((self.checkpoints, ctx.cancel_cause, ctx.cancel_reason))


@asynccontextmanager
async def busy(*workflows: Any) -> AsyncGenerator[tuple[Environment, Busy]]:
    """A worker that runs these workflows, and a task of the kind "busy"."""
    body = Busy()

    @task(kind="busy")
    async def run(ctx: TaskContext) -> None:
        await body.run(ctx)

    with anyio.fail_after(LIMIT_S):
        async with environment() as env:

            @asynccontextmanager
            async def dial() -> AsyncGenerator[Transport]:
                async with env.client.connection() as transport:
                    yield Watching(transport, body.note)

            client = Client(env.client.transport, org_id=env.org_id, dial=dial)
            async with Worker(
                client, workflows=workflows, tasks=[run], task_heartbeat_interval=NEVER_S, grace=0.0
            ) as worker:
                yield env, body
                while worker.statistics().running_tasks:
                    await anyio.lowlevel.checkpoint()


async def signal(env: Environment, workflow_id: str) -> None:
    request = pb.SignalWorkflowRequest(
        org_id=env.org_id, workflow_execution_id=workflow_id, signal_name="enough", signal_value=b"null"
    )
    await env.client.transport.unary(methods.SIGNAL_WORKFLOW, request)


@task(kind="busy")
async def busy_task(ctx: TaskContext) -> None:
    raise AssertionError("`busy` has the body")


@workflow
async def gives_up(ctx: WorkflowContext) -> None:
    async with anyio.create_task_group() as tg:
        tg.create_task(ctx.schedule(busy_task))
        await ctx.wait_for_signal("enough")
        tg.cancel_scope.cancel()
    await ctx.wait_for_signal("end")


@workflow
async def fails(ctx: WorkflowContext) -> None:
    ctx.schedule_async(busy_task)
    await ctx.wait_for_signal("enough")
    raise ValueError("no")


async def test_a_task_that_is_given_up_comes_to_one_checkpoint_more() -> None:
    async with busy(gives_up) as (env, body):
        handle = await env.client.start(gives_up)
        await body.begun.wait()
        await signal(env, handle.id)
        while not body.ended:
            await anyio.lowlevel.checkpoint()
        ((ended, cause, reason),) = body.ended
        assert (cause, reason) == ("cancelled", "cancelled by its workflow")
        assert ended - body.at[-1] <= 1


async def test_so_does_one_whose_workflow_has_ended_without_it() -> None:
    async with busy(fails) as (env, body):
        handle = await env.client.start(fails)
        await body.begun.wait()
        await signal(env, handle.id)
        with pytest.raises(WorkflowFailed, match="no"), env.clock.passing():
            await handle.result()
        while not body.ended:
            await anyio.lowlevel.checkpoint()
        ((ended, cause, reason),) = body.ended
        assert (cause, reason) == ("cancelled", "its workflow has ended")
        assert ended - body.at[-1] <= 1
