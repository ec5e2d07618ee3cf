"""Deadlines around operations: records name timers, and a scope has had several."""

from __future__ import annotations

import anyio
import pytest

from flovyn.definitions import workflow
from flovyn.replay import Activation
from flovyn.replay.commands import CancelTimer, CompleteWorkflow, RecordOperation, ScheduleTask, StartTimer
from flovyn.replay.records import Deadline, Value, write_answer
from flovyn.workflow import WorkflowContext
from replay.cases import refund
from replay.replay_platform import Run, plain


def _never() -> str:
    raise AssertionError("the test answers for the host")


@workflow
async def moves(ctx: WorkflowContext) -> str:
    async def move(scope: anyio.CancelScope) -> None:
        await ctx.run("quick", _never)
        scope.deadline = anyio.current_time() + 15

    with anyio.move_on_after(5) as scope:
        async with anyio.create_task_group() as tg:
            tg.start_soon(ctx.run, "slow", _never)
            tg.start_soon(move, scope)
    await ctx.schedule(refund)
    return "late" if scope.cancelled_caught else "in time"


@pytest.mark.parametrize("cached", [True, False])
def test_a_deadline_that_was_moved_while_its_record_was_under_way_counts_as_it_was(cached: bool) -> None:
    run = Run(moves)
    activation = Activation(run.execution, at_ms=run.platform.now_ms, salt="a")
    for _ in activation.slices():
        pass
    slow, quick = activation.starting
    passed = Deadline(next(slow.guards()).id)
    activation.complete(quick, Value(b'"done"'))
    activation.complete(slow, passed)  # the host saw the deadline pass before the program could move it
    for _ in activation.slices():
        pass
    assert activation.finished
    submission = activation.submission()
    record, other, timer, left, again, left_again, scheduled = plain(submission)
    assert passed == Deadline("timer-0.a")
    assert record == RecordOperation("slow", write_answer(passed))
    assert other == RecordOperation("quick", b'"done"')
    assert (timer, left) == (StartTimer("timer-0.a", 5_000), CancelTimer("timer-0.a"))
    assert (again, left_again) == (StartTimer("timer-1.a", 15_000), CancelTimer("timer-1.a"))
    assert isinstance(scheduled, ScheduleTask)
    run.platform.accept(submission)
    run.platform.complete("refund", None)
    assert plain(run.activate(cached=cached)) == [CompleteWorkflow(b'"late"')]


def test_a_left_timer_is_forgotten_when_no_operation_is_under_way() -> None:
    @workflow
    async def hurries(ctx: WorkflowContext) -> None:
        while True:
            with anyio.move_on_after(60):
                await ctx.wait_for_signal("go")

    run = Run(hurries)
    for number in range(50):
        run.activate(salt=f"{number:02}")
        run.platform.signal("go")
    run.activate(salt="zz")
    timers = run.execution.timers
    assert [timer.id for timer in timers.awaited()] == ["timer-50.zz"]
    assert timers.get("timer-48.48") is None
    # One is cancelled by this submission and one by the next; what history says to be cancelled is forgotten.
    assert list(timers.doomed) == ["timer-48.48", "timer-49.49"]
    assert list(run.execution.history.armed) == ["timer-48.48", "timer-49.49"]
