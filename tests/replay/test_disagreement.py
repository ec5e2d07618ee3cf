"""Code that disagrees with its history, reaches outside, or never comes to rest."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
import pytest

from flovyn.definitions import workflow
from flovyn.errors import (
    DeterminismError,
    DeterminismViolation,
    RunawayWorkflow,
)
from flovyn.workflow import WorkflowContext
from replay.cases import double, fans_out, one_task, refund, ship
from replay.replay_platform import Run


@workflow
async def wrong_loop(ctx: WorkflowContext) -> None:

    await asyncio.sleep(1)


def test_a_foreign_await_is_a_fault_and_no_failure_of_the_workflow() -> None:
    run = Run(wrong_loop)
    with pytest.raises(DeterminismError):
        run.dry()


@workflow
async def spins(ctx: WorkflowContext) -> None:
    while True:
        await anyio.lowlevel.checkpoint()


def test_a_spin_ends_with_the_culprits_stack() -> None:
    run = Run(spins)
    with pytest.raises(RunawayWorkflow, match="in spins"):
        run.dry()


def redeployed(run: Run, other: Any) -> None:
    run.workflow = other


@workflow(kind="one_task")
async def other_task(ctx: WorkflowContext, number: int) -> str:
    return await ctx.schedule(ship, "x")


@workflow(kind="one_task")
async def one_more(ctx: WorkflowContext, number: int) -> int:
    async with anyio.create_task_group() as tg:
        tg.create_task(ctx.schedule(double, number))
        tg.create_task(ctx.schedule(refund))
    return 0


@workflow(kind="one_task")
async def one_less(ctx: WorkflowContext, number: int) -> int:
    await anyio.sleep(5)
    return 0


@workflow(kind="one_task")
async def swallows(ctx: WorkflowContext, number: int) -> int:
    try:
        return len(await ctx.schedule(ship, "x"))
    except Exception:
        return -1


@pytest.mark.parametrize(
    ("other", "message", "expected", "got"),
    [
        (other_task, "Task type mismatch at sequence 0: expected 'double', got 'ship'", "double", "ship"),
        (swallows, "Task type mismatch at sequence 0: expected 'double', got 'ship'", "double", "ship"),
        (one_more, "Task call not in history at sequence 1: activation 1 did not make it", None, "refund"),
        (one_less, "Timer call not in history at sequence 0: activation 1 did not make it", None, "a timer of 5000 ms"),
    ],
)
def test_code_that_disagrees_with_its_history_is_told_both_sides(
    other: Any, message: str, expected: str | None, got: str | None
) -> None:
    run = Run(one_task, 1)
    run.activate()
    run.platform.complete("double", 2)
    redeployed(run, other)
    with pytest.raises(DeterminismViolation) as raised:
        run.dry(cached=False)
    assert str(raised.value) == f"Determinism violation: {message}"
    assert (raised.value.expected, raised.value.got) == (expected, got)


def test_a_call_that_the_code_does_not_make_any_more_is_missed() -> None:
    @workflow(kind="fans_out")
    async def fewer(ctx: WorkflowContext, items: list[str]) -> str:
        return await ctx.schedule(ship, "a")

    run = Run(fans_out, ["a", "b"])
    run.activate()
    redeployed(run, fewer)
    with pytest.raises(DeterminismViolation, match="Task call missing at sequence 1: activation 1 made it"):
        run.dry(cached=False)
