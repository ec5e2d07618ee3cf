"""Who may do what, over both ways in; and that nobody learns anything of another organisation."""

from __future__ import annotations

from typing import Any

import pytest

from flovyn.errors import NotFound, PermissionDenied, Unauthenticated
from flovyn.server.auth import USER_METHODS
from flovyn.server.rest.table import ROUTES
from flovyn.wire import methods
from flovyn.wire.channel import Channel
from flovyn.wire.messages.flovyn import v1 as pb
from flovyn.wire.transport import Method, Shape
from rest.rest_world import ACME, OTHER, Rest, rest
from server.world import create_promise, schedule, suspend

pytestmark = pytest.mark.anyio

OF_ORGS = [route for route in ROUTES if not route.public]
UNARY: list[Method[Any, Any]] = [
    method
    for method in vars(methods).values()
    if isinstance(method, Method) and method.shape is Shape.UNARY and "Agent" not in method.path
]


def filled(path: str) -> str:
    """The address of a route, with something for every parameter."""
    for name in ("id", "kind", "key"):
        path = path.replace(f"{{{name}}}", "x").replace(f"{{{name}:path}}", "x")
    return path.replace("{org}", "acme")


@pytest.mark.parametrize(
    ("header", "status", "text"),
    [
        (None, 401, "the call carries no authorization metadata; send `authorization: Bearer <token>`"),
        ("Basic abc", 401, "the authorization metadata is not of the form `Bearer <token>`"),
        ("Bearer nonsense", 401, "the token is not known to this server"),
        ("Bearer", 401, "the authorization metadata is not of the form `Bearer <token>`"),
        ("Bearer \xfc", 401, "the token is not known to this server"),
        ("Bearer worker-key", 403, "a worker key opens gRPC only; REST needs a user key"),
    ],
)
async def test_every_address_of_an_organisation_needs_a_user_key(header: str | None, status: int, text: str) -> None:
    async with rest() as served:
        del served.http.headers["authorization"]
        headers = {} if header is None else {b"authorization": header.encode("latin-1")}
        for route in OF_ORGS:
            reply = await served.http.request(route.method, filled(route.path), headers=headers, content=b"{")
            assert (reply.status_code, reply.json()) == (status, {"error": text})
            assert reply.headers.get("www-authenticate") == ("Bearer" if status == 401 else None)


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
@pytest.mark.parametrize("key", ["user-key", "both"])
async def test_a_user_key_opens_rest(scheme: str, key: str) -> None:
    async with rest() as served:
        served.http.headers["authorization"] = f"{scheme} {key}"
        assert (await served.ask("GET", "/workers")).status_code == 200


async def test_another_organisation_cannot_be_told_from_one_that_there_is_not() -> None:
    async with rest() as served:
        for route in OF_ORGS:
            if "{org}" not in route.path:
                continue
            said: set[tuple[int, str]] = set()
            for org in ("other", OTHER.id, "nobody", "00000000-0000-4000-8000-000000000000"):
                path = filled(route.path).replace("acme", org)
                reply = await served.http.request(route.method, path, content=b"{")
                said.add((reply.status_code, reply.text.replace(org, "ORG")))
            assert said == {(403, '{"error":"the key does not belong to organisation \'ORG\'"}')}


async def things(served: Rest) -> dict[str, str]:
    """One of everything, in the first organisation."""
    run = await served.start(idempotencyKey="of-run")
    await served.activate(schedule(), create_promise(idempotency_key="of-promise"), suspend())
    history = await served.get(f"/workflow-executions/{run}/events")
    promise = next(event["data"]["promiseId"] for event in history if event["eventType"] == "PROMISE_CREATED")
    task = (await served.post("/task-executions", {"kind": "t"}, 201))["id"]
    await served.register(pb.WorkflowCapability(kind="order"), tasks=[pb.TaskCapability(kind="t")])
    return {"run": run, "promise": promise, "task": task}


