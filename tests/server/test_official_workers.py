"""The official workers run against this server unchanged."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from msgspec import json

from flovyn.errors import ServerError
from flovyn.server import Server, limits, serve
from flovyn.server.engine import Caller
from flovyn.server.engine.invariants import violations
from flovyn.wire import methods
from flovyn.wire.channel import Channel
from flovyn.wire.messages.flovyn import v1 as pb
from server.officials import Context, Ffi, Napi, Native, Official, WorkerFailed

pytestmark = pytest.mark.anyio

LIMIT_S = 20


@pytest.fixture(params=[Native, Ffi, Napi])
def kind(request: pytest.FixtureRequest) -> type[Official]:
    """Which worker."""
    return request.param  # type: ignore[no-any-return]


# --- workflows and tasks --------------------------------------------------------------------


async def order(ctx: Context, amount: int) -> dict[str, Any]:
    """Tasks one after the other and beside each other, a timer, operations and state."""
    ctx.set_state("step", "charging")
    paid = await ctx.schedule("charge", amount)
    await ctx.sleep(10)
    rate = ctx.operation("rate", lambda: 3)
    ctx.clear_state("step")
    parcels = [ctx.schedule("ship", number) for number in range(3)]
    shipped = [await parcel for parcel in parcels]
    ctx.set_state("step", "done")
    return {"paid": paid, "shipped": shipped, "rate": rate}


async def retries(ctx: Context, value: Any) -> str:
    try:
        await ctx.schedule("declines", max_retries=value)
    except WorkerFailed as error:
        return str(error)
    return "no error"


async def fails(ctx: Context, value: Any) -> None:
    await ctx.sleep(0)
    raise WorkerFailed("no more tea")


async def approval(ctx: Context, timeout_ms: int | None) -> str:
    try:
        return f"approved: {await ctx.promise('approval', timeout_ms)}"
    except WorkerFailed as error:
        return str(error)


async def parent(ctx: Context, names: list[str] | None) -> list[str]:
    children = [ctx.child(f"child-{number}", name) for number, name in enumerate(names or [])]
    outcomes: list[str] = []
    for child in children:
        try:
            outcomes.append(str(await child))
        except WorkerFailed as error:
            outcomes.append(f"failed: {error}")
    return outcomes


async def grandchild(ctx: Context, value: Any) -> str:
    return str(await ctx.schedule("charge", 1))


async def cart(ctx: Context, value: Any) -> list[Any]:
    items: list[Any] = []
    while (item := await ctx.signal("add")) is not None:
        items.append(item)
    return [*items, await ctx.signal("pay")]


async def patient(ctx: Context, value: Any) -> None:
    await ctx.sleep(60_000)


async def gives_up(ctx: Context, value: Any) -> str:
    """Cancels a child, and a task as far as the wire allows."""
    child = ctx.child("slow", "patient")
    ctx.schedule("charge", 1)
    await ctx.sleep(5)
    ctx.cancel_task()
    ctx.cancel_child("slow")
    try:
        await child
    except WorkerFailed as error:
        return str(error)
    return "it went on"


PROGRAMS: dict[str, Any] = {
    function.__name__: function
    for function in (order, retries, fails, approval, parent, grandchild, cart, patient, gives_up)
}


async def charge(amount: int) -> str:
    return f"paid {amount}"


async def ship(number: int) -> int:
    return number * 10


async def declines(value: Any) -> None:
    raise WorkerFailed("declined")


BODIES: dict[str, Any] = {"charge": charge, "ship": ship, "declines": declines}


# --- the world ------------------------------------------------------------------------------


class World:
    """A server with one official worker, and somebody who starts workflows."""

    def __init__(self, server: Server, channel: Channel, worker: Official) -> None:
        self.server = server
        self.channel = channel
        self.worker = worker

    async def start(self, kind: str, value: Any = None) -> str:
        request = pb.StartWorkflowRequest(
            org_id=self.server.org_id, workflow_kind=kind, input=json.encode(value), workflow_version="1.0.0"
        )
        return (await self.channel.unary(methods.START_WORKFLOW, request)).message.workflow_execution_id

    async def history(self, run: str) -> list[tuple[str, Any]]:
        reply = await self.channel.unary(methods.GET_EVENTS, pb.GetEventsRequest(workflow_execution_id=run))
        return [(event.event_type, json.decode(event.event_data)) for event in reply.message.events]

    async def until(self, run: str, event_type: str, times: int = 1) -> Any:
        """The data of the last such event, when there are so many."""
        while True:
            found = [data for kind, data in await self.history(run) if kind == event_type]
            if len(found) >= times:
                return found[-1]
            await anyio.sleep(0.002)

    async def result(self, run: str) -> Any:
        return (await self.until(run, "WORKFLOW_COMPLETED"))["output"]

    async def signal(self, run: str, name: str, value: Any) -> None:
        request = pb.SignalWorkflowRequest(
            org_id=self.server.org_id, workflow_execution_id=run, signal_name=name, signal_value=json.encode(value)
        )
        reply = await self.channel.unary(methods.SIGNAL_WORKFLOW, request)
        assert reply.message.signal_event_sequence > 0

    def cancel(self, run: str) -> None:
        """As REST does it; there is no RPC."""
        caller = Caller(self.server.org_id, 0)
        self.server.engine.request_cancel(caller, run, reason="too late", requested_by="me")
        self.server._shell.settle()


@asynccontextmanager
async def world(kind: type[Official]) -> AsyncGenerator[World]:
    with anyio.fail_after(LIMIT_S):
        async with serve() as server, Channel(server.url, token=server.token) as channel:
            worker = kind(server, name=f"{kind.__name__}-worker-default", programs=PROGRAMS, bodies=dict(BODIES))
            async with anyio.create_task_group() as tasks:
                await tasks.start(worker.run)
                yield World(server, channel, worker)
                assert worker.refusals == []
                assert violations(server.engine) == []
                tasks.cancel_scope.cancel()


# --- what they do ---------------------------------------------------------------------------


async def test_tasks_timers_operations_and_state(kind: type[Official]) -> None:
    async with world(kind) as here:
        run = await here.start("order", 7)
        assert await here.result(run) == {"paid": "paid 7", "shipped": [0, 10, 20], "rate": 3}
        types = [event_type for event_type, _ in await here.history(run)]
        assert types.count("TASK_SCHEDULED") == types.count("TASK_COMPLETED") == 4
        assert (types.count("TIMER_STARTED"), types.count("OPERATION_COMPLETED")) == (1, 1)
        assert types.count("STATE_CLEARED") == 1 if kind is Native else types.count("STATE_CLEARED") > 1
        assert set(types) <= kind.known
        query = pb.QueryWorkflowRequest(workflow_execution_id=run, query_name="step")
        answer = (await here.channel.unary(methods.QUERY_WORKFLOW, query)).message
        # The others take their own clears for the record of the second `set_state`: it is never sent.
        assert answer.result == (b'"done"' if kind is Native else b"")


async def test_the_last_failure_of_a_task_is_an_error_of_the_workflow(kind: type[Official]) -> None:
    async with world(kind) as here:
        run = await here.start("retries", 2)
        assert await here.result(run) == "declined"
        (task,) = here.server.engine.core.store.tasks.all()
        assert (task.execution_count, task.status) == (3, "FAILED")


async def test_a_workflow_fails(kind: type[Official]) -> None:
    async with world(kind) as here:
        run = await here.start("fails")
        failure = await here.until(run, "WORKFLOW_EXECUTION_FAILED")
        assert failure["error"].endswith("no more tea")
        assert failure["failureType"] == "ERROR"


async def test_promises_are_resolved_rejected_and_time_out(kind: type[Official]) -> None:
    async with world(kind) as here:
        run = await here.start("approval")
        promise_id = (await here.until(run, "PROMISE_CREATED"))["promiseId"]
        resolve = pb.ResolvePromiseRequest(promise_id=promise_id, value=b'{"by":"ann"}')
        await here.channel.unary(methods.RESOLVE_PROMISE, resolve)
        await here.channel.unary(methods.RESOLVE_PROMISE, resolve)  # again: no error, and no second event
        assert await here.result(run) == "approved: {'by': 'ann'}"
        run = await here.start("approval")
        promise_id = (await here.until(run, "PROMISE_CREATED"))["promiseId"]
        await here.channel.unary(methods.REJECT_PROMISE, pb.RejectPromiseRequest(promise_id=promise_id, error="no"))
        assert await here.result(run) == "no"
        run = await here.start("approval", 20)
        assert "timeout" in (await here.result(run)).lower()


async def test_children_complete_and_fail(kind: type[Official]) -> None:
    async with world(kind) as here:
        run = await here.start("parent", ["grandchild", "fails", "parent"])
        first, second, third = await here.result(run)
        assert first == "paid 1"
        assert second.startswith("failed: ")
        assert second.endswith("no more tea")
        assert third == "[]"


async def test_signals_come_in_order_also_those_that_came_first(kind: type[Official]) -> None:
    async with world(kind) as here:
        run = await here.start("cart")
        for item in ("tea", "cup"):
            await here.signal(run, "add", item)
        await here.signal(run, "pay", {"card": 1})
        await here.signal(run, "add", None)
        assert await here.result(run) == ["tea", "cup", {"card": 1}]


async def test_a_cancelled_workflow_ends_though_no_official_worker_looks(kind: type[Official]) -> None:
    async with world(kind) as here:
        run = await here.start("patient")
        await here.until(run, "WORKFLOW_SUSPENDED")
        here.cancel(run)
        types = [event_type for event_type, _ in await here.history(run)]
        assert types[-2:] == ["CANCELLATION_REQUESTED", "WORKFLOW_CANCELLED"]


async def test_a_child_is_cancelled_where_the_worker_can_say_so(kind: type[Official]) -> None:
    async with world(kind) as here:
        run = await here.start("gives_up")
        if kind is Native:  # it has no command for it: the child goes on
            await here.until(run, "TIMER_FIRED")
            await here.until(run, "WORKFLOW_SUSPENDED", times=2)
            assert "CHILD_WORKFLOW_FAILED" not in [event_type for event_type, _ in await here.history(run)]
        else:
            assert await here.result(run) == "Child workflow cancelled"


async def test_a_cancelled_task_fails_for_its_workflow(kind: type[Official]) -> None:
    async with world(kind) as here:
        here.worker.bodies["declines"] = hang
        run = await here.start("retries", 0)
        task_id = (await here.until(run, "TASK_SCHEDULED"))["taskExecutionId"]
        await here.channel.unary(methods.CANCEL_TASK, pb.CancelTaskRequest(task_execution_id=task_id))
        assert await here.result(run) == "Task cancelled"


async def hang(value: Any) -> None:
    await anyio.sleep_forever()


async def test_work_of_a_worker_that_goes_is_done_by_another(
    kind: type[Official], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its connection closes in the middle of a task; the next worker has the same name."""
    monkeypatch.setattr(limits, "DISCONNECT_GRACE_MS", 100)
    with anyio.fail_after(LIMIT_S):
        async with serve() as server, Channel(server.url, token=server.token) as channel:
            first = kind(server, name="w", programs=PROGRAMS, bodies={"charge": hang})
            async with anyio.create_task_group() as tasks:
                await tasks.start(first.run)
                here = World(server, channel, first)
                run = await here.start("grandchild")
                await here.until(run, "TASK_SCHEDULED")
                while not server.engine.core.store.tasks.claimed():
                    await anyio.sleep(0.002)
                tasks.cancel_scope.cancel()
            second = kind(server, name="w", programs=PROGRAMS, bodies=dict(BODIES))
            second.process = "next"
            async with anyio.create_task_group() as tasks:
                await tasks.start(second.run)
                assert await here.result(run) == "paid 1"
                tasks.cancel_scope.cancel()
            (task,) = server.engine.core.store.tasks.all()
            assert task.execution_count == 2
            assert violations(server.engine) == []


async def test_a_kind_that_a_worker_does_not_have_is_not_given_to_it(kind: type[Official]) -> None:
    """No official worker lists its kinds when it polls, and none says anything about what it cannot run."""
    async with world(kind) as here:
        stranger = await here.start("unheard-of")
        run = await here.start("order", 1)
        assert (await here.result(run))["paid"] == "paid 1"
        assert [event_type for event_type, _ in await here.history(stranger)] == ["WORKFLOW_STARTED"]
        (row,) = [row for row in here.server.engine.core.store.runs.all() if row.id == stranger]
        assert row.status == "PENDING"


async def test_the_native_worker_heartbeats_by_the_id_it_was_given() -> None:
    async with world(Native) as here:
        assert isinstance(here.worker, Native)
        await here.worker.heartbeat()
        here.worker.server_id = "00000000-0000-4000-8000-000000000000"
        with pytest.raises(ServerError, match="is unknown; register first"):
            await here.worker.heartbeat()
