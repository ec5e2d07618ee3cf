"""`ctx.run`: what is recorded, in which order, and what a replay makes of it."""

from __future__ import annotations

import gc
import weakref
from dataclasses import dataclass
from typing import Any, NoReturn

import anyio
import pytest

from flovyn.definitions import workflow
from flovyn.errors import (
    OperationFailed,
)
from flovyn.replay import Reenactment, reenactment
from flovyn.replay.commands import (
    CompleteWorkflow,
    RecordOperation,
    ScheduleTask,
    StartTimer,
)
from flovyn.replay.marker import Marker
from flovyn.replay.records import Answer, read_answer
from flovyn.workflow import WorkflowContext
from replay.cases import double, refund, ship
from replay.replay_platform import OPEN, START_MS, Run, drive, plain


@workflow
async def runs(ctx: WorkflowContext) -> list[int]:
    first = await ctx.run("first", lambda: 1)
    await anyio.sleep(1)
    async with anyio.create_task_group() as tg:
        handles = [tg.create_task(ctx.run(f"n{n}", int, n)) for n in range(3)]
    return [first, *(handle.return_value for handle in handles)]


@pytest.mark.parametrize("cached", [True, False])
def test_operations_are_recorded_in_call_order_and_not_run_again(cached: bool) -> None:
    run = Run(runs)
    first = plain(run.activate(cached=cached))
    assert first[0] == RecordOperation("first", b"1")
    run.platform.fire_next()
    assert plain(run.activate(cached=cached)) == [
        RecordOperation("n0", b"0"),
        RecordOperation("n1", b"1"),
        RecordOperation("n2", b"2"),
        CompleteWorkflow(b"[1,0,1,2]"),
    ]


@workflow
async def fails_inside(ctx: WorkflowContext) -> str:
    def broken() -> int:
        raise ValueError("no luck")

    try:
        await ctx.run("broken", broken)
    except OperationFailed as error:
        await anyio.sleep(5)
        return f"{error.name} {error.error_type} {error}"
    return "no error"


@pytest.mark.parametrize("cached", [True, False])
def test_a_failed_operation_is_recorded_and_raises_the_same_on_replay(cached: bool) -> None:
    run = Run(fails_inside)
    run.activate(cached=cached)
    run.platform.fire_next()
    assert plain(run.activate(cached=cached)) == [CompleteWorkflow(b'"broken ValueError ValueError: no luck"')]


def test_answers_in_another_order_than_the_calls_are_replayed_in_that_order() -> None:
    @workflow
    async def ordered(ctx: WorkflowContext) -> list[str]:
        order: list[str] = []

        async def call(name: str) -> None:
            order.append(await ctx.run(name, lambda: name))

        async with anyio.create_task_group() as tg:
            for name in ("a", "b", "c"):
                tg.start_soon(call, name)
        await anyio.sleep(1)
        return order

    run = Run(ordered)
    submission = drive(run.execution, START_MS, "aa", answer_last_first=True)
    marker = submission.commands[0]
    assert isinstance(marker, RecordOperation)
    assert Marker.decode(marker.result).ops == (2, 1, 0)
    run.platform.accept(submission)
    run.platform.fire_next()
    assert plain(run.activate(cached=False)) == [CompleteWorkflow(b'["c","b","a"]')]


@workflow
async def leaves_over(ctx: WorkflowContext) -> list[str]:
    async def begun_and_cancelled() -> None:
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as inner:
                inner.start_soon(ctx.run, "d", lambda: "d")
                await anyio.lowlevel.checkpoint()
                await anyio.lowlevel.checkpoint()
                scope.cancel()

    async with anyio.create_task_group() as tg:
        first = tg.create_task(ctx.run("c", lambda: "c"))
        tg.start_soon(begun_and_cancelled)
    await anyio.sleep(1)
    return [first.return_value]


@pytest.mark.parametrize("cached", [True, False])
def test_operations_that_are_left_over_come_first_in_the_next_activation(cached: bool) -> None:
    run = Run(leaves_over)
    exhausted = drive(run.execution, START_MS, "aa", exhausted=True)
    # "d" was cancelled, but its record waits for that of "c", so that the N-th call stays the N-th record.
    assert plain(exhausted) == [StartTimer("$flovyn.soon/aa", 0)]
    marker = exhausted.commands[0]
    assert isinstance(marker, RecordOperation)
    assert Marker.decode(marker.result).more
    run.platform.accept(exhausted)
    run.platform.fire_next()
    second = plain(run.activate(cached=cached, salt="bb"))
    assert second == [
        RecordOperation("c", b'"c"'),
        RecordOperation("d", b'{"$flovyn":{"v":1,"cancelled":true}}'),
        StartTimer("timer-0.bb", 1_000),
    ]
    run.platform.fire_next()
    assert plain(run.activate(cached=cached)) == [CompleteWorkflow(b'["c"]')]


