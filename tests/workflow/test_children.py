"""Child workflows: names, options, results, and how their ends are told."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import anyio
import pytest

from flovyn.definitions import workflow, workflow_by_kind
from flovyn.errors import ChildWorkflowCancelled, ChildWorkflowFailed, DefinitionError, PayloadError, UsageError
from flovyn.replay.commands import CompleteWorkflow, RequestCancelChild, ScheduleChild
from flovyn.serde.envelope import format_error
from flovyn.workflow import WorkflowContext
from replay.replay_platform import plain
from workflow.cases import CACHED, Order, invoice, reason, result, running


@workflow(kind="cart")
class Cart:
    async def run(self, ctx: WorkflowContext, size: int) -> list[int]:
        return []


@CACHED
def test_children_are_named_by_kind_and_number_unless_they_have_a_name(cached: bool) -> None:
    @workflow
    async def starts(ctx: WorkflowContext) -> list[str]:
        changed = invoice.options(child_name="june", queue="slow", priority=timedelta(minutes=1))
        handles: list[Any] = [
            ctx.schedule_workflow_async(invoice, "may"),
            ctx.schedule_workflow_async(changed, month="june"),
            ctx.schedule_workflow_async(invoice, "july"),
            ctx.schedule_workflow_async(Cart, 3),
            ctx.schedule_workflow_async(workflow_by_kind("other"), [1]),
        ]
        await anyio.sleep(1)
        return [f"{handle.name} {handle.workflow_id}" for handle in handles]

    run = running(starts)
    commands = [command for command in plain(run.activate(cached=cached)) if isinstance(command, ScheduleChild)]
    assert commands == [
        ScheduleChild("invoice-1", "invoice", commands[0].id, b'"may"'),
        ScheduleChild("june", "invoice", commands[1].id, b'"june"', "slow", 60),
        ScheduleChild("invoice-2", "invoice", commands[2].id, b'"july"'),
        ScheduleChild("cart-1", "cart", commands[3].id, b"3"),
        ScheduleChild("other-1", "other", commands[4].id, b"[1]"),
    ]
    run.platform.fire_next()
    assert result(run.activate(cached=cached)) == [f"{command.name} {command.id}" for command in commands]


@CACHED
def test_a_child_gives_its_result_as_its_own_type(cached: bool) -> None:
    @workflow
    async def waits(ctx: WorkflowContext) -> list[Any]:
        handle = ctx.schedule_workflow_async(invoice, "may")
        order = await ctx.schedule_workflow(invoice, "june")
        assert isinstance(order, Order)
        return [order, await handle, await handle.result()]

    run = running(waits)
    assert reason(run.activate(cached=cached)) == "Waiting for child workflow invoice-2 to complete"
    run.platform.complete_child("invoice-1", {"id": "a", "amount": 1})
    run.platform.complete_child("invoice-2", {"id": "b", "amount": 2})
    first, second = {"id": "a", "amount": 1}, {"id": "b", "amount": 2}
    assert result(run.activate(cached=cached)) == [second, first, first]


@CACHED
def test_a_name_that_is_used_twice_is_an_error_at_the_call(cached: bool) -> None:
    @workflow
    async def twice(ctx: WorkflowContext) -> str:
        ctx.schedule_workflow_async(invoice.options(child_name="june"), "june")
        await anyio.sleep(1)
        try:
            ctx.schedule_workflow_async(invoice.options(child_name="june"), "june")
        except UsageError as error:
            return str(error)
        return "no"

    run = running(twice)
    run.activate(cached=cached)
    run.platform.fire_next()
    assert result(run.activate(cached=cached)).startswith("a child workflow named 'june' was started already")


def test_only_a_workflow_can_be_a_child() -> None:
    class Plain:
        async def run(self, ctx: WorkflowContext) -> None: ...

    seen: list[str] = []

    @workflow
    async def wrong(ctx: WorkflowContext) -> None:
        try:
            await ctx.schedule_workflow(Plain)
        except DefinitionError as error:
            seen.append(error.message)

    assert plain(running(wrong).dry()) == [CompleteWorkflow(b"null")]
    assert seen[0].endswith("is no workflow: decorate the function or the class itself with @workflow")


@pytest.mark.parametrize(
    ("event", "data", "kind", "text"),
    [
        ("CHILD_WORKFLOW_FAILED", {"error": "Workflow failed: no"}, ChildWorkflowFailed, "Workflow failed: no"),
        ("CHILD_WORKFLOW_FAILED", {}, ChildWorkflowFailed, "Child workflow failed"),
        ("CHILD_WORKFLOW_FAILED", {"error": "x", "reason": "by hand"}, ChildWorkflowCancelled, "by hand"),
        ("CHILD_WORKFLOW_FAILED", {"error": "Workflow cancelled"}, ChildWorkflowCancelled, "Workflow cancelled"),
        ("CHILD_WORKFLOW_CANCELLED", {}, ChildWorkflowCancelled, "Child workflow cancelled"),
        ("CHILD_WORKFLOW_COMPLETED", {"output": 1}, PayloadError, "the payload does not fit Order: "),
    ],
)
def test_how_a_child_ended_is_told_by_type(event: str, data: dict[str, Any], kind: type[Any], text: str) -> None:
    seen: list[Any] = []

    @workflow
    async def tells(ctx: WorkflowContext) -> None:
        try:
            await ctx.schedule_workflow(invoice, "june")
        except Exception as error:
            seen.append(error)

    run = running(tells)
    run.activate()
    child = run.platform.child("invoice-1")
    run.platform.append(event, childExecutionName="invoice-1", childExecutionId=child, **data)
    assert plain(run.activate()) == [CompleteWorkflow(b"null")]
    (error,) = seen
    assert type(error) is kind
    assert str(error).startswith(text)
    if kind is not PayloadError:
        assert (error.name, error.workflow_id, error.kind) == ("invoice-1", child, "invoice")


def test_a_failure_of_a_child_keeps_what_its_worker_told() -> None:
    @workflow
    async def tells(ctx: WorkflowContext) -> list[Any]:
        try:
            await ctx.schedule_workflow(invoice, "june")
        except ChildWorkflowFailed as error:
            return [error.error_type, str(error), repr(error.__cause__)]
        return []

    run = running(tells)
    run.activate()
    run.platform.fail_child("invoice-1", format_error(ValueError("no paper")))
    assert result(run.activate()) == [
        "ValueError",
        "ValueError: no paper",
        "RemoteError('no paper', type='ValueError')",
    ]


@CACHED
def test_a_handle_that_is_cancelled_asks_the_child_to_stop(cached: bool) -> None:
    @workflow
    async def cancels(ctx: WorkflowContext) -> str:
        handle = ctx.schedule_workflow_async(invoice.options(on_cancel="abandon"), "june")
        handle.cancel()
        try:
            await handle
        except ChildWorkflowCancelled as error:
            return str(error)
        return "no"

    run = running(cancels)
    last = run.activate(cached=cached)
    child = run.platform.child("invoice-1")
    assert RequestCancelChild("invoice-1", child, "cancelled by its parent") in last.commands
    run.platform.cancel_child("invoice-1", "asked")
    assert result(run.activate(cached=cached)) == "asked"
