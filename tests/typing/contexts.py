"""What a workflow asks of its context, and what type checkers make of it; see test_typing.py."""

from __future__ import annotations

import datetime as dt
from typing import Any, assert_type
from uuid import UUID

import anyio
from definitions import Cart, Order, Page, Simple, charge, find, nothing, place, render

import flovyn
from flovyn import (
    ChildHandle,
    Err,
    Ok,
    Promise,
    PromiseHandle,
    Query,
    Signal,
    StateKey,
    Task,
    TaskHandle,
    WorkflowContext,
    effect,
    task_by_kind,
    workflow_by_kind,
)

APPROVAL = Promise[bool | None]("approval")
ADDED = Signal[Page[Order]]("added")
PROGRESS = StateKey[int]("progress")
COUNT = Query[dict[str, int]]("count")


async def tasks(ctx: WorkflowContext, order: Order) -> None:
    assert_type(await ctx.schedule(nothing), None)
    assert_type(await ctx.schedule(charge, order), Page[dict[str, Order]])
    assert_type(await ctx.schedule(charge, order, amount=2, currency="USD"), Page[dict[str, Order]])
    assert_type(await ctx.schedule(find.options(queue="q"), "a", 3), list[tuple[Order, float]] | None)
    assert_type(ctx.schedule_async(charge, order), TaskHandle[Page[dict[str, Order]]])
    assert_type(await ctx.schedule_async(render), bytes)
    assert_type(await ctx.schedule_async(render, 3).result(), bytes)
    await ctx.schedule(charge, 1)  # E: mypy[arg-type] pyright[reportArgumentType]
    await ctx.schedule(charge)  # E: mypy[call-arg] pyright[reportCallIssue]
    await ctx.schedule(charge, order, "2")  # E: mypy[arg-type] pyright[reportArgumentType]
    await ctx.schedule(charge, order, money=2)  # E: mypy[call-arg] pyright[reportCallIssue]
    ctx.schedule_async(nothing, order)  # E: mypy[call-arg] pyright[reportCallIssue]
    await ctx.schedule(place, order)  # E: mypy[arg-type] pyright[reportArgumentType,reportCallIssue]
    handle: TaskHandle[str] = ctx.schedule_async(render)  # E: mypy[arg-type] pyright[reportAssignmentType]
    print(handle)


async def by_kind(ctx: WorkflowContext) -> None:
    """What another program defines: typed by the result that is asked for."""
    assert_type(task_by_kind("k"), Task[..., Any])
    assert_type(await ctx.schedule(task_by_kind("k", result=Order), 1, anything="goes"), Order)
    assert_type(await ctx.schedule(task_by_kind("k", result=list[Order])), list[Order])
    assert_type(await ctx.schedule_workflow(workflow_by_kind("k", result=int)), int)
    # There is no way yet to give a union as an argument and have it as a type: it is said by an annotation.
    maybe: Task[..., Order | None] = task_by_kind("k", result=Order | None)
    assert_type(await ctx.schedule(maybe, 1), Order | None)
    task_by_kind(3)  # E: mypy[call-overload] pyright[reportArgumentType]


async def children(ctx: WorkflowContext, order: Order) -> None:
    assert_type(await ctx.schedule_workflow(place, order), list[Page[Order]])
    assert_type(await ctx.schedule_workflow(place, order=order), list[Page[Order]])
    assert_type(await ctx.schedule_workflow(Cart, 3, fast=True), list[str])
    assert_type(await ctx.schedule_workflow(flovyn.options(Cart, child_name="c"), 3), list[str])
    assert_type(ctx.schedule_workflow_async(Cart, 3), ChildHandle[list[str]])
    assert_type(await ctx.schedule_workflow_async(Simple), None)
    await ctx.schedule_workflow(Cart, "3")  # E: mypy[arg-type] pyright[reportArgumentType]
    await ctx.schedule_workflow(Simple, 1)  # E: mypy[call-arg] pyright[reportCallIssue]
    await ctx.schedule_workflow(charge, order)  # E: mypy[arg-type] pyright[reportArgumentType,reportCallIssue]


