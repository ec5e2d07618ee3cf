"""Runs that a worker without markers began: continued by ours at any point, and replayed again."""

from __future__ import annotations

import json
from typing import Any

import anyio
import pytest

from flovyn.definitions import workflow
from flovyn.errors import DeterminismViolation
from flovyn.replay import Activation, Reenactment, Submission
from flovyn.replay.commands import ClearState, CompleteWorkflow, RecordOperation, ScheduleTask, StartTimer
from flovyn.workflow import WorkflowContext
from replay.cases import double, one_task, refund, ship
from replay.replay_platform import START_MS, Platform, Run, Status, plain

CACHED = pytest.mark.parametrize("cached", [True, False])
DAY_MS = 86_400_000


@workflow
async def order(ctx: WorkflowContext, number: int) -> list[Any]:
    """Something of everything, one after the other."""
    said: list[Any] = [ctx.has_signal("hurry"), ctx.has_signal("go")]
    ctx.set("phase", "begun")
    said.append(await ctx.schedule(double, number))
    said.append(await ctx.run("look up", _looked_up))
    await anyio.sleep(60)
    ctx.set("phase", "slept")
    said.append(await ctx.promise("approval"))
    said.append(await ctx.schedule_workflow(one_task, 4))
    said.append(await ctx.wait_for_signal("go"))
    said.append(ctx.get("phase"))
    ctx.clear("phase")
    await ctx.schedule(refund)
    return said


def _looked_up() -> str:
    return "by us"


TASK, REFUND, CHILD, PROMISE = (f"{digit * 8}-0000-4000-8000-000000000000" for digit in "abcd")
Written = tuple[str, dict[str, Any]]

# What the outside world says, and in between what the native worker writes when it hears it.
NATIVE: list[list[Written]] = [
    [("SIGNAL_RECEIVED", {"signalName": "hurry", "signalValue": None})],
    [
        ("STATE_SET", {"key": "phase", "value": "begun"}),
        ("TASK_SCHEDULED", {"kind": "double", "taskExecutionId": TASK}),
    ],
    [("TASK_COMPLETED", {"taskExecutionId": TASK, "output": 42})],
    [
        ("OPERATION_COMPLETED", {"operationName": "look up", "name": "look up", "result": "by them"}),
        ("TIMER_STARTED", {"timerId": "sleep-1", "durationMs": 60_000}),
    ],
    [("SIGNAL_RECEIVED", {"signalName": "go", "signalValue": "now"}), ("TIMER_FIRED", {"timerId": "sleep-1"})],
    [
        ("STATE_SET", {"key": "phase", "value": "slept"}),
        ("PROMISE_CREATED", {"promiseId": PROMISE, "promiseName": "approval"}),
    ],
    [("PROMISE_RESOLVED", {"promiseId": PROMISE, "value": True})],
    [
        (
            "CHILD_WORKFLOW_INITIATED",
            {"childExecutionName": "one_task-1", "childWorkflowKind": "one_task", "childExecutionId": CHILD},
        )
    ],
    [("CHILD_WORKFLOW_COMPLETED", {"childExecutionName": "one_task-1", "output": 8})],
    [("STATE_CLEARED", {"key": "phase"}), ("TASK_SCHEDULED", {"kind": "refund", "taskExecutionId": REFUND})],
    [("TASK_COMPLETED", {"taskExecutionId": REFUND, "output": None})],
]

# The other official workers, as older servers wrote it: other ids and keys, and nothing that says who wrote what.
_FFI_KEYS = {"taskExecutionId": "taskId", "operationName": "name", "childWorkflowKind": "workflowKind"}
FFI: list[list[Written]] = [
    [
        (kind, {_FFI_KEYS.get(key, key): "timer-0" if value == "sleep-1" else value for key, value in data.items()})
        for kind, data in said
    ]
    for said in NATIVE
]


def begun(written: list[list[Written]], turns: int, *, suspends: bool) -> Platform:
    """A run after so many turns, of the outside world and of the worker, one after the other."""
    platform = Platform(now_ms=START_MS + 30 * DAY_MS)
    for number, events in enumerate(written[:turns]):
        for kind, data in events:
            platform.append(kind, **data)
        if suspends and number % 2:
            platform.append("WORKFLOW_SUSPENDED", reason="whatever")
    return platform


