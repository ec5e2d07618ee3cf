"""What the context tells, and the operations that need no other side: times, chance, logs, conditions, patches."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from random import Random
from typing import Any

import anyio
import pytest

from flovyn.definitions import workflow
from flovyn.errors import UsageError
from flovyn.replay.commands import CompleteWorkflow, RecordOperation, StartTimer
from flovyn.replay.identifiers import Xorshift
from flovyn.workflow import WorkflowContext
from replay.replay_platform import START_MS, WORKFLOW_ID, plain
from workflow.cases import CACHED, Order, charge, result, running


def test_what_the_context_knows() -> None:
    @workflow
    async def knows(ctx: WorkflowContext, order: Order) -> list[Any]:
        cancelled: list[Any] = [ctx.is_cancellation_requested, ctx.cancel_reason]
        return [ctx.workflow_execution_id, ctx.org_id, ctx.kind, ctx.queue, ctx.input, *cancelled, repr(ctx)]

    assert result(running(knows, {"id": "a"}).dry()) == [
        WORKFLOW_ID,
        "org",
        "knows",
        "default",
        {"id": "a"},
        False,
        None,
        f"<WorkflowContext knows {WORKFLOW_ID}>",
    ]


@CACHED
def test_sleeps_take_any_form_of_time(cached: bool) -> None:
    @workflow
    async def sleeps(ctx: WorkflowContext) -> list[str]:
        seen: list[str] = []
        await ctx.sleep(timedelta(minutes=1))
        seen.append(ctx.current_time().isoformat())
        await ctx.sleep_until(datetime(2025, 11, 24, 17, 0, tzinfo=UTC))
        seen.append(ctx.current_time().isoformat())
        await ctx.sleep_until(datetime(2020, 1, 1, tzinfo=UTC))
        await ctx.sleep(0)
        return seen

    run = running(sleeps)
    start = datetime.fromtimestamp(START_MS / 1000, UTC)
    (first,) = plain(run.activate(cached=cached, salt="a"))
    assert first == StartTimer("timer-0.a", 60_000)
    run.platform.fire_next()
    (second,) = plain(run.activate(cached=cached, salt="b"))
    until = datetime(2025, 11, 24, 17, 0, tzinfo=UTC)
    left = until - start - timedelta(minutes=1)
    assert second == StartTimer("timer-1.b", left // timedelta(milliseconds=1))
    run.platform.fire_next()
    assert result(run.activate(cached=cached)) == [(start + timedelta(minutes=1)).isoformat(), until.isoformat()]


WRONG: list[tuple[Callable[[Any], Awaitable[object]], str]] = [
    (lambda ctx: ctx.sleep(-1), "time=-1 has to be a timedelta or a number of seconds, and not negative"),
    (lambda ctx: ctx.sleep(float("nan")), "time=nan has to be"),
    (lambda ctx: ctx.sleep("1"), "time='1' has to be"),
    (lambda ctx: ctx.sleep(timedelta(days=-1)), "time=datetime.timedelta(days=-1) has to be"),
    (
        lambda ctx: ctx.sleep_until(datetime(2025, 1, 1)),
        "when=datetime.datetime(2025, 1, 1, 0, 0) has no time zone, so nobody knows which moment is meant: "
        "write datetime(..., tzinfo=UTC), or start from ctx.current_time()",
    ),
    (lambda ctx: ctx.sleep_until(5), "when=5 has to be a datetime with a time zone"),
    (lambda ctx: ctx.wait_condition(True), "True cannot be a condition: give a plain function"),
    (lambda ctx: ctx.wait_condition(anyio.sleep), "cannot be a condition: give a plain function"),
    (lambda ctx: ctx.wait_condition(partial(anyio.sleep, 1)), "cannot be a condition: give a plain function"),
    (lambda ctx: ctx.wait_condition(lambda: anyio.sleep(1)), "waits for something: it may only look"),
    (lambda ctx: ctx.run("$x", int), "'$x' cannot be used as operation name"),
    (lambda ctx: ctx.wait_for_signal(""), "'' cannot be used as signal name"),
]


@pytest.mark.parametrize(("call", "message"), WRONG)
def test_wrong_arguments_are_told_with_their_remedy(call: Any, message: str) -> None:
    seen: list[str] = []

    @workflow
    async def wrong(ctx: WorkflowContext) -> None:
        try:
            await call(ctx)
        except UsageError as error:
            seen.append(error.message)

    assert plain(running(wrong).dry()) == [CompleteWorkflow(b"null")]
    assert message in seen[0]


def test_chance_is_the_platforms_own() -> None:
    @workflow
    async def draws(ctx: WorkflowContext) -> list[Any]:
        first = [str(ctx.random_uuid()), ctx.random()]
        dice = ctx.new_random()
        return [*first, dice.random(), dice.sample(range(10), 3), ctx.random()]

    other = running(draws).execution
    numbers = Xorshift(WORKFLOW_ID, other.read_only)
    with other.kernel.activation():
        first, seed, last = numbers.random(), numbers.next(), numbers.random()
    dice = Random(seed)
    assert result(running(draws).dry()) == [
        "f26e0a44-20ff-520d-a90a-02a2a4592ab2",
        first,
        dice.random(),
        dice.sample(range(10), 3),
        last,
    ]
    assert first == pytest.approx(0.0972162519)


@CACHED
def test_the_logger_says_everything_once(cached: bool, caplog: pytest.LogCaptureFixture) -> None:
    @workflow(kind="talks")
    async def talks(ctx: WorkflowContext) -> None:
        ctx.logger.info("begun by %s", "me", extra={"more": 1})
        await anyio.sleep(1)
        ctx.logger.warning("slept")
        await anyio.sleep(1)
        ctx.logger.debug("not of this level")

    run = running(talks)
    with caplog.at_level(logging.INFO, "flovyn.workflow.talks"):
        run.activate(cached=cached)
        run.platform.fire_next()
        run.activate(cached=cached)
        run.platform.fire_next()
        run.activate(cached=cached)
        run.rebuilt_and_caught_up()
    assert caplog.record_tuples == [
        ("flovyn.workflow.talks", logging.INFO, "begun by me"),
        ("flovyn.workflow.talks", logging.WARNING, "slept"),
    ]
    record: Any = caplog.records[0]
    assert (record.workflow_execution_id, record.workflow_kind, record.org_id, record.more) == (
        WORKFLOW_ID,
        "talks",
        "org",
        1,
    )
    assert record.filename == "test_context.py"


def test_an_evicted_run_logs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    @workflow
    async def talks(ctx: WorkflowContext) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            ctx.logger.warning("leaving")

    run = running(talks)
    run.activate()
    run.execution.close()
    assert caplog.records == []


@CACHED
def test_one_of_those_that_wait_for_a_condition_goes_on_and_the_rest_look_again(cached: bool) -> None:
    @workflow
    async def stock(ctx: WorkflowContext) -> list[str]:
        left = 0
        served: list[str] = []

        async def take(name: str) -> None:
            nonlocal left
            await ctx.wait_condition(lambda: left > 0)
            left -= 1
            served.append(name)

        async with anyio.create_task_group() as tg:
            for name in "abc":
                tg.start_soon(take, name)
            for _ in range(2):
                left += await ctx.wait_for_signal("delivery")
        return served

    run = running(stock)
    run.activate(cached=cached)
    run.platform.signal("delivery", 1)
    run.activate(cached=cached)
    assert run.execution.result is None
    run.platform.signal("delivery", 2)
    assert result(run.activate(cached=cached)) == ["a", "b", "c"]


def test_a_condition_only_looks_and_its_errors_are_its_own() -> None:
    seen: list[str] = []

    @workflow
    async def looks(ctx: WorkflowContext) -> None:
        for predicate in (
            lambda: bool(ctx.schedule_async(charge, Order("a"))),
            lambda: ctx.random() > 2,
            lambda: 1 // 0 > 0,
        ):
            try:
                await ctx.wait_condition(predicate)
            except (UsageError, ZeroDivisionError) as error:
                seen.append(str(error))

    assert plain(running(looks).dry()) == [CompleteWorkflow(b"null")]
    assert [text.split(" in ")[0] for text in seen] == [
        "cannot schedule a task",
        "cannot draw random numbers",
        "integer division or modulo by zero",
    ]


@CACHED
def test_a_patch_is_taken_by_those_that_come_to_it_first_with_the_new_code(cached: bool) -> None:
    new_code = False

    @workflow(kind="changes")
    async def changes(ctx: WorkflowContext) -> list[bool]:
        taken: list[bool] = []
        for _ in range(2):
            taken.append(new_code and ctx.patched("better"))
            await anyio.sleep(1)
        return taken

    run = running(changes)
    run.activate()
    new_code = True
    run.execution.close()
    run.platform.fire_next()
    second = run.activate(cached=False)
    assert RecordOperation("$flovyn.patched:better", b"true") in plain(second)
    run.platform.fire_next()
    assert result(run.activate(cached=cached)) == [False, True]


@CACHED
def test_an_evicted_run_reaches_nobody(cached: bool) -> None:
    ended: list[str] = []

    @workflow
    async def stubborn(ctx: WorkflowContext) -> None:
        try:
            await ctx.wait_for_signal("never")
        finally:
            handle = ctx.schedule_async(charge, Order("a"))
            child = ctx.create_promise("p")
            ctx.set("key", 1)
            ctx.clear_all()
            ended.append(f"{handle.task_id!r} {child.name}")
            handle.cancel()
            await handle  # noqa: ASYNC102
            ended.append("never")

    run = running(stubborn)
    run.activate(cached=cached)
    run.execution.close()
    assert ended == ["'' p"]
    assert run.execution.tasks.owed() == []
