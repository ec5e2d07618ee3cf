"""The bodies of `ctx.run` in the host: deadlines, cancellations, and whatever a body may do to its worker."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from flovyn import OperationFailed, Workflow, WorkflowContext, workflow
from worker.fakes import until
from worker.test_execution import CLAIM, COMPLETE, MARK, TIMER, OneRun, executions, polled

pytestmark = pytest.mark.anyio


async def activated(definition: Workflow[..., Any], server: OneRun, *, at_ms: int = 0, cached: bool = True) -> None:
    """One activation, on the host's clock; what follows from what is recorded must be the same without a cache."""
    runs = executions(server, definition, cache_size=10 if cached else 0)
    execution = polled("run", b"null")
    execution.workflow_task_time_millis = at_ms or int(time.time() * 1000)
    try:
        with anyio.fail_after(5):
            await runs.execute(execution, CLAIM)
    finally:
        runs.close()


def records(server: OneRun) -> list[object]:
    """The results of the operations in history, markers left out."""
    data = [json.loads(event.event_data) for event in server.events if event.event_type == "OPERATION_COMPLETED"]
    return [each["result"] for each in data if each["name"] != "$flovyn.activation"]


def output(server: OneRun) -> Any:
    complete = server.submitted[-1].commands[-1].complete_workflow
    assert complete is not None
    return json.loads(complete.output)


async def soon() -> str:
    await anyio.sleep(0.01)
    return "done"


async def for_ever() -> None:
    await anyio.sleep_forever()


async def test_a_deadline_that_passes_while_a_body_runs_is_recorded_and_moves_the_clock() -> None:
    @workflow(kind="run")
    async def late(ctx: WorkflowContext) -> float:
        began = anyio.current_time()
        with anyio.move_on_after(0.05) as scope:
            await ctx.run("body", for_ever)
        assert scope.cancelled_caught
        passed = anyio.current_time() - began
        await anyio.sleep(1)
        return passed

    server = OneRun()
    await activated(late, server)
    started = server.submitted[-1].commands[2].start_timer
    assert started is not None
    assert records(server) == [{"$flovyn": {"v": 1, "deadline": started.timer_id}}]
    (sleep,) = [c.start_timer for c in server.submitted[-1].commands if c.start_timer and c.start_timer != started]
    server.append("TIMER_FIRED", timerId=sleep.timer_id)
    await activated(late, server)
    assert output(server) == pytest.approx(0.05, abs=1e-6)


async def test_a_deadline_counts_from_where_the_program_set_it() -> None:
    """The workflow's clock stands still in an activation: a body that took long must not use up later deadlines."""

    async def slow() -> None:
        await anyio.sleep(0.15)

    @workflow(kind="run")
    async def patient(ctx: WorkflowContext) -> str:
        await ctx.run("slow", slow)
        with anyio.fail_after(0.1):
            return await ctx.run("soon", soon)

    server = OneRun()
    await activated(patient, server)
    assert output(server) == "done"


async def test_bodies_in_one_scope_share_its_deadline() -> None:
    async def half() -> None:
        await anyio.sleep(0.06)

    @workflow(kind="run")
    async def one_after_the_other(ctx: WorkflowContext) -> int:
        done = 0
        with anyio.move_on_after(0.1):
            for _ in range(5):
                await ctx.run("half", half)
                done += 1
        return done

    server = OneRun()
    await activated(one_after_the_other, server)
    assert output(server) == 1


@pytest.mark.parametrize("skew", [-3_600_000, 3_600_000], ids=["behind", "ahead"])
async def test_the_servers_clock_need_not_be_the_hosts(skew: int) -> None:
    @workflow(kind="run")
    async def both(ctx: WorkflowContext) -> str:
        with anyio.move_on_after(0.05):
            await ctx.run("ever", for_ever)
        with anyio.fail_after(2):
            return await ctx.run("soon", soon)

    server = OneRun()
    await activated(both, server, at_ms=int(time.time() * 1000) + skew)
    assert output(server) == "done"


@pytest.mark.parametrize("moved", [3_600.0, None], ids=["later", "away"])
async def test_a_deadline_that_passed_before_it_was_moved_is_the_one_that_is_recorded(moved: float | None) -> None:
    """Both bodies end at the same moment; the answer of the one moves the deadline that has just ended the other."""
    at_once = anyio.Event()

    async def until_then() -> None:
        await at_once.wait()

    async def stubborn() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            at_once.set()
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.02)

    @workflow(kind="run")
    async def moves(ctx: WorkflowContext) -> float:
        began = anyio.current_time()
        async with anyio.create_task_group() as tg:
            with anyio.move_on_after(0.03) as scope:

                async def move() -> None:
                    await ctx.run("until then", until_then)
                    scope.deadline = float("inf") if moved is None else began + moved

                tg.start_soon(move)
                await ctx.run("stubborn", stubborn)
        passed = anyio.current_time() - began
        await anyio.sleep(1)
        return passed

    server = OneRun()
    await activated(moves, server)
    timers = [command.start_timer for command in server.submitted[-1].commands if command.start_timer]
    assert records(server) == [{"$flovyn": {"v": 1, "deadline": timers[0].timer_id}}, None]
    server.append("TIMER_FIRED", timerId=timers[-1].timer_id)
    await activated(moves, server, cached=False)
    assert output(server) == pytest.approx(0.03, abs=1e-6)


