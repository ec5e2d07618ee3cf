"""Definitions as people write them, and what type checkers make of them; see test_typing.py."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, assert_type

import flovyn
from flovyn import RetryPolicy, Task, TaskContext, Workflow, WorkflowContext, query, signal, task, workflow
from flovyn.definitions import AnyWorkflow, definition_of

T = TypeVar("T")


@dataclass
class Order:
    id: str
    items: list[str]


@dataclass
class Page(Generic[T]):
    entries: list[T]
    after: str | None


# --- tasks ------------------------------------------------------------------------------------


@task
async def nothing(ctx: TaskContext) -> None: ...


@task
async def charge(ctx: TaskContext, order: Order, amount: int = 1, *, currency: str = "EUR") -> Page[dict[str, Order]]:
    return Page([{order.id: order}], None)


@task(queue="gpu", start_to_close=30, schedule_to_close=dt.timedelta(hours=1), retry=RetryPolicy(max_attempts=5))
async def render(ctx: TaskContext, page: int | None = None) -> bytes:
    return b""


@task(name="Find orders", kind="orders.find", description="", tags=["shop"])
async def find(ctx: TaskContext, /, text: str, limit: int) -> list[tuple[Order, float]] | None:
    return None


def results() -> None:
    assert_type(nothing.decode_output(b"null"), None)
    assert_type(charge.decode_output(b"{}"), Page[dict[str, Order]])
    assert_type(render.decode_output(b'""'), bytes)
    assert_type(find.decode_output(b"null"), list[tuple[Order, float]] | None)


async def calls(ctx: TaskContext) -> None:
    """A definition is still callable as the function was."""
    assert_type(await charge(ctx, Order("o", [])), Page[dict[str, Order]])
    assert_type(await charge(ctx, Order("o", []), 2, currency="USD"), Page[dict[str, Order]])
    await charge(ctx, "o")  # E: mypy[arg-type] pyright[reportArgumentType]
    await charge(ctx)  # E: mypy[call-arg] pyright[reportCallIssue]
    await charge(ctx, Order("o", []), 2, "USD")  # E: mypy[call-arg] pyright[reportCallIssue]
    await charge(ctx, Order("o", []), price=2)  # E: mypy[call-arg] pyright[reportCallIssue]
    await render(ctx, "1")  # E: mypy[arg-type] pyright[reportArgumentType]
    await nothing(ctx, 1)  # E: mypy[call-arg] pyright[reportCallIssue]
    assert_type(await find(ctx, text="a", limit=1), list[tuple[Order, float]] | None)


def options() -> None:
    """A changed copy is the same task. (The checkers keep the names of parameters, which `Task[[...], ...]` has none of.)"""
    assert_type(render.options(queue="cpu"), Task[[int | None], bytes])  # E: mypy[assert-type] pyright[reportAssertTypeFailure]
    assert_type(nothing.options(priority=60, on_cancel="wait"), Task[[], None])
    nothing.options(on_cancel="never")  # E: mypy[arg-type] pyright[reportArgumentType]
    nothing.options(timeout=3)  # E: mypy[call-arg] pyright[reportCallIssue]
    nothing.options(queue=3)  # E: mypy[arg-type] pyright[reportArgumentType]


def lists() -> None:
    """Any definition fits where any is wanted; a task of a str where one of an object is."""
    tasks: list[Task[..., Any]] = [charge, render, nothing]
    workflows: list[AnyWorkflow[..., Any]] = [place, Cart, nightly]
    wide: Task[..., object] = render
    narrow: Task[..., int] = render  # E: mypy[assignment] pyright[reportAssignmentType]
    print(tasks, workflows, wide, narrow)


# --- workflows --------------------------------------------------------------------------------


@workflow
async def place(ctx: WorkflowContext, order: Order) -> list[Page[Order]]:
    return []


@workflow(version="2.0.0", queue="slow", cancellable=False, tags=["shop"])
async def nightly(ctx: WorkflowContext, *, day: dt.date | None = None) -> None: ...


@workflow
class Cart:
    def __init__(self) -> None:
        self.items: list[str] = []

    @signal
    async def add(self, ctx: WorkflowContext, item: str) -> None:
        self.items.append(item)

    @query
    def count(self) -> int:
        return len(self.items)

    async def run(self, ctx: WorkflowContext, size: int, *, fast: bool = False) -> list[str]:
        return self.items


@workflow(kind="simple")
class Simple:
    async def run(self, ctx: WorkflowContext) -> None: ...


def workflows() -> None:
    assert_type(place.decode_output(b"[]"), list[Page[Order]])
    assert_type(Cart, type[Cart])
    assert_type(Cart().count(), int)
    assert_type(definition_of(Cart).decode_output(b"[]"), list[str])
    assert_type(flovyn.options(Cart, queue="fast").decode_output(b"[]"), list[str])
    assert_type(flovyn.options(Simple, child_name="one"), Workflow[[], None])
    assert_type(flovyn.options(nightly, priority=dt.timedelta(minutes=1)).decode_output(b"null"), None)
    Cart().count("all")  # E: mypy[call-arg] pyright[reportCallIssue]
    flovyn.options(charge, queue="fast")  # E: mypy[arg-type] pyright[reportArgumentType]
    flovyn.options(Cart, child_name=1)  # E: mypy[arg-type] pyright[reportArgumentType]
    definition_of(Order)  # E: mypy[arg-type] pyright[reportArgumentType]


@workflow  # E: pyright[reportArgumentType,reportCallIssue,reportUntypedClassDecorator]
class NotAWorkflow:  # E: mypy[type-var]
    async def walk(self, ctx: WorkflowContext) -> None: ...