def finish(run: Run, *, cached: bool) -> Submission:
    """Let everything happen that the run waits for, until it ends."""
    platform = run.platform
    for _ in range(20):
        submission = run.activate(cached=cached)
        if submission.status is not Status.SUSPENDED:
            return submission
        kinds = [event.type for event in platform.events]
        if platform.tasks("double"):
            platform.complete("double", 42)
        elif platform.tasks("refund"):
            platform.complete("refund", None)
        elif "TIMER_STARTED" in kinds and "TIMER_FIRED" not in kinds:
            timers = [event.data.timer_id for event in platform.events if event.type == "TIMER_STARTED"]
            platform.append("TIMER_FIRED", timerId=timers[0])
        elif "PROMISE_CREATED" in kinds and "PROMISE_RESOLVED" not in kinds:
            created = [event.data.promise_id for event in platform.events if event.type == "PROMISE_CREATED"]
            platform.append("PROMISE_RESOLVED", promiseId=created[0], value=True)
        elif "CHILD_WORKFLOW_INITIATED" in kinds and "CHILD_WORKFLOW_COMPLETED" not in kinds:
            platform.append("CHILD_WORKFLOW_COMPLETED", childExecutionName="one_task-1", output=8)
        else:
            platform.signal("go", "now")
    raise AssertionError("the run does not end")


@CACHED
@pytest.mark.parametrize("turns", range(1, len(NATIVE) + 1))
@pytest.mark.parametrize(("written", "suspends"), [(NATIVE, True), (FFI, False)], ids=["native", "ffi"])
def test_a_run_of_another_worker_goes_on_at_any_point(
    written: list[list[Written]], suspends: bool, turns: int, cached: bool
) -> None:
    run = Run(order, 21, platform=begun(written, turns, suspends=suspends))
    end = finish(run, cached=cached).commands[-1]
    looked_up = "by them" if turns >= 4 else "by us"
    assert isinstance(end, CompleteWorkflow)
    assert json.loads(end.output) == [True, False, 42, looked_up, True, 8, "now", "slept"]
    # What stood there already was asked for once only.
    called = [event.type for event in run.platform.events if event.type.endswith(("SCHEDULED", "CREATED", "INITIATED"))]
    assert called == ["TASK_SCHEDULED", "PROMISE_CREATED", "CHILD_WORKFLOW_INITIATED", "TASK_SCHEDULED"]


def told(*events: tuple[str, dict[str, Any]]) -> Platform:
    platform = Platform(now_ms=START_MS + DAY_MS)
    for kind, data in events:
        platform.append(kind, **data)
    return platform


SCHEDULED = ("TASK_SCHEDULED", {"kind": "double", "taskExecutionId": TASK})
DONE = ("TASK_COMPLETED", {"taskExecutionId": TASK, "output": 2})


@workflow(kind="one_task")
async def shorter(ctx: WorkflowContext, number: int) -> str:
    first = await ctx.schedule(double, number)
    await ctx.wait_for_signal("go")
    return f"{first} {await ctx.schedule(ship, 'x')}"


@CACHED
def test_calls_that_the_code_does_not_make_any_more_are_ignored_for_good(cached: bool) -> None:
    again = ("TASK_SCHEDULED", {"kind": "double", "taskExecutionId": REFUND})
    run = Run(shorter, 1, platform=told(SCHEDULED, DONE, again))
    assert plain(run.activate(cached=cached)) == []
    run.platform.signal("go")
    (scheduled,) = plain(run.activate(cached=cached))
    assert isinstance(scheduled, ScheduleTask)
    assert scheduled.kind == "ship"
    run.platform.complete("ship", "y")
    assert plain(run.activate(cached=cached)) == [CompleteWorkflow(b'"2 y"')]


def test_another_kind_than_history_has_is_a_violation_all_the_same() -> None:
    run = Run(shorter, 1, platform=told(("TASK_SCHEDULED", {"kind": "ship", "taskExecutionId": TASK})))
    with pytest.raises(DeterminismViolation, match="Task type mismatch at sequence 0: expected 'ship', got 'double'"):
        run.dry()


def test_a_worker_without_markers_that_writes_behind_one_that_has_them_is_found_out() -> None:
    run = Run(shorter, 1, platform=told(SCHEDULED))
    run.activate()
    run.platform.complete("double", 2)
    run.rebuilt()
    run.platform.append("TASK_SCHEDULED", kind="double", taskExecutionId=REFUND)
    with pytest.raises(DeterminismViolation, match=r"event 6 \(TASK_SCHEDULED\) was written by something that leaves"):
        run.rebuilt()


