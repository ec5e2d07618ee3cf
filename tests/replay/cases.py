"""Definitions that the replay tests share."""

from __future__ import annotations

import anyio

from flovyn.definitions import task, workflow
from flovyn.errors import (
    TaskFailed,
)
from flovyn.workflow import WorkflowContext


@task
async def double(ctx: object, number: int) -> int:
    return 2 * number


@task
async def ship(ctx: object, item: str) -> str:
    return item


@task
async def refund(ctx: object) -> None: ...


@workflow
async def one_task(ctx: WorkflowContext, number: int) -> int:
    return await ctx.schedule(double, number)


@workflow
async def fans_out(ctx: WorkflowContext, items: list[str]) -> list[str]:
    failed = False
    handles: list[anyio.TaskHandle[str]] = []
    try:
        async with anyio.create_task_group() as tg:
            handles = [tg.create_task(ctx.schedule(ship, item)) for item in items]
    except* TaskFailed:
        failed = True
    if failed:
        await ctx.schedule(refund)
        return []
    return [handle.return_value for handle in handles]
