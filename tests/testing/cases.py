"""A workflow that asks for everything, and the history of a run of it."""

from __future__ import annotations

from typing import Any

import anyio

from flovyn import TaskContext, WorkflowContext, task, workflow
from flovyn.testing import History
from replay.replay_platform import Run
from testing.recording import history_of

__all__ = ["charge", "everything", "parcel", "whole"]


@task
async def charge(ctx: TaskContext, amount: int) -> int:
    return amount


@workflow
async def parcel(ctx: WorkflowContext, item: str) -> str:
    return item


@workflow
async def everything(ctx: WorkflowContext) -> list[Any]:
    ctx.set("step", 1)
    ctx.patched("new")
    approval = ctx.create_promise("approval")
    child = ctx.schedule_workflow_async(parcel, "tea")
    named = ctx.schedule_workflow_async(parcel.options(child_name="cup"), "cup")
    paid = ctx.schedule_async(charge, 3)
    drawn = await ctx.run("draw", lambda: 7)
    ctx.set("step", 2)
    ctx.clear("step")
    seen: list[Any] = [drawn, await approval.wait(), await child.result(), await named.result(), await paid.result()]
    await anyio.sleep(2.5)
    return [*seen, await ctx.wait_for_signal("go"), str(ctx.random_uuid()), ctx.random(), ctx.state_keys()]


def whole() -> History:
    """The history of a run that went through."""
    run = Run(everything)
    platform = run.platform
    run.activate()
    platform.signal("go", {"fast": True})
    for happen in (
        lambda: platform.resolve("approval", True),
        lambda: platform.complete_child("cup", "CUP"),
        lambda: platform.complete_child("parcel-1", "TEA"),
        lambda: platform.complete("charge", 3),
        platform.fire_next,
    ):
        happen()
        run.activate()
    assert platform.events[-1].type == "WORKFLOW_COMPLETED"
    return history_of(run)
