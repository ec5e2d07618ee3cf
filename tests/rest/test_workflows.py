"""Workflow executions over REST: every endpoint, with exact statuses and bodies."""

from __future__ import annotations

import re
from typing import Any

import pytest

from flovyn.wire.messages.flovyn import v1 as pb
from rest.rest_world import ACME, ISO, UUID, rest
from server.world import (
    child_id,
    clear_state,
    complete,
    create_promise,
    fail,
    schedule,
    schedule_child,
    set_state,
    start_timer,
    suspend,
    task_id,
)

pytestmark = pytest.mark.anyio

UNKNOWN = "00000000-0000-4000-8000-000000000000"


def timeless(body: dict[str, Any]) -> dict[str, Any]:
    """The body without its timestamps, of which each that is there must be one."""
    kept: dict[str, Any] = {}
    for name, value in body.items():
        if not name.endswith("At"):
            kept[name] = value
        elif value is not None:
            assert re.fullmatch(ISO, value), value
    return kept


async def test_starting_says_all_about_it() -> None:
    async with rest() as served:
        body = {
            "kind": "order",
            "input": {"n": 1},
            "queue": "gpu",
            "version": "1.0.0",
            "prioritySeconds": 5,
            "metadata": {"team": "a"},
            "idempotencyKey": "k",
            "idempotencyKeyTTL": "2h",
        }
        reply = await served.ask("POST", "/workflow-executions", body)
        assert (reply.status_code, reply.headers["content-type"]) == (201, "application/json")
        started = reply.json()
        run = started["workflowExecutionId"]
        assert re.fullmatch(UUID, run)
        here = f"/api/orgs/acme/workflow-executions/{run}"
        expected = {
            "workflowExecutionId": run,
            "status": "PENDING",
            "kind": "order",
            "links": {"self": here, "events": f"{here}/events"},
            "idempotencyKeyUsed": False,
            "idempotencyKeyNew": True,
        }
        assert timeless(started) == expected
        assert (await served.http.get(here)).json()["id"] == run
        again = await served.ask("POST", "/workflow-executions", body)
        assert again.status_code == 200
        assert again.json() == {**started, "idempotencyKeyUsed": True, "idempotencyKeyNew": False}
        assert timeless(await served.get(f"/workflow-executions/{run}")) == {
            "id": run,
            "orgId": ACME.id,
            "kind": "order",
            "workflowKind": "order",
            "status": "PENDING",
            "queue": "gpu",
            "version": "1.0.0",
            "prioritySeconds": 5,
            "parentWorkflowExecutionId": None,
            "childExecutionName": None,
            "cancellationRequested": False,
            "cancelReason": None,
            "workerId": None,
            "currentSequence": 1,
            "input": {"n": 1},
            "output": None,
            "error": None,
            "metadata": {"team": "a"},
            "retries": [],
        }


async def test_what_is_left_out_has_a_default() -> None:
    async with rest() as served:
        run = (await served.post("/workflow-executions", {"kind": "order", "labels": {"a": "b"}}, 201))[
            "workflowExecutionId"
        ]
        shown = await served.get(f"/workflow-executions/{run}")
        assert (shown["input"], shown["queue"], shown["version"], shown["metadata"]) == (
            None,
            "default",
            None,
            {"a": "b"},
        )


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({}, "body: Object missing required field `kind`"),
        ([], "body: Expected `object`, got `array`"),
        ({"kind": ""}, "body: Expected `str` of length >= 1 - at `$.kind`"),
        ({"kind": "k" * 256}, "body: Expected `str` of length <= 255 - at `$.kind`"),
        ({"kind": "k", "queue": "q" * 101}, "body: Expected `str` of length <= 100 - at `$.queue`"),
        ({"kind": "k", "nonsense": 1}, "body: Object contains unknown field `nonsense`"),
        ({"kind": "k", "metadata": {"a": 1}}, "body: Expected `str`, got `int` - at `$.metadata[...]`"),
        ({"kind": "k", "prioritySeconds": 2**40}, "body: Expected `int` <= 2147483647 - at `$.prioritySeconds`"),
        ({"kind": "k", "idempotencyKey": ""}, "body: Expected `str` of length >= 1 - at `$.idempotencyKey`"),
        ({"kind": "k", "metadata": {"a": "b"}, "labels": {"c": "d"}}, "metadata and labels are two names for the same"),
        ({"kind": "k", "idempotencyKey": "k", "idempotencyKeyTTL": "1y"}, "body: Expected `str` matching regex"),
        ({"kind": "k", "idempotencyKeyTTL": "5m\n"}, "idempotencyKeyTTL '5m\\n' has a line end in it"),
        (
            {"kind": "k", "idempotencyKey": "k", "idempotencyKeyTTL": "31d"},
            "idempotency_key_ttl_seconds is 2678400; it must be between 1 and 2592000",
        ),
    ],
)
async def test_a_start_that_makes_no_sense_is_refused(body: Any, text: str) -> None:
    async with rest() as served:
        status, said = await served.refused("POST", "/workflow-executions", body)
        assert status == 400
        assert said.startswith(text)
        assert (await served.get("/workflow-executions"))["total"] == 0


