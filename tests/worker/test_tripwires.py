"""Workflow code that reaches outside, under a worker."""

from __future__ import annotations

import time
import types
from pathlib import Path
from typing import Any

import anyio
import pytest

from flovyn import DeterminismWarning, Workflow, WorkflowContext, workflow
from flovyn.nursery import Tripwires, arm_tripwires
from flovyn.replay.tripwires import watching
from flovyn.serde.envelope import parse_error
from worker.test_execution import CLAIM, COMPLETE, FAIL, MARK, SUSPEND, TIMER, OneRun, executions, polled

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def _armed() -> None:
    arm_tripwires()


def this_file() -> str:
    return Path(__file__).read_text()


@workflow(kind="run")
async def reads_a_file(ctx: WorkflowContext) -> str:
    return this_file()[:3]


@workflow(kind="run")
async def reads_the_clock(ctx: WorkflowContext) -> bool:
    return time.time() > 0


async def activated(definition: Workflow[..., Any], **options: Any) -> OneRun:
    server = OneRun()
    runs = executions(server, definition, **options)
    await runs.execute(polled("run", b"null"), CLAIM)
    runs.close()
    return server


async def test_a_file_that_is_read_in_a_workflow_is_a_violation_like_any_other() -> None:
    assert (await activated(reads_a_file)).last() == [MARK, TIMER, SUSPEND]
    server = await activated(reads_a_file, on_violation="fail")
    assert server.last() == [MARK, FAIL]
    info = parse_error(server.error())
    assert info.type == "DeterminismError"
    assert "which no replay can follow; do it in ctx.run(...) if it is short" in info.message


async def test_what_is_switched_off_or_let_pass_is_done() -> None:
    assert (await activated(reads_a_file, tripwires=Tripwires(files="off"))).last() == [MARK, COMPLETE]
    assert (await activated(reads_a_file, tripwires=Tripwires(allow=(__name__,)))).last() == [MARK, COMPLETE]


async def test_the_clock_is_warned_of_where_it_is_read() -> None:
    with pytest.warns(DeterminismWarning, match=r"use ctx.current_time\(\) or anyio.current_time\(\)") as caught:
        server = await activated(reads_the_clock)
    assert server.last() == [MARK, COMPLETE]
    assert [warning.filename for warning in caught] == [__file__]


async def test_outside_a_step_everything_is_allowed() -> None:
    @workflow(kind="run")
    async def effect(ctx: WorkflowContext) -> int:
        first = await ctx.run("file", lambda: len(this_file()))
        await ctx.run("clock", time.time)
        return first

    assert (await activated(effect)).last() == [MARK, MARK, MARK, COMPLETE]
    await anyio.lowlevel.checkpoint()
    assert time.time() > 0


def test_the_packages_of_the_workflows_are_watched_wherever_they_are() -> None:
    def of(module: str, *, cls: bool = False) -> Workflow[..., Any]:
        if cls:

            class Cart:
                async def run(self, ctx: Any) -> None: ...

            Cart.__module__ = module
            workflow(kind=module)(Cart)
            definition: Workflow[..., Any] = vars(Cart)["__flovyn_workflow__"]
            return definition

        async def function(ctx: WorkflowContext) -> None: ...

        copy = types.FunctionType(function.__code__, {"__name__": module})
        copy.__module__ = module
        return workflow(kind=module)(copy)

    definitions = [of("shop.orders"), of("shop.parcels"), of("till"), of("bank.accounts", cls=True)]
    watched = watching(definitions, Tripwires(clock="error", code=("mine", "till")))
    assert watched == Tripwires(clock="error", code=("mine", "till", "shop", "bank"))
    assert watching([]) == Tripwires()