@workflow
async def looks(ctx: WorkflowContext) -> list[bool]:
    first = ctx.has_signal("go")
    await anyio.sleep(1)
    return [first, ctx.has_signal("go")]


@CACHED
def test_a_signal_behind_the_first_command_is_not_there_in_the_first_step(cached: bool) -> None:
    go = ("SIGNAL_RECEIVED", {"signalName": "go", "signalValue": 1})
    started = ("TIMER_STARTED", {"timerId": "sleep-1", "durationMs": 1_000})
    fired = ("TIMER_FIRED", {"timerId": "sleep-1"})
    assert plain(Run(looks, platform=told(started, go, fired)).activate(cached=cached)) == [
        CompleteWorkflow(b"[false,true]")
    ]
    assert plain(Run(looks, platform=told(go, started, fired)).activate(cached=cached)) == [
        CompleteWorkflow(b"[true,true]")
    ]


@workflow
async def clocks(ctx: WorkflowContext) -> list[float]:
    times: list[float] = []
    for seconds in (86_400, 86_400, 1):
        await anyio.sleep(seconds)
        times.append(anyio.current_time())
    return times


@CACHED
def test_the_clock_is_the_polls_and_no_old_timer_moves_it(cached: bool) -> None:
    day = {"durationMs": DAY_MS}
    first, second = ("TIMER_STARTED", {"timerId": "sleep-1", **day}), ("TIMER_STARTED", {"timerId": "sleep-2", **day})
    run = Run(clocks, platform=told(first, ("TIMER_FIRED", {"timerId": "sleep-1"}), second))
    assert plain(run.activate(cached=cached)) == []
    run.platform.now_ms += 5_000
    run.platform.append("TIMER_FIRED", timerId="sleep-2")
    assert plain(run.activate(cached=cached, salt="b")) == [StartTimer("timer-2.b", 1_000)]
    run.platform.fire_next()
    (end,) = plain(run.activate(cached=cached))
    assert isinstance(end, CompleteWorkflow)
    begin = START_MS / 1000 + 86_400
    assert json.loads(end.output) == [begin, begin + 5, begin + 6]


@workflow
async def looks_up(ctx: WorkflowContext) -> list[str]:
    found: list[str] = []
    async with anyio.create_task_group() as tg:
        for name in ("a", "b", "c"):

            async def look_up(name: str = name) -> None:
                found.append(await ctx.run(name, lambda: f"{name} by us"))

            tg.start_soon(look_up)
    return found


@CACHED
def test_operations_are_answered_by_number_and_the_rest_is_run(cached: bool) -> None:
    record = ("OPERATION_COMPLETED", {"name": "a", "result": "a by them"})
    run = Run(looks_up, platform=told(record))
    submission = run.activate(cached=cached)
    assert plain(submission) == [
        RecordOperation("b", b'"b by us"'),
        RecordOperation("c", b'"c by us"'),
        CompleteWorkflow(b'["a by them","b by us","c by us"]'),
    ]


@workflow
async def clears(ctx: WorkflowContext) -> list[str]:
    ctx.set("a", 1)
    ctx.clear("a")
    await ctx.schedule(refund)
    ctx.set("b", 2)
    await ctx.schedule(refund)
    ctx.clear("b")
    return ctx.state_keys()


@CACHED
def test_clears_that_a_worker_wrote_again_with_every_turn_count_once(cached: bool) -> None:
    cleared = ("STATE_CLEARED", {"key": "a"})
    first, second = (("TASK_SCHEDULED", {"kind": "refund", "taskId": task}) for task in (TASK, REFUND))
    run = Run(
        clears,
        platform=told(
            ("STATE_SET", {"key": "a", "value": 1}),
            cleared,
            first,
            ("TASK_COMPLETED", {"taskId": TASK}),
            cleared,
            ("STATE_SET", {"key": "b", "value": 2}),
            second,
            cleared,
        ),
    )
    assert plain(run.activate(cached=cached)) == []
    run.platform.append("TASK_COMPLETED", taskId=REFUND)
    assert plain(run.activate(cached=cached)) == [ClearState("b"), CompleteWorkflow(b"[]")]


def reenacted(run: Run, *, upto: int | None = None) -> Run:
    run.execution = run.rebuilt(run.platform.events[:upto])
    again = Reenactment(run.execution, at_ms=START_MS)
    for _ in again.slices():
        pass
    assert again.finished
    return run


