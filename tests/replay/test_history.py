"""What lands in the middle, is lost, comes twice or does not count."""

from __future__ import annotations

import itertools

import anyio
import pytest

from flovyn.definitions import workflow
from flovyn.errors import (
    MalformedMessage,
)
from flovyn.replay import Activation, Status, Submission, read_event
from flovyn.replay.commands import (
    CancelTimer,
    CompleteWorkflow,
    FailWorkflow,
    RecordOperation,
    StartTimer,
    SuspendWorkflow,
)
from flovyn.replay.history import History
from flovyn.replay.marker import Marker
from flovyn.workflow import WorkflowContext
from replay.cases import double, one_task, refund, ship
from replay.replay_platform import START_MS, Platform, Run, drive, plain


@workflow
async def race(ctx: WorkflowContext) -> str:
    won: list[str] = []
    async with anyio.create_task_group() as tg:

        async def contend(name: str) -> None:
            await ctx.schedule(ship, name)
            won.append(name)
            tg.cancel_scope.cancel()

        for name in ("a", "b"):
            tg.start_soon(contend, name)
    await ctx.schedule(refund)
    return won[0]


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("cached", [True, False])
def test_the_first_completion_in_history_wins_on_every_replay(first: int, cached: bool) -> None:
    run = Run(race)
    run.activate(cached=cached)
    ids = run.platform.tasks("ship")
    for nth in (first, 1 - first):
        run.platform.append("TASK_COMPLETED", taskExecutionId=ids[nth], output="x")
    run.activate(cached=cached)
    run.platform.complete("refund", None)
    assert plain(run.activate(cached=cached)) == [CompleteWorkflow(b'"a"' if first == 0 else b'"b"')]


def test_what_lands_while_an_activation_runs_belongs_to_the_next() -> None:
    run = Run(race)
    run.activate()
    ids = run.platform.tasks("ship")
    run.platform.append("TASK_COMPLETED", taskExecutionId=ids[1], output="x")
    submission = run.dry()
    run.platform.append("TASK_COMPLETED", taskExecutionId=ids[0], output="x")  # after the read, before the submit
    run.platform.accept(submission)
    run.platform.complete("refund", None)
    assert plain(run.activate(cached=False)) == [CompleteWorkflow(b'"b"')]


def test_a_lost_submission_is_made_again_with_other_ids() -> None:
    run = Run(one_task, 1)
    lost = run.dry(salt="aa")
    again = run.activate(cached=False, salt="bb")
    assert plain(lost) != plain(again)
    run.platform.complete("double", 2)
    assert plain(run.activate(cached=False)) == [CompleteWorkflow(b"2")]


def test_a_late_submission_that_a_server_took_does_not_count_and_its_tasks_are_owed_a_cancel() -> None:
    run = Run(one_task, 1)
    late = run.dry(salt="aa")
    run.activate(cached=False, salt="bb")
    good = run.platform.tasks("double")[0]
    run.platform.accept(late)
    stray = run.platform.tasks("double")[1]
    run.platform.append("TASK_COMPLETED", taskExecutionId=good, output=2)
    put_off = run.activate(cached=False, salt="cc")
    assert put_off.status is Status.SUSPENDED
    assert run.execution.tasks.owed() == [stray]
    run.execution.tasks.answered[stray] = None
    assert plain(run.activate()) == [CompleteWorkflow(b"2")]


def test_eviction_runs_no_command_and_leaves_the_history_alone() -> None:
    @workflow
    async def stubborn(ctx: WorkflowContext) -> None:
        while True:
            try:
                await ctx.schedule(double, 1)
            except BaseException:
                await ctx.schedule(refund)

    run = Run(stubborn)
    run.activate()
    before = list(run.execution.journal.commands)
    run.execution.close()
    assert run.execution.journal.commands == before


def test_a_history_with_a_hole_is_refused() -> None:
    from flovyn.replay import HistoryGap

    platform = Platform()
    run = Run(one_task, 1, platform=platform)
    run.activate()
    with pytest.raises(HistoryGap, match="event 3 after event 1"):
        run.rebuilt([platform.events[0], *platform.events[2:]])


def test_of_two_ends_of_a_task_the_first_one_counts() -> None:
    run = Run(one_task, 1)
    run.activate()
    task_id = run.platform.complete("double", 2)
    run.platform.append("TASK_FAILED", taskExecutionId=task_id, error="too late")
    assert plain(run.activate()) == [CompleteWorkflow(b"2")]


