"""What the Replayer says of code that has been changed since its histories were written."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from flovyn import DeterminismViolation, WorkflowContext, task, workflow
from flovyn.testing import History, Replayer, Report
from replay.replay_platform import Run
from testing.recording import history_of

ORDER = "order 550e8400-e29b-41d4-a716-446655440000"


@task
async def charge(ctx: object, amount: int) -> str:
    raise AssertionError("no body of a task is ever run")


@task
async def ship(ctx: object, item: str) -> str:
    raise AssertionError("no body of a task is ever run")


@task
async def mail(ctx: object) -> None: ...


@workflow
async def order(ctx: WorkflowContext, items: list[str]) -> list[str]:
    await ctx.schedule(charge, len(items))
    async with anyio.create_task_group() as tg:
        parcels = [tg.create_task(ctx.schedule(ship, item)) for item in items]
        tg.create_task(anyio.sleep(60))
    stamp = await ctx.run("stamp", lambda: "stamped")
    return [stamp, *(parcel.return_value for parcel in parcels)]


def whole(items: list[str]) -> Run:
    """An order that went through: three activations that do something, and those of two parcels."""
    run = Run(order, items)
    run.activate()
    run.platform.complete("charge", "paid")
    run.activate()
    for item in items:
        run.platform.complete("ship", item.upper())
        run.activate()
    run.platform.fire_next()
    run.activate()
    return run


def replay(history: History, changed: Any = order) -> Report:
    return Replayer([changed]).replay(history)


def test_unchanged_code_is_equal_to_its_history_at_every_point_of_it() -> None:
    events = history_of(whole(["a", "b"])).events
    assert events[-1].type == "WORKFLOW_COMPLETED"
    ends = [n for n, event in enumerate(events, 1) if event.type in {"WORKFLOW_SUSPENDED", "WORKFLOW_COMPLETED"}]
    base = history_of(Run(order, ["a", "b"]))
    for length in range(1, len(events) + 1):
        report = replay(
            History(
                workflow_id=base.workflow_id,
                kind=base.kind,
                org_id=base.org_id,
                input=base.input,
                events=events[:length],
            )
        )
        assert (report.status, report.error, report.diff) == ("equal", None, "")
        assert report.activations == len([end for end in ends if end <= length])
        report.raise_for_status()
    assert str(replay(history_of(whole([])))) == f"equal: {ORDER}: 3 activations"


def changed(fn: Any) -> Any:
    return workflow(kind="order", version="2.0.0")(fn)


@changed
async def renamed(ctx: WorkflowContext, items: list[str]) -> list[str]:
    await ctx.schedule(mail)
    return items


@changed
async def removed(ctx: WorkflowContext, items: list[str]) -> list[str]:
    await ctx.schedule(charge, len(items))
    async with anyio.create_task_group() as tg:
        parcels = [tg.create_task(ctx.schedule(ship, item)) for item in items[1:]]
        tg.create_task(anyio.sleep(60))
    stamp = await ctx.run("stamp", lambda: "stamped")
    return [stamp, *(parcel.return_value for parcel in parcels)]


@changed
async def added(ctx: WorkflowContext, items: list[str]) -> list[str]:
    await ctx.schedule(charge, len(items))
    async with anyio.create_task_group() as tg:
        parcels = [tg.create_task(ctx.schedule(ship, item)) for item in items]
        tg.create_task(ctx.schedule(mail))
        tg.create_task(anyio.sleep(90))
    stamp = await ctx.run("stamp", lambda: "stamped")
    return [stamp, *(parcel.return_value for parcel in parcels)]


@changed
async def sleeps_more(ctx: WorkflowContext, items: list[str]) -> list[str]:
    await anyio.sleep(5)
    return await order(ctx, items)


@changed
async def another_output(ctx: WorkflowContext, items: list[str]) -> list[str]:
    return [*await order(ctx, items), "!"]


@changed
async def fails_instead(ctx: WorkflowContext, items: list[str]) -> list[str]:
    await order(ctx, items)
    raise LookupError("no\nmore")


@changed
async def renamed_operation(ctx: WorkflowContext, items: list[str]) -> list[str]:
    await ctx.schedule(charge, len(items))
    async with anyio.create_task_group() as tg:
        for item in items:
            tg.create_task(ctx.schedule(ship, item))
        tg.create_task(anyio.sleep(60))
    await ctx.run("seal", lambda: "sealed")
    await ctx.schedule(mail)
    return []


@changed
async def leaves_early(ctx: WorkflowContext, items: list[str]) -> None:
    await ctx.schedule(charge, len(items))
    async with anyio.create_task_group() as tg:
        for item in items:
            tg.create_task(ctx.schedule(ship, item))
        tg.create_task(anyio.sleep(60))
        raise KeyError("early")


CHANGES: list[tuple[Any, str, int, tuple[int, int], str]] = [
    (
        renamed,
        "Task type mismatch at sequence 0: expected 'charge', got 'mail'",
        0,
        (2, 4),
        """\
