"""Workers, definitions, organisations, health and documentation."""

from __future__ import annotations

import json
from importlib.metadata import version
from typing import Any

import anyio
import pytest

from flovyn.errors import InvalidArgument
from flovyn.wire.channel import Channel
from flovyn.wire.messages.flovyn import v1 as pb
from rest.rest_world import ACME, Rest, rest
from rest.test_workflows import timeless

pytestmark = pytest.mark.anyio

SCHEMA = {
    "type": "object",
    "properties": {
        "items": {"type": "array", "items": {"type": "object", "properties": {"price": {"type": "number"}}}}
    },
    "required": ["items"],
}


async def register(served: Rest, schema: Any = SCHEMA, number: str = "1.0.0", **fields: Any) -> str:
    capability = pb.WorkflowCapability(
        kind="order",
        name="Order",
        description="Takes an order.",
        timeout_seconds=60,
        cancellable=True,
        tags=["shop", "a"],
        retry_policy=b'{"max":3}',
        metadata=b"not json",
        version=number,
        content_hash="abc",
        input_schema=json.dumps(schema).encode(),
        output_schema=b'{"type":"integer"}',
    )
    task = pb.TaskCapability(kind="img/resize", name="Resize", input_schema=b'{"type":"string"}')
    return await served.register(capability, tasks=[task], team_id="t1", metadata=b'{"gpu":true}', **fields)


async def test_a_worker_is_shown_with_what_it_can_do() -> None:
    async with rest() as served:
        assert await served.get("/workers") == {"workers": [], "total": 0, "limit": 100, "offset": 0}
        async with Channel(served.server.url, token="worker-key") as channel:
            served.channel = channel
            worker = await register(served)
            page = await served.get("/workers")
        assert page["total"] == 1
        assert timeless(page["workers"][0]) == {
            "id": worker,
            "orgId": ACME.id,
            "workerName": "w",
            "workerVersion": "1.2",
            "workerType": "UNIFIED",
            "hostName": "box",
            "processId": "7",
            "teamId": "t1",
            "metadata": {"gpu": True},
            "status": "ONLINE",
            "workflows": ["order"],
            "tasks": ["img/resize"],
        }
        with anyio.fail_after(5):
            while (await served.get("/workers"))["workers"][0]["status"] != "OFFLINE":
                await anyio.sleep(0.01)


async def test_definitions_are_shown_as_they_were_registered_and_outlive_their_worker() -> None:
    async with rest() as served:
        await register(served)
        page = await served.get("/workflow-definitions")
        assert (page["total"], page["limit"], page["offset"]) == (1, 100, 0)
        (definition,) = page["definitions"]
        assert timeless(definition) == {
            "kind": "order",
            "name": "Order",
            "description": "Takes an order.",
            "version": "1.0.0",
            "timeoutSeconds": 60,
            "cancellable": True,
            "tags": ["shop", "a"],
            "retryPolicy": {"max": 3},
            "metadata": None,
            "contentHash": "abc",
            "inputSchema": SCHEMA,
            "outputSchema": {"type": "integer"},
        }
        await register(served, number="2.0.0")
        await served.register()
        assert (await served.get("/workers"))["workers"][0]["workflows"] == []
        one = await served.get("/workflow-definitions/order")
        assert (one["version"], [each["version"] for each in one["versions"]]) == ("2.0.0", ["2.0.0", "1.0.0"])
        (task,) = (await served.get("/task-definitions"))["definitions"]
        assert (task["kind"], task["name"], task["version"], task["outputSchema"]) == ("img/resize", "Resize", "", None)
        assert (await served.get("/task-definitions/img%2Fresize"))["inputSchema"] == {"type": "string"}
        assert await served.refused("GET", "/task-definitions/order") == (
            404,
            "task definition 'order' is unknown: no worker has registered it",
        )
        assert (await served.get("/workflow-definitions", offset=1))["definitions"] == []


async def test_a_schema_that_is_no_json_is_refused_when_it_is_registered() -> None:
    async with rest() as served:
        with pytest.raises(
            InvalidArgument, match=r"workflows\['order'\].input_schema is not JSON: .*; a schema is a JSON"
        ):
            await served.register(pb.WorkflowCapability(kind="order", input_schema=b"{"))
        assert (await served.get("/workers"))["total"] == 0