async def test_what_another_organisation_has_is_not_there_in_any_way() -> None:
    async with rest() as served:
        made = await things(served)
        before = await served.get(f"/workflow-executions/{made['run']}")
        served.http.headers["authorization"] = "Bearer other-user"
        for lists, name in (
            ("/workflow-executions", "workflows"),
            ("/task-executions", "tasks"),
            ("/workers", "workers"),
            ("/workflow-definitions", "definitions"),
            ("/task-definitions", "definitions"),
        ):
            page = (await served.ask("GET", lists, org="other")).json()
            assert (page[name], page["total"]) == ([], 0)
        bodies: dict[str, Any] = {"signal": {"signalName": "s"}, "reject": {"error": "e"}}
        paths = [
            *(("GET", f"/workflow-executions/RUN{what}") for what in ("", "/events", "/state", "/tasks", "/children")),
            *(("POST", f"/workflow-executions/RUN/{what}") for what in ("cancel", "retry", "signal")),
            ("DELETE", "/workflow-executions/RUN"),
            *(("GET", f"/task-executions/TASK{what}") for what in ("", "/attempts", "/logs")),
            ("DELETE", "/task-executions/TASK"),
            *(("POST", f"/promises/{by}/{what}") for by in ("id:PROMISE", "key:KEY") for what in ("resolve", "reject")),
            ("GET", "/workflow-definitions/KIND"),
            ("GET", "/task-definitions/KIND"),
        ]
        there = {
            "RUN": made["run"],
            "TASK": made["task"],
            "PROMISE": made["promise"],
            "KEY": "of-promise",
            "KIND": "order",
        }
        nowhere = {name: f"00000000-0000-4000-8000-{i:012}" for i, name in enumerate(("RUN", "TASK", "PROMISE"))}
        nowhere |= {"KEY": "no-key", "KIND": "no-kind"}
        for method, path in paths:
            said: set[tuple[int, str]] = set()
            for names in (there, nowhere):
                where = path
                for name, value in names.items():
                    where = where.replace(name, value)
                reply = await served.ask(method, where, bodies.get(path.rpartition("/")[2]), org="other")
                text = reply.text
                for name, value in names.items():
                    text = text.replace(value, name)
                said.add((reply.status_code, text))
            assert [status for status, _ in said] == [404], (method, path, said)
        own = await served.ask("POST", "/workflow-executions", {"kind": "k", "idempotencyKey": "of-run"}, org="other")
        assert own.status_code == 201
        served.http.headers["authorization"] = "Bearer user-key"
        assert await served.get(f"/workflow-executions/{made['run']}") == before


# --- gRPC -----------------------------------------------------------------------------------


async def refusal(url: str, token: str, method: Method[Any, Any], **fields: Any) -> type[Exception] | None:
    request = method.request(**{name: value for name, value in fields.items() if hasattr(method.request(), name)})
    async with Channel(url, token=token) as channel:
        try:
            await channel.unary(method, request)
        except Exception as error:
            return type(error)
    return None


@pytest.mark.parametrize("method", UNARY, ids=lambda method: method.path.rpartition("/")[2])
async def test_a_user_key_makes_the_calls_of_a_client_over_grpc_and_no_others(method: Method[Any, Any]) -> None:
    async with rest() as served:
        url = served.server.url
        as_user = await refusal(url, "user-key", method, org_id=ACME.id)
        assert (as_user is PermissionDenied) == (method.path not in USER_METHODS)
        for key in ("worker-key", "both"):
            assert await refusal(url, key, method, org_id=ACME.id, timeout_seconds=0) is not PermissionDenied
        assert await refusal(url, "nonsense", method) is Unauthenticated
        if hasattr(method.request(), "org_id"):
            assert await refusal(url, "other-worker", method, org_id=ACME.id) is PermissionDenied


async def test_over_grpc_too_nothing_of_another_organisation_is_there() -> None:
    async with rest() as served:
        made = await things(served)
        url = served.server.url
        ids = {
            "workflow_execution_id": made["run"],
            "promise_id": made["promise"],
            "task_execution_id": made["task"],
            "key": "k",
        }
        for method in (
            methods.GET_EVENTS,
            methods.QUERY_WORKFLOW,
            methods.RESOLVE_PROMISE,
            methods.CANCEL_TASK,
            methods.GET_STATE,
        ):
            assert await refusal(url, "other-user", method, **ids) is NotFound
            assert await refusal(url, "user-key", method, **ids) is None