def test_a_run_of_another_worker_is_reenacted_as_far_as_that_worker_came() -> None:
    run = Run(order, 21, platform=begun(NATIVE, 9, suspends=True))
    execution = reenacted(run).execution
    # The child has ended, but nobody has seen it yet.
    assert execution.waiting() == "Waiting for child workflow one_task-1 to complete"
    assert execution.state.get("phase") == b'"slept"'
    assert execution.result is None
    assert (
        reenacted(Run(order, 21, platform=begun(NATIVE, 11, suspends=True)))
        .execution.waiting()
        .startswith("Waiting for task")
    )


def test_what_another_worker_has_ended_is_reenacted_to_its_end() -> None:
    platform = begun(NATIVE, 11, suspends=True)
    platform.append("WORKFLOW_COMPLETED", output="whatever")
    execution = reenacted(Run(order, 21, platform=platform)).execution
    assert execution.result == CompleteWorkflow(b'[true,false,42,"by them",true,8,"now","slept"]')


def test_nothing_comes_of_calls_behind_the_end_of_what_another_worker_wrote() -> None:
    run = Run(shorter, 1, platform=told(SCHEDULED, DONE, ("OPERATION_COMPLETED", {"name": "old", "result": 1})))
    run.platform.signal("go")
    execution = reenacted(run).execution
    assert execution.waiting() == "Waiting for signal"
    with pytest.raises(DeterminismViolation):
        reenacted(Run(shorter, 1, platform=told(("TASK_SCHEDULED", {"kind": "ship", "taskExecutionId": TASK}))))


@pytest.mark.parametrize("seen", [1, 2])
def test_a_reenactment_delivers_nothing_that_no_activation_has_seen(seen: int) -> None:
    run = Run(shorter, 1)
    run.activate()
    run.platform.complete("double", 2)
    if seen == 2:
        run.activate()
        run.platform.signal("go")
    execution = reenacted(run).execution
    assert execution.waiting() == ("Waiting for signal" if seen == 2 else f"Waiting for task {_task(run)} to complete")
    # And the run goes on from where it stands.
    submission = _drive(Activation(execution, at_ms=START_MS, salt="z"))
    assert [type(command) for command in plain(submission)] == ([ScheduleTask] if seen == 2 else [])


def _task(run: Run) -> str:
    return next(event.data.task for event in run.platform.events if event.type == "TASK_SCHEDULED")


def _drive(activation: Activation) -> Submission:
    for _ in activation.slices():
        pass
    return activation.submission()


@pytest.mark.parametrize("retried", [False, True])
def test_a_failure_that_was_retried_does_not_count_and_the_run_goes_on_behind_it(retried: bool) -> None:
    failing = [True]

    @workflow(kind="one_task")
    async def flaky(ctx: WorkflowContext, number: int) -> int:
        await anyio.sleep(60)
        if await ctx.run("try", lambda: failing[0]):
            raise ValueError("not yet")
        return await ctx.schedule(double, number)

    run = Run(flaky, 1)
    run.activate()
    run.platform.fire_next()
    assert run.activate(cached=False).status is Status.FAILED
    execution = reenacted(run).execution
    assert execution.result is not None
    assert Status.of(execution.result) is Status.FAILED
    failing[0] = False
    if retried:
        (record, scheduled) = plain(run.activate(cached=False))
        assert record == RecordOperation("try", b"false")
        assert isinstance(scheduled, ScheduleTask)
        run.platform.complete("double", 2)
        for cached in (True, False):
            assert plain(run.dry(cached=cached)) == [CompleteWorkflow(b"2")]


def test_timers_that_the_end_of_a_workflow_closed_are_armed_again_when_it_is_retried() -> None:
    failing = [True]

    @workflow(kind="one_task")
    async def flaky(ctx: WorkflowContext, number: int) -> str:
        with anyio.move_on_after(3_600):
            await ctx.schedule(double, number)
            if await ctx.run("try", lambda: failing[0]):
                raise ValueError("not yet")
            await anyio.sleep_forever()
        return "late"

    run = Run(flaky, 1)
    run.activate(salt="a")
    run.platform.complete("double", 2)
    assert run.activate(cached=False).status is Status.FAILED
    failing[0] = False
    run.platform.now_ms += 600_000
    _, armed = plain(run.activate(cached=False, salt="c"))
    assert armed == StartTimer("$flovyn.again/timer-0.a/c", 3_000_000)
    run.platform.append("TIMER_FIRED", timerId="$flovyn.again/timer-0.a/c")
    assert plain(run.activate(cached=False)) == [CompleteWorkflow(b'"late"')]
