"""Tasks that stand alone over REST."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import pytest

from flovyn.wire import methods
from flovyn.wire.messages.flovyn import v1 as pb
from rest.rest_world import ACME, UUID, Rest, rest
from rest.test_workflows import UNKNOWN, timeless
from server.world import schedule, suspend, task_id

pytestmark = pytest.mark.anyio


async def submit(served: Rest, **fields: Any) -> str:
    return str((await served.post("/task-executions", {"kind": "resize", **fields}, 201))["id"])


async def test_submitting_a_task_shows_it() -> None:
    async with rest() as served:
        body = {
            "kind": "resize",
            "input": {"w": 1},
            "queue": "gpu",
            "maxRetries": 2,
            "timeoutMs": 60_000,
            "metadata": {"a": "b"},
            "idempotencyKey": "k",
            "idempotencyKeyTTL": "30s",
        }
        reply = await served.ask("POST", "/task-executions", body)
        task = reply.json()
        assert (reply.status_code, bool(re.fullmatch(UUID, task["id"]))) == (201, True)
        assert timeless(task) == {
            "id": task["id"],
            "orgId": ACME.id,
            "kind": "resize",
            "status": "PENDING",
            "queue": "gpu",
            "workflowExecutionId": None,
            "maxRetries": 2,
            "executionCount": 0,
            "workerId": None,
            "error": None,
            "metadata": {"a": "b"},
            "input": {"w": 1},
            "output": None,
            "progress": None,
            "progressDetails": None,
        }
        left = datetime.fromisoformat(task["deadlineAt"]) - datetime.fromisoformat(task["createdAt"])
        assert left == timedelta(minutes=1)
        again = await served.ask("POST", "/task-executions", body)
        assert (again.status_code, again.json()) == (200, task)
        assert await served.get(f"/task-executions/{task['id']}") == task


@pytest.mark.parametrize(("asked", "given"), [(None, 3), (0, 0), (10, 10), (11, 10), (-5, 0)])
async def test_retries_are_cut_as_the_platform_does(asked: int | None, given: int) -> None:
    async with rest() as served:
        task = await served.post("/task-executions", {"kind": "t", "maxRetries": asked}, 201)
        assert task["maxRetries"] == given


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({}, "body: Object missing required field `kind`"),
        ({"kind": "t", "timeoutMs": -1}, "body: Expected `int` >= 0 - at `$.timeoutMs`"),
        ({"kind": "t", "scheduledAt": "tomorrow"}, "body: Invalid RFC3339 encoded datetime - at `$.scheduledAt`"),
        ({"kind": "t", "scheduledAt": "2026-01-01T00:00:00"}, "body: Expected `datetime` with a timezone component"),
        ({"kind": "t", "scheduledAt": "9999-01-01T00:00:00Z"}, "scheduled_at is 253370764800000; it must be between"),
        ({"kind": "t", "workflowExecutionId": "x"}, "body: Object contains unknown field `workflowExecutionId`"),
    ],
)
async def test_a_task_that_makes_no_sense_is_refused(body: Any, text: str) -> None:
    async with rest() as served:
        status, said = await served.refused("POST", "/task-executions", body)
        assert status == 400
        assert said.startswith(text)


async def test_the_life_of_a_task_with_its_attempts_its_log_and_its_progress() -> None:
    async with rest() as served:
        task = await submit(served, maxRetries=1)
        claimed, echo = await served.claim_task()
        assert claimed == task
        channel = served.channel
        log = pb.LogMessageRequest(task_execution_id=task, level="INFO", message="half way")
        await channel.unary(methods.LOG_MESSAGE, log, metadata=echo)
        progress = pb.ReportProgressRequest(task_execution_id=task, progress=0.5, details="of it")
        await channel.unary(methods.REPORT_PROGRESS, progress, metadata=echo)
        shown = await served.get(f"/task-executions/{task}")
        assert (shown["status"], shown["executionCount"], shown["workerId"]) == ("RUNNING", 1, "w")
        assert (shown["progress"], shown["progressDetails"]) == (0.5, "of it")
        failed = pb.FailTaskRequest(task_execution_id=task, error="no memory")
        await channel.unary(methods.FAIL_TASK, failed, metadata=echo)
        _, echo = await served.claim_task()
        done = pb.CompleteTaskRequest(task_execution_id=task, output=b'{"ok":true}')
        await channel.unary(methods.COMPLETE_TASK, done, metadata=echo)
        shown = await served.get(f"/task-executions/{task}")
        assert (shown["status"], shown["output"], shown["error"]) == ("COMPLETED", {"ok": True}, None)
        page = await served.get(f"/task-executions/{task}/attempts")
        assert (page["total"], page["limit"], page["offset"]) == (2, 100, 0)
        assert [timeless(attempt) for attempt in page["attempts"]] == [
            {"attempt": 1, "status": "FAILED", "workerId": "w", "output": None, "error": "no memory"},
            {"attempt": 2, "status": "COMPLETED", "workerId": "w", "output": {"ok": True}, "error": None},
        ]
        page = await served.get(f"/task-executions/{task}/attempts", offset=1, limit=1)
        assert [attempt["attempt"] for attempt in page["attempts"]] == [2]
        logs = await served.get(f"/task-executions/{task}/logs")
        (line,) = logs["logs"]
        assert (line["number"], line["level"], line["message"], logs["total"]) == (1, "INFO", "half way", 1)


async def test_lists_hold_only_tasks_that_stand_alone() -> None:
    async with rest() as served:
        await served.start()
        await served.activate(schedule(), suspend())
        first, second = await submit(served), await submit(served, queue="gpu")
        page = await served.get("/task-executions")
        assert [task["id"] for task in page["tasks"]] == [second, first]
        assert (page["total"], page["limit"], page["offset"], "input" in page["tasks"][0]) == (2, 100, 0, False)
        assert (await served.get("/task-executions", status="RUNNING"))["total"] == 0
        assert [task["id"] for task in (await served.get("/task-executions", queue="", kind="resize"))["tasks"]] == [
            first
        ]


async def test_a_task_that_nobody_has_begun_can_be_withdrawn() -> None:
    async with rest() as served:
        task = await submit(served)
        reply = await served.ask("DELETE", f"/task-executions/{task}")
        assert (reply.status_code, reply.content) == (204, b"")
        shown = await served.get(f"/task-executions/{task}")
        assert (shown["status"], shown["error"]) == ("CANCELLED", "it was withdrawn")
        begun = await submit(served)
        await served.claim_task()
        assert await served.refused("DELETE", f"/task-executions/{begun}") == (
            400,
            f"task {begun} cannot be withdrawn: it is RUNNING, not PENDING",
        )


@pytest.mark.parametrize(("method", "path"), [("GET", ""), ("DELETE", ""), ("GET", "/attempts"), ("GET", "/logs")])
async def test_the_tasks_of_a_workflow_are_not_found_here(method: str, path: str) -> None:
    async with rest() as served:
        await served.start()
        await served.activate(schedule(), suspend())
        for task in (task_id(0), UNKNOWN):
            assert await served.refused(method, f"/task-executions/{task}{path}") == (404, f"task {task!r} is unknown")


async def test_a_task_waits_for_its_time() -> None:
    async with rest() as served:
        soon = datetime.now(UTC) + timedelta(seconds=0.4)
        late = await submit(served, scheduledAt="2100-01-01T00:00:00+01:00")
        task = await submit(served, scheduledAt=soon.isoformat())
        shown = await served.get(f"/task-executions/{late}")
        assert (shown["status"], shown["scheduledAt"]) == ("PENDING", "2099-12-31T23:00:00Z")
        assert (await served.get("/task-executions", status="PENDING"))["total"] == 2
        with anyio.fail_after(5):
            assert (await served.claim_task())[0] == task
        assert datetime.now(UTC) >= soon - timedelta(milliseconds=2)
        assert (await served.ask("DELETE", f"/task-executions/{late}")).status_code == 204
        past = await submit(served, scheduledAt="2001-01-01T00:00:00Z")
        assert (await served.claim_task())[0] == past
