"""Starting workflows and waiting for them, against a server of a few lines."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import anyio
import pytest

from flovyn.client import Backoff, Client, HistoryEvent, WorkflowHandle, connect
from flovyn.definitions import workflow, workflow_by_kind
from flovyn.errors import (
    ConfigurationError,
    ConnectionLost,
    DefinitionError,
    FlovynError,
    InvalidArgument,
    MalformedMessage,
    NotFound,
    PayloadError,
    RemoteError,
    ServerUnavailable,
    Unauthenticated,
    UsageError,
    WorkflowCancelled,
    WorkflowFailed,
    WorkflowTimedOut,
)
from flovyn.serde.envelope import format_error
from flovyn.wire.messages.flovyn import v1 as pb
from worker.fakes import ORG, FakeServer

pytestmark = pytest.mark.anyio

STARTED = ("WORKFLOW_STARTED", {"kind": "place_order", "input": None})


@dataclass
class Receipt:
    order: int
    paid: bool


@workflow(version="3.1.0")
async def place_order(ctx: Any, order: int, *, express: bool = False) -> Receipt:
    return Receipt(order, paid=True)


def history(*events: tuple[str, Any]) -> pb.GetEventsResponse:
    return pb.GetEventsResponse(
        events=[
            pb.WorkflowEvent(sequence_number=number, event_type=kind, event_data=json.dumps(data).encode())
            for number, (kind, data) in enumerate(events, 1)
        ]
    )


def serving(*histories: pb.GetEventsResponse) -> FakeServer:
    """A server whose workflow `wf-1` shows one history after the other, and then the last one for ever."""
    server = FakeServer()
    shown = list(histories)

    async def start(_: Any) -> Any:
        return pb.StartWorkflowResponse(workflow_execution_id="wf-1", idempotency_key_new=True)

    async def events(_: Any) -> Any:
        return shown.pop(0) if len(shown) > 1 else shown[0]

    server.answers["StartWorkflow"] = start
    server.answers["GetEvents"] = events
    return server


def ending(kind: str, data: Any) -> FakeServer:
    return serving(history(STARTED, (kind, data)))


async def test_start_sends_what_the_definition_says() -> None:
    server = serving(history(STARTED))
    handle = await server.client("orders").start(place_order, 7, express=True)
    assert (handle.id, handle.kind, repr(handle)) == ("wf-1", "place_order", "<WorkflowHandle place_order wf-1>")
    request: pb.StartWorkflowRequest = server.calls[0].request
    assert (request.org_id, request.workflow_kind, request.queue) == (ORG, "place_order", "orders")
    assert (request.input, request.workflow_version) == (b'{"order":7,"express":true}', "3.1.0")
    assert (request.idempotency_key, request.idempotency_key_ttl_seconds) == (None, None)


async def test_options_of_a_start() -> None:
    server = serving(history(STARTED))
    client = server.client()
    starter = client.options(queue="gpu", idempotency_key="order-7", idempotency_key_ttl=timedelta(seconds=1.5))
    assert (await starter.start(place_order, 7)).id == "wf-1"
    request: pb.StartWorkflowRequest = server.calls[0].request
    assert (request.queue, request.idempotency_key, request.idempotency_key_ttl_seconds) == ("gpu", "order-7", 2)
    await client.start(place_order, 7)
    assert server.calls[1].request.queue == "default"
    assert server.calls[1].request.idempotency_key is None


async def test_a_workflow_that_is_known_by_its_kind_only() -> None:
    server = ending("WORKFLOW_COMPLETED", {"output": {"order": 7, "paid": True}})
    handle = await server.client().start(workflow_by_kind("foreign", result=Receipt), {"a": [1, 2]})
    request: pb.StartWorkflowRequest = server.calls[0].request
    assert (request.workflow_kind, request.input, request.workflow_version) == ("foreign", b'{"a":[1,2]}', None)
    assert await handle.result() == Receipt(7, paid=True)
    plain = await server.client().options(idempotency_key="k").start(workflow_by_kind("foreign"))
    assert server.calls[2].request.input == b"null"
    assert await plain.result() == {"order": 7, "paid": True}


@workflow(kind="cart")
class Cart:
    async def run(self, ctx: object, size: int) -> int:
        return size


async def test_a_class_and_the_options_of_a_workflow() -> None:
    server = ending("WORKFLOW_COMPLETED", {"output": 3})
    client = server.client()
    handle = await client.start(Cart, 3)
    assert await handle.result() == 3
    assert await client.handle(Cart, handle.id).result() == 3
    request: pb.StartWorkflowRequest = server.calls[0].request
    assert (request.workflow_kind, request.input, request.queue, request.priority_seconds) == (
        "cart",
        b"3",
        "default",
        0,
    )
    server.calls.clear()
    await client.options(queue="slow").start(place_order.options(queue="gpu", priority=timedelta(minutes=-1)), 7)
    request = server.calls[0].request
    assert (request.queue, request.priority_seconds) == ("gpu", -60)
    server.calls.clear()
    for options in (place_order.options(child_name="june"), place_order.options(on_cancel="wait")):
        with pytest.raises(UsageError, match="^workflow 'place_order' has child_name or on_cancel among its options"):
            await client.start(options, 7)
    assert server.calls == []


async def test_wrong_arguments_are_found_before_anything_is_sent() -> None:
    server = serving(history(STARTED))
    with pytest.raises(DefinitionError, match="cannot be called like that: missing a required argument: 'order'"):
        await server.client().start(place_order)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    with pytest.raises(PayloadError):
        await server.client().start(workflow_by_kind("foreign"), object())
    assert server.calls == []


@pytest.mark.parametrize("error", [ServerUnavailable("away"), ConnectionLost("broke"), Unauthenticated("who?")])
async def test_start_is_never_repeated(error: FlovynError) -> None:
    server = serving(history(STARTED))
    server.refuse("StartWorkflow", error)
    with pytest.raises(type(error)) as caught:
        await server.client().start(place_order, 7)
    assert caught.value is error
    assert len(server.calls) == 1


# --- results -----------------------------------------------------------------------------------


async def test_result_is_read_as_the_declared_type() -> None:
    server = ending("WORKFLOW_COMPLETED", {"output": {"order": 7, "paid": True}})
    handle = server.client().handle(place_order, "wf-1")
    assert await handle.result() == Receipt(7, paid=True)
    assert await handle.result() == Receipt(7, paid=True)
    assert server.calls[0].request == pb.GetEventsRequest(workflow_execution_id="wf-1")


async def test_result_waits_for_the_end() -> None:
    done = ("WORKFLOW_COMPLETED", {"output": {"order": 1, "paid": False}})
    server = serving(*[history(STARTED)] * 4, history(STARTED, done))
    with anyio.fail_after(5):
        assert await server.client().handle(place_order, "wf-1").result() == Receipt(1, paid=False)
    assert len(server.calls) == 5


async def test_a_server_that_can_wait_is_asked_to() -> None:
    done = ("WORKFLOW_COMPLETED", {"output": {"order": 1, "paid": False}})
    server = serving(*[history(STARTED)] * 3, history(STARTED, done))
    server.said["GetEvents"] = {"flovyn-wait": "0"}
    client = server.client()
    with anyio.fail_after(5):
        assert await client.handle(place_order, "wf-1").result() == Receipt(1, paid=False)
        assert await client.handle(place_order, "wf-1").result() == Receipt(1, paid=False)
    assert [call.metadata["flovyn-wait"] for call in server.calls] == ["0", "20", "20", "20", "20"]


async def test_however_many_wait_not_all_of_them_are_held() -> None:
    server = FakeServer()
    held = 0

    async def events(request: pb.GetEventsRequest) -> pb.GetEventsResponse:
        nonlocal held
        if server.calls[-1].metadata["flovyn-wait"] != "0":
            held += 1
            await anyio.sleep_forever()
        return history(STARTED)

    server.answers["GetEvents"] = events
    server.said["GetEvents"] = {"flovyn-wait": "0"}
    client = server.client()
    with anyio.fail_after(5):
        async with anyio.create_task_group() as tg:
            for _ in range(150):
                tg.start_soon(client.handle(place_order, "wf-1").result)
            await server.until(lambda: held == 100 and len(server.calls) > 300)
            tg.cancel_scope.cancel()
    assert held == 100


async def test_first_end_counts() -> None:
    first = ("WORKFLOW_COMPLETED", {"output": {"order": 1, "paid": True}})
    server = serving(history(STARTED, first, ("WORKFLOW_FAILED", {"error": "late"})))
    assert await server.client().handle(place_order, "wf-1").result() == Receipt(1, paid=True)


async def test_reads_come_quickly_first_and_seldom_later() -> None:
    server = serving(history(STARTED))
    with anyio.move_on_after(0.25):
        await server.client().handle(place_order, "wf-1").result()
    # 2 ms, growing by 1.6: the tenth read comes 221 ms after the first.
    assert 5 <= len(server.calls) <= 11


async def test_output_that_does_not_fit_is_a_payload_error() -> None:
    server = ending("WORKFLOW_COMPLETED", {"output": {"order": "seven", "paid": True}})
    with pytest.raises(PayloadError) as caught:
        await server.client().handle(place_order, "wf-1").result()
    assert caught.value.path == "$.order"


@pytest.mark.parametrize("kind", ["WORKFLOW_EXECUTION_FAILED", "WORKFLOW_FAILED"])
async def test_failure_with_what_the_other_side_told(kind: str) -> None:
    try:
        try:
            raise KeyError("card")
        except KeyError as error:
            raise ValueError("no such card") from error
    except ValueError as error:
        text = format_error(error)
    server = ending(kind, {"error": text, "stackTrace": "", "failureType": "BUSINESS_LOGIC"})
    with pytest.raises(WorkflowFailed) as caught:
        await server.client().handle(place_order, "wf-1").result()
    failed = caught.value
    assert (failed.message, failed.error_type) == ("ValueError: no such card", "ValueError")
    assert (failed.workflow_id, failed.kind) == ("wf-1", "place_order")
    assert failed.failure_type == "BUSINESS_LOGIC"
    cause = failed.__cause__
    assert isinstance(cause, RemoteError)
    assert (cause.type, cause.message, cause.traceback) == ("ValueError", "no such card", failed.traceback)
    assert failed.traceback is not None
    assert "no such card" in failed.traceback
    assert repr(cause.__cause__) == "RemoteError(\"'card'\", type='KeyError')"


async def test_failure_of_another_sdk() -> None:
    server = ending("WORKFLOW_EXECUTION_FAILED", {"error": "Task failed: out of stock", "failureType": "ERROR"})
    with pytest.raises(WorkflowFailed) as caught:
        await server.client().handle(place_order, "wf-1").result()
    assert (caught.value.message, caught.value.error_type) == ("Task failed: out of stock", None)
    assert (caught.value.failure_type, caught.value.traceback, caught.value.__cause__) == ("ERROR", None, None)


@pytest.mark.parametrize(
    ("kind", "data", "message"),
    [
        ("WORKFLOW_CANCELLED", {"reason": "customer left"}, "customer left"),
        ("WORKFLOW_CANCELLED", {}, "Workflow cancelled"),
        ("WORKFLOW_EXECUTION_FAILED", {"error": "by hand", "failureType": "CANCELLED"}, "by hand"),
    ],
)
async def test_cancelled(kind: str, data: Any, message: str) -> None:
    with pytest.raises(WorkflowCancelled) as caught:
        await ending(kind, data).client().handle(place_order, "wf-1").result()
    assert (caught.value.message, caught.value.workflow_id) == (message, "wf-1")


@pytest.mark.parametrize(
    "data",
    [
        {"error": "too slow", "failureType": "TIMEOUT"},
        {"error": "Workflow timed out", "failureType": "ERROR"},
        {"error": "Workflow execution timed out"},
    ],
)
async def test_timed_out(data: Any) -> None:
    with pytest.raises(WorkflowFailed) as caught:
        await ending("WORKFLOW_EXECUTION_FAILED", data).client().handle(place_order, "wf-1").result()
    assert type(caught.value) is WorkflowTimedOut
    assert (caught.value.message, caught.value.workflow_id) == (data["error"], "wf-1")


async def test_a_timeout_of_the_code_is_a_failure() -> None:
    data = {"error": format_error(TimeoutError("Workflow timed out")), "failureType": "ERROR"}
    with pytest.raises(WorkflowFailed) as caught:
        await ending("WORKFLOW_EXECUTION_FAILED", data).client().handle(place_order, "wf-1").result()
    assert (type(caught.value), caught.value.error_type) == (WorkflowFailed, "TimeoutError")


async def test_a_failure_that_was_retried_is_no_end() -> None:
    failed = ("WORKFLOW_EXECUTION_FAILED", {"error": "first"})
    suspended: tuple[str, Any] = ("WORKFLOW_SUSPENDED", {})
    again = ("WORKFLOW_EXECUTION_FAILED", {"error": "second"})
    late = ("TASK_COMPLETED", {"taskId": "t"})
    done = ("WORKFLOW_COMPLETED", {"output": {"order": 1, "paid": True}})
    with pytest.raises(WorkflowFailed, match="^first$"):  # what comes from outside may come late, and says nothing
        await serving(history(STARTED, failed, late)).client().handle(place_order, "wf-1").result()
    with pytest.raises(WorkflowFailed, match="^second$"):
        await serving(history(STARTED, failed, late, suspended, again)).client().handle(place_order, "wf-1").result()
    server = serving(history(STARTED, failed, suspended), history(STARTED, failed, suspended, done))
    with anyio.fail_after(5):
        assert await server.client().handle(place_order, "wf-1").result() == Receipt(1, paid=True)
    with pytest.raises(WorkflowFailed, match="^first$"):
        await serving(history(STARTED, failed, again)).client().handle(place_order, "wf-1").result()


async def test_only_what_is_new_of_a_history_is_read_again() -> None:
    done = ("WORKFLOW_COMPLETED", {"output": {"order": 1, "paid": True}})
    shown = [history(STARTED), history(STARTED, ("WORKFLOW_SUSPENDED", {})), history(STARTED, ("OTHER", {}), done)]
    with anyio.fail_after(5):
        handle = serving(*shown).client().handle(place_order, "wf-1")
        events = [(event.sequence, event.type) async for event in handle.follow()]
    # The last one is another history altogether, which no server shows; what was given is not given again.
    assert events == [(1, "WORKFLOW_STARTED"), (2, "WORKFLOW_SUSPENDED"), (3, "WORKFLOW_COMPLETED")]


async def test_a_follower_that_is_cancelled_goes_on_where_it_was() -> None:
    done = ("WORKFLOW_COMPLETED", {"output": {"order": 1, "paid": True}})
    server = serving(history(STARTED))
    events = server.client().handle(place_order, "wf-1").follow()
    assert (await anext(events)).sequence == 1
    with anyio.move_on_after(0.02) as scope:
        await anext(events)
    assert scope.cancelled_caught

    async def ended(_: Any) -> Any:
        return history(STARTED, done)

    server.answers["GetEvents"] = ended
    with anyio.fail_after(5):
        assert [event.sequence async for event in events] == [2]


async def test_nonsense_for_an_end_is_malformed() -> None:
    with pytest.raises(MalformedMessage, match=r"^the end of workflow wf-1 \(WORKFLOW_COMPLETED\) cannot be read"):
        await ending("WORKFLOW_COMPLETED", [1]).client().handle(place_order, "wf-1").result()


async def test_waiting_outlives_an_outage(caplog: pytest.LogCaptureFixture) -> None:
    server = ending("WORKFLOW_COMPLETED", {"output": {"order": 1, "paid": True}})
    server.refuse("GetEvents", ServerUnavailable("away"), ConnectionLost("broke"))
    with anyio.fail_after(5):
        await server.client().handle(place_order, "wf-1").result()
    assert len(server.calls) == 3
    assert caplog.messages == ["waiting for workflow wf-1 goes on, though the server is away: away"]


@pytest.mark.parametrize("error", [NotFound("none such"), Unauthenticated("who?"), InvalidArgument("no UUID")])
async def test_refusals_end_the_wait_at_once(error: FlovynError) -> None:
    server = serving(history(STARTED))
    server.refuse("GetEvents", error)
    with anyio.fail_after(5), pytest.raises(type(error)) as caught:
        await server.client().handle(place_order, "wf-1").result()
    assert caught.value is error


async def test_history_as_plain_data() -> None:
    server = serving(history(STARTED, ("TIMER_FIRED", {"timerId": "timer-0"})))
    assert await server.client().handle(place_order, "wf-1").history() == [
        HistoryEvent(1, "WORKFLOW_STARTED", {"kind": "place_order", "input": None}),
        HistoryEvent(2, "TIMER_FIRED", {"timerId": "timer-0"}),
    ]


async def test_history_that_is_not_json() -> None:
    bad = pb.GetEventsResponse(events=[pb.WorkflowEvent(sequence_number=1, event_type="X", event_data=b"{")])
    with pytest.raises(MalformedMessage, match=r"^event 1 \(X\) of the history is not JSON"):
        await serving(bad).client().handle(place_order, "wf-1").history()
    empty = pb.GetEventsResponse(events=[pb.WorkflowEvent(sequence_number=1, event_type="X")])
    assert await serving(empty).client().handle(place_order, "wf-1").history() == [HistoryEvent(1, "X", None)]


# --- what cannot work --------------------------------------------------------------------------


async def test_organisation_is_a_uuid() -> None:
    with pytest.raises(ConfigurationError, match="^org_id must be a UUID, not 'acme'$"):
        Client(FakeServer(), org_id="acme")
    client = Client(FakeServer(), org_id=UUID(ORG))
    assert (client.org_id, client.queue) == (ORG, "default")
    assert repr(client) == f"<Client org_id={ORG} queue='default'>"
    with pytest.raises(ConfigurationError, match="^queue must not be empty"):
        Client(FakeServer(), org_id=ORG, queue="")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"queue": ""}, "queue must not be empty; leave it out for the default"),
        ({"idempotency_key": ""}, "an idempotency key has 1 to 255 characters, not 0"),
        ({"idempotency_key": "k" * 256}, "an idempotency key has 1 to 255 characters, not 256"),
        ({"idempotency_key_ttl": timedelta(1)}, "idempotency_key_ttl means nothing without an idempotency_key"),
        (
            {"idempotency_key": "k", "idempotency_key_ttl": timedelta(0)},
            "idempotency_key_ttl must be from 0:00:01 to 30 days, 0:00:00, not 0:00:00",
        ),
    ],
)
async def test_start_options_that_cannot_work(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        FakeServer().client().options(**options)
    assert str(caught.value) == text


async def test_back_off_stays_within_its_bounds() -> None:
    backoff = Backoff(initial=0.05, maximum=5.0, factor=2.0)
    for attempt, ceiling in enumerate([0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]):
        assert all(ceiling / 2 <= backoff.delay(attempt) <= ceiling for _ in range(50))
    assert 2.5 <= backoff.delay(10**9) <= 5.0
    assert Backoff(initial=1, maximum=1, factor=1).delay(10**9) <= 1
    with pytest.raises(ConfigurationError, match="^a back-off needs 0 < initial <= maximum, not 0 and 5.0$"):
        Backoff(initial=0)
    with pytest.raises(ConfigurationError, match="^a back-off needs a factor of at least 1, not 0.5$"):
        Backoff(factor=0.5)


async def test_connecting_to_nowhere_is_told_by_the_first_call(free_tcp_port: int) -> None:
    url = f"http://127.0.0.1:{free_tcp_port}"
    with anyio.fail_after(5):
        async with connect(url, org_id=ORG) as client:
            with pytest.raises(ServerUnavailable, match=f"127.0.0.1:{free_tcp_port}"):
                await client.start(place_order, 7)


async def test_errors_of_the_block_leave_it_as_they_are(free_tcp_port: int) -> None:
    error = ValueError("mine")
    with anyio.fail_after(5), pytest.raises(ValueError, match="^mine$") as caught:
        async with connect(f"http://127.0.0.1:{free_tcp_port}", org_id=ORG):
            raise error
    assert caught.value is error
    with pytest.raises(ConfigurationError):
        async with connect("ftp://localhost", org_id=ORG):
            pytest.fail("the block is not entered")


async def test_handles_are_typed() -> None:
    handle: WorkflowHandle[Receipt] = FakeServer().client().handle(place_order, "wf-1")
    assert handle.id == "wf-1"
