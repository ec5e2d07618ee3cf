"""What type checkers make of the context, of classes and of races: mypy and pyright are what judges this file."""

from __future__ import annotations

from typing import Any, assert_type

import pytest

from flovyn.client import WorkflowHandle
from flovyn.client.client import Client
from flovyn.definitions import (
    AnyWorkflow,
    Promise,
    Signal,
    StateKey,
    Task,
    Workflow,
    definition_of,
    query,
    signal,
    task,
    task_by_kind,
    workflow,
    workflow_by_kind,
)
from flovyn.errors import DefinitionError
from flovyn.workflow import (
    ChildHandle,
    Err,
    Ok,
    PromiseHandle,
    TaskHandle,
    WorkflowContext,
    compensation,
    join_all,
    join_n,
    join_settled,
    select,
    select_ok,
)


@task
async def charge(ctx: object, order: str, amount: int = 1) -> int:
    return amount


@task
async def refund(ctx: object, payment: int) -> None: ...


@workflow
class Cart:
    @signal
    async def add(self, ctx: WorkflowContext, item: str) -> None: ...

    @query
    def count(self) -> int:
        return 0

    async def run(self, ctx: WorkflowContext, size: int, *, fast: bool = False) -> list[str]:
        return []


@workflow(version="2.0.0")
class Simple:
    async def run(self, ctx: WorkflowContext) -> None: ...


@workflow
async def place(ctx: WorkflowContext, order: str) -> bytes:
    return b""


APPROVAL = Promise[bool | None]("approval")
ADDED = Signal[str]("added")
PROGRESS = StateKey[int]("progress")


async def operations(ctx: WorkflowContext) -> None:
    """Every call that a checker must understand."""
    assert_type(await ctx.schedule(charge, "a", amount=2), int)
    assert_type(ctx.schedule_async(charge, "a"), TaskHandle[int])
    assert_type(await ctx.schedule_async(charge, "a"), int)
    assert_type(await ctx.schedule(task_by_kind("k", result=str), 1, 2), str)
    assert_type(task_by_kind("k"), Task[..., Any])
    assert_type(await ctx.schedule_workflow(place, "a"), bytes)
    assert_type(await ctx.schedule_workflow(Cart, 3, fast=True), list[str])
    assert_type(ctx.schedule_workflow_async(Cart, 3), ChildHandle[list[str]])
    assert_type(await ctx.schedule_workflow_async(Simple), None)
    assert_type(await ctx.schedule_workflow(workflow_by_kind("k", result=int)), int)
    assert_type(ctx.create_promise(APPROVAL), PromiseHandle[bool | None])
    assert_type(await ctx.promise(APPROVAL, expires_after=3), bool | None)
    assert_type(await ctx.promise("text"), Any)
    assert_type(await ctx.wait_for_signal(ADDED), str)
    assert_type(await ctx.wait_for_signal("added"), Any)
    assert_type(ctx.drain_signals(ADDED), list[str])
    assert_type(ctx.get(PROGRESS), int | None)
    assert_type(ctx.get(PROGRESS, 0), int)
    assert_type(ctx.get("progress"), Any)
    ctx.set(PROGRESS, 1)
    ctx.set("progress", object())


async def several(ctx: WorkflowContext) -> None:
    """Joins and races keep the type of what they wait for."""
    assert_type(await join_all(ctx.schedule(charge, "a"), ctx.schedule_async(charge, "b")), list[int])
    assert_type(await select(ctx.schedule(charge, "a"), ctx.schedule(charge, "b")), tuple[int, int])
    assert_type(await select_ok(ctx.schedule(charge, "a")), tuple[int, int])
    assert_type(await join_n(1, ctx.promise(APPROVAL)), list[tuple[int, bool | None]])
    for outcome in await join_settled(ctx.schedule(charge, "a")):
        match outcome:
            case Ok(value):
                assert_type(value, int)
            case Err(error):
                assert_type(error, Exception)
    async with compensation() as undo:
        undo.push(ctx.schedule, refund, 1)


async def starting(client: Client) -> None:
    """A client starts functions and classes alike."""
    assert_type(await client.start(Cart, 3), WorkflowHandle[list[str]])
    assert_type(await client.start(place, order="a"), WorkflowHandle[bytes])
    assert_type(client.handle(Simple, "id"), WorkflowHandle[None])


async def mistakes(ctx: WorkflowContext, client: Client) -> None:
    """With `warn_unused_ignores` and its like in pyright, each of these fails the check if it ever becomes no error."""
    await ctx.schedule(charge, 1)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    ctx.schedule_async(charge)  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]
    await ctx.schedule_workflow(Cart, "3")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    await client.start(Simple, 1)  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]
    ctx.set(PROGRESS, "1")  # type: ignore[misc] # pyright: ignore[reportCallIssue, reportArgumentType]
    async with compensation() as undo:
        undo.push(ctx.schedule, refund, "1")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    charge.options(on_cancel="never")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]


def test_a_decorated_class_stays_itself() -> None:
    assert_type(Cart, type[Cart])
    assert_type(Cart().count(), int)
    assert_type(definition_of(place), Workflow[[str], bytes])  # type: ignore[assert-type] # pyright: ignore[reportAssertTypeFailure] - the checkers keep the names of parameters
    workflows: list[AnyWorkflow[..., Any]] = [Cart, Simple, place]
    assert len(workflows) == 3


def test_what_is_no_workflow_is_a_type_error() -> None:
    with pytest.raises(DefinitionError):
        definition_of(charge)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