async def test_a_key_that_stands_for_a_task_is_a_conflict() -> None:
    async with rest() as served:
        task = await served.post("/task-executions", {"kind": "t", "idempotencyKey": "k"}, 201)
        body = {"kind": "order", "idempotencyKey": "k"}
        assert await served.refused("POST", "/workflow-executions", body) == (
            409,
            f"idempotency_key 'k' is taken by task {task['id']}",
        )


async def test_the_end_of_an_execution_is_shown_with_what_came_of_it() -> None:
    async with rest() as served:
        done, failed = await served.start(), await served.start()
        assert await served.activate(complete(b'{"total":7}')) == done
        assert await served.activate(fail("no stock")) == failed
        shown = await served.get(f"/workflow-executions/{done}")
        assert (shown["status"], shown["output"], shown["error"]) == ("COMPLETED", {"total": 7}, None)
        assert shown["completedAt"] == shown["updatedAt"] is not None
        shown = await served.get(f"/workflow-executions/{failed}")
        assert (shown["status"], shown["output"], shown["error"]) == ("FAILED", None, "no stock")


@pytest.mark.parametrize(
    "path", ["", "/events", "/state", "/tasks", "/children"], ids=lambda path: path or "the execution"
)
async def test_what_there_is_not_is_not_found(path: str) -> None:
    async with rest() as served:
        for run in (UNKNOWN, "nonsense", "a%2Fb"):
            status, said = await served.refused("GET", f"/workflow-executions/{run}{path}")
            assert status == 404
            if "%" not in run:
                assert said == f"workflow execution {run!r} is unknown"


async def test_lists_are_filtered_and_come_in_pages_newest_first() -> None:
    async with rest() as served:
        runs = [await served.start(kind) for kind in ("a", "b", "a", "a")]
        gpu = await served.start("a", queue="gpu")
        await served.activate(complete())

        async def listed(**query: Any) -> tuple[list[str], int]:
            page = await served.get("/workflow-executions", **query)
            return [run["id"] for run in page["workflows"]], page["total"]

        assert await listed() == ([gpu, *reversed(runs)], 5)
        assert await listed(kind="a") == ([gpu, runs[3], runs[2], runs[0]], 4)
        assert await listed(kind="a", limit=2, offset=1) == ([runs[3], runs[2]], 4)
        assert await listed(status="COMPLETED") == ([runs[0]], 1)
        assert await listed(status="PENDING", kind="a", queue="default") == ([runs[3], runs[2]], 2)
        assert await listed(queue="") == ([*reversed(runs)], 4)
        assert await listed(queue="gpu") == ([gpu], 1)
        assert await listed(kind="nothing") == ([], 0)
        assert await listed(offset=100) == ([], 5)
        page = await served.get("/workflow-executions", limit=1)
        assert (page["limit"], page["offset"], "input" in page["workflows"][0]) == (1, 0, False)


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("status=OVER", "query: Invalid enum value 'OVER' - at `$.status`"),
        ("limit=0", "query: Expected `int` >= 1 - at `$.limit`"),
        ("limit=1001", "query: Expected `int` <= 1000 - at `$.limit`"),
        ("limit=many", "query: Expected `int`, got `str` - at `$.limit`"),
        ("offset=-1", "query: Expected `int` >= 0 - at `$.offset`"),
        ("colour=red", "query: Object contains unknown field `colour`"),
        ("limit=1&limit=2", "the query parameter 'limit' is given twice"),
    ],
)
async def test_a_query_that_makes_no_sense_is_refused(query: str, text: str) -> None:
    async with rest() as served:
        assert await served.refused("GET", f"/workflow-executions?{query}") == (400, text)


async def test_events_are_a_bare_array_from_where_one_wants() -> None:
    async with rest() as served:
        run = await served.start()
        await served.activate(schedule(), suspend())
        history = await served.get(f"/workflow-executions/{run}/events")
        assert [event["sequenceNumber"] for event in history] == [1, 2, 3]
        assert timeless(history[0]) == {
            "sequenceNumber": 1,
            "eventType": "WORKFLOW_STARTED",
            "data": {"input": {}, "kind": "order", "metadata": {}},
        }
        assert history[1]["data"]["taskExecutionId"] == task_id(0)
        assert await served.get(f"/workflow-executions/{run}/events", since_sequence=1) == history[1:]
        assert await served.get(f"/workflow-executions/{run}/events", since_sequence=3) == []