async def test_a_sibling_that_fails_cancels_a_body() -> None:
    ended: list[str] = []

    async def slow() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            ended.append("slow")

    async def fails() -> None:
        raise ValueError("no")

    @workflow(kind="run")
    async def siblings(ctx: WorkflowContext) -> str:
        try:
            async with anyio.create_task_group() as tg:
                tg.start_soon(ctx.run, "slow", slow)
                tg.start_soon(ctx.run, "fails", fails)
        except* OperationFailed:
            pass
        await anyio.sleep(1)
        return "caught"

    server = OneRun()
    await activated(siblings, server)
    assert ended == ["slow"]
    cancelled, failed = records(server)
    assert cancelled == {"$flovyn": {"v": 1, "cancelled": True}}
    assert isinstance(failed, dict)
    assert failed["$flovyn"]["error"]["message"] == "no"
    assert server.last()[:1] == [MARK]
    assert TIMER in server.last()
    timer = server.submitted[-1].commands[-2].start_timer
    assert timer is not None
    server.append("TIMER_FIRED", timerId=timer.timer_id)
    await activated(siblings, server, cached=False)
    assert server.last() == [MARK, COMPLETE]
    assert ended == ["slow"]


def exits() -> None:
    raise SystemExit(3)


async def exits_in_a_group() -> None:
    raise BaseExceptionGroup("of a task group", [SystemExit(3)])


async def awaits_what_was_cancelled() -> None:
    raise asyncio.CancelledError


@pytest.mark.parametrize(
    ("body", "error"),
    [(exits, "SystemExit"), (exits_in_a_group, "SystemExit"), (awaits_what_was_cancelled, "CancelledError")],
)
async def test_a_body_ends_neither_its_worker_nor_waits_for_ever(body: Callable[[], Any], error: str) -> None:
    @workflow(kind="run")
    async def told(ctx: WorkflowContext) -> str | None:
        try:
            await ctx.run("body", body)
        except OperationFailed as failed:
            return failed.error_type
        return None

    server = OneRun()
    await activated(told, server)
    assert output(server) == error


async def test_an_activation_that_is_cancelled_from_outside_ends_its_bodies_and_submits_nothing() -> None:
    events: list[str] = []

    async def slow() -> None:
        events.append("began")
        try:
            await anyio.sleep_forever()
        finally:
            events.append("ended")

    @workflow(kind="run")
    async def waits(ctx: WorkflowContext) -> None:
        await ctx.run("slow", slow)

    server = OneRun()
    runs = executions(server, waits)
    async with anyio.create_task_group() as tg:
        tg.start_soon(runs.execute, polled("run", b"null"), CLAIM)
        await until(lambda: events == ["began"])
        tg.cancel_scope.cancel()
    assert events == ["began", "ended"]
    assert server.submitted == []
    runs.close()


def same(number: int) -> int:
    return number


async def test_a_thousand_bodies_at_once() -> None:
    @workflow(kind="run")
    async def many(ctx: WorkflowContext) -> int:
        async with anyio.create_task_group() as tg:
            handles = [tg.create_task(ctx.run("body", same, number)) for number in range(1000)]
        await anyio.sleep(1)
        return sum(handle.return_value for handle in handles)

    server = OneRun()
    await activated(many, server)
    assert records(server) == list(range(1000))
    timer = server.submitted[-1].commands[-2].start_timer
    assert timer is not None
    server.append("TIMER_FIRED", timerId=timer.timer_id)
    await activated(many, server, cached=False)
    assert output(server) == sum(range(1000))


async def test_a_body_that_the_program_has_given_up_ends_before_the_next_one_is_over() -> None:
    events: list[str] = []

    async def slow() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            events.append("slow ended")

    async def next_one() -> None:
        await until(lambda: events)
        events.append("next one ended")

    @workflow(kind="run")
    async def goes_on(ctx: WorkflowContext) -> None:
        async with anyio.create_task_group() as tg:
            tg.start_soon(ctx.run, "slow", slow)
            await ctx.run("soon", soon)
            tg.cancel_scope.cancel()
        await ctx.run("next one", next_one)

    server = OneRun()
    await activated(goes_on, server)
    assert server.last()[-1] == COMPLETE
    assert events == ["slow ended", "next one ended"]


async def test_an_activation_that_has_used_its_share_submits_and_goes_on_in_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    @workflow(kind="run")
    async def three(ctx: WorkflowContext) -> list[str]:
        return [await ctx.run("soon", soon) for _ in range(3)]

    monkeypatch.setattr("flovyn.worker.operations._SHARE_SECONDS", 0.0)
    server = OneRun()
    for recorded in (1, 2):
        await activated(three, server, cached=False)
        assert records(server) == ["done"] * recorded
        timer = server.submitted[-1].commands[-2].start_timer
        assert timer is not None
        assert (timer.timer_id.partition("/")[0], timer.duration_ms) == ("$flovyn.soon", 0)
        server.append("TIMER_FIRED", timerId=timer.timer_id)
    await activated(three, server, cached=False)
    assert output(server) == ["done"] * 3
