"""Promises over REST, by id and by key."""

from __future__ import annotations

import pytest

from rest.rest_world import Rest, rest
from rest.test_workflows import UNKNOWN
from server.world import complete, create_promise, suspend

pytestmark = pytest.mark.anyio


async def promised(served: Rest, key: str | None = None) -> tuple[str, str]:
    """The run, and the promise's id."""
    run = await served.start()
    await served.activate(create_promise(idempotency_key=key), suspend())
    history = await served.get(f"/workflow-executions/{run}/events")
    return run, next(event["data"]["promiseId"] for event in history if event["eventType"] == "PROMISE_CREATED")


@pytest.mark.parametrize("key", [None, "pay", "pay/42 ü?"])
@pytest.mark.parametrize(
    ("what", "body", "event"),
    [
        ("resolve", {"value": {"paid": True}}, ("PROMISE_RESOLVED", {"value": {"paid": True}})),
        ("resolve", {}, ("PROMISE_RESOLVED", {"value": None})),
        ("reject", {"error": "no money"}, ("PROMISE_REJECTED", {"error": "no money"})),
    ],
)
async def test_a_promise_is_settled_once(
    key: str | None, what: str, body: dict[str, object], event: tuple[str, dict[str, object]]
) -> None:
    async with rest() as served:
        run, promise = await promised(served, key)
        where = (
            f"/promises/id:{promise}" if key is None else f"/promises/key:{key.replace('/', '%2F').replace('?', '%3F')}"
        )
        settled = await served.post(f"{where}/{what}", body)
        assert settled == {"promiseId": promise, "resolved": True, "alreadyResolved": False}
        history = await served.get(f"/workflow-executions/{run}/events", since_sequence=3)
        assert [(one["eventType"], one["data"]) for one in history] == [
            (event[0], {"promiseId": promise, "promiseName": "approval", **event[1]})
        ]
        again = await served.post(f"{where}/resolve", {"value": 2})
        assert again == {"promiseId": promise, "resolved": False, "alreadyResolved": True}
        assert len(await served.get(f"/workflow-executions/{run}/events", since_sequence=3)) == 1


@pytest.mark.parametrize(
    ("where", "text"),
    [
        (f"id:{UNKNOWN}", f"promise {UNKNOWN!r} is unknown"),
        ("id:nonsense", "promise 'nonsense' is unknown"),
        ("key:none", "no promise has the key 'none'"),
        ("key:of-a-workflow", "no promise has the key 'of-a-workflow'"),
    ],
)
@pytest.mark.parametrize(("what", "body"), [("resolve", {"value": 1}), ("reject", {"error": "e"})])
async def test_a_promise_that_there_is_not(where: str, text: str, what: str, body: dict[str, object]) -> None:
    async with rest() as served:
        await served.start(idempotencyKey="of-a-workflow")
        assert await served.refused("POST", f"/promises/{where}/{what}", body) == (404, text)


async def test_a_promise_of_a_workflow_that_has_ended() -> None:
    async with rest() as served:
        run, promise = await promised(served)
        await served.post(f"/workflow-executions/{run}/signal", {"signalName": "go"})
        await served.activate(complete())
        assert await served.refused("POST", f"/promises/id:{promise}/resolve", {"value": 1}) == (
            409,
            f"promise {promise} cannot be settled any more: its workflow has ended",
        )


@pytest.mark.parametrize(
    ("what", "body", "text"),
    [
        ("reject", {}, "body: Object missing required field `error`"),
        ("reject", {"error": ""}, "body: Expected `str` of length >= 1 - at `$.error`"),
        ("resolve", {"worth": 1}, "body: Object contains unknown field `worth`"),
    ],
)
async def test_a_settlement_that_makes_no_sense(what: str, body: object, text: str) -> None:
    async with rest() as served:
        assert await served.refused("POST", f"/promises/id:{UNKNOWN}/{what}", body) == (400, text)
