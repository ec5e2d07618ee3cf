"""Each operation of a workflow's context, through worker, wire and server, with runs kept in memory and without."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Any

import anyio
import pytest

import flovyn
from flovyn import (
    ChildWorkflowCancelled,
    ChildWorkflowFailed,
    Promise,
    PromiseRejected,
    PromiseTimeout,
    RetryPolicy,
    Signal,
    StateKey,
    TaskCancelled,
    TaskContext,
    TaskFailed,
    TaskTimeout,
    Worker,
    WorkflowContext,
    effect,
    signal,
    task,
    task_by_kind,
    workflow,
    workflow_by_kind,
)
from system.operations import kinds, world

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("cache_size", [0, 1_000], ids=["re-enacted", "cached"])]


# --- tasks ------------------------------------------------------------------------------------


@task
async def double(ctx: TaskContext, number: int) -> int:
    return 2 * number


@task
async def for_ever(ctx: TaskContext) -> None:
    await anyio.sleep_forever()


async def test_tasks_by_handle_by_kind_and_by_name_of_the_queue(cache_size: int) -> None:
    @workflow
    async def handles(ctx: WorkflowContext) -> list[int]:
        first = ctx.schedule_async(double, 1)
        second = ctx.schedule_async(double.options(queue="other", priority=5), number=2)
        third = ctx.schedule_async(task_by_kind("double", result=int), 3)
        return [await third, await second.result(), await first, await first]

    async with world([handles], [double], cache_size=cache_size) as here:
        async with Worker(here.client, tasks=[double], queue="other"):
            assert await here.result(await here.client.start(handles)) == [6, 4, 2, 2]


async def test_a_task_with_a_key_runs_once(cache_size: int) -> None:
    runs: Counter[str] = Counter()

    @task
    async def charge(ctx: TaskContext, order: str) -> str:
        runs[order] += 1
        return ctx.task_execution_id

    @workflow
    async def charges(ctx: WorkflowContext) -> list[str]:
        once = charge.options(idempotency_key="order-1")
        return await flovyn.join_all(ctx.schedule(once, "o-1"), ctx.schedule(once, "o-1"), ctx.schedule(charge, "o-2"))

    async with world([charges], [charge], cache_size=cache_size) as here:
        first, second, third = await here.result(await here.client.start(charges))
    assert first == second != third
    assert runs == {"o-1": 1, "o-2": 1}


async def test_a_task_has_its_attempts_in_one_claim(cache_size: int) -> None:
    attempts: list[int] = []

    @task(retry=RetryPolicy(max_attempts=4, initial_interval=0.001))
    async def flaky(ctx: TaskContext, until: int) -> str:
        attempts.append(ctx.attempt)
        if ctx.attempt < until:
            raise ValueError("not yet")
        return "done"

    @workflow
    async def tries(ctx: WorkflowContext) -> list[str]:
        told = [await ctx.schedule(flaky, 3)]
        try:
            await ctx.schedule(flaky, 9)
        except TaskFailed as failed:
            told.append(str(failed.error_type))
        return told

    async with world([tries], [flaky], cache_size=cache_size) as here:
        assert await here.result(await here.client.start(tries)) == ["done", "ValueError"]
    assert attempts == [1, 2, 3, 1, 2, 3, 4]


async def test_a_task_that_is_too_late_for_the_server(cache_size: int) -> None:
    @workflow
    async def hurries(ctx: WorkflowContext) -> str:
        try:
            await ctx.schedule(for_ever.options(schedule_to_close=0.05))
        except TaskTimeout as late:
            return late.kind
        return "in time"

    async with world([hurries], [for_ever], cache_size=cache_size) as here:
        assert await here.result(await here.client.start(hurries)) == "for_ever"


@pytest.mark.parametrize("how", ["handle", "scope", "wait", "abandon"])
async def test_a_task_that_is_given_up(cache_size: int, how: str) -> None:
    ended: list[str | None] = []
    began = anyio.Event()
    release = anyio.Event()

    @task
    async def endless(ctx: TaskContext) -> str:
        began.set()
        try:
            await release.wait()
        except BaseException:
            ended.append(ctx.cancel_reason)
            raise
        return "finished"

    @workflow
    async def gives_up(ctx: WorkflowContext) -> str:
        match how:
            case "handle":
                handle = ctx.schedule_async(endless)
                await anyio.sleep(0.05)
                handle.cancel()
                try:
                    await handle
                except TaskCancelled:
                    return "cancelled"
            case "abandon":
                with anyio.move_on_after(0.05):
                    await ctx.schedule(endless.options(on_cancel="abandon"))
                return "cancelled"
            case _:
                with anyio.move_on_after(0.05) as scope:
                    await ctx.schedule(endless.options(on_cancel="wait" if how == "wait" else "request"))
                assert scope.cancelled_caught
                return "cancelled"
        return "?"

    async with world([gives_up], [endless], cache_size=cache_size) as here:
        handle = await here.client.start(gives_up)
        assert await here.result(handle) == "cancelled"
        history = await handle.history()
        release.set()
    # An abandoned task is ended by the server when its workflow has ended, and not before.
    cancels = kinds(history, "TASK_CANCELLED", "WORKFLOW_COMPLETED")
    assert cancels == (["WORKFLOW_COMPLETED"] if how == "abandon" else ["TASK_CANCELLED", "WORKFLOW_COMPLETED"])
    if how != "abandon" and began.is_set():
        assert ended == ["cancelled by its workflow"]


# --- children ---------------------------------------------------------------------------------


@workflow
async def triple(ctx: WorkflowContext, number: int) -> int:
    return number + await ctx.schedule(double, number)


@workflow
async def fails(ctx: WorkflowContext) -> None:
    raise LookupError("no such order")


@workflow
async def lingers(ctx: WorkflowContext) -> str:
    try:
        await anyio.sleep(3_600)
    finally:
        with anyio.CancelScope(shield=True):
            await ctx.schedule(double, 1)
    return "woke"


@workflow(kind="till")
class Till:
    """A child that is a class."""

    async def run(self, ctx: WorkflowContext, price: int) -> int:
        return price + await ctx.schedule_workflow(triple, price)


async def test_children_by_function_class_and_kind(cache_size: int) -> None:
    @workflow
    async def parent(ctx: WorkflowContext) -> list[Any]:
        named = ctx.schedule_workflow_async(triple.options(child_name="the first"), 1)
        results: list[Any] = [await ctx.schedule_workflow(Till, 2)]
        results.append(await ctx.schedule_workflow(workflow_by_kind("triple", result=int), 3))
        return [*results, await named, named.name]

    async with world([parent, triple, Till], [double], cache_size=cache_size) as here:
        handle = await here.client.start(parent)
        assert await here.result(handle) == [8, 9, 3, "the first"]
        names = [e.data["childExecutionName"] for e in await handle.history() if e.type == "CHILD_WORKFLOW_INITIATED"]
    assert names == ["the first", "till-1", "triple-1"]


async def test_a_child_that_fails(cache_size: int) -> None:
    @workflow
    async def parent(ctx: WorkflowContext) -> list[str]:
        try:
            await ctx.schedule_workflow(fails)
        except ChildWorkflowFailed as failed:
            return [failed.name, failed.kind, str(failed.error_type), failed.message]
        return []

    async with world([parent, fails], cache_size=cache_size) as here:
        told = await here.result(await here.client.start(parent))
    assert told == ["fails-1", "fails", "LookupError", "LookupError: no such order"]


@workflow
async def whose(ctx: WorkflowContext) -> str | None:
    return ctx.parent_execution_id


async def test_a_child_knows_its_parent(cache_size: int) -> None:
    @workflow
    async def parent(ctx: WorkflowContext) -> list[str | None]:
        return [ctx.parent_execution_id, await ctx.schedule_workflow(whose)]

    async with world([parent, whose], cache_size=cache_size) as here:
        handle = await here.client.start(parent)
        assert await here.result(handle) == [None, handle.id]


@pytest.mark.parametrize("how", ["handle", "scope", "wait"])
async def test_a_child_that_is_given_up_cleans_up_and_ends_as_cancelled(cache_size: int, how: str) -> None:
    @workflow
    async def parent(ctx: WorkflowContext) -> list[str]:
        child = ctx.schedule_workflow_async(lingers)
        await anyio.sleep(0.05)
        if how == "handle":
            child.cancel()
            try:
                await child
            except ChildWorkflowCancelled as cancelled:
                return [child.workflow_id, cancelled.name]
        else:
            with anyio.move_on_after(0.05):
                await ctx.schedule_workflow(lingers.options(on_cancel="wait" if how == "wait" else "request"))
            child.cancel()
        return [child.workflow_id, child.name]

    async with world([parent, lingers], [double], cache_size=cache_size) as here:
        handle = await here.client.start(parent)
        child_id, name = await here.result(handle)
        assert name == "lingers-1"
        child = here.client.handle(lingers, child_id)
        with pytest.raises(flovyn.WorkflowCancelled, match="cancelled by its parent"):
            await here.result(child)
        ended = kinds(await child.history(), "TASK_COMPLETED", "WORKFLOW_CANCELLED")
    assert ended == ["TASK_COMPLETED", "WORKFLOW_CANCELLED"]


# --- promises and signals ---------------------------------------------------------------------

APPROVAL = Promise[bool]("approval")
ITEMS = Signal[str]("items")


async def test_a_promise_is_resolved_rejected_or_late(cache_size: int) -> None:
    @workflow
    async def asks(ctx: WorkflowContext) -> list[Any]:
        approval = ctx.create_promise(APPROVAL)
        price = ctx.create_promise("price")
        told: list[Any] = [approval.key == f"{ctx.workflow_execution_id}/approval", await approval.wait()]
        try:
            await price.wait()
        except PromiseRejected as rejected:
            told.append([rejected.name, rejected.message])
        try:
            await ctx.promise("late", expires_after=timedelta(milliseconds=20))
        except PromiseTimeout as late:
            told.append(late.name)
        return [*told, await approval.wait()]

    async with world([asks], cache_size=cache_size) as here:
        handle = await here.client.start(asks)
        await here.reject(handle, "price", "not for sale")
        await here.resolve(handle, "approval", b"true")
        assert await here.result(handle) == [True, True, ["price", "not for sale"], "late", True]


async def test_signals_are_taken_in_the_order_in_which_they_came(cache_size: int) -> None:
    @workflow
    async def listens(ctx: WorkflowContext) -> list[Any]:
        told: list[Any] = [ctx.has_signal(ITEMS), await ctx.wait_for_signal(ITEMS)]
        await ctx.promise("go on")
        told += [ctx.has_signal(ITEMS), ctx.pending_signals(ITEMS), await ctx.wait_for_signal(ITEMS)]
        return [*told, ctx.drain_signals(ITEMS), ctx.pending_signals(ITEMS), ctx.drain_signals("others")]

    async with world([listens], cache_size=cache_size) as here:
        handle = await here.client.start(listens)
        for item in "abcd":
            await here.signal(handle, "items", f'"{item}"'.encode())
        await here.signal(handle, "others", b'{"n":1}')
        await here.resolve(handle, "go on", b"null")
        told = await here.result(handle)
    assert told[1:] == ["a", True, 3, "b", ["c", "d"], 0, [{"n": 1}]]


@workflow(kind="cart")
class Cart:
    """Waits until a signal says that it is full."""

    def __init__(self) -> None:
        self.prices: list[int] = []
        self.full = False

    async def run(self, ctx: WorkflowContext) -> list[int]:
        await ctx.wait_condition(lambda: self.full)
        return self.prices

    @signal
    async def add(self, ctx: WorkflowContext, price: int) -> None:
        self.prices.append(await ctx.schedule(double, price))

    @signal
    async def close(self, ctx: WorkflowContext) -> None:
        await ctx.wait_condition(lambda: len(self.prices) == 2)
        self.full = True


async def test_a_class_handles_its_signals(cache_size: int) -> None:
    async with world([Cart], [double], cache_size=cache_size) as here:
        handle = await here.client.start(Cart)
        await here.signal(handle, "add", b"1")
        await here.signal(handle, "close", b"null")
        await here.signal(handle, "add", b"2")
        prices = await here.result(handle)
    assert sorted(prices) == [2, 4]


# --- the rest ---------------------------------------------------------------------------------

TOTAL = StateKey[int]("total")


async def test_state_is_what_the_code_has_written_so_far(cache_size: int) -> None:
    @workflow
    async def keeps(ctx: WorkflowContext) -> list[Any]:
        told: list[Any] = [ctx.get(TOTAL), ctx.get("note", "none")]
        ctx.set(TOTAL, 1)
        ctx.set("note", {"text": "hello"})
        await anyio.sleep(0.01)
        told += [ctx.get(TOTAL), ctx.state_keys()]
        ctx.set(TOTAL, 2)
        ctx.clear("note")
        await anyio.sleep(0.01)
        told += [ctx.get(TOTAL), ctx.state_keys()]
        ctx.clear_all()
        await anyio.sleep(0.01)
        return [*told, ctx.state_keys()]

    async with world([keeps], cache_size=cache_size) as here:
        handle = await here.client.start(keeps)
        assert await here.result(handle) == [None, "none", 1, ["note", "total"], 2, ["total"], []]
        written = kinds(await handle.history(), "STATE_SET", "STATE_CLEARED")
    assert written == ["STATE_SET", "STATE_SET", "STATE_SET", "STATE_CLEARED", "STATE_CLEARED"]


async def test_what_is_read_once_is_read_the_same_ever_after(cache_size: int) -> None:
    read: list[list[Any]] = []

    @workflow
    async def reads(ctx: WorkflowContext) -> int:
        seen: list[Any] = []
        for _ in range(3):
            seen += [ctx.current_time(), ctx.random(), ctx.random_uuid(), ctx.new_random().random(), ctx.patched("new")]
            await ctx.sleep(timedelta(milliseconds=10))
            read.append([*seen, ctx.workflow_execution_id, ctx.org_id, ctx.kind, ctx.queue, ctx.input])
        await ctx.sleep_until(ctx.current_time() + timedelta(milliseconds=10))
        return len(seen)

    async with world([reads], cache_size=cache_size) as here:
        handle = await here.client.start(reads)
        assert await here.result(handle) == 15
    longest = max(read, key=len)
    assert len(set(map(str, longest[:15:5]))) == 3  # the clock moves
    assert [line[:-5] for line in read] == [longest[: len(line) - 5] for line in read]
    assert {str(line[-5:]) for line in read} == {str([handle.id, here.client.org_id, "reads", "default", None])}


async def test_effects_run_once_and_a_failure_is_recorded(cache_size: int) -> None:
    runs: Counter[str] = Counter()

    async def flaky() -> str:
        runs["flaky"] += 1
        if runs["flaky"] < 3:
            raise ConnectionError("away")
        return "here"

    def broken() -> None:
        runs["broken"] += 1
        raise ValueError("never")

    @workflow
    async def acts(ctx: WorkflowContext) -> list[str]:
        told = [await ctx.run("flaky", effect(flaky, retry=RetryPolicy(initial_interval=0), start_to_close=1))]
        for _ in range(2):
            try:
                await ctx.run("broken", broken)
            except flovyn.OperationFailed as failed:
                told.append(failed.message)
            await anyio.sleep(0.01)
        return told

    async with world([acts], cache_size=cache_size) as here:
        assert await here.result(await here.client.start(acts)) == ["here", "ValueError: never", "ValueError: never"]
    assert runs == {"flaky": 3, "broken": 2}


async def test_the_loser_of_a_race_is_cancelled_on_the_server(cache_size: int) -> None:
    @workflow
    async def races(ctx: WorkflowContext) -> list[Any]:
        winner = await flovyn.select(ctx.schedule(for_ever), ctx.schedule(double, 4), anyio.sleep(3_600))
        first = await flovyn.select_ok(ctx.schedule(for_ever), ctx.schedule_workflow(fails), ctx.schedule(double, 5))
        return [list(winner), first[1]]

    async with world([races, fails], [for_ever, double], cache_size=cache_size) as here:
        handle = await here.client.start(races)
        assert await here.result(handle) == [[1, 8], 10]
        ended = Counter(kinds(await handle.history(), "TASK_CANCELLED", "TIMER_CANCELLED"))
    assert ended["TASK_CANCELLED"] == 2
    assert ended["TIMER_CANCELLED"] >= 1


async def test_what_was_done_is_undone_in_reverse(cache_size: int) -> None:
    undone: list[int] = []

    @task
    async def undo(ctx: TaskContext, number: int) -> None:
        undone.append(number)

    @workflow
    async def compensates(ctx: WorkflowContext) -> None:
        async with flovyn.compensation() as steps:
            for number in range(3):
                await ctx.schedule(double, number)
                steps.push(ctx.schedule, undo, number)
            await ctx.schedule_workflow(fails)

    async with world([compensates, fails], [double, undo], cache_size=cache_size) as here:
        with pytest.raises(flovyn.WorkflowFailed) as caught:
            await here.result(await here.client.start(compensates))
    assert caught.value.error_type == "ChildWorkflowFailed"
    assert undone == [2, 1, 0]


async def test_what_nobody_can_take_fails_the_workflow_and_says_why(cache_size: int) -> None:
    @workflow
    async def asks_too_much(ctx: WorkflowContext) -> None:
        await ctx.schedule(double.options(queue="q" * 1_000), 1)

    async with world([asks_too_much], [double], cache_size=cache_size) as here:
        handle = await here.client.start(asks_too_much)
        with pytest.raises(flovyn.WorkflowFailed, match="1000 characters; at most 100 are allowed") as caught:
            await handle.result()
    assert caught.value.error_type == "InvalidArgument"