async def test_state_is_what_was_recorded() -> None:
    async with rest() as served:
        run = await served.start()
        await served.activate(
            set_state("a", b'{"n":1}'), set_state("b"), clear_state("b"), set_state("c", b"null"), suspend()
        )
        assert await served.get(f"/workflow-executions/{run}/state") == {"state": {"a": {"n": 1}, "c": None}}


async def test_the_tasks_of_an_execution_are_shown_without_payloads() -> None:
    async with rest() as served:
        run = await served.start(queue="")
        await served.activate(schedule(0), schedule(1, kind="ship", max_retries=1), suspend())
        page = await served.get(f"/workflow-executions/{run}/tasks")
        assert (page["total"], page["limit"], page["offset"]) == (2, 100, 0)
        first, second = page["tasks"]
        assert timeless(first) == {
            "id": task_id(0),
            "orgId": ACME.id,
            "kind": "charge",
            "status": "PENDING",
            "queue": "default",
            "workflowExecutionId": run,
            "maxRetries": 3,
            "executionCount": 0,
            "workerId": None,
            "error": None,
            "metadata": {},
        }
        assert (second["id"], second["kind"], second["maxRetries"]) == (task_id(1), "ship", 1)
        assert (await served.get(f"/workflow-executions/{run}/tasks", limit=1, offset=1))["tasks"] == [second]


async def test_children_are_listed_with_their_parent() -> None:
    async with rest() as served:
        run = await served.start()
        await served.activate(schedule_child(0), schedule_child(1), suspend())
        page = await served.get(f"/workflow-executions/{run}/children", limit=1)
        (child,) = page["workflows"]
        assert page["total"] == 2
        assert (child["id"], child["childExecutionName"], child["parentWorkflowExecutionId"]) == (
            child_id(0),
            "child-0",
            run,
        )
        assert (await served.get(f"/workflow-executions/{child_id(0)}"))["parentWorkflowExecutionId"] == run
        assert (await served.get(f"/workflow-executions/{child_id(0)}/children"))["workflows"] == []
        listed = await served.get("/workflow-executions", offset=1, limit=1)
        assert listed["workflows"][0]["parentWorkflowExecutionId"] == run


# --- stopping -------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["post", "delete", "delete cancel"])
async def test_a_workflow_that_does_not_cooperate_is_cancelled_at_once(how: str) -> None:
    async with rest() as served:
        run = await served.start()
        await served.activate(schedule(), start_timer(), create_promise(), suspend())
        where = f"/workflow-executions/{run}"
        if how == "post":
            reply = await served.ask("POST", f"{where}/cancel", {"reason": "too late", "requestedBy": "bob"})
        else:
            where = where if how == "delete" else f"{where}/cancel"
            reply = await served.ask("DELETE", where, params={"reason": "too late", "requestedBy": "bob"})
        assert reply.status_code == 200, reply.text
        assert reply.json() == {"workflowExecutionId": run, "status": "CANCELLED", "cancellationRequested": True}
        history = await served.get(f"/workflow-executions/{run}/events", since_sequence=5)
        assert [(event["eventType"], event["data"]) for event in history] == [
            ("CANCELLATION_REQUESTED", {"reason": "too late", "requestedBy": "bob"}),
            ("WORKFLOW_CANCELLED", {"reason": "too late"}),
        ]
        shown = await served.get(f"/workflow-executions/{run}")
        assert (shown["status"], shown["error"], shown["cancelReason"]) == ("CANCELLED", "too late", "too late")
        assert await served.refused("POST", f"/workflow-executions/{run}/cancel") == (
            409,
            f"workflow {run} cannot be cancelled: it is CANCELLED",
        )


async def test_a_cooperating_workflow_is_asked_and_at_the_second_time_ended() -> None:
    async with rest() as served:
        await served.register(pb.WorkflowCapability(kind="order", metadata=b'{"cancellation":"scopes"}'))
        run = await served.start()
        await served.activate(suspend())
        asked = await served.post(f"/workflow-executions/{run}/cancel")
        assert asked == {"workflowExecutionId": run, "status": "PENDING", "cancellationRequested": True}
        shown = await served.get(f"/workflow-executions/{run}")
        assert (shown["cancellationRequested"], shown["cancelReason"]) == (True, "")
        history = await served.get(f"/workflow-executions/{run}/events")
        assert history[-1]["data"] == {"reason": "", "requestedBy": "ada"}
        forced = await served.post(f"/workflow-executions/{run}/cancel", {"reason": "now"})
        assert forced["status"] == "CANCELLED"