def test_a_limit_is_rounded_up() -> None:
    @workflow
    async def brief(ctx: WorkflowContext) -> None:
        await ctx.schedule(refund.options(schedule_to_close=0.0001))

    (scheduled,) = plain(Run(brief).dry())
    assert isinstance(scheduled, ScheduleTask)
    assert scheduled.timeout_ms == 1


@dataclass
class Caller:  # compares by value, so it has no hash
    number: int

    def __call__(self) -> int:
        return self.number


def shy() -> int:
    return 2


shy.__annotations__["return"] = "json.NoSuchThing"  # as an import under TYPE_CHECKING leaves it


def test_anything_callable_is_an_operation() -> None:
    @workflow
    async def calls(ctx: WorkflowContext) -> list[Any]:
        return [await ctx.run("a", Caller(1)), await ctx.run("b", shy), await ctx.run("c", Caller(3).__call__)]

    assert Run(calls).dry().commands[-1] == CompleteWorkflow(b"[1,2,3]")


def test_what_never_returns_is_an_operation() -> None:
    @workflow
    async def gives_up(ctx: WorkflowContext) -> str:
        def broken() -> NoReturn:
            raise ValueError("no luck")

        try:
            await ctx.run("broken", broken)
        except OperationFailed as error:
            return str(error)
        return "no error"

    assert Run(gives_up).dry().commands[-1] == CompleteWorkflow(b'"ValueError: no luck"')


def test_a_function_inside_a_workflow_goes_with_it() -> None:
    inside: list[weakref.ref[Any]] = []

    @workflow
    async def defines(ctx: WorkflowContext) -> int:
        def one() -> int:
            return len(ctx.kind)

        inside.append(weakref.ref(one))
        return await ctx.run("one", one)

    Run(defines).dry()
    OPEN.pop().close()
    gc.collect()
    assert [reference() for reference in inside] == [None]


@pytest.mark.parametrize("cached", [True, False])
def test_an_event_that_an_exhausted_activation_did_not_come_to_is_shown_by_the_next(cached: bool) -> None:
    @workflow
    async def both(ctx: WorkflowContext) -> list[Any]:
        async with anyio.create_task_group() as tg:
            doubled = tg.create_task(ctx.schedule(double, 1))
            shipped = tg.create_task(run_after(ctx))
        return [doubled.return_value, shipped.return_value]

    async def run_after(ctx: WorkflowContext) -> str:
        await ctx.schedule(ship, "a")
        return await ctx.run("effect", lambda: "done")

    run = Run(both)
    run.activate()
    run.platform.complete("ship", "a")
    run.platform.complete("double", 2)
    run.execution.load(run.platform.events[run.execution.history.length :])
    stopped = drive(run.execution, run.platform.now_ms, "aa", exhausted=True)
    run.platform.accept(stopped)
    assert run.activate(cached=cached).commands[-1] == CompleteWorkflow(b'[2,"done"]')


@workflow
async def fans_out(ctx: WorkflowContext, bodies: int) -> None:
    async with anyio.create_task_group() as tg:
        for _ in range(bodies):
            tg.start_soon(ctx.run, "note", str)


def test_each_record_is_read_once_however_many_operations_are_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(fans_out, 300)
    run.platform.accept(drive(run.execution, START_MS, "aa", answer_last_first=True))
    reads: list[object] = []

    def counting(data: bytes) -> Answer:
        reads.append(data)
        return read_answer(data)

    monkeypatch.setattr(reenactment, "read_answer", counting)
    execution = run.rebuilt()
    for _ in Reenactment(execution).slices():
        pass
    assert execution.result == CompleteWorkflow(b"null")
    assert len(reads) == 300


@pytest.mark.parametrize("cached", [True, False])
def test_a_body_that_reaches_into_its_workflow_fails(cached: bool) -> None:
    """Nothing of that would stand in history, so a replay would wait for ever where the run had gone on."""

    @workflow
    async def reached_into(ctx: WorkflowContext) -> str:
        event = anyio.Event()
        try:
            await ctx.run("set", event.set)
        except OperationFailed as error:
            await anyio.sleep(1)
            return f"{error.error_type}, {event.is_set()}"
        return "set"

    run = Run(reached_into)
    run.activate(cached=cached)
    run.platform.fire_next()
    assert run.activate(cached=cached).commands[-1] == CompleteWorkflow(b'"DeterminismError, False"')
