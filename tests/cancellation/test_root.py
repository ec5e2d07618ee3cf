"""A workflow whose root scope is cancelled: by whom, when, and how it may end."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

import flovyn
from flovyn import (
    Client,
    TaskContext,
    Worker,
    Workflow,
    WorkflowCancelled,
    WorkflowContext,
    WorkflowFailed,
    WorkflowHandle,
    task,
    workflow,
)
from rest.rest_world import ACME, Rest, rest

pytestmark = pytest.mark.anyio
LIMIT_S = 10


@task
async def double(ctx: TaskContext, number: int) -> int:
    return 2 * number


@workflow
async def waits(ctx: WorkflowContext) -> None:
    ctx.set("begun", True)
    await ctx.schedule(double, 1)
    await ctx.wait_for_signal("never")


@workflow
async def returns_all_the_same(ctx: WorkflowContext) -> str:
    try:
        await ctx.wait_for_signal("never")
    except anyio.get_cancelled_exc_class() as cancelled:  # noqa: ASYNC103 - that is what is tested
        return f"I had it all along ({cancelled})"  # noqa: ASYNC104
    return ""


@workflow
async def fails_to_clean_up(ctx: WorkflowContext) -> None:
    try:
        await ctx.wait_for_signal("never")
    finally:
        raise ValueError("the tap is broken")


@workflow
async def cleans_up(ctx: WorkflowContext, *, for_ever: bool) -> None:
    done: list[int] = []
    try:
        await ctx.wait_for_signal("never")
    finally:
        with anyio.CancelScope(shield=True):
            for number in range(3):
                done.append(await ctx.schedule(double, number))
                await anyio.sleep(0.001)
            ctx.set("done", done)
            if for_ever:
                await ctx.wait_for_signal("never")


WORKFLOWS: list[Workflow[..., Any]] = [waits, returns_all_the_same, fails_to_clean_up, cleans_up]


@pytest.fixture(scope="module")
async def served(anyio_backend: Any) -> AsyncGenerator[Rest]:
    """One server for all tests; each has a queue of its own."""
    async with rest() as served:
        yield served


@asynccontextmanager
async def working(served: Rest, queue: str) -> AsyncGenerator[Client]:
    """A client, and a worker that runs what is on its queue."""
    with anyio.fail_after(LIMIT_S):
        async with flovyn.connect(served.server.url, org_id=ACME.id, token="worker-key", queue=queue) as client:
            async with Worker(client, workflows=WORKFLOWS, tasks=[double], grace=0.0):
                yield client


async def cancel(served: Rest, handle: WorkflowHandle[Any], reason: str) -> dict[str, Any]:
    return dict(await served.post(f"/workflow-executions/{handle.id}/cancel", {"reason": reason}))


async def until(served: Rest, handle: WorkflowHandle[Any], *statuses: str) -> dict[str, Any]:
    while (shown := await served.get(f"/workflow-executions/{handle.id}"))["status"] not in statuses:
        await anyio.sleep(0.005)
    return dict(shown)


async def test_cancelling_the_wait_for_a_result_only_ends_the_wait(served: Rest) -> None:
    async with working(served, "watched") as client:
        handle = await client.start(waits)
        await until(served, handle, "WAITING")
        with anyio.move_on_after(0.01) as wait:
            await handle.result()
        assert wait.cancelled_caught
        shown = await until(served, handle, "WAITING")
        assert shown["cancellationRequested"] is False
        assert "CANCELLATION_REQUESTED" not in [event.type for event in await handle.history()]


async def test_one_that_is_cancelled_before_it_begins_begins_nothing(served: Rest) -> None:
    async with (
        working(served, "other"),
        flovyn.connect(served.server.url, org_id=ACME.id, token="worker-key", queue="early") as client,
    ):
        # A worker has told that its workflows end themselves, but none works from this queue yet.
        handle = await client.start(waits)
        assert (await cancel(served, handle, "never mind"))["status"] == "PENDING"
        async with Worker(client, workflows=WORKFLOWS, tasks=[double], grace=0.0):
            with pytest.raises(WorkflowCancelled, match="never mind"):
                await handle.result()
        types = [event.type for event in await handle.history()]
    # Its code runs up to its first await: what it does before is no waiting, and counts.
    assert types == [
        "WORKFLOW_STARTED",
        "CANCELLATION_REQUESTED",
        "OPERATION_COMPLETED",
        "STATE_SET",
        "WORKFLOW_CANCELLED",
    ]


async def test_one_that_returns_a_value_after_all_is_completed(served: Rest) -> None:
    async with working(served, "returns") as client:
        handle = await client.start(returns_all_the_same)
        await until(served, handle, "WAITING")
        await cancel(served, handle, "too late")
        assert await handle.result() == "I had it all along (too late)"
        shown = await until(served, handle, "COMPLETED")
    assert shown["cancellationRequested"] is True


async def test_one_whose_clean_up_fails_has_failed(served: Rest) -> None:
    async with working(served, "fails") as client:
        handle = await client.start(fails_to_clean_up)
        await until(served, handle, "WAITING")
        await cancel(served, handle, "too late")
        with pytest.raises(WorkflowFailed, match="the tap is broken"):
            await handle.result()


async def test_one_that_cleans_up_suspends_as_often_as_it_likes(served: Rest) -> None:
    async with working(served, "cleans") as client:
        handle = await client.start(cleans_up, for_ever=False)
        await until(served, handle, "WAITING")
        await cancel(served, handle, "too late")
        with pytest.raises(WorkflowCancelled, match="too late"):
            await handle.result()
        types = [event.type for event in await handle.history()]
        state = (await served.get(f"/workflow-executions/{handle.id}/state"))["state"]
    after = types[types.index("CANCELLATION_REQUESTED") :]
    assert (after.count("TASK_COMPLETED"), after.count("TIMER_FIRED"), after.count("WORKFLOW_SUSPENDED")) == (3, 3, 6)
    assert after[-1] == "WORKFLOW_CANCELLED"
    assert state == {"done": [0, 2, 4]}


async def test_one_that_does_not_come_to_an_end_is_ended_by_a_second_request(served: Rest) -> None:
    async with working(served, "stays") as client:
        handle = await client.start(cleans_up, for_ever=True)
        await until(served, handle, "WAITING")
        await cancel(served, handle, "too late")
        while "done" not in (await served.get(f"/workflow-executions/{handle.id}/state"))["state"]:
            await anyio.sleep(0.005)
        assert (await until(served, handle, "WAITING"))["cancellationRequested"] is True
        assert (await cancel(served, handle, "now"))["status"] == "CANCELLED"
        # What counts is why it was asked first.
        with pytest.raises(WorkflowCancelled, match="too late"):
            await handle.result()
