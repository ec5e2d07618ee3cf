"""A cancellation before, while and after each operation that waits."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import anyio
import pytest

from flovyn import serde
from flovyn.definitions import OnCancel, workflow
from flovyn.replay.commands import CancelTimer, CompleteWorkflow, RequestCancelChild, StartTimer
from flovyn.workflow import WorkflowContext
from replay.replay_platform import Platform, Run, plain
from workflow.cases import CACHED, Order, charge, invoice, result, running

Call = Callable[[WorkflowContext], Coroutine[Any, Any, Any]]


@dataclass
class Operation:
    """Something that waits.

    Attributes:
        call: Begins it.
        end: Has it end well, with `value` as its result.
        value: What it then gives, as JSON data.
        stays: Whether a cancelled wait goes on until the end.
    """

    call: Call
    end: Callable[[Platform], object]
    value: Any
    stays: bool = False


async def condition(ctx: WorkflowContext) -> str:
    """Waits for what a signal brings about."""
    await ctx.wait_condition(lambda: ctx.has_signal("s"))
    return "held"


def fire_slept(platform: Platform) -> None:
    slept = next(e for e in platform.events if e.type == "TIMER_STARTED" and e.data.duration_ms == 77_000)
    platform.append("TIMER_FIRED", timerId=slept.data.timer_id)


def task_operation(how: OnCancel) -> Operation:
    return Operation(
        lambda ctx: ctx.schedule(charge.options(on_cancel=how), Order("a")),
        lambda platform: platform.complete("charge", 5),
        5,
        stays=how == "wait",
    )


def child_operation(how: OnCancel) -> Operation:
    return Operation(
        lambda ctx: ctx.schedule_workflow(invoice.options(on_cancel=how), "june"),
        lambda platform: platform.complete_child("invoice-1", {"id": "x", "amount": 2}),
        {"id": "x", "amount": 2},
        stays=how == "wait",
    )


OPERATIONS: dict[str, Operation] = {
    "task request": task_operation("request"),
    "task wait": task_operation("wait"),
    "task abandon": task_operation("abandon"),
    "child request": child_operation("request"),
    "child wait": child_operation("wait"),
    "child abandon": child_operation("abandon"),
    "promise": Operation(lambda ctx: ctx.promise("p"), lambda platform: platform.resolve("p", "yes"), "yes"),
    "signal": Operation(lambda ctx: ctx.wait_for_signal("s"), lambda platform: platform.signal("s", 1), 1),
    "condition": Operation(condition, lambda platform: platform.signal("s", 1), "held"),
    "sleep": Operation(lambda ctx: ctx.sleep(77), fire_slept, None),
}
EACH = pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)


@workflow
async def cancelled_before(ctx: WorkflowContext) -> list[bool]:
    reached: list[bool] = []
    for operation in OPERATIONS.values():
        with anyio.CancelScope() as scope:
            scope.cancel()
            await operation.call(ctx)
            reached.append(True)
        reached.append(scope.cancelled_caught)
    return reached


def test_in_a_cancelled_scope_nothing_begins() -> None:
    assert result(running(cancelled_before).dry()) == [True] * len(OPERATIONS)


BEGIN: list[Callable[[WorkflowContext], object]] = [
    lambda ctx: ctx.schedule_async(charge, Order("a")),
    lambda ctx: ctx.schedule_workflow_async(invoice, "june"),
    lambda ctx: ctx.create_promise("p"),
]


@CACHED
@pytest.mark.parametrize("begin", BEGIN)
def test_nor_does_what_does_not_wait(cached: bool, begin: Callable[[WorkflowContext], object]) -> None:
    @workflow
    async def begins(ctx: WorkflowContext) -> bool:
        with anyio.CancelScope() as scope:  # noqa: ASYNC100
            scope.cancel()
            begin(ctx)
        return scope.cancelled_caught

    assert result(running(begins).activate(cached=cached)) is True


def raced(operation: Operation) -> Run:
    """A run whose operation stands in a scope that a signal cancels."""

    @workflow
    async def waits(ctx: WorkflowContext) -> list[Any]:
        scope = anyio.CancelScope()
        got: list[Any] = []

        async def watch() -> None:
            await ctx.wait_for_signal("cancel")
            scope.cancel("for the test")

        async with anyio.create_task_group() as tg:
            tg.start_soon(watch)
            with scope:
                got.append(await operation.call(ctx))
            tg.cancel_scope.cancel()
        return [*got, scope.cancelled_caught]

    return running(waits)


@CACHED
@EACH
def test_cancelled_while_it_waits(cached: bool, operation: Operation) -> None:
    run = raced(operation)
    run.activate(cached=cached)
    run.platform.signal("cancel")
    last = run.activate(cached=cached)
    if not operation.stays:
        assert CompleteWorkflow(b"[true]") in (last.commands[-1], run.execution.result)
        return
    assert run.execution.result is None
    operation.end(run.platform)
    value = run.activate(cached=cached)
    # It ended well after all: that is what counts, and the next wait would raise.
    (command,) = [command for command in plain(value) if isinstance(command, CompleteWorkflow)]
    assert command == CompleteWorkflow(ended_well(operation.value))


def ended_well(value: Any) -> bytes:
    return serde.encode([value, False])


@CACHED
@EACH
@pytest.mark.parametrize("together", [True, False], ids=["together", "apart"])
def test_cancelled_after_it_has_ended(cached: bool, operation: Operation, together: bool) -> None:
    run = raced(operation)
    run.activate(cached=cached)
    operation.end(run.platform)
    if together:
        run.platform.signal("cancel")
    last = run.activate(cached=cached)
    assert [command for command in plain(last) if isinstance(command, CompleteWorkflow)] == [
        CompleteWorkflow(ended_well(operation.value))
    ]
    assert run.execution.tasks.owed() == []


@CACHED
def test_what_the_server_is_told(cached: bool) -> None:
    @workflow
    async def all_at_once(ctx: WorkflowContext) -> None:
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as tg:
                for name in ("task request", "task abandon", "child request", "child abandon", "promise", "sleep"):
                    tg.start_soon(OPERATIONS[name].call, ctx)
                await ctx.wait_for_signal("cancel")
                scope.cancel()
        await ctx.wait_for_signal("end")

    run = running(all_at_once)
    first = plain(run.activate(cached=cached))
    (timer,) = [command.timer_id for command in first if isinstance(command, StartTimer)]
    requested, abandoned = run.platform.tasks("charge")
    run.platform.signal("cancel")
    run.activate(cached=cached)
    assert run.execution.tasks.owed() == [requested]
    run.platform.append("TASK_CANCELLED", taskExecutionId=requested, kind="charge", reason="")
    second = plain(run.activate(cached=cached, salt="zz"))
    child = run.platform.child("invoice-1")
    assert CancelTimer(timer) in second
    assert [command for command in second if isinstance(command, RequestCancelChild)] == [
        RequestCancelChild("invoice-1", child, "cancelled by its parent")
    ]
    assert run.platform.tasks("charge") == [abandoned]


@CACHED
@pytest.mark.parametrize("name", ["task wait", "child wait"])
def test_a_wait_that_stays_ends_with_the_cancellation_if_the_work_was_cancelled(cached: bool, name: str) -> None:
    run = raced(OPERATIONS[name])
    run.activate(cached=cached)
    run.platform.signal("cancel")
    run.activate(cached=cached)
    if name == "task wait":
        run.platform.append("TASK_FAILED", taskExecutionId=run.platform.tasks("charge")[0], error="Task cancelled")
    else:
        run.platform.cancel_child("invoice-1", "asked")
    last = run.activate(cached=cached)
    assert CompleteWorkflow(b"[true]") in (last.commands[-1], run.execution.result)


@CACHED
def test_a_signal_that_was_assigned_is_delivered_though_the_wait_is_cancelled_meanwhile(cached: bool) -> None:
    @workflow
    async def assigned(ctx: WorkflowContext) -> list[Any]:
        got: list[Any] = []
        with anyio.CancelScope() as scope:

            async def cancels() -> None:
                got.append(await ctx.wait_for_signal("s"))
                # The second signal is not here yet: the second waiter waits, and is cancelled.
                scope.cancel()

            async def waits() -> None:
                got.append(await ctx.wait_for_signal("s"))

            async with anyio.create_task_group() as tg:
                tg.start_soon(cancels)
                tg.start_soon(waits)
        return [*got, ctx.pending_signals("s"), await ctx.wait_for_signal("s")]

    run = running(assigned)
    run.activate(cached=cached)
    run.platform.signal("s", 1)
    run.platform.signal("s", 2)
    assert result(run.activate(cached=cached)) == [1, 0, 2]


@CACHED
def test_cancelled_at_the_root_shielded_code_may_still_begin_things(cached: bool) -> None:
    @workflow
    async def cleans_up(ctx: WorkflowContext) -> None:
        try:
            await ctx.schedule(charge, Order("a"))
        finally:
            assert ctx.is_cancellation_requested
            assert ctx.cancel_reason == "enough"
            with anyio.CancelScope(shield=True):
                await ctx.schedule(charge, Order("undo"))

    run = running(cleans_up)
    run.activate(cached=cached)
    run.platform.request_cancel("enough")
    run.activate(cached=cached)
    assert len(run.platform.tasks("charge")) == 2


@CACHED
def test_a_workflow_that_is_not_cancellable_does_not_hear_of_it(cached: bool) -> None:
    @workflow(cancellable=False)
    async def goes_on(ctx: WorkflowContext) -> list[object]:
        await anyio.sleep(1)
        told: list[object] = [ctx.is_cancellation_requested, ctx.cancel_reason]
        await anyio.sleep(1)
        return told

    run = Run(goes_on)
    run.activate()
    run.platform.request_cancel("too late")
    assert plain(run.activate(cached=cached)) == []
    run.platform.fire_next()
    run.activate(cached=cached)
    run.platform.fire_next()
    assert plain(run.activate(cached=cached)) == [CompleteWorkflow(b"[false,null]")]
