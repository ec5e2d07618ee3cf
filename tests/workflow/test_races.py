"""Races and compensations in workflows: history decides, the losers are cancelled on the server, replays agree."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from flovyn.definitions import workflow
from flovyn.errors import AllFailed, TaskFailed
from flovyn.replay.commands import CancelWorkflow, CompleteWorkflow, FailWorkflow
from flovyn.serde.envelope import parse_error
from flovyn.workflow import Err, Ok, WorkflowContext, compensation, join_all, join_n, join_settled, select, select_ok
from replay.replay_platform import plain
from workflow.cases import CACHED, Order, charge, result, running, scheduled, ship


@CACHED
@pytest.mark.parametrize("last", ["a", "b"])
def test_the_first_in_history_wins_and_the_loser_is_cancelled_on_the_server(cached: bool, last: str) -> None:
    @workflow
    async def races(ctx: WorkflowContext) -> list[Any]:
        first = await select(ctx.schedule(ship, "a"), ctx.schedule(ship, "b"))
        await anyio.sleep(1)
        return [*first]

    run = running(races)
    assert scheduled(run.activate(cached=cached)) == ["ship", "ship"]
    a, b = run.platform.tasks("ship")
    # Both are in before the workflow looks: the order in history decides, not that of the arguments.
    for task_id in (b, a) if last == "a" else (a, b):
        run.platform.append("TASK_COMPLETED", taskExecutionId=task_id, output=task_id, kind="ship")
    run.activate(cached=cached)
    run.platform.fire_next()
    assert result(run.activate(cached=cached)) == ([1, b] if last == "a" else [0, a])


@CACHED
def test_what_is_given_up_is_owed_a_cancel(cached: bool) -> None:
    @workflow
    async def races(ctx: WorkflowContext) -> None:
        handle = ctx.schedule_async(ship, "handle")
        await select(ctx.schedule(ship, "a"), handle, ctx.sleep(60))
        await ctx.wait_for_signal("end")

    run = running(races)
    run.activate(cached=cached)
    handle, a = run.platform.tasks("ship")
    run.platform.append("TASK_COMPLETED", taskExecutionId=handle, output="h", kind="ship")
    last = run.activate(cached=cached)
    assert run.execution.tasks.owed() == [a]
    # The timer of an earlier activation is cancelled by the submission after the one that has left it.
    assert "TIMER" not in str([event.type for event in run.platform.events][-1])
    assert last.commands


@CACHED
def test_a_handle_that_loses_is_only_read(cached: bool) -> None:
    @workflow
    async def races(ctx: WorkflowContext) -> list[Any]:
        handle = ctx.schedule_async(ship, "handle")
        index, _ = await select(handle, ctx.wait_for_signal("go"))
        return [index, await handle]

    run = running(races)
    run.activate(cached=cached)
    run.platform.signal("go")
    run.activate(cached=cached)
    assert run.execution.tasks.owed() == []
    run.platform.complete("ship", "h")
    assert result(run.activate(cached=cached)) == [1, "h"]


@CACHED
def test_join_all_fails_with_the_task_itself(cached: bool) -> None:
    @workflow
    async def joins(ctx: WorkflowContext) -> str:
        try:
            await join_all(ctx.schedule(ship, "a"), ctx.schedule(charge, Order("b")))
        except TaskFailed as error:
            return error.kind
        return "no"

    run = running(joins)
    run.activate(cached=cached)
    run.platform.fail("charge", "no")
    run.activate(cached=cached)
    assert run.execution.tasks.owed() == run.platform.tasks("ship")
    assert run.execution.result == CompleteWorkflow(b'"charge"')


@CACHED
def test_the_other_ways_to_wait_for_several(cached: bool) -> None:
    @workflow
    async def joins(ctx: WorkflowContext) -> list[Any]:
        first = await join_settled(ctx.schedule(ship, "a"), ctx.schedule(ship, "b"))
        second = await join_n(2, *(ctx.schedule(ship, name) for name in "cde"))
        try:
            await select_ok(ctx.schedule(ship, "f"), ctx.schedule(ship, "g"))
        except AllFailed as error:
            third = len(error.errors)
        fine, failed = first
        assert isinstance(fine, Ok)
        assert isinstance(failed, Err)
        return [fine.value, str(failed.error), second, third]

    run = running(joins)
    run.activate(cached=cached)
    run.platform.fail("ship", "no", nth=1)
    run.platform.complete("ship", "A")
    run.activate(cached=cached)
    run.platform.complete("ship", "E", nth=2)
    run.platform.complete("ship", "C")
    run.activate(cached=cached)
    (d,) = run.execution.tasks.owed()
    run.platform.append("TASK_CANCELLED", taskExecutionId=d, kind="ship", reason="")
    run.platform.fail("ship", "no")
    run.platform.fail("ship", "no")
    assert run.activate(cached=cached).commands[-1] == CompleteWorkflow(b'["A","no",[[2,"E"],[0,"C"]],2]')


@workflow
async def books(ctx: WorkflowContext) -> str:
    async with compensation() as undo:
        for name in "ab":
            await ctx.schedule(ship, name)
            undo.push(ctx.schedule, charge, Order(f"undo {name}"))
        await ctx.schedule(ship, "fails or is cancelled")
    return "done"


def until_the_third(cached: bool) -> Any:
    run = running(books)
    run.activate(cached=cached)
    for _ in range(2):
        run.platform.complete("ship", "x")
        run.activate(cached=cached)
    return run


@CACHED
@pytest.mark.parametrize("how", ["fails", "is cancelled"])
@pytest.mark.parametrize("undoing", ["works", "fails"])
def test_a_block_is_undone_durably_and_over_many_activations(cached: bool, how: str, undoing: str) -> None:
    run = until_the_third(cached)
    if how == "fails":
        run.platform.fail("ship", "no")
    else:
        run.platform.request_cancel("enough")
    for _ in range(2):
        assert scheduled(run.activate(cached=cached)) == ["charge"]
        assert len(run.platform.tasks("charge")) == 1
        if undoing == "works":
            run.platform.complete("charge", 1)
        else:
            run.platform.fail("charge", "cannot undo")
    if how == "is cancelled":
        run.platform.append("TASK_CANCELLED", taskExecutionId=run.platform.tasks("ship")[0], kind="ship", reason="")
    (last,) = plain(run.activate(cached=cached))
    if how == "is cancelled" and undoing == "works":
        assert last == CancelWorkflow("enough")
        return
    assert isinstance(last, FailWorkflow)
    info = parse_error(last.error)
    if how == "fails":
        assert (info.type, info.message) == ("TaskFailed", "no")
        assert info.traceback is not None
        assert info.traceback.count("A compensation failed as well: TaskFailed: cannot undo") == (
            2 if undoing == "fails" else 0
        )
    else:
        # The cancellation itself is no failure; what is left of the group are the failures of the compensations.
        assert [(member.type, member.message) for member in info.members] == [("TaskFailed", "cannot undo")] * 2


@CACHED
def test_a_block_that_ends_well_undoes_nothing(cached: bool) -> None:
    run = until_the_third(cached)
    run.platform.complete("ship", "x")
    assert result(run.activate(cached=cached)) == "done"


def test_an_evicted_run_undoes_nothing() -> None:
    run = until_the_third(cached=True)
    run.execution.close()
    assert run.rebuilt_and_caught_up().result is None
    assert run.platform.tasks("charge") == []


def test_an_error_of_the_body_is_raised_bare_though_the_rest_is_cancelled() -> None:
    @workflow
    async def joins(ctx: WorkflowContext) -> None:
        async def breaks() -> None:
            await anyio.lowlevel.checkpoint()
            raise ValueError("mine")

        await join_all(ctx.schedule(ship, "a"), breaks())

    run = running(joins)
    run.activate()
    assert isinstance(run.execution.result, FailWorkflow)
    assert run.execution.result.error.startswith("ValueError: mine\n")
