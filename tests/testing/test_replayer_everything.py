"""Everything that a workflow can ask for, as lines of a diff; runs of other SDKs; a real server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anyio
import pytest

import flovyn
from flovyn import TaskContext, Worker, WorkflowContext, task, workflow
from flovyn.server import serve
from flovyn.testing import History, RecordedEvent, Replayer, Report
from replay.replay_platform import WORKFLOW_ID, Run
from testing.cases import charge, everything, parcel, whole
from testing.recording import history_of


@workflow(kind="everything")
async def something_else(ctx: WorkflowContext) -> list[Any]:
    ctx.set("stage", 1)
    ctx.create_promise("consent")
    ctx.schedule_workflow_async(parcel.options(child_name="tea"), "tea")
    ctx.clear("stage")
    await anyio.sleep(1)
    return []


DIFF = """\
--- history: activation 1, events 2 to 12
+++ code: everything 1.0.0
@@ -1,9 +1,6 @@
-run draw
-set state step
-promise approval
-child parcel-1 of kind parcel
-child cup of kind parcel
-task charge
-set state step
-clear state step
+set state stage
+promise consent
+child tea of kind parcel
+clear state stage
+timer of 1000 ms
 suspended: Waiting for promise approval to be resolved
"""


def test_everything_that_a_workflow_asks_for_is_equal_to_itself_and_shows_in_a_diff() -> None:
    history = whole()
    report = Replayer([everything]).replay(history)
    assert (str(report), report.diff) == (f"equal: everything {WORKFLOW_ID}: 6 activations", "")
    report = Replayer([something_else]).replay(history)
    assert str(report.error) == "Determinism violation: State key mismatch at sequence 0: expected 'step', got 'stage'"
    assert report.diff == DIFF


# --- runs of other SDKs ---------------------------------------------------------------------


@workflow
async def pays(ctx: WorkflowContext, amount: int) -> int:
    paid = await ctx.schedule(charge, amount)
    await anyio.sleep(1)
    return paid


def native(*events: tuple[str, Any]) -> History:
    listed = [
        ("WORKFLOW_STARTED", {"input": 3, "kind": "pays"}),
        ("TASK_SCHEDULED", {"kind": "charge", "taskExecutionId": "00000000-0000-4000-8000-000000000001"}),
        ("WORKFLOW_SUSPENDED", {"reason": "Waiting for task"}),
        ("TASK_COMPLETED", {"taskExecutionId": "00000000-0000-4000-8000-000000000001", "output": 3}),
        ("TIMER_STARTED", {"timerId": "sleep-1", "durationMs": 1000}),
        ("WORKFLOW_SUSPENDED", {"reason": "Waiting for timer"}),
        *events,
    ]
    text = {"id": WORKFLOW_ID, "events": [event(n, kind, data) for n, (kind, data) in enumerate(listed, 1)]}
    return History.from_json(json.dumps(text))


def event(number: int, kind: str, data: Any) -> dict[str, Any]:
    return {"sequenceNumber": number, "eventType": kind, "data": data}


FIRED = ("TIMER_FIRED", {"timerId": "sleep-1"})


def changed(outcome: Any) -> Any:
    @workflow(kind="pays")
    async def other(ctx: WorkflowContext, amount: int) -> Any:
        await pays(ctx, amount)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return other


@workflow(kind="pays")
async def refuses(ctx: WorkflowContext, amount: int) -> str:
    return await ctx.schedule_workflow(parcel, "tea")


@workflow(kind="pays")
async def pays_otherwise(ctx: WorkflowContext, amount: int) -> int:
    @task(kind="debit")
    async def debit(ctx: TaskContext, amount: int) -> int:
        return amount

    return await ctx.schedule(debit, amount)


UNMARKED: list[tuple[History, Any, str | None]] = [
    (native(), pays, None),
    (native(FIRED), pays, None),
    (native(FIRED, ("WORKFLOW_COMPLETED", {"output": 3})), pays, None),
    (native(), refuses, None),  # a call beyond history is a new one
    (native(), changed(4), None),
    (native(FIRED, ("WORKFLOW_COMPLETED", {"output": 3})), changed(4), "expected 'completed: 3', got 'completed: 4'"),
    (native(FIRED, ("WORKFLOW_COMPLETED", {"output": 3})), changed(ValueError()), "got 'failed: ValueError'"),
    (native(FIRED, ("WORKFLOW_EXECUTION_FAILED", {"error": "Workflow failed: no"})), changed(ValueError()), None),
    (native(FIRED, ("WORKFLOW_EXECUTION_FAILED", {"error": "Workflow failed: no"})), pays, "got 'completed: 3'"),
    (native(("WORKFLOW_CANCELLED", {"reason": "grace is over"})), pays, None),
    (native(), pays_otherwise, "Task type mismatch at sequence 0: expected 'charge', got 'debit'"),
]


@pytest.mark.parametrize(("history", "code", "message"), UNMARKED)
def test_a_run_of_another_sdk_is_replayed_leniently(history: History, code: Any, message: str | None) -> None:
    report = Replayer([code]).replay(history)
    assert report.status == ("equal" if message is None else "violation"), report.trace
    assert report.activations == (message is None)
    assert (message or "") in str(report.error)


def test_a_run_that_another_sdk_has_begun_and_this_one_continued_is_compared_from_there_on() -> None:
    run = Run(pays, 3)
    for recorded_event in native(FIRED).events[1:]:
        run.platform.append(recorded_event.type, **json.loads(recorded_event.data))
    run.activate(cached=False)
    assert run.platform.events[-1].type == "WORKFLOW_COMPLETED"
    assert str(Replayer([pays]).replay(history_of(run))) == f"equal: pays {WORKFLOW_ID}: 1 activation"
    report = Replayer([changed(4)]).replay(history_of(run))
    assert report.diff.splitlines()[2:] == ["@@ -1,1 +1,1 @@", "-completed: 3", "+completed: 4"]
    report = Replayer([pays_otherwise]).replay(history_of(run))
    assert "Task type mismatch at sequence 0: expected 'charge', got 'debit'" in str(report.error)
    assert report.diff.splitlines()[-1].startswith("+stopped: Determinism violation: Task type mismatch at sequence 0")


def test_what_another_sdk_wrote_behind_activations_of_this_one_is_a_violation() -> None:
    run = Run(pays, 3)
    run.activate()
    history = history_of(run)
    stray = RecordedEvent(len(history.events) + 1, "TASK_SCHEDULED", b'{"kind":"charge","taskExecutionId":"t"}')
    report = Replayer([pays]).replay(
        History(workflow_id=WORKFLOW_ID, kind="pays", input=b"3", events=(*history.events, stray))
    )
    assert (report.status, report.activations, report.events, report.diff) == ("violation", 0, None, "")
    assert "a run cannot go back to the SDK that it came from" in str(report.error)


# --- a real server --------------------------------------------------------------------------


@workflow
class Cart:
    """Pays for each item by itself, and leaves a tip when all are paid."""

    def __init__(self) -> None:
        self.paid: list[int] = []

    async def run(self, ctx: WorkflowContext, size: int) -> int:
        async with anyio.create_task_group() as tg:
            for price in range(size):
                tg.create_task(self.pay(ctx, price))
            await ctx.wait_condition(lambda: len(self.paid) == size)
        await anyio.sleep(0.01)
        return sum(self.paid) + await ctx.run("tip", lambda: 1)

    async def pay(self, ctx: WorkflowContext, price: int) -> None:
        self.paid.append(await ctx.schedule(charge, price))


@workflow(kind="Cart")
async def cart_without_tip(ctx: WorkflowContext, size: int) -> int:
    paid = await flovyn.join_all(*(ctx.schedule(charge, price) for price in range(size)))
    await anyio.sleep(0.01)
    return sum(paid)


@pytest.mark.anyio
async def test_an_execution_of_a_real_server_is_replayed_on_any_loop(tmp_path: Path) -> None:
    with anyio.fail_after(20):
        async with serve() as server:
            async with flovyn.connect(server.url, org_id=server.org_id, token=server.token) as client:
                async with Worker(client, workflows=[Cart], tasks=[charge]):
                    handle = await client.start(Cart, 3)
                    running = await History.fetch(client, handle.id)
                    assert await handle.result() == 4
                history = await History.fetch(client, handle.id)
    assert running.events == history.events[: len(running.events)]
    assert (history.kind, history.org_id, history.input) == ("Cart", str(server.org_id), b"3")
    path = tmp_path / "cart.json"
    path.write_text(history.to_json(), encoding="utf-8")
    assert History.read(path) == history
    reports: list[Report] = Replayer([Cart]).replay_all([running, history, History.read(path)])
    assert [report.status for report in reports] == ["equal"] * 3, [str(report) for report in reports]
    report = Replayer([cart_without_tip]).replay(history)
    assert report.diff.splitlines()[2:] == ["@@ -1,2 +1,1 @@", "-run tip", "-completed: 4", "+completed: 3"]
