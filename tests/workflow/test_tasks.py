"""Tasks: exact commands, results, handles and what is told of failures."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, cast

import anyio
import pytest

from flovyn.definitions import RetryPolicy, task, task_by_kind, workflow
from flovyn.errors import PayloadError, TaskCancelled, TaskFailed, TaskTimeout, UsageError
from flovyn.replay.commands import CompleteWorkflow, ScheduleTask, StartTimer
from flovyn.workflow import TaskHandle, WorkflowContext
from replay.replay_platform import plain
from workflow.cases import CACHED, Order, charge, reason, result, running, scheduled, ship


@task(retry=RetryPolicy(max_attempts=3))
async def stubborn(ctx: object) -> None: ...


def test_every_option_is_in_the_command() -> None:
    @workflow
    async def options(ctx: WorkflowContext) -> None:
        changed = charge.options(
            queue="gpu",
            schedule_to_close=0.0001,
            priority=timedelta(seconds=-2.5),
            idempotency_key="order-7",
            idempotency_key_ttl=90.5,
        )
        ctx.schedule_async(changed, Order("a"))
        ctx.schedule_async(ship, item="b")
        ctx.schedule_async(task_by_kind("image.resize"), width=1)
        ctx.schedule_async(stubborn)

    commands = [command for command in plain(running(options).dry()) if isinstance(command, ScheduleTask)]
    assert commands == [
        ScheduleTask(commands[0].task_id, "charge", b'{"id":"a","amount":1}', "gpu", 1, -2, "order-7", 91, None),
        ScheduleTask(commands[1].task_id, "ship", b'"b"'),
        ScheduleTask(commands[2].task_id, "image.resize", b'{"width":1}'),
        ScheduleTask(commands[3].task_id, "stubborn", b"null", max_retries=0),
    ]


@CACHED
def test_a_handle_gives_the_result_to_everybody_who_asks(cached: bool) -> None:
    @workflow
    async def asks(ctx: WorkflowContext) -> list[int]:
        handle = ctx.schedule_async(charge, Order("a", 7))
        await anyio.sleep(1)
        async with anyio.create_task_group() as tg:
            results = [tg.create_task(handle.result()) for _ in range(2)]
        return [*(one.return_value for one in results), await handle, await handle.result()]

    run = running(asks)
    first = run.activate(cached=cached)
    assert scheduled(first) == ["charge"]
    run.platform.fire_next()
    waiting = run.activate(cached=cached)
    (task_id,) = run.platform.tasks("charge")
    assert reason(waiting) == f"Waiting for task {task_id} to complete"
    run.platform.complete("charge", 7)
    assert result(run.activate(cached=cached)) == [7, 7, 7, 7]


@CACHED
def test_a_task_that_has_failed_already_raises_at_the_result(cached: bool) -> None:
    @workflow
    async def late(ctx: WorkflowContext) -> str:
        handle = ctx.schedule_async(charge, Order("a"))
        await anyio.sleep(1)
        try:
            await handle
        except TaskFailed as error:
            return f"{error.kind} {error.task_id == handle.task_id} {error}"
        return "no"

    run = running(late)
    run.activate(cached=cached)
    run.platform.fail("charge", "Task failed: declined")
    assert plain(run.activate(cached=cached)) == []
    run.platform.fire_next()
    assert result(run.activate(cached=cached)) == "charge True Task failed: declined"


@pytest.mark.parametrize(
    ("event", "data", "expected"),
    [
        ("TASK_CANCELLED", {"reason": "by hand"}, (TaskCancelled, "by hand")),
        ("TASK_FAILED", {"error": "Cancelled"}, (TaskCancelled, "Cancelled")),
        ("TASK_FAILED", {"error": "Task timed out"}, (TaskTimeout, "Task timed out")),
        ("TASK_FAILED", {"error": "no"}, (TaskFailed, "no")),
        ("TASK_COMPLETED", {"output": "text"}, (PayloadError, "the payload does not fit int: ")),
    ],
)
def test_how_a_task_ended_is_told_by_type(event: str, data: dict[str, Any], expected: tuple[type[Any], str]) -> None:
    seen: list[tuple[type[Any], str]] = []

    @workflow
    async def tells(ctx: WorkflowContext) -> None:
        try:
            await ctx.schedule(charge, Order("a"))
        except Exception as error:
            seen.append((type(error), str(error)))

    run = running(tells)
    run.activate()
    run.platform.append(event, taskExecutionId=run.platform.tasks("charge")[0], kind="charge", **data)
    assert plain(run.activate()) == [CompleteWorkflow(b"null")]
    assert seen[0][0] is expected[0]
    assert seen[0][1].startswith(expected[1])


@CACHED
def test_a_handle_that_is_cancelled_gives_the_task_up_and_tells_how_it_ended(cached: bool) -> None:
    @workflow
    async def cancels(ctx: WorkflowContext) -> str:
        handle = ctx.schedule_async(charge.options(on_cancel="abandon"), Order("a"))
        await anyio.sleep(1)
        handle.cancel()
        handle.cancel()
        try:
            await handle
        except TaskCancelled as error:
            return str(error)
        return "no"

    run = running(cancels)
    run.activate(cached=cached)
    run.platform.fire_next()
    run.activate(cached=cached)
    (task_id,) = run.platform.tasks("charge")
    assert run.execution.tasks.owed() == [task_id]
    run.platform.append("TASK_CANCELLED", taskExecutionId=task_id, kind="charge", reason="asked")
    assert run.activate(cached=cached).commands[-1] == CompleteWorkflow(b'"asked"')


@CACHED
@pytest.mark.parametrize("on_cancel", ["request", "wait", "abandon"])
def test_a_handle_belongs_to_the_scope_that_scheduled_it(cached: bool, on_cancel: Any) -> None:
    @workflow
    async def owned(ctx: WorkflowContext) -> None:
        with anyio.CancelScope() as outer:
            with anyio.CancelScope():  # noqa: ASYNC100
                # When the inner scope is left, the handle stands in the outer one.
                ctx.schedule_async(charge.options(on_cancel=on_cancel), Order("a"))
            ctx.schedule_async(ship, "elsewhere").cancel()
            await anyio.sleep(1)
            outer.cancel()
        await anyio.sleep(1)

    run = running(owned)
    run.activate(cached=cached)
    assert run.execution.tasks.owed() == run.platform.tasks("ship")
    run.platform.fire_next()
    run.activate(cached=cached)
    given_up = [] if on_cancel == "abandon" else run.platform.tasks("charge")
    assert run.execution.tasks.owed() == run.platform.tasks("ship") + given_up


@CACHED
def test_awaiting_a_handle_elsewhere_only_reads(cached: bool) -> None:
    @workflow
    async def reads(ctx: WorkflowContext) -> int:
        handle: TaskHandle[int] = ctx.schedule_async(charge.options(on_cancel="wait"), Order("a"))
        with anyio.move_on_after(1):
            await handle
        return await handle

    run = running(reads)
    assert isinstance(plain(run.activate(cached=cached))[1], StartTimer)
    run.platform.fire_next()
    run.activate(cached=cached)
    assert run.execution.tasks.owed() == []
    run.platform.complete("charge", 3)
    assert result(run.activate(cached=cached)) == 3


@CACHED
@pytest.mark.parametrize(("event", "expected"), [("TASK_COMPLETED", "the value 5"), ("TASK_CANCELLED", "cancelled")])
def test_a_handle_in_its_cancelled_scope_stays_until_the_task_has_ended(
    cached: bool, event: str, expected: str
) -> None:
    @workflow
    async def stays(ctx: WorkflowContext) -> str:
        seen = "nothing"
        with anyio.CancelScope() as scope:
            handle = ctx.schedule_async(charge.options(on_cancel="wait"), Order("a"))
            await anyio.sleep(1)
            scope.cancel()
            try:
                seen = f"the value {await handle}"
            except anyio.get_cancelled_exc_class():
                seen = "cancelled"
                raise
        return seen

    run = running(stays)
    run.activate(cached=cached)
    run.platform.fire_next()
    (task_id,) = run.platform.tasks("charge")
    assert reason(run.activate(cached=cached)) == f"Waiting for task {task_id} to complete"
    assert run.execution.tasks.owed() == [task_id]
    run.platform.append(event, taskExecutionId=task_id, kind="charge", output=5)
    assert run.activate(cached=cached).commands[-1] == CompleteWorkflow(f'"{expected}"'.encode())


def test_arguments_that_do_not_fit_schedule_nothing() -> None:
    seen: list[str] = []

    @workflow
    async def wrong(ctx: WorkflowContext) -> None:
        for arguments in ([object()], []):
            try:
                ctx.schedule_async(*cast("Any", [charge, *arguments]))
            except UsageError as error:
                seen.append(type(error).__name__)

    assert plain(running(wrong).dry()) == [CompleteWorkflow(b"null")]
    assert seen == ["PayloadError", "DefinitionError"]


def test_an_operation_outside_the_workflow_is_refused() -> None:
    seen: list[str] = []

    @workflow
    async def leaks(ctx: WorkflowContext) -> None:
        def body() -> None:
            try:
                ctx.schedule_async(charge, Order("a"))
            except UsageError as error:
                seen.append(error.message)

        await ctx.run("body", body)

    running(leaks).dry()
    assert seen == [
        "cannot schedule a task here: a workflow's context works in the code of the workflow only, "
        "not in what `ctx.run` or a task runs"
    ]
