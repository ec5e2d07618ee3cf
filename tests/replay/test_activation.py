"""Activations over histories made by hand: exact commands, exact results, live and re-enacted."""

from __future__ import annotations

import asyncio
import json
import sys
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import anyio
import pytest

from flovyn.definitions import workflow
from flovyn.errors import (
    ExecutionError,
)
from flovyn.replay import Reenactment, Status
from flovyn.replay.commands import (
    CancelTimer,
    CancelWorkflow,
    CompleteWorkflow,
    FailWorkflow,
    RecordOperation,
    ScheduleTask,
    StartTimer,
    SuspendWorkflow,
)
from flovyn.replay.marker import Marker
from flovyn.serde.envelope import format_error, parse_error
from flovyn.workflow import WorkflowContext
from replay.cases import double, fans_out, one_task, refund
from replay.replay_platform import START_MS, WORKFLOW_ID, Run, plain


def test_a_task_is_scheduled_then_its_result_ends_the_workflow() -> None:
    run = Run(one_task, 21)
    first = run.activate(salt="aa")
    task_id = run.platform.tasks("double")[0]
    assert first.commands == (
        RecordOperation("$flovyn.activation", Marker(id="aa", after=0, seen=1, at=START_MS).encode()),
        ScheduleTask(task_id, "double", b"21"),
        SuspendWorkflow(f"Waiting for task {task_id} to complete"),
    )
    assert first.status is Status.SUSPENDED
    end = run.platform.events[-1].sequence
    run.platform.complete("double", 42)
    last = run.activate(salt="bb")
    assert last.commands == (
        RecordOperation("$flovyn.activation", Marker(id="bb", after=end, seen=end + 1, at=START_MS).encode()),
        CompleteWorkflow(b"42"),
    )
    assert last.status is Status.COMPLETED


def test_ids_are_the_platforms_with_the_activations_salt() -> None:
    ids = {salt: plain(Run(one_task, 1).dry(salt=salt)) for salt in ("aa", "bb")}
    assert ids["aa"] != ids["bb"]
    assert ids["aa"] == plain(Run(one_task, 1).dry(salt="aa"))


@workflow
async def sleeps(ctx: WorkflowContext) -> list[float]:
    times = [anyio.current_time()]
    for seconds in (60, 0.0015, 86_400):
        await anyio.sleep(seconds)
        times.append(anyio.current_time())
    return times


@pytest.mark.parametrize("cached", [True, False])
def test_sleeping_is_a_timer_rounded_up_to_milliseconds(cached: bool) -> None:
    run = Run(sleeps)
    durations: list[int] = []
    for _ in range(3):
        submission = run.activate(cached=cached)
        (timer,) = plain(submission)
        assert isinstance(timer, StartTimer)
        assert submission.commands[-1] == SuspendWorkflow(f"Waiting for timer {timer.timer_id} to fire")
        durations.append(timer.duration_ms)
        run.platform.now_ms += timer.duration_ms
        run.platform.append("TIMER_FIRED", timerId=timer.timer_id)
    assert durations == [60_000, 2, 86_400_000]
    (end,) = plain(run.activate(cached=cached))
    assert isinstance(end, CompleteWorkflow)
    start = START_MS / 1000
    assert json.loads(end.output) == pytest.approx([start, start + 60, start + 60.002, start + 86_460.002], abs=1e-6)


@workflow
async def in_time(ctx: WorkflowContext) -> str:
    with anyio.move_on_after(30) as scope:
        await ctx.schedule(double, 1)
    await ctx.schedule(refund)
    return "late" if scope.cancelled_caught else "in time"


def test_a_deadline_that_is_left_early_cancels_its_timer_when_the_decision_stands() -> None:
    run = Run(in_time)
    timer, scheduled = plain(run.activate(salt="aa"))
    assert timer == StartTimer("timer-0.aa", 30_000)
    assert isinstance(scheduled, ScheduleTask)
    run.platform.complete("double", 2)
    (second,) = plain(run.activate())
    assert isinstance(second, ScheduleTask)
    run.platform.append("SIGNAL_RECEIVED", signalName="anything")
    assert plain(run.activate()) == [CancelTimer("timer-0.aa")]
    run.platform.complete("refund", None)
    assert plain(run.activate()) == [CompleteWorkflow(b'"in time"')]


def test_a_deadline_that_passes_cancels_the_task_on_the_server() -> None:
    run = Run(in_time)
    run.activate(salt="aa")
    task_id = run.platform.tasks("double")[0]
    assert run.platform.fire_next() == "timer-0.aa"
    submission = run.activate(salt="bb")
    assert [type(command) for command in plain(submission)] == [ScheduleTask, StartTimer]
    assert plain(submission)[1] == StartTimer("$flovyn.cancels/bb", 2_000)
    assert run.execution.tasks.owed() == [task_id]
    assert run.rebuilt_and_caught_up().tasks.owed() == [task_id]
    run.platform.append("TASK_CANCELLED", taskExecutionId=task_id)
    assert plain(run.activate(salt="cc")) == [CancelTimer("$flovyn.cancels/bb")]
    run.platform.complete("refund", None)
    assert plain(run.activate()) == [CompleteWorkflow(b'"late"')]


