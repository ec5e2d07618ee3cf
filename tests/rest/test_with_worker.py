"""REST and a worker of this SDK: what one starts, stops and retries, the other runs."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

import flovyn as sdk
from flovyn import TaskContext, Worker, WorkflowContext, task, workflow
from flovyn.testing import History, Replayer
from rest.rest_world import ACME, Rest, rest

pytestmark = pytest.mark.anyio


@task
async def charge(ctx: TaskContext, amount: int) -> int:
    return amount * 2


@asynccontextmanager
async def working(*workflows: Any, **options: Any) -> AsyncGenerator[Rest]:
    async with rest(**options) as served:
        async with sdk.connect(served.server.url, org_id=ACME.id, token="worker-key") as client:
            async with Worker(client, workflows=workflows, tasks=[charge]):
                while not (await served.get("/workers"))["total"]:
                    await anyio.sleep(0.005)
                yield served


async def until(served: Rest, run: str, *statuses: str) -> dict[str, Any]:
    with anyio.fail_after(10):
        while (shown := await served.get(f"/workflow-executions/{run}"))["status"] not in statuses:
            await anyio.sleep(0.005)
    return dict(shown)


async def test_a_workflow_is_started_checked_and_read() -> None:
    @workflow(version="1.2.0", tags=["shop"])
    async def order(ctx: WorkflowContext, amount: int) -> dict[str, int]:
        """Takes an order."""
        return {"charged": await ctx.schedule(charge, amount)}

    async with working(order) as served:
        definition = await served.get("/workflow-definitions/order")
        assert (definition["version"], definition["tags"], definition["description"]) == (
            "1.2.0",
            ["shop"],
            "Takes an order.",
        )
        shown = await until(served, await served.start("order", input=21), "COMPLETED")
        assert shown["output"] == {"charged": 42}
        tasks = (await served.get(f"/workflow-executions/{shown['id']}/tasks"))["tasks"]
        assert [(one["kind"], one["status"], one["executionCount"]) for one in tasks] == [("charge", "COMPLETED", 1)]


async def test_a_cancelled_workflow_compensates_before_it_ends() -> None:
    @workflow
    async def order(ctx: WorkflowContext, amount: int) -> None:
        try:
            await anyio.sleep(3_600)
        finally:
            with anyio.CancelScope(shield=True):
                await ctx.schedule(charge, -amount)

    async with working(order) as served:
        run = await served.start("order", input=1)
        await until(served, run, "WAITING")
        await served.post(f"/workflow-executions/{run}/cancel", {"reason": "too late"})
        shown = await until(served, run, "CANCELLED")
        assert shown["cancelReason"] == "too late"
        types = await served.types(run)
        assert types.index("CANCELLATION_REQUESTED") < types.index("TASK_COMPLETED") < types.index("WORKFLOW_CANCELLED")


async def test_a_workflow_that_failed_goes_on_where_it_was() -> None:
    broken = [True]
    ran: list[str] = []

    @workflow
    async def order(ctx: WorkflowContext, amount: int) -> list[int]:
        charged = [await ctx.schedule(charge, amount)]
        with anyio.move_on_after(0.6):
            await ctx.run("note", lambda: ran.append("note"))
            if await ctx.run("stock", lambda: broken[0]):
                raise ValueError("no stock")
            await anyio.sleep_forever()
        charged.append(await ctx.schedule(charge, charged[0]))
        return charged

    async with working(order) as served:
        run = await served.start("order", input=1)
        shown = await until(served, run, "FAILED")
        assert shown["error"].startswith("ValueError: no stock\n")
        broken[0] = False
        await served.post(f"/workflow-executions/{run}/retry", {"note": "stock is back"})
        shown = await until(served, run, "COMPLETED")
        assert shown["output"] == [2, 4]
        types = await served.types(run)
        assert types.count("WORKFLOW_EXECUTION_FAILED") == 1
        assert types.count("TASK_COMPLETED") == 2


async def test_a_history_that_was_saved_from_rest_can_be_replayed(tmp_path_factory: pytest.TempPathFactory) -> None:
    @workflow
    async def order(ctx: WorkflowContext, amount: int) -> int:
        return await ctx.schedule(charge, amount)

    async with working(order) as served:
        run = await served.start("order", input=3)
        await until(served, run, "COMPLETED")
        saved = tmp_path_factory.mktemp("histories") / f"{run}.json"
        saved.write_bytes((await served.ask("GET", f"/workflow-executions/{run}/events")).content)
    report = Replayer([order]).replay(History.read(saved))
    assert (report.status, report.workflow_id) == ("equal", run)
