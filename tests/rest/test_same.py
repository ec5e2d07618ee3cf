"""The same script through REST and through gRPC leaves the same behind."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from flovyn.wire import methods
from flovyn.wire.messages.flovyn import v1 as pb
from rest.rest_world import ACME, UUID, Rest, rest
from server.world import complete, create_promise, fail, suspend

pytestmark = pytest.mark.anyio

PAYLOAD: Any = {"n": 1, "text": "ü\u0000", "list": [1.5, None, True]}


class OverRest:
    """What a client does, over REST."""

    def __init__(self, served: Rest) -> None:
        self.served = served

    async def start(self, kind: str, payload: Any, **fields: Any) -> str:
        body = {"kind": kind, "input": payload, **fields}
        reply = await self.served.ask("POST", "/workflow-executions", body)
        return str(reply.json()["workflowExecutionId"])

    async def signal(self, run: str, name: str, value: Any) -> int:
        body = {"signalName": name, "signalValue": value}
        return int((await self.served.post(f"/workflow-executions/{run}/signal", body))["signalEventSequence"])

    async def signal_with_start(self, key: str, kind: str, name: str, value: Any) -> tuple[str, bool, int]:
        body = {
            "workflowId": key,
            "workflowKind": kind,
            "workflowInput": PAYLOAD,
            "signalName": name,
            "signalValue": value,
        }
        reply = await self.served.post("/workflow-executions/signal-with-start", body)
        return reply["workflowExecutionId"], reply["workflowCreated"], reply["signalEventSequence"]

    async def resolve(self, promise: str, value: Any) -> None:
        await self.served.post(f"/promises/id:{promise}/resolve", {"value": value})

    async def reject(self, promise: str, error: str) -> None:
        await self.served.post(f"/promises/id:{promise}/reject", {"error": error})

    async def submit(self, kind: str, payload: Any, key: str) -> str:
        body = {"kind": kind, "input": payload, "maxRetries": 2, "idempotencyKey": key, "metadata": {"a": "b"}}
        return str((await self.served.ask("POST", "/task-executions", body)).json()["id"])

    async def events(self, run: str) -> list[Any]:
        history = await self.served.get(f"/workflow-executions/{run}/events")
        return [(event["sequenceNumber"], event["eventType"], event["data"]) for event in history]


class OverGrpc:
    """The same over gRPC."""

    def __init__(self, served: Rest) -> None:
        self.call = served.channel.unary

    async def start(self, kind: str, payload: Any, **fields: Any) -> str:
        request = pb.StartWorkflowRequest(
            org_id=ACME.id,
            workflow_kind=kind,
            input=encoded(payload),
            queue=fields.get("queue", ""),
            metadata=fields.get("metadata", {}),
            priority_seconds=fields.get("prioritySeconds", 0),
            workflow_version=fields.get("version"),
            idempotency_key=fields.get("idempotencyKey"),
        )
        return (await self.call(methods.START_WORKFLOW, request)).message.workflow_execution_id

    async def signal(self, run: str, name: str, value: Any) -> int:
        request = pb.SignalWorkflowRequest(
            org_id=ACME.id, workflow_execution_id=run, signal_name=name, signal_value=encoded(value)
        )
        return (await self.call(methods.SIGNAL_WORKFLOW, request)).message.signal_event_sequence

    async def signal_with_start(self, key: str, kind: str, name: str, value: Any) -> tuple[str, bool, int]:
        request = pb.SignalWithStartWorkflowRequest(
            org_id=ACME.id,
            workflow_id=key,
            workflow_kind=kind,
            workflow_input=encoded(PAYLOAD),
            signal_name=name,
            signal_value=encoded(value),
        )
        reply = (await self.call(methods.SIGNAL_WITH_START_WORKFLOW, request)).message
        return reply.workflow_execution_id, reply.workflow_created, reply.signal_event_sequence

    async def resolve(self, promise: str, value: Any) -> None:
        await self.call(methods.RESOLVE_PROMISE, pb.ResolvePromiseRequest(promise_id=promise, value=encoded(value)))

    async def reject(self, promise: str, error: str) -> None:
        await self.call(methods.REJECT_PROMISE, pb.RejectPromiseRequest(promise_id=promise, error=error))

    async def submit(self, kind: str, payload: Any, key: str) -> str:
        request = pb.SubmitTaskRequest(
            org_id=ACME.id,
            kind=kind,
            input=encoded(payload),
            max_retries=2,
            idempotency_key=key,
            metadata={"a": "b"},
        )
        return (await self.call(methods.SUBMIT_TASK, request)).message.task_execution_id

    async def events(self, run: str) -> list[Any]:
        request = pb.GetEventsRequest(workflow_execution_id=run)
        history = (await self.call(methods.GET_EVENTS, request)).message.events
        return [(event.sequence_number, event.event_type, json.loads(event.event_data)) for event in history]


def encoded(value: Any) -> bytes:
    return json.dumps(value).encode()


async def script(served: Rest, client: OverRest | OverGrpc) -> list[Any]:
    """Everything that both can do, and what was answered."""
    answers: list[Any] = []
    run = await client.start(
        "order", PAYLOAD, queue="", metadata={"a": "b"}, prioritySeconds=3, version="1.0", idempotencyKey="k"
    )
    answers.append(run == await client.start("order", None, idempotencyKey="k"))
    await served.activate(create_promise("a"), create_promise("b"), suspend())
    answers.append(await client.signal(run, "go", PAYLOAD))
    promises = [
        data["promiseId"] for _, event_type, data in await client.events(run) if event_type == "PROMISE_CREATED"
    ]
    await client.resolve(promises[0], PAYLOAD)
    await client.resolve(promises[0], 2)
    await client.reject(promises[1], "no ü")
    await served.activate(complete(b"[1]"))
    answers.append((await client.signal_with_start("cart", "cart", "add", 1))[1:])
    answers.append((await client.signal_with_start("cart", "cart", "add", None))[1:])
    await served.activate(fail("boom"))
    answers.append((await client.signal_with_start("cart", "cart", "add", 3))[1:])
    task = await client.submit("resize", PAYLOAD, "t")
    answers.append(task == await client.submit("resize", None, "t"))
    answers.append([await client.events(run)])
    return answers


async def left(served: Rest) -> Any:
    """All that is in the store, by way of REST."""
    runs = [run["id"] for run in (await served.get("/workflow-executions"))["workflows"]]
    tasks = [task["id"] for task in (await served.get("/task-executions"))["tasks"]]
    return [
        *[await served.get(f"/workflow-executions/{run}") for run in runs],
        *[await served.get(f"/workflow-executions/{run}/events") for run in runs],
        *[await served.get(f"/task-executions/{task}") for task in tasks],
    ]


def anonymous(value: Any) -> str:
    """The same for two servers: ids by their order, and no times."""
    names: dict[str, str] = {}
    text = re.sub(r'"(\w+At|createdAt)": "[^"]*"', r'"\1": "then"', json.dumps(value, sort_keys=True))
    return re.sub(UUID, lambda found: names.setdefault(found[0], f"id-{len(names)}"), text)


async def test_a_script_leaves_the_same_behind_over_rest_and_over_grpc() -> None:
    seen: list[str] = []
    clients: list[Callable[[Rest], OverRest | OverGrpc]] = [OverRest, OverGrpc]
    for client in clients:
        async with rest() as served:
            answers = await script(served, client(served))
            seen.append(anonymous([answers, await left(served)]))
    assert seen[0] == seen[1]
    assert '"PROMISE_REJECTED"' in seen[0]


REFUSALS: list[tuple[str, Callable[[OverRest | OverGrpc], Awaitable[Any]]]] = [
    ("unknown run", lambda client: client.signal("00000000-0000-4000-8000-000000000000", "a", 1)),
    ("unknown promise", lambda client: client.resolve("00000000-0000-4000-8000-000000000000", 1)),
]


@pytest.mark.parametrize(("name", "act"), REFUSALS, ids=[name for name, _ in REFUSALS])
async def test_what_one_refuses_the_other_refuses_with_the_same_text(
    name: str, act: Callable[[OverRest | OverGrpc], Awaitable[Any]]
) -> None:
    async with rest() as served:
        texts: list[str] = []
        for client in (OverRest(served), OverGrpc(served)):
            with pytest.raises(Exception) as caught:
                await act(client)
            texts.append(str(caught.value))
        assert texts[1] in texts[0], name