@workflow
async def left_at_the_end(ctx: WorkflowContext) -> str:
    with anyio.move_on_after(30):
        await ctx.schedule(double, 1)
    return "done"


def test_an_end_that_would_leave_cancels_is_put_off_until_they_are_sent() -> None:
    run = Run(left_at_the_end)
    run.activate()
    task_id = run.platform.tasks("double")[0]
    run.platform.fire_next()
    put_off = run.activate(salt="bb")
    assert put_off.status is Status.SUSPENDED
    assert plain(put_off) == [StartTimer("$flovyn.soon/bb", 0)]
    run.execution.tasks.answered[task_id] = None
    run.platform.append("TIMER_FIRED", timerId="$flovyn.soon/bb")
    assert plain(run.activate()) == [CompleteWorkflow(b'"done"')]


@pytest.mark.parametrize("cached", [True, False])
def test_a_task_group_fans_out_and_one_failure_cancels_the_rest(cached: bool) -> None:
    run = Run(fans_out, ["a", "b", "c"])
    commands = plain(run.activate(cached=cached))
    assert [command.input for command in commands if isinstance(command, ScheduleTask)] == [b'"a"', b'"b"', b'"c"']
    ids = run.platform.tasks("ship")
    run.platform.fail("ship", "LookupError: gone", nth=1)
    second = plain(run.activate(cached=cached, salt="bb"))
    assert [command.kind for command in second if isinstance(command, ScheduleTask)] == ["refund"]
    assert run.execution.tasks.owed() == [ids[0], ids[2]]
    for task_id in (ids[0], ids[2]):
        run.execution.tasks.answered[task_id] = None
        run.platform.append("TASK_CANCELLED", taskExecutionId=task_id)
        run.platform.append("TASK_FAILED", taskExecutionId=task_id, error="Task cancelled")
    run.platform.complete("refund", None)
    assert plain(run.activate(cached=cached)) == [CompleteWorkflow(b"[]")]


@workflow
async def raises(ctx: WorkflowContext) -> None:
    try:
        raise KeyError("inner")
    except KeyError as error:
        raise ValueError("outer") from error


def test_an_uncaught_exception_fails_the_workflow_with_its_cause() -> None:
    run = Run(raises)
    (end,) = plain(run.activate())
    assert isinstance(end, FailWorkflow)
    info = parse_error(end.error)
    assert (info.type, info.message) == ("ValueError", "outer")
    assert info.cause is not None
    assert (info.cause.type, info.cause.message) == ("KeyError", "'inner'")


def test_input_that_does_not_fit_fails_the_workflow() -> None:
    run = Run(one_task, "not a number")
    (end,) = plain(run.activate())
    assert isinstance(end, FailWorkflow)
    assert parse_error(end.error).type == "PayloadError"


@workflow
async def compensates(ctx: WorkflowContext) -> str:
    try:
        await anyio.sleep(1_000)
    finally:
        with anyio.CancelScope(shield=True):
            await ctx.schedule(refund)
    return "finished"


@pytest.mark.parametrize("cached", [True, False])
def test_a_cancelled_workflow_runs_its_shielded_code_then_ends_cancelled(cached: bool) -> None:
    run = Run(compensates)
    run.activate(cached=cached)
    run.platform.append("CANCELLATION_REQUESTED", reason="changed my mind", requestedBy="me")
    (scheduled,) = plain(run.activate(cached=cached))
    assert isinstance(scheduled, ScheduleTask)
    run.platform.complete("refund", None)
    end = run.activate(cached=cached)
    assert plain(end) == [CancelWorkflow("changed my mind")]
    assert end.status is Status.CANCELLED


def test_randomness_is_the_platforms() -> None:
    @workflow
    async def draws(ctx: WorkflowContext) -> list[Any]:
        return [ctx.random_uuid(), ctx.random_uuid(), ctx.random(), ctx.workflow_execution_id]

    (end,) = plain(Run(draws).activate())
    assert isinstance(end, CompleteWorkflow)
    first, second, number, identity = json.loads(end.output)
    assert (first, second) == ("f26e0a44-20ff-520d-a90a-02a2a4592ab2", "0e10bfc9-059a-54d9-839c-40f6cec6828a")
    assert number == pytest.approx(0.0972162519)
    assert identity == WORKFLOW_ID


def test_the_clock_never_shows_a_moment_before_the_timer_that_woke_the_workflow() -> None:
    run = Run(sleeps)
    for _ in range(3):
        run.activate()
        run.platform.fire_next()
        run.platform.now_ms = START_MS  # the clock of the next activation lags behind
    (end,) = plain(run.activate(cached=False))
    assert isinstance(end, CompleteWorkflow)
    start = START_MS / 1000
    assert json.loads(end.output) == pytest.approx([start, start + 60, start + 60.002, start + 86_460.002], abs=1e-6)