async def test_an_encoded_input_is_not_checked_and_a_wrapped_one_is() -> None:
    async with rest() as served:
        await register(served)
        encoded = {"v": 1, "encoded": {"by": [{"codec": "aes-gcm", "key": "k"}], "data": "AAAA"}}
        assert await served.start(input={"$flovyn": encoded})
        assert await served.start(input={"$flovyn": {"v": 1, "value": {"items": []}}})
        bad = {"kind": "order", "input": {"$flovyn": {"v": 1, "value": 7}}}
        refused = await served.refused("POST", "/workflow-executions", bad)
        assert refused == (400, "input does not fit the schema of 'order' at $: 7 is not of type 'object'")


async def test_inputs_must_fit_the_registered_schema() -> None:
    async with rest() as served:
        assert await served.start(input={"anything": 1})
        await register(served)
        bad = {"kind": "order", "input": {"items": [{"price": "x"}]}}
        text = "does not fit the schema of 'order' at $.items[0].price: 'x' is not of type 'number'"
        assert await served.refused("POST", "/workflow-executions", bad) == (400, f"input {text}")
        signal = {"workflowId": "k", "workflowKind": "order", "workflowInput": bad["input"], "signalName": "s"}
        refused = await served.refused("POST", "/workflow-executions/signal-with-start", signal)
        assert refused == (400, f"workflowInput {text}")
        assert await served.refused("POST", "/workflow-executions", {"kind": "order"}) == (
            400,
            "input does not fit the schema of 'order' at $: None is not of type 'object'",
        )
        assert await served.start(input={"items": [{"price": 1}]})
        assert await served.refused("POST", "/task-executions", {"kind": "img/resize", "input": 3}) == (
            400,
            "input does not fit the schema of 'img/resize' at $: 3 is not of type 'string'",
        )
        await register(served, {"type": "integer"}, number="2.0.0")
        assert await served.start(input=7)
        assert await served.start(input=7, version="3.0.0")
        assert (await served.refused("POST", "/workflow-executions", {**bad, "version": "1.0.0"}))[1] == f"input {text}"


@pytest.mark.parametrize(
    "schema",
    [{"type": "nonsense"}, {"$ref": "http://127.0.0.1:1/schema"}, {"$ref": "#/nowhere"}, {"pattern": "("}, 7],
    ids=str,
)
async def test_a_schema_that_is_none_refuses_nothing_and_is_complained_of(
    schema: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async with rest() as served:
        await register(served, schema)
        assert await served.start(input={"a": 1})
        assert caplog.messages
        assert all("the input schema of" in message for message in caplog.messages)


async def test_a_deep_input_is_refused_not_answered_with_an_accident() -> None:
    async with rest() as served:
        await register(served, {"$defs": {"a": {"items": {"$ref": "#/$defs/a"}}}, "$ref": "#/$defs/a"})
        for depth in (100, 500, 900, 5_000):
            nested = "[" * depth + "]" * depth
            reply = await served.ask("POST", "/workflow-executions", content=f'{{"kind":"order","input":{nested}}}')
            assert reply.status_code in {201, 400}, reply.text


async def test_everybody_sees_their_own_organisation() -> None:
    async with rest() as served:
        expected = {"id": ACME.id, "slug": "acme", "name": "Acme Ltd", "tier": "PRO"}
        for org in ("acme", ACME.id, ACME.id.upper()):
            reply = await served.ask("GET", "", org=org)
            assert (reply.status_code, timeless(reply.json())) == (200, expected)
        everything = (await served.http.get("/api/orgs")).json()
        assert ([timeless(org) for org in everything["orgs"]], everything["total"]) == ([expected], 1)


async def test_health_and_documentation_need_no_key() -> None:
    async with rest() as served:
        del served.http.headers["authorization"]
        reply = await served.http.get("/_/health")
        assert (reply.status_code, reply.json()) == (200, {"status": "UP", "version": version("flovyn")})
        reply = await served.http.head("/_/health")
        assert (reply.status_code, reply.content) == (200, b"")
        reply = await served.http.get("/api/docs")
        assert (reply.status_code, reply.headers["content-type"]) == (200, "text/html; charset=utf-8")
        assert "workflow-executions/{id}/retry" in reply.text
        reply = await served.http.get("/api/docs/openapi.json")
        assert (reply.status_code, reply.headers["content-type"]) == (200, "application/json")
        assert reply.json()["openapi"] == "3.0.3"
