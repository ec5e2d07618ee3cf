"""`patched`: old runs keep the old way, new ones take the new way, and both replay the same (rule 9)."""

from __future__ import annotations

import anyio
import pytest

from flovyn.definitions import workflow
from flovyn.errors import DeterminismViolation
from flovyn.replay.commands import CompleteWorkflow, RecordOperation, ScheduleTask, StartTimer
from replay.direct import Direct
from replay.replay_platform import START_MS, Run, drive, plain

CACHED = pytest.mark.parametrize("cached", [True, False])
MARK = RecordOperation("$flovyn.patched:new-way", b"true")


@workflow(kind="patched")
async def before(ctx: Direct) -> list[bool]:
    await ctx.task("old")
    await anyio.sleep(1)
    return []


@workflow(kind="patched")
async def after(ctx: Direct) -> list[bool]:
    ways = [ctx.execution.patched("new-way")]
    await ctx.task("new" if ways[0] else "old")
    ways.append(ctx.execution.patched("new-way"))
    await anyio.sleep(1)
    return [*ways, ctx.execution.patched("new-way")]


@CACHED
def test_a_run_that_begins_behind_the_patch_takes_the_new_way_throughout(cached: bool) -> None:
    run = Run(after, context=Direct)
    mark, task = plain(run.activate(cached=cached))
    assert mark == MARK
    assert isinstance(task, ScheduleTask)
    assert task.kind == "new"
    run.platform.complete("new", None)
    (timer,) = plain(run.activate(cached=cached))
    assert isinstance(timer, StartTimer)
    run.platform.fire_next()
    assert plain(run.activate(cached=cached)) == [CompleteWorkflow(b"[true,true,true]")]


@CACHED
def test_a_run_from_before_the_patch_keeps_the_old_way_where_it_has_been(cached: bool) -> None:
    run = Run(before, context=Direct)
    run.activate()
    run.workflow = after
    run.platform.complete("old", None)
    # The first look is in an activation of the past; the second is live, and is the first to take the new way.
    mark, timer = plain(run.activate(cached=False, salt="b"))
    assert (mark, timer) == (MARK, StartTimer("timer-0.b", 1_000))
    run.platform.fire_next()
    assert plain(run.activate(cached=cached)) == [CompleteWorkflow(b"[false,true,true]")]


@CACHED
def test_a_patch_that_a_lost_submission_took_is_taken_again(cached: bool) -> None:
    run = Run(after, context=Direct)
    run.dry(salt="lost")
    (mark, _) = plain(run.activate(cached=False))
    assert mark == MARK


def test_the_patch_of_a_fork_is_none_of_ours() -> None:
    @workflow(kind="patched")
    async def looks_late(ctx: Direct) -> bool:
        await ctx.signal("go")
        return ctx.execution.patched("new-way")

    run = Run(after, context=Direct)
    fork = drive(run.rebuilt(), START_MS, "fork")
    run.workflow = looks_late
    run.activate(cached=False)
    run.platform.accept(fork)
    run.platform.signal("go")
    assert plain(run.activate(cached=False))[0] == MARK


def test_code_without_the_patch_disagrees_with_a_run_that_took_it() -> None:
    run = Run(after, context=Direct)
    run.activate()
    run.workflow = before
    with pytest.raises(DeterminismViolation, match="Task type mismatch at sequence 0: expected 'new', got 'old'"):
        run.dry(cached=False)


@CACHED
def test_what_another_sdk_began_went_the_old_way(cached: bool) -> None:
    @workflow(kind="patched")
    async def twice(ctx: Direct) -> list[bool]:
        first = ctx.execution.patched("early")
        await ctx.task("old")
        late = ctx.execution.patched("late")
        await anyio.sleep(1)
        return [first, ctx.execution.patched("early"), late]

    run = Run(twice, context=Direct)
    run.platform.append("TASK_SCHEDULED", kind="old", taskExecutionId="1")
    run.platform.append("WORKFLOW_SUSPENDED", reason="")
    run.platform.append("TASK_COMPLETED", taskExecutionId="1", output=None)
    mark, timer = plain(run.activate(cached=cached, salt="a"))
    assert mark == RecordOperation("$flovyn.patched:late", b"true")
    assert isinstance(timer, StartTimer)
    run.platform.fire_next()
    # Now the look at "early" is live, in an activation of its own.
    early, end = plain(run.activate(cached=cached))
    assert early == RecordOperation("$flovyn.patched:early", b"true")
    assert end == CompleteWorkflow(b"[false,true,true]")


def test_an_answer_stands_for_the_whole_activation() -> None:
    @workflow(kind="patched")
    async def asks_again(ctx: Direct) -> list[bool]:
        first = ctx.execution.patched("new-way")
        await ctx.task("old")
        return [first, ctx.execution.patched("new-way")]

    run = Run(asks_again, context=Direct)
    run.platform.append("TASK_SCHEDULED", kind="old", taskExecutionId="1")
    run.platform.append("WORKFLOW_SUSPENDED", reason="")
    run.platform.append("TASK_COMPLETED", taskExecutionId="1", output=None)
    assert plain(run.dry(cached=False)) == [CompleteWorkflow(b"[false,false]")]