def test_ctrl_c_in_a_step_is_no_failure_of_the_workflow_in_a_group_either() -> None:
    async def interrupted() -> None:
        raise KeyboardInterrupt

    @workflow
    async def in_group(ctx: WorkflowContext) -> None:
        async with anyio.create_task_group() as tg:
            tg.start_soon(interrupted)

    @workflow
    async def alone(ctx: WorkflowContext) -> None:
        await interrupted()

    for definition in (in_group, alone):
        with pytest.raises(KeyboardInterrupt):
            Run(definition).dry()


@pytest.mark.parametrize("error", [SystemExit(3), asyncio.CancelledError(), GeneratorExit()], ids=repr)
def test_whatever_else_the_program_raises_fails_it_and_no_worker(error: BaseException) -> None:
    @workflow
    async def leaves(ctx: WorkflowContext) -> None:
        raise error

    submission = Run(leaves).dry()
    assert submission.status is Status.FAILED
    failure = submission.commands[-1]
    assert isinstance(failure, FailWorkflow)
    assert parse_error(failure.error).type == type(error).__name__


@dataclass
class Picky:
    number: int

    def __post_init__(self) -> None:
        raise RuntimeError("not this one")


@workflow
async def picky(ctx: WorkflowContext, given: Picky) -> None: ...


def test_input_whose_own_code_fails_fails_the_workflow() -> None:
    submission = Run(picky, {"number": 1}).dry()
    failure = submission.commands[-1]
    assert isinstance(failure, FailWorkflow)
    assert str(parse_error(failure.error)) == "RuntimeError: not this one"


def test_a_sleep_without_end_is_as_long_as_a_server_takes() -> None:
    @workflow
    async def ages(ctx: WorkflowContext) -> None:
        with anyio.move_on_after(sys.maxsize):
            await anyio.sleep(sys.float_info.max)

    timers = plain(Run(ages).dry())
    assert [timer.duration_ms for timer in timers if isinstance(timer, StartTimer)] == [100 * 365 * 86_400_000] * 2


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("Task cancelled", "TaskCancelled"),
        ("Task timed out", "TaskTimeout"),
        (format_error(TimeoutError("Task execution timed out")), "TaskTimeout"),
        (format_error(TimeoutError("whatever it says"), reason="heartbeat_timeout"), "TaskTimeout"),
        (format_error(TimeoutError("Task execution timed out: mine")), "TaskFailed"),
        (format_error(RuntimeError("no limit"), reason="start_to_close"), "TaskFailed"),
        (format_error(RuntimeError("Cancelled")), "TaskFailed"),
        (format_error(RuntimeError("Task timed out")), "TaskFailed"),
    ],
)
def test_only_what_a_server_says_is_taken_for_a_cancelled_task(text: str, error: str) -> None:
    @workflow
    async def told(ctx: WorkflowContext) -> str:
        try:
            await ctx.schedule(refund)
        except ExecutionError as ended:
            return type(ended).__name__
        return "none"

    run = Run(told)
    run.activate()
    run.platform.fail("refund", text)
    assert run.activate().commands[-1] == CompleteWorkflow(json.dumps(error).encode())


def test_a_timer_that_is_left_in_the_activation_that_started_it_is_cancelled_at_once() -> None:
    @workflow
    async def brief(ctx: WorkflowContext) -> None:
        with anyio.move_on_after(60):
            await ctx.run("effect", lambda: None)
        await anyio.sleep(1)

    timer, left, slept = plain(Run(brief).dry(salt="aa"))[1:]
    assert (timer, left) == (StartTimer("timer-0.aa", 60_000), CancelTimer("timer-0.aa"))
    assert slept == StartTimer("timer-1.aa", 1_000)


def test_the_program_does_not_see_the_context_variables_of_its_worker() -> None:
    @workflow
    async def looks(ctx: WorkflowContext) -> str:
        return outside.get()

    token = outside.set("the worker's")
    try:
        assert Run(looks).dry().commands[-1] == CompleteWorkflow(b'"nothing"')
    finally:
        outside.reset(token)


outside: ContextVar[str] = ContextVar("outside", default="nothing")


@workflow
async def counts_signals(ctx: WorkflowContext, signals: int) -> int:
    for _ in range(signals):
        await ctx.wait_for_signal("one more")
        await ctx.run("note", str)
    return signals


def test_what_comes_to_rest_again_and_again_is_no_spin_however_much_there_is_to_do() -> None:
    run = Run(counts_signals, 60)
    run.activate()
    for _ in range(60):
        run.platform.signal("one more")
    run.execution.kernel.step_limit = 20
    assert run.activate().status is Status.COMPLETED
    again = run.rebuilt()
    again.kernel.step_limit = 20
    for _ in Reenactment(again).slices():
        pass
    assert again.result == CompleteWorkflow(b"60")
