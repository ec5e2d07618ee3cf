"""Histories with a past: forks, holds, retries, other SDKs; and what cannot be replayed at all."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import random
import time
from typing import Any

import anyio
import pytest

from flovyn import (
    DefinitionError,
    DeterminismError,
    DeterminismViolation,
    DeterminismWarning,
    MalformedMessage,
    RunawayWorkflow,
    WorkflowContext,
    task,
    workflow,
)
from flovyn.definitions import workflow_by_kind
from flovyn.nursery import Tripwires
from flovyn.replay import HistoryGap, fail, hold
from flovyn.testing import History, RecordedEvent, Replayer, Report
from replay.replay_platform import START_MS, WORKFLOW_ID, Run, drive
from testing.recording import history_of


@task
async def double(ctx: object, number: int) -> int:
    raise AssertionError("no body of a task is ever run")


@task
async def refund(ctx: object) -> None: ...


@workflow
async def one_task(ctx: WorkflowContext, number: int) -> float:
    return await ctx.schedule(double, number)


@workflow(kind="one_task")
async def adds_one(ctx: WorkflowContext, number: int) -> float:
    return 1 + await ctx.schedule(double, number)


def replay(source: Run | History, *code: Any) -> Report:
    return Replayer(code).replay(source if isinstance(source, History) else history_of(source))


def is_equal(report: Report, activations: int) -> bool:
    return (report.status, report.error, report.activations) == ("equal", None, activations)


def test_a_submission_that_does_not_count_is_passed_over_and_an_end_may_be_put_off_for_it() -> None:
    run = Run(one_task, 1)
    late = run.dry(salt="aa")
    run.activate(cached=False, salt="bb")
    good = run.platform.tasks("double")[0]
    run.platform.accept(late)
    stray = run.platform.tasks("double")[1]
    run.platform.append("TASK_COMPLETED", taskExecutionId=good, output=2)
    run.activate(cached=False, salt="cc")  # ends, but owes a cancel
    assert run.platform.events[-1].type == "WORKFLOW_SUSPENDED"
    assert is_equal(replay(run, one_task), 2)
    run.execution.tasks.answered[stray] = None
    run.activate()
    assert run.platform.events[-1].type == "WORKFLOW_COMPLETED"
    assert is_equal(replay(run, one_task), 3)
    report = replay(run, adds_one)
    assert report.activations == 2
    assert "expected 'completed: 2', got 'completed: 3'" in str(report.error)


def test_an_end_that_history_does_not_have_is_no_end_that_was_put_off() -> None:
    @workflow(kind="twice")
    async def twice(ctx: WorkflowContext) -> None:
        await ctx.schedule(double, 1)
        with anyio.move_on_after(0.5):
            await anyio.sleep(1)

    @workflow(kind="twice")
    async def not_any_more(ctx: WorkflowContext) -> None:
        async with anyio.create_task_group() as tg:
            tg.create_task(ctx.schedule(double, 1))

    run = Run(twice)
    run.activate()
    run.platform.complete("double", 2)
    assert is_equal(replay(run, not_any_more), 1)  # nobody has seen that it ended
    run.activate()
    report = replay(run, not_any_more)
    assert str(report.error) == (
        "Determinism violation: Timer call missing at sequence 0: activation 2 made it, the code does not"
    )
    assert report.diff == (
        "--- history: activation 2, events 6 to 9\n+++ code: twice 1.0.0\n@@ -1,3 +1,1 @@\n"
        "-timer of 500 ms\n-timer of 1000 ms\n-suspended: Waiting for timer timer-1.s2 to fire\n+completed: null\n"
    )


def test_code_that_ends_while_history_goes_on_is_a_violation_even_without_a_call_that_differs() -> None:
    @workflow(kind="patient")
    async def patient(ctx: WorkflowContext) -> None:
        async with anyio.create_task_group() as tg:
            tg.create_task(anyio.sleep(60))
            await ctx.schedule(double, 1)

    @workflow(kind="patient")
    async def hasty(ctx: WorkflowContext) -> None:
        async with anyio.create_task_group() as tg:
            tg.create_task(anyio.sleep(90))
            await ctx.schedule(double, 1)
            tg.cancel_scope.cancel()

    run = Run(patient)
    run.activate()
    run.platform.complete("double", 2)
    run.activate()
    report = replay(run, hasty)
    assert str(report.error) == (
        "Determinism violation: Workflow end mismatch in activation 2: "
        "expected 'suspended: Waiting for timer timer-0.s1 to fire', got 'completed: null'"
    )
    assert report.diff == (
        "--- history: activation 2, events 7 to 8\n+++ code: patient 1.0.0\n@@ -1,1 +1,1 @@\n"
        "-suspended: Waiting for timer timer-0.s1 to fire\n+completed: null\n"
    )


def test_what_holds_or_fails_a_run_that_cannot_go_on_holds_nothing_of_the_program() -> None:
    error = DeterminismViolation("other code")
    for submission in (hold(error, at_ms=1, salt="hh", holds=0), fail(error, at_ms=1, salt="hh")):
        run = Run(one_task, 1)
        run.activate()
        run.platform.complete("double", 2)
        run.platform.accept(submission)
        assert is_equal(replay(run, one_task), 1)
        assert is_equal(replay(run, adds_one), 1)


def test_an_end_that_was_retried_does_not_count() -> None:
    @workflow(kind="one_task")
    async def breaks(ctx: WorkflowContext, number: int) -> float:
        await ctx.schedule(double, number)
        raise LookupError(number)

    run = Run(breaks, 1)
    run.activate()
    run.platform.complete("double", 2)
    run.activate()
    assert run.platform.events[-1].type == "WORKFLOW_EXECUTION_FAILED"
    failed = replay(run, one_task)
    assert "expected 'failed: LookupError: 1', got 'completed: 2'" in str(failed.error)
    assert is_equal(replay(run, breaks), 2)
    run.workflow = one_task
    run.activate(cached=False)
    assert run.platform.events[-1].type == "WORKFLOW_COMPLETED"
    assert is_equal(replay(run, one_task), 2)
    assert "expected 'completed: 2', got 'failed: LookupError: 1'" in str(replay(run, breaks).error)


def test_a_workflow_that_the_server_ended_is_equal_as_far_as_code_has_seen_it() -> None:
    run = Run(one_task, 1)
    run.activate()
    run.platform.append("CANCELLATION_REQUESTED", reason="enough")
    run.platform.append("WORKFLOW_CANCELLED", reason="grace is over")
    assert is_equal(replay(run, one_task), 1)
    assert is_equal(replay(run, adds_one), 1)


def test_a_cancelled_end_is_compared_by_its_kind() -> None:
    @workflow(kind="one_task")
    async def shielded(ctx: WorkflowContext, number: int) -> float:
        try:
            return await ctx.schedule(double, number)
        except BaseException:  # noqa: ASYNC103
            return 7  # noqa: ASYNC104 - it completes all the same

    run = Run(one_task, 1)
    run.activate()
    run.platform.append("CANCELLATION_REQUESTED", reason="enough")
    run.activate()
    run.execution.tasks.answered[run.platform.tasks("double")[0]] = None
    run.activate()
    assert run.platform.events[-1].type == "WORKFLOW_CANCELLED"
    assert is_equal(replay(run, one_task), 3)
    assert "expected 'cancelled: enough', got 'completed: 7'" in str(replay(run, shielded).error)


# --- values ---------------------------------------------------------------------------------


OUTPUTS: list[tuple[str, tuple[Any, ...], str]] = [
    ("[1, {}]", (1.0, {}), "equal"),
    ("[1.0, {}]", (1, {}), "equal"),
    ('[1, {"b": 1, "a": 2.0}]', (1, {"a": 2, "b": 1}), "equal"),
    ("[1, {}]", (1.5, {}), "violation"),
    ("[1, {}]", (True, {}), "violation"),
    ("[1, {}]", (1, {"a": None}), "violation"),
    ("[1, {}]", (1,), "violation"),
    ("null", (), "violation"),
]


@pytest.mark.parametrize(
    ("recorded_output", "now", "status"),
    OUTPUTS,
)
def test_outputs_are_compared_as_json_where_a_number_is_its_value(recorded_output: str, now: Any, status: str) -> None:
    @workflow(kind="value")
    async def value(ctx: WorkflowContext) -> Any:
        return list(now)

    run = Run(value)
    run.activate()
    history = history_of(run)
    end = dataclasses.replace(history.events[-1], data=f'{{"output":{recorded_output}}}'.encode())
    assert replay(dataclasses.replace(history, events=(*history.events[:-1], end)), value).status == status


def test_no_body_of_an_operation_is_run() -> None:
    def recorded_body() -> str:
        return "once"

    def never() -> str:
        raise AssertionError("the body was run")

    def code(body: Any, *names: str) -> Any:
        @workflow(kind="effects")
        async def effects(ctx: WorkflowContext) -> list[str]:
            return [await ctx.run(name, body) for name in names]

        return effects

    run = Run(code(recorded_body, "a", "b"))
    run.activate()
    assert is_equal(replay(run, code(never, "a", "b")), 1)
    report = replay(run, code(never, "a", "b", "c"))
    assert str(report.error) == ("Determinism violation: operation 2 has no record: activation 1 did not call it")
    assert report.diff == (
        "--- history: activation 1, events 2 to 5\n+++ code: effects 1.0.0\n@@ -1,3 +1,4 @@\n"
        ' run a\n run b\n-completed: ["once","once"]\n+run c\n+suspended: Waiting for the operation c\n'
    )


# --- what cannot be replayed ----------------------------------------------------------------


@workflow(kind="one_task")
async def reaches_outside(ctx: WorkflowContext, number: int) -> float:
    await asyncio.sleep(1)
    return 0


@workflow(kind="one_task")
async def opens_a_file(ctx: WorkflowContext, number: int) -> float:
    open(__file__, encoding="utf-8").close()  # noqa: ASYNC230, PTH123 - as users do
    return 0


@workflow(kind="one_task")
async def rolls_dice(ctx: WorkflowContext, number: int) -> float:
    return random.random()


@workflow(kind="one_task")
async def reads_the_clock(ctx: WorkflowContext, number: int) -> float:
    await ctx.schedule(double, number)
    return time.time()


@workflow(kind="one_task")
async def spins(ctx: WorkflowContext, number: int) -> float:
    while True:
        await anyio.lowlevel.checkpoint()


@pytest.mark.parametrize(
    ("code", "error", "line"),
    [
        (reaches_outside, DeterminismError, "asyncio.sleep(1)"),
        (opens_a_file, DeterminismError, "open(__file__"),
        (rolls_dice, DeterminismError, "random.random()"),
        (spins, RunawayWorkflow, "in spins"),
    ],
)
def test_code_that_leaves_the_deterministic_world_is_an_error_with_its_trace(
    code: Any, error: type[Exception], line: str
) -> None:
    run = Run(one_task, 1)
    run.activate()
    report = Replayer([code], step_limit=200).replay(history_of(run))
    assert (report.status, type(report.error), report.activations, report.events, report.diff) == (
        "error", error, 0, None, "",
    )  # fmt: skip
    assert line in report.trace
    assert str(report) == f"error: one_task {WORKFLOW_ID}: {error.__name__}: {report.error}"
    with pytest.raises(error) as raised:
        report.raise_for_status()
    assert raised.value is report.error


def test_the_tripwires_can_be_told_otherwise() -> None:
    run = Run(one_task, 1)
    run.activate()
    run.platform.complete("double", 2)
    history = history_of(run)
    assert is_equal(Replayer([reads_the_clock]).replay(history), 1)  # the second activation stands in no history yet
    run.activate()
    history = history_of(run)
    report = Replayer([reads_the_clock]).replay(history)
    assert str(report.error) == (
        "workflow code called time.time(...), which no replay can follow; use ctx.current_time() or "
        "anyio.current_time(), which read the same on every replay"
    )
    with pytest.warns(DeterminismWarning, match=r"workflow code called time\.time"):
        report = Replayer([reads_the_clock], tripwires=Tripwires()).replay(history)
    assert report.status == "violation"
    report = Replayer([reads_the_clock], tripwires=Tripwires(clock="off")).replay(history)
    assert report.status == "violation"


def with_events(*events: tuple[str, Any]) -> History:
    listed = [RecordedEvent(n, kind, json.dumps(data).encode()) for n, (kind, data) in enumerate(events, 1)]
    return History(workflow_id=WORKFLOW_ID, kind="one_task", events=tuple(listed), input=b"1", source="a.json")


def marker(**data: Any) -> tuple[str, Any]:
    return ("OPERATION_COMPLETED", {"operationName": "$flovyn.activation", "result": data})


SENSELESS: list[tuple[list[tuple[str, Any]], type[Exception], str]] = [
    ([("TASK_COMPLETED", {"taskExecutionId": 7})], MalformedMessage, "event 2 (TASK_COMPLETED)"),
    ([marker(id=7), ("WORKFLOW_SUSPENDED", {})], MalformedMessage, "the marker of an activation cannot be read"),
    ([marker(id="a", after=40, seen=1, at=1), ("WORKFLOW_SUSPENDED", {})], HistoryGap, "follows 40"),
]


@pytest.mark.parametrize(
    ("events", "error", "text"),
    SENSELESS,
)
def test_events_that_make_no_sense_are_an_error(
    events: list[tuple[str, Any]], error: type[Exception], text: str
) -> None:
    report = replay(with_events(("WORKFLOW_STARTED", {}), *events), one_task)
    assert (report.status, type(report.error)) == ("error", error)
    assert text in str(report.error)
    assert str(report).startswith(f"error: one_task {WORKFLOW_ID} (a.json): {error.__name__}: ")


def test_a_record_that_cannot_be_read_is_an_error_and_beside_a_violation_it_is_no_surprise() -> None:
    @workflow(kind="one_task")
    async def effects(ctx: WorkflowContext, number: int) -> float:
        await ctx.run("a", lambda: 1)
        return await ctx.schedule(double, number)

    unknown = ("OPERATION_COMPLETED", {"operationName": "a", "result": {"$flovyn": {"v": 99}}})
    block = [marker(id="a", after=0, seen=1, at=1), unknown, ("WORKFLOW_COMPLETED", {"output": 1})]
    report = replay(with_events(("WORKFLOW_STARTED", {}), *block), effects)
    assert (report.status, type(report.error)) == ("error", MalformedMessage)
    report = replay(with_events(("WORKFLOW_STARTED", {}), *block), one_task)
    assert report.status == "violation"
    assert report.diff.splitlines()[3:6] == ["-run a", "-completed: 1", "+task double"]


def test_a_history_of_a_kind_that_nobody_gave_is_an_error() -> None:
    report = replay(
        with_events(("WORKFLOW_STARTED", {})), workflow(kind="b")(one_task.fn), workflow(kind="a")(one_task.fn)
    )
    assert (report.status, str(report.error)) == (
        "error", "the history is of workflow kind 'one_task'; the replayer was given: b, a",
    )  # fmt: skip
    assert isinstance(report.error, DefinitionError)


@pytest.mark.parametrize(
    ("workflows", "message"),
    [
        ([one_task, adds_one], "two workflows are of the kind 'one_task'"),
        ([workflow_by_kind("there")], "has no code here to be replayed: give the @workflow itself$"),
        ([double], "is no workflow"),
    ],
)
def test_a_replayer_takes_workflows_with_code_one_of_each_kind(workflows: list[Any], message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        Replayer(workflows)


def test_reports_come_in_order_and_as_data() -> None:
    run = Run(one_task, 1)
    run.activate()
    history = dataclasses.replace(history_of(run), source="a.json")
    good, bad = Replayer([one_task]).replay_all([history, dataclasses.replace(history, kind="other")])
    assert good.as_data() == {
        "status": "equal", "workflowId": WORKFLOW_ID, "kind": "one_task", "source": "a.json", "activations": 1,
        "events": None, "diff": "", "error": None, "trace": "",
    }  # fmt: skip
    assert str(good) == f"equal: one_task {WORKFLOW_ID} (a.json): 1 activation"
    data = json.loads(json.dumps(bad.as_data()))
    assert (data["status"], data["error"]["type"]) == ("error", "DefinitionError")
    assert data["trace"].startswith("Traceback (most recent call last):\n")


def test_a_program_whose_execution_differs_each_time_is_a_violation_that_says_so() -> None:
    calls = iter([True, True, False])

    @workflow(kind="one_task")
    async def moody(ctx: WorkflowContext, number: int) -> float:
        if next(calls):
            await ctx.schedule(double, number)
            await ctx.schedule(refund)
        return 0

    run = Run(one_task, 1)
    run.activate()
    run.platform.complete("double", 2)
    run.activate()
    next(calls)
    report = replay(run, moody)
    assert report.status == "violation"
    assert report.diff.splitlines()[-1] == (
        "+stopped: Determinism violation: Task call missing at sequence 0: activation 1 made it, the code does not"
    )


def test_an_output_of_any_depth_that_can_be_read_is_compared() -> None:
    nested = b"[" * 600 + b"1" + b"]" * 600

    @workflow(kind="deep")
    async def deep(ctx: WorkflowContext, value: Any) -> Any:
        return value

    @workflow(kind="deep")
    async def deeper(ctx: WorkflowContext, value: Any) -> Any:
        return [value]

    run = Run(deep)
    run.activate()
    history = history_of(run)
    end = dataclasses.replace(history.events[-1], data=b'{"output":' + nested + b"}")
    history = dataclasses.replace(history, input=nested, events=(*history.events[:-1], end))
    assert is_equal(replay(history, deep), 1)
    report = replay(history, deeper)
    assert report.status == "violation"
    assert report.diff.splitlines()[-1] == "+completed: " + "[" * 159 + "…"


@workflow
async def notes(ctx: WorkflowContext) -> None:
    await ctx.run("first", str)


@workflow(kind="notes")
async def other_notes(ctx: WorkflowContext) -> None:
    await ctx.run("another", str)


def test_an_operation_that_was_left_to_the_next_activation_has_to_be_the_same() -> None:
    run = Run(notes)
    run.platform.accept(drive(run.execution, START_MS, "aa", exhausted=True))
    run.platform.fire_next()
    run.activate()
    assert is_equal(replay(run, notes), 2)
    report = replay(run, other_notes)
    assert report.status == "violation"
    assert "Operation name mismatch at sequence 0: expected 'first', got 'another'" in str(report.error)
    changed = ["-run first", "-completed: null", "+run another", "+suspended: Waiting for the operation another"]
    assert report.diff.splitlines()[3:] == changed