async def names(ctx: WorkflowContext) -> None:
    """Typed names keep their types, unions among them; plain text gives anything."""
    assert_type(APPROVAL, Promise[bool | None])
    assert_type(ctx.create_promise(APPROVAL), PromiseHandle[bool | None])
    assert_type(await ctx.create_promise(APPROVAL), bool | None)
    assert_type(await ctx.create_promise(APPROVAL).wait(), bool | None)
    assert_type(await ctx.promise(APPROVAL, expires_after=dt.timedelta(days=1)), bool | None)
    assert_type(await ctx.promise("text"), Any)
    assert_type(await ctx.wait_for_signal(ADDED), Page[Order])
    assert_type(ctx.drain_signals(ADDED), list[Page[Order]])
    assert_type(await ctx.wait_for_signal("added"), Any)
    assert_type(ctx.get(PROGRESS), int | None)
    assert_type(ctx.get(PROGRESS, 0), int)
    assert_type(ctx.get("progress"), Any)
    ctx.set(PROGRESS, 1)
    ctx.set("progress", object())
    assert_type(COUNT, Query[dict[str, int]])
    ctx.set(PROGRESS, "1")  # E: mypy[misc] pyright[reportArgumentType,reportCallIssue]
    ctx.create_promise(ADDED)  # E: mypy[call-overload] pyright[reportArgumentType,reportCallIssue]
    await ctx.wait_for_signal(APPROVAL)  # E: mypy[call-overload] pyright[reportArgumentType,reportCallIssue]
    Promise[bool](3)  # E: mypy[arg-type] pyright[reportArgumentType]


async def nurseries(ctx: WorkflowContext, order: Order) -> None:
    """AnyIO's own task group knows what its tasks return."""
    async with anyio.create_task_group() as tg:
        charged = tg.create_task(ctx.schedule(charge, order))
        bought = tg.create_task(ctx.schedule_workflow(Cart, 3))
        tg.start_soon(ctx.schedule, nothing)
        # Pyright cannot follow arguments through two functions that pass them on: what takes some is for `create_task`.
        tg.start_soon(ctx.schedule, charge, order)  # E: pyright[reportArgumentType]
        tg.create_task(ctx.schedule(charge, 1))  # E: mypy[arg-type] pyright[reportArgumentType]
    assert_type(charged.return_value, Page[dict[str, Order]])
    assert_type(bought.return_value, list[str])
    with anyio.move_on_after(10):
        assert_type(await ctx.schedule(render), bytes)


async def several(ctx: WorkflowContext, order: Order) -> None:
    """Joins and races keep the type of what they wait for."""
    assert_type(await flovyn.join_all(ctx.schedule(render), ctx.schedule_async(render, 2)), list[bytes])
    assert_type(await flovyn.select(ctx.schedule(render), ctx.schedule(render)), tuple[int, bytes])
    assert_type(await flovyn.select_ok(ctx.schedule(charge, order)), tuple[int, Page[dict[str, Order]]])
    assert_type(await flovyn.join_n(1, ctx.promise(APPROVAL)), list[tuple[int, bool | None]])
    for outcome in await flovyn.join_settled(ctx.schedule(render)):
        match outcome:
            case Ok(value):
                assert_type(value, bytes)
            case Err(error):
                assert_type(error, Exception)
    async with flovyn.compensation() as undo:
        undo.push(ctx.schedule, charge, order)
        undo.push(ctx.schedule, charge, "1")  # E: mypy[arg-type] pyright[reportArgumentType]


async def rate(currency: str) -> float:
    return 1.0


def count(words: list[str], *, unique: bool = False) -> int:
    return len(words)


async def effects(ctx: WorkflowContext) -> None:
    assert_type(await ctx.run("rate", rate, "USD"), float)
    assert_type(await ctx.run("count", count, ["a"], unique=True), int)
    assert_type(await ctx.run("rate", effect(rate, start_to_close=2), "USD"), float)
    assert_type(ctx.random_uuid(), UUID)
    assert_type(ctx.current_time(), dt.datetime)
    await ctx.run("rate", rate, 1)  # E: mypy[call-overload] pyright[reportArgumentType,reportCallIssue]
    await ctx.run("count", count, ["a"], True)  # E: mypy[call-overload] pyright[reportCallIssue]
    await ctx.run(rate, "USD")  # E: mypy[call-overload] pyright[reportArgumentType,reportCallIssue]