--- history: activation 1, events 2 to 4
+++ code: order 2.0.0
@@ -1,2 +1,2 @@
-task charge
+task mail
 suspended: Waiting for task 1 to complete
""",
    ),
    (
        removed,
        "Task call missing at sequence 2: activation 2 made it, the code does not",
        1,
        (6, 10),
        """\
--- history: activation 2, events 6 to 10
+++ code: order 2.0.0
@@ -1,4 +1,3 @@
-task ship
 task ship
 timer of 60000 ms
 suspended: Waiting for task 3 to complete
""",
    ),
    (
        added,
        "Task call not in history at sequence 3: activation 2 did not make it",
        1,
        (6, 10),
        """\
--- history: activation 2, events 6 to 10
+++ code: order 2.0.0
@@ -1,4 +1,5 @@
 task ship
 task ship
+task mail
 timer of 60000 ms
 suspended: Waiting for task 3 to complete
""",
    ),
    (
        sleeps_more,
        "Timer call not in history at sequence 0: activation 1 did not make it",
        0,
        (2, 4),
        """\
--- history: activation 1, events 2 to 4
+++ code: order 2.0.0
@@ -1,2 +1,2 @@
-task charge
+timer of 5000 ms
 suspended: Waiting for task 1 to complete
""",
    ),
    (
        another_output,
        'Workflow end mismatch in activation 5: expected \'completed: ["stamped","A","B"]\', '
        'got \'completed: ["stamped","A","B","!"]\'',
        4,
        (18, 20),
        """\
--- history: activation 5, events 18 to 20
+++ code: order 2.0.0
@@ -1,2 +1,2 @@
 run stamp
-completed: ["stamped","A","B"]
+completed: ["stamped","A","B","!"]
""",
    ),
    (
        fails_instead,
        'Workflow end mismatch in activation 5: expected \'completed: ["stamped","A","B"]\', '
        "got 'failed: LookupError: no more'",
        4,
        (18, 20),
        """\
--- history: activation 5, events 18 to 20
+++ code: order 2.0.0
@@ -1,2 +1,2 @@
 run stamp
-completed: ["stamped","A","B"]
+failed: LookupError: no more
""",
    ),
    (
        renamed_operation,
        "Operation name mismatch at sequence 0: expected 'stamp', got 'seal'",
        4,
        (18, 20),
        """\
--- history: activation 5, events 18 to 20
+++ code: order 2.0.0
@@ -1,2 +1,2 @@
-run stamp
-completed: ["stamped","A","B"]
+run seal
+suspended: Waiting for the operation seal
""",
    ),
    (
        leaves_early,
        "Task call missing at sequence 1: activation 2 made it, the code does not",
        1,
        (6, 10),
        """\
--- history: activation 2, events 6 to 10
+++ code: order 2.0.0
@@ -1,4 +1,1 @@
-task ship
-task ship
-timer of 60000 ms
-suspended: Waiting for task 3 to complete
+failed: KeyError: 'early'
""",
    ),
]


@pytest.mark.parametrize(
    ("code", "message", "activations", "events", "diff"), CHANGES, ids=[case[0].fn.__name__ for case in CHANGES]
)
def test_changed_code_is_told_apart_by_its_commands(
    code: Any, message: str, activations: int, events: tuple[int, int], diff: str
) -> None:
    history = history_of(whole(["a", "b"]))
    ids = [event.data.split(b'"')[7].decode() for event in history.events if event.type == "TASK_SCHEDULED"]
    for number, identity in enumerate(ids, 1):  # ids are no part of what is tested
        diff = diff.replace(f"for task {number} ", f"for task {identity} ")
    report = replay(history, code)
    assert str(report.error) == f"Determinism violation: {message}"
    assert report.diff == diff
    assert (report.status, report.activations, report.events) == ("violation", activations, events)
    with pytest.raises(DeterminismViolation) as raised:
        report.raise_for_status()
    assert str(raised.value) == f"{ORDER}: {report.error}\n{diff}".rstrip()
    assert raised.value.__cause__ is report.error