async def test_a_failed_workflow_goes_on_when_it_is_retried() -> None:
    async with rest() as served:
        run = await served.start()
        await served.activate(fail("no stock"))
        retried = await served.post(f"/workflow-executions/{run}/retry", {"note": "stock is back"})
        assert retried == {"workflowExecutionId": run, "status": "PENDING"}
        shown = await served.get(f"/workflow-executions/{run}")
        assert (shown["error"], shown["completedAt"], shown["status"]) == (None, None, "PENDING")
        (one,) = shown["retries"]
        assert timeless({"retriedAt": one.pop("at"), **one}) == {
            "note": "stock is back",
            "requestedBy": "ada",
            "afterSequence": 2,
        }
        assert await served.activate(complete(b"1")) == run
        assert await served.types(run) == ["WORKFLOW_STARTED", "WORKFLOW_EXECUTION_FAILED", "WORKFLOW_COMPLETED"]
        assert await served.refused("POST", f"/workflow-executions/{run}/retry") == (
            409,
            f"workflow {run} cannot be retried: it is COMPLETED, not FAILED",
        )


@pytest.mark.parametrize("what", ["cancel", "retry", "signal"])
async def test_nothing_can_be_done_to_what_there_is_not(what: str) -> None:
    async with rest() as served:
        body = {"signalName": "s"} if what == "signal" else None
        assert await served.refused("POST", f"/workflow-executions/{UNKNOWN}/{what}", body) == (
            404,
            f"workflow execution {UNKNOWN!r} is unknown",
        )


# --- signals --------------------------------------------------------------------------------


@pytest.mark.parametrize("names", [("signalName", "signalValue"), ("signal_name", "signal_value")])
async def test_signals_are_read_in_both_spellings(names: tuple[str, str]) -> None:
    async with rest() as served:
        run = await served.start()
        body = dict(zip(names, ("go", [1, "ü"]), strict=True))
        reply = await served.post(f"/workflow-executions/{run}/signal", body)
        assert reply == {"workflowExecutionId": run, "signalEventSequence": 2, "signalDelivered": True}
        history = await served.get(f"/workflow-executions/{run}/events")
        assert history[1]["data"] == {"signalName": "go", "signalValue": [1, "ü"]}
        await served.activate(complete())
        assert await served.refused("POST", f"/workflow-executions/{run}/signal", body) == (
            409,
            f"workflow {run} cannot be signalled: it is COMPLETED",
        )


async def test_signalling_with_a_start_starts_once() -> None:
    async with rest() as served:
        body = {
            "workflow_id": "cart-1",
            "workflow_kind": "cart",
            "workflow_input": {"n": 1},
            "queue": "q",
            "signal_name": "add",
            "signal_value": 1,
            "metadata": {"a": "b"},
        }
        first = await served.post("/workflow-executions/signal-with-start", body)
        run = first["workflow_execution_id"]
        assert first == {
            "workflow_execution_id": run,
            "workflowExecutionId": run,
            "workflow_created": True,
            "workflowCreated": True,
            "signal_event_sequence": 2,
            "signalEventSequence": 2,
            "signal_delivered": True,
            "signalDelivered": True,
        }
        camel = {"workflowId": "cart-1", "workflowKind": "cart", "signalName": "add", "signalValue": 2}
        second = await served.post("/workflow-executions/signal-with-start", camel)
        assert (second["workflowExecutionId"], second["workflowCreated"], second["signalEventSequence"]) == (
            run,
            False,
            3,
        )
        shown = await served.get(f"/workflow-executions/{run}")
        assert (shown["input"], shown["queue"], shown["metadata"]) == ({"n": 1}, "q", {"a": "b"})


@pytest.mark.parametrize(
    ("path", "body", "text"),
    [
        ("/x/signal", {}, "body: Object missing required field `signalName`"),
        ("/x/signal", {"signalName": "a", "signal_name": "b"}, "body: 'signalName' is given in two spellings"),
        ("/signal-with-start", {"signalName": "s"}, "body: Object missing required field `workflowId`"),
        ("/signal-with-start", [], "body: Expected `object`, got `array`"),
    ],
)
async def test_a_signal_that_makes_no_sense_is_refused(path: str, body: Any, text: str) -> None:
    async with rest() as served:
        assert await served.refused("POST", f"/workflow-executions{path}", body) == (400, text)