@pytest.mark.parametrize("data", [b'{"name": 3}', b"[]", b"null", b"no JSON"])
def test_events_that_no_replay_looks_into_may_hold_anything(data: bytes) -> None:
    run = Run(one_task, 21)
    run.platform.events.append(read_event(2, "SOMETHING_NEW", data))
    run.activate(cached=False)
    run.platform.complete("double", 42)
    assert run.activate(cached=False).commands[-1] == CompleteWorkflow(b"42")
    with pytest.raises(MalformedMessage, match=r"event 2 \(TASK_COMPLETED\)"):
        read_event(2, "TASK_COMPLETED", b'{"taskExecutionId": 3}')


def test_a_long_replay_of_many_short_activations_lets_the_host_breathe() -> None:
    run = Run(sleeps_often)
    for _ in range(320):
        run.activate()
        run.platform.fire_next()
    execution = run.rebuilt()
    kernel = execution.kernel
    again = Activation(execution, at_ms=run.platform.now_ms, salt="zz")
    clocks = [kernel.now for _ in again.slices()]
    assert len(clocks) >= 5
    assert all(later - earlier <= 32 for earlier, later in itertools.pairwise(clocks)), "each activation takes a second"


@workflow
async def sleeps_often(ctx: WorkflowContext) -> None:
    while True:
        await anyio.sleep(1)


def test_what_a_submission_that_does_not_count_did_to_timers_is_undone() -> None:
    run = Run(sleeps_often)
    run.activate(salt="aa")
    late = (
        RecordOperation("$flovyn.activation", Marker(id="xx", after=0, seen=1, at=START_MS).encode()),
        CancelTimer("timer-0.aa"),
        StartTimer("timer-0.xx", 9_000),
        SuspendWorkflow("late"),
    )
    run.platform.accept(Submission(late, Status.SUSPENDED))
    assert plain(run.activate(salt="bb")) == [
        CancelTimer("timer-0.xx"),
        StartTimer("$flovyn.again/timer-0.aa/bb", 1_000),
    ]
    assert run.platform.fire_next() == "$flovyn.again/timer-0.aa/bb"
    assert plain(run.activate(salt="cc")) == [StartTimer("timer-1.cc", 1_000)]


@workflow
async def sleeps_beside_an_operation(ctx: WorkflowContext) -> None:
    async with anyio.create_task_group() as tg:
        tg.start_soon(anyio.sleep, 1)
        tg.start_soon(ctx.run, "note", str)


@pytest.mark.parametrize("cached", [True, False])
def test_a_timer_that_has_fired_is_not_armed_again_before_its_firing_is_shown(cached: bool) -> None:
    run = Run(sleeps_beside_an_operation)
    first = drive(run.execution, START_MS, "aa", exhausted=True)
    run.platform.accept(first)
    run.platform.accept(first)  # and once more, which does not count
    run.platform.append("TIMER_FIRED", timerId="timer-0.aa")
    execution = run.rebuilt()
    if cached:
        execution = run.execution
        execution.load(run.platform.events[execution.history.length :])
    second = drive(execution, run.platform.now_ms, "bb", exhausted=True)
    # The operation comes first, so this activation is not told of the timer either.
    assert plain(second) == []
    run.platform.accept(second)
    run.platform.append("TIMER_FIRED", timerId="$flovyn.soon/aa")
    assert run.activate(cached=False, salt="cc").status is Status.COMPLETED


def test_an_end_counts_though_it_follows_an_older_submission() -> None:
    run = Run(one_task, 1)
    run.activate(salt="aa")
    first = run.platform.events[-1].sequence
    run.platform.append("SIGNAL_RECEIVED", signalName="anything")
    run.activate(salt="bb")
    end = (
        RecordOperation("$flovyn.activation", Marker(id="xx", after=first, seen=first, at=START_MS).encode()),
        FailWorkflow("late"),
    )
    run.platform.accept(Submission(end, Status.FAILED))
    history = run.rebuilt().history
    assert [block.marker.id for block in history.kept] == ["aa"]
    assert history.final is not None
    assert history.final.marker.id == "xx"
    assert [marker.id for marker in history.foreign] == ["bb"]


def test_a_child_is_told_whose_it_is() -> None:
    history = History()
    history.extend([read_event(1, "WORKFLOW_STARTED", b'{"input":{"a":1},"parentWorkflowExecutionId":"p"}')])
    assert history.parent_id == "p"
    other = History()
    other.extend([read_event(1, "WORKFLOW_STARTED", b'{"input":{"parentWorkflowExecutionId":"mine"}}')])
    assert other.parent_id is None
