"""The whole server over real connections, on every backend."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import anyio
import anyio.lowlevel
import pytest
from h2.errors import ErrorCodes
from hyperframe.frame import HeadersFrame, PingFrame
from msgspec import json

from flovyn.errors import (
    ConfigurationError,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ServerUnavailable,
    Unauthenticated,
    Unimplemented,
)
from flovyn.server import Server, serve
from flovyn.server.auth import DEV_ORG_ID, DEV_TOKEN
from flovyn.server.engine.invariants import violations
from flovyn.wire import methods
from flovyn.wire.channel import Channel
from flovyn.wire.coding import encode
from flovyn.wire.messages.flovyn import v1 as pb
from flovyn.wire.transport import Method, Transport
from server.world import (
    child_id,
    complete,
    create_promise,
    schedule,
    schedule_child,
    set_state,
    start_timer,
    suspend,
    task_id,
)
from wire.peers import ping, raw_client, reset

pytestmark = pytest.mark.anyio

LIMIT_S = 20
CLAIM = "flovyn-claim"


class Client:
    """One connection to a server, and the calls of a worker and of a starter in short."""

    def __init__(self, server: Server, channel: Transport) -> None:
        self.server = server
        self.channel = channel
        self.org_id = server.org_id

    async def start(self, kind: str = "order", **fields: Any) -> str:
        request = pb.StartWorkflowRequest(org_id=self.org_id, workflow_kind=kind, input=b"{}", **fields)
        return (await self.channel.unary(methods.START_WORKFLOW, request)).message.workflow_execution_id

    async def poll(self, seconds: int = 10, worker: str = "w", **fields: Any) -> tuple[str, str]:
        """Id and token of the run, both empty if there is none."""
        request = pb.PollRequest(worker_id=worker, org_id=self.org_id, timeout_seconds=seconds, **fields)
        reply = await self.channel.unary(methods.POLL_WORKFLOW, request)
        run = reply.message.workflow_execution
        return ("", "") if run is None else (run.id, reply.metadata[CLAIM])

    async def poll_task(self, seconds: int = 10, worker: str = "w") -> tuple[str, str]:
        request = pb.PollTaskRequest(worker_id=worker, org_id=self.org_id, timeout_seconds=seconds)
        reply = await self.channel.unary(methods.POLL_TASK, request)
        task = reply.message.task
        return ("", "") if task is None else (task.task_execution_id, reply.metadata[CLAIM])

    async def submit(
        self, run: str, *commands: pb.WorkflowCommand, claim: str = "", status: pb.WorkflowStatus | None = None
    ) -> None:
        if status is None:
            is_end = commands[-1].command_type == pb.CommandType.COMPLETE_WORKFLOW
            status = pb.WorkflowStatus.COMPLETED if is_end else pb.WorkflowStatus.SUSPENDED
        request = pb.SubmitWorkflowCommandsRequest(workflow_execution_id=run, commands=list(commands), status=status)
        await self.channel.unary(methods.SUBMIT_WORKFLOW_COMMANDS, request, metadata=_echo(claim))

    async def complete_task(self, task: str, claim: str = "") -> None:
        request = pb.CompleteTaskRequest(task_execution_id=task, output=b"1")
        await self.channel.unary(methods.COMPLETE_TASK, request, metadata=_echo(claim))

    async def history(self, run: str) -> list[str]:
        reply = await self.channel.unary(methods.GET_EVENTS, pb.GetEventsRequest(workflow_execution_id=run))
        return [event.event_type for event in reply.message.events]

    async def data(self, run: str, event_type: str) -> list[Any]:
        reply = await self.channel.unary(methods.GET_EVENTS, pb.GetEventsRequest(workflow_execution_id=run))
        return [json.decode(event.event_data) for event in reply.message.events if event.event_type == event_type]


def _echo(claim: str) -> dict[str, str]:
    return {CLAIM: claim} if claim else {}


@asynccontextmanager
async def connected(server: Server) -> AsyncGenerator[Client]:
    async with Channel(server.url, token=server.token) as channel:
        yield Client(server, channel)


@asynccontextmanager
async def served(**options: Any) -> AsyncGenerator[tuple[Server, Client]]:
    with anyio.fail_after(LIMIT_S):
        async with serve(**options) as server:
            async with connected(server) as client:
                yield server, client
            assert violations(server.engine) == []
        assert (server.statistics().connections, server.statistics().waiting_polls) == (0, 0)


async def until_waiting(server: Server, polls: int) -> None:
    while server.statistics().waiting_polls != polls:
        await anyio.sleep(0.001)


async def test_a_workflow_with_a_task_and_a_timer_from_start_to_end() -> None:
    async with served() as (server, client):
        run = await client.start(metadata={"a": "b"}, workflow_version="1.0.0")
        assert server.statistics().claims == 0
        claimed, token = await client.poll()
        assert claimed == run
        assert server.statistics().claims == 1
        await client.submit(run, schedule(0), start_timer("timer-0", 20), suspend(), claim=token)
        task, token = await client.poll_task()
        assert task == task_id(0)
        heartbeat = pb.HeartbeatRequest(task_execution_id=task)
        await client.channel.unary(methods.HEARTBEAT, heartbeat, metadata=_echo(token))
        await client.complete_task(task, token)
        seen = 0
        while seen < 2:
            claimed, token = await client.poll()
            assert claimed == run
            seen = len({"TASK_COMPLETED", "TIMER_FIRED"} & set(await client.history(run)))
            await client.submit(run, complete() if seen == 2 else suspend(), claim=token)
        types = await client.history(run)
        assert types[:4] == ["WORKFLOW_STARTED", "TASK_SCHEDULED", "TIMER_STARTED", "WORKFLOW_SUSPENDED"]
        assert types[-1] == "WORKFLOW_COMPLETED"
        assert server.statistics().claims == 0


async def test_the_reply_to_a_poll_has_every_field() -> None:
    async with served() as (server, client):
        run = await client.start(queue="gpu", priority_seconds=2, workflow_version="1.2")
        request = pb.PollRequest(worker_id="w", org_id=server.org_id, queue="gpu", timeout_seconds=1)
        polled = (await client.channel.unary(methods.POLL_WORKFLOW, request)).message.workflow_execution
        assert polled is not None
        now = server.engine.core.clock()
        assert now - 5_000 < polled.created_at_ms <= polled.workflow_task_time_millis <= now
        assert (polled.id, polled.kind, polled.org_id, polled.input, polled.queue, polled.priority_ms) == (
            run,
            "order",
            DEV_ORG_ID,
            b"{}",
            "gpu",
            2_000,
        )
        assert (polled.current_sequence, polled.workflow_version) == (1, "1.2")


async def test_a_long_poll_ends_at_once_when_work_arrives() -> None:
    async with served() as (server, client):
        got: list[str] = []

        async def poll() -> None:
            got.append((await client.poll())[0])

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(poll)
            await until_waiting(server, 1)
            run = await client.start()
            with anyio.fail_after(2):
                while not got:
                    await anyio.sleep(0.001)
        assert got == [run]


async def test_a_poll_that_finds_nothing_says_so_in_its_time() -> None:
    async with served() as (server, client):
        assert await client.poll(0) == ("", "")
        assert await client.poll_task(-1) == ("", "")
        began = anyio.current_time()
        assert await client.poll(1) == ("", "")
        assert 1 <= anyio.current_time() - began < 3
        assert server.statistics().waiting_polls == 0


async def test_waiting_polls_are_served_in_the_order_they_came() -> None:
    got: list[tuple[int, str]] = []
    runs: list[str] = []
    async with served() as (server, client):

        async def poll(number: int) -> None:
            got.append((number, (await client.poll(worker=f"w{number}"))[0]))

        async with anyio.create_task_group() as tasks:
            for number in range(4):
                tasks.start_soon(poll, number)
                await until_waiting(server, number + 1)
            for number in range(4):
                runs.append(await client.start())
                while len(got) <= number:
                    await anyio.sleep(0.001)
    assert got == list(enumerate(runs))


async def test_work_that_arrives_together_wakes_as_many_polls() -> None:
    async with served() as (server, client):
        got: list[str] = []

        async def poll() -> None:
            got.append((await client.poll_task())[0])

        await client.start()
        run, token = await client.poll()
        async with anyio.create_task_group() as tasks:
            for number in range(5):
                tasks.start_soon(poll)
                await until_waiting(server, number + 1)
            await client.submit(run, *(schedule(number) for number in range(5)), suspend(), claim=token)
        assert sorted(got) == [task_id(number) for number in range(5)]


async def test_a_poll_is_only_woken_for_kinds_it_can_take() -> None:
    got: list[str] = []
    runs: list[str] = []
    async with served() as (server, client), anyio.create_task_group() as tasks:

        async def poll(kind: str) -> None:
            got.append((await client.poll(workflow_capabilities=[kind]))[0])

        tasks.start_soon(poll, "a")
        await until_waiting(server, 1)
        tasks.start_soon(poll, "b")
        await until_waiting(server, 2)
        runs.append(await client.start("b"))
        while not got:
            await anyio.sleep(0.001)
        assert got == runs
        assert server.statistics().waiting_polls == 1
        runs.append(await client.start("a"))
        while len(got) < 2:
            await anyio.sleep(0.001)
    assert got == runs


async def test_a_poll_that_was_given_up_claims_nothing() -> None:
    async with served() as (server, client):
        for _ in range(10):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(client.poll)
                await until_waiting(server, 1)
                tasks.cancel_scope.cancel()
            await until_waiting(server, 0)
        run = await client.start()
        assert server.statistics().claims == 0
        assert (await client.poll(0))[0] == run


async def test_work_is_not_lost_with_a_poll_that_is_given_up_as_it_arrives() -> None:
    """The race itself: whichever side wins, the run is claimed soon by somebody who reads the answer."""
    async with served(worker_timeout=0.2) as (server, client):
        for _ in range(20):
            scope = anyio.CancelScope()

            async def give_up(other: Client, scope: anyio.CancelScope = scope) -> None:
                with scope:
                    await other.poll()

            async with connected(server) as other, anyio.create_task_group() as tasks:
                tasks.start_soon(give_up, other)
                await until_waiting(server, 1)
                tasks.start_soon(client.start)
                await anyio.lowlevel.checkpoint()
                scope.cancel()
            run, token = await client.poll()
            await client.submit(run, complete(), claim=token)


@pytest.mark.parametrize("of", ["workflow", "task"])
async def test_work_that_crossed_the_end_of_its_poll_on_the_way_is_free_at_once(of: str) -> None:
    """The worker gave its poll up when the answer was sent, but had not arrived; the connection stays."""
    async with served(worker_timeout=60) as (server, client), raw_client(server.url) as peer:
        run = await client.start()
        if of == "task":
            _, token = await client.poll()
            await client.submit(run, schedule(0), suspend(), claim=token)
        method = methods.POLL_WORKFLOW if of == "workflow" else methods.POLL_TASK
        request = method.request(worker_id="w", org_id=server.org_id, timeout_seconds=5)
        authorization = ("authorization", f"Bearer {server.token}")
        await peer.send(*peer.call(1, method.path, encode(request), authorization))
        while "END_STREAM" not in (await peer.next(HeadersFrame)).flags:
            pass
        assert server.statistics().claims == 1
        await peer.send(reset(1, ErrorCodes.CANCEL))
        while server.statistics().claims:
            await anyio.sleep(0.001)
        polled = await (client.poll(0) if of == "workflow" else client.poll_task(0))
        assert polled[0] == (run if of == "workflow" else task_id(0))
        assert [task.execution_count for task in server.engine.core.store.tasks.all()] == (
            [] if of == "workflow" else [1]
        )


async def test_a_reset_that_comes_after_the_worker_has_spoken_frees_nothing() -> None:
    async with served(worker_timeout=60) as (server, client), raw_client(server.url) as peer:
        run = await client.start()
        request = pb.PollRequest(worker_id="w", org_id=server.org_id, timeout_seconds=5)
        authorization = ("authorization", f"Bearer {server.token}")
        await peer.send(*peer.call(1, methods.POLL_WORKFLOW.path, encode(request), authorization))
        while "END_STREAM" not in (await peer.next(HeadersFrame)).flags:
            pass
        events = pb.GetEventsRequest(workflow_execution_id=run)
        await peer.send(*peer.call(3, methods.GET_EVENTS.path, encode(events), authorization))
        while "END_STREAM" not in (await peer.next(HeadersFrame)).flags:
            pass
        await peer.send(reset(1, ErrorCodes.CANCEL), ping())
        await peer.next(PingFrame)
        assert server.statistics().claims == 1


async def test_a_closed_connection_frees_its_work_within_a_second_or_so() -> None:
    async with served() as (server, client):
        run = await client.start()
        async with connected(server) as dying:
            claimed, late = await dying.poll()
            assert claimed == run
            await dying.history(run)
        began = anyio.current_time()
        claimed, token = await client.poll(worker="other")
        assert claimed == run
        assert 0.8 < anyio.current_time() - began < 2.5
        with pytest.raises(FailedPrecondition, match="claimed again since"):
            await client.submit(run, complete(), claim=late)
        assert await client.history(run) == ["WORKFLOW_STARTED"]
        await client.submit(run, complete(), claim=token)


async def test_a_worker_that_falls_silent_on_an_open_connection_loses_its_work() -> None:
    async with served(worker_timeout=0.3) as (server, client):
        async with connected(server) as silent:
            run = await client.start()
            await silent.poll()
            await silent.history(run)
            claimed, token = await client.poll(worker="other")
            assert claimed == run
            await client.submit(run, complete(), claim=token)


async def test_a_heartbeat_that_takes_its_task_back_wakes_the_clock() -> None:
    async with served(worker_timeout=0.2) as (server, client):
        run = await client.start()
        _, token = await client.poll()
        await client.submit(run, schedule(0), suspend(), claim=token)
        task, token = await client.poll_task()
        while server.engine.core.store.tasks.claimed():
            await anyio.sleep(0.01)
        await anyio.sleep(0.05)  # the clock sleeps for good: there is nothing to wait for
        async with connected(server) as silent:
            request = pb.HeartbeatRequest(task_execution_id=task)
            await silent.channel.unary(methods.HEARTBEAT, request, metadata=_echo(token))
            began = anyio.current_time()
            while server.engine.core.store.tasks.claimed():
                await anyio.sleep(0.01)
            assert anyio.current_time() - began < 1


async def test_the_clock_outlives_a_disk_that_fails_for_a_while(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("flovyn.server.shell._RETRY_S", 0.01)
    async with served() as (server, client):
        run = await client.start()
        _, token = await client.poll()
        tick, failures = server.engine.tick, [ServerUnavailable("disk full")] * 3

        def failing() -> None:
            if failures:
                raise failures.pop()
            tick()

        monkeypatch.setattr(server.engine, "tick", failing)
        await client.submit(run, start_timer("t", 10), suspend(), claim=token)
        while "TIMER_FIRED" not in await client.history(run):
            await anyio.sleep(0.005)
    assert caplog.messages == ["the server could not fire what is due; it tries again"] * 3


async def test_heartbeats_keep_the_work_of_a_busy_worker() -> None:
    async with served(worker_timeout=1.0) as (server, client):
        registration = pb.WorkerRegistrationRequest(
            worker_name="w",
            org_id=server.org_id,
            host_name="h",
            process_id="1",
            workflows=[pb.WorkflowCapability(kind="order")],
        )
        reply = (await client.channel.unary(methods.REGISTER_WORKER, registration)).message
        assert reply.success
        run = await client.start()
        assert (await client.poll())[0] == run
        await client.history(run)
        for _ in range(12):
            await anyio.sleep(0.1)
            await client.channel.unary(methods.SEND_HEARTBEAT, pb.WorkerHeartbeatRequest(worker_id=reply.worker_id))
        async with connected(server) as other:
            assert await other.poll(0) == ("", "")
        await client.submit(run, complete())


async def test_a_restart_on_the_same_file_keeps_everything(tmp_path: Path) -> None:
    path = str(tmp_path / "flovyn.db")
    async with served(db=path) as (_, client):
        run = await client.start(idempotency_key="once")
        _, token = await client.poll()
        await client.submit(run, schedule(0), start_timer("t", 1), start_timer("far", 100_000), suspend(), claim=token)
        task, token = await client.poll_task()
    async with served(db=path) as (_, client):
        assert await client.start(idempotency_key="once") == run
        await client.complete_task(task, token)
        while not {"TIMER_FIRED", "TASK_COMPLETED"} <= set(await client.history(run)):
            await anyio.sleep(0.005)
        polled, token = await client.poll()
        assert polled == run
        await client.submit(run, complete(), claim=token)


async def test_every_refusal_has_its_own_class() -> None:
    async with served() as (server, client):
        with pytest.raises(NotFound, match="workflow execution 'nope' is unknown"):
            await client.history("nope")
        with pytest.raises(InvalidArgument, match="workflow_kind is empty"):
            await client.start("")
        with pytest.raises(Unimplemented, match="no visual definitions"):
            await client.start(workflow_definition_id="x")
        with pytest.raises(Unimplemented, match="a child needs a name; call StartChildWorkflow"):
            await client.start(parent_workflow_execution_id="x")
        with pytest.raises(InvalidArgument, match="worker_id is empty"):
            await client.poll(worker="")
        with pytest.raises(Unimplemented):
            await client.channel.unary(methods.POLL_AGENT, pb.PollAgentRequest(org_id=server.org_id))
        run = await client.start()
        with pytest.raises(FailedPrecondition, match="is not claimed by anybody"):
            await client.submit(run, complete())
        task = pb.FailTaskRequest(task_execution_id=task_id(0), error="no")
        with pytest.raises(NotFound, match="is unknown"):
            await client.channel.unary(methods.FAIL_TASK, task)
        with pytest.raises(NotFound, match="is unknown"):
            await client.channel.unary(methods.CANCEL_TASK, pb.CancelTaskRequest(task_execution_id=task_id(0)))


async def test_a_refusal_shows_the_beginning_of_what_is_too_long_for_a_header() -> None:
    long = "x" * 100_000
    shown = f"'{'x' * 80}…'"
    async with served() as (server, client):
        _, token = await client.start(), (await client.poll())[1]
        command = pb.ScheduleTaskCommand(kind="k", task_execution_id=long)
        faulty = pb.WorkflowCommand(command_type=pb.CommandType.SCHEDULE_TASK, schedule_task=command)
        run = server.engine.core.store.runs.all()[0].id
        calls: list[Callable[[], Awaitable[object]]] = [
            lambda: client.history(long),
            lambda: client.complete_task(long),
            lambda: client.channel.unary(methods.SEND_HEARTBEAT, pb.WorkerHeartbeatRequest(worker_id=long)),
            lambda: client.channel.unary(methods.START_WORKFLOW, pb.StartWorkflowRequest(org_id=long)),
            lambda: client.submit(run, faulty, suspend(), claim=token),
        ]
        for call in calls:
            with pytest.raises((NotFound, PermissionDenied, InvalidArgument)) as caught:
                await call()
            assert shown in caught.value.message
        assert server.statistics().connections == 1


async def test_a_client_in_the_same_process_needs_no_socket() -> None:
    async with served() as (server, client):
        async with server.channel() as channel:
            inside = Client(server, channel)
            run = await inside.start()
            claimed, token = await client.poll()
            assert claimed == run
            await client.submit(run, schedule(0), suspend(), claim=token)
            async with server.channel() as other:
                task, _ = await Client(server, other).poll_task()
                assert task == task_id(0)
                assert server.statistics().claims == 1
                assert server.statistics().connections == 3
            while server.statistics().connections != 2:
                await anyio.sleep(0.001)
            task, token = await inside.poll_task(worker="another")  # free a second after the connection has closed
            await inside.complete_task(task, token)
        async with server.channel(token="wrong") as stranger:
            with pytest.raises(Unauthenticated, match="the token is not known to this server"):
                await Client(server, stranger).start()


async def test_promises_are_settled_from_outside() -> None:
    async with served() as (_, client):
        run = await client.start()
        _, token = await client.poll()
        await client.submit(run, create_promise("a"), create_promise("b"), suspend(), claim=token)
        ids = [data["promiseId"] for data in await client.data(run, "PROMISE_CREATED")]
        async with anyio.create_task_group() as tg:
            tg.start_soon(client.poll)  # it gets the run as soon as the promise has its value
            resolved = pb.ResolvePromiseRequest(promise_id=ids[0], value=b"true")
            await client.channel.unary(methods.RESOLVE_PROMISE, resolved)
        rejected = pb.RejectPromiseRequest(promise_id=ids[1], error="no")
        await client.channel.unary(methods.REJECT_PROMISE, rejected)
        assert (await client.history(run))[-2:] == ["PROMISE_RESOLVED", "PROMISE_REJECTED"]
        with pytest.raises(NotFound, match="promise 'x' is unknown"):
            await client.channel.unary(methods.REJECT_PROMISE, pb.RejectPromiseRequest(promise_id="x"))


async def test_signals_reach_a_workflow_with_and_without_starting_it() -> None:
    async with served() as (server, client):
        request = pb.SignalWithStartWorkflowRequest(
            org_id=server.org_id,
            workflow_id="cart-7",
            workflow_kind="order",
            workflow_input=b"{}",
            signal_name="add",
            signal_value=b"1",
        )
        first = (await client.channel.unary(methods.SIGNAL_WITH_START_WORKFLOW, request)).message
        second = (await client.channel.unary(methods.SIGNAL_WITH_START_WORKFLOW, request)).message
        run = first.workflow_execution_id
        assert (first.workflow_created, first.signal_event_sequence) == (True, 2)
        assert second == pb.SignalWithStartWorkflowResponse(workflow_execution_id=run, signal_event_sequence=3)
        signal = pb.SignalWorkflowRequest(
            org_id=server.org_id, workflow_execution_id=run, signal_name="pay", signal_value=b"2"
        )
        reply = await client.channel.unary(methods.SIGNAL_WORKFLOW, signal)
        assert reply.message.signal_event_sequence == 4
        assert await client.data(run, "SIGNAL_RECEIVED") == [
            {"signalName": "add", "signalValue": 1},
            {"signalName": "add", "signalValue": 1},
            {"signalName": "pay", "signalValue": 2},
        ]
        assert (await client.poll())[0] == run
        foreign = pb.SignalWorkflowRequest(org_id="another", workflow_execution_id=run, signal_name="pay")
        with pytest.raises(PermissionDenied, match="does not belong to organisation 'another'"):
            await client.channel.unary(methods.SIGNAL_WORKFLOW, foreign)


async def test_children_are_started_by_their_parent_or_from_outside_and_tell_their_end() -> None:
    async with served() as (server, client):
        parent = await client.start("parent", queue="q")
        _, token = await client.poll(queue="q")
        await client.submit(parent, schedule_child(0), suspend(), claim=token)
        child, token = await client.poll(queue="q")
        assert child == child_id(0)
        await client.submit(child, complete(b"7"), claim=token)
        assert (await client.data(parent, "CHILD_WORKFLOW_COMPLETED"))[0]["output"] == 7
        request = pb.StartChildWorkflowRequest(
            parent_workflow_execution_id=parent,
            child_execution_name="extra",
            org_id=server.org_id,
            workflow_kind="order",
            input=b"{}",
        )
        reply = (await client.channel.unary(methods.START_CHILD_WORKFLOW, request)).message
        assert (await client.channel.unary(methods.START_CHILD_WORKFLOW, request)).message == reply
        assert await client.history(reply.child_workflow_execution_id) == ["WORKFLOW_STARTED"]
        visual = pb.StartChildWorkflowRequest(org_id=server.org_id, workflow_definition_id="x")
        with pytest.raises(Unimplemented, match="no visual definitions"):
            await client.channel.unary(methods.START_CHILD_WORKFLOW, visual)


async def test_a_task_that_stands_alone() -> None:
    async with served() as (server, client):
        request = pb.SubmitTaskRequest(org_id=server.org_id, kind="charge", input=b"7", idempotency_key="k")
        first = (await client.channel.unary(methods.SUBMIT_TASK, request)).message
        assert (first.idempotency_key_used, first.idempotency_key_new) == (False, True)
        again = (await client.channel.unary(methods.SUBMIT_TASK, request)).message
        assert again == pb.SubmitTaskResponse(task_execution_id=first.task_execution_id, idempotency_key_used=True)
        polled = pb.PollTaskRequest(worker_id="w", org_id=server.org_id, timeout_seconds=1)
        reply = await client.channel.unary(methods.POLL_TASK, polled)
        task = reply.message.task
        assert task is not None
        assert (task.task_execution_id, task.input, task.workflow_execution_id) == (first.task_execution_id, b"7", "")
        await client.complete_task(task.task_execution_id, reply.metadata[CLAIM])
        with pytest.raises(InvalidArgument, match="tasks of a workflow are created by its own commands"):
            await client.channel.unary(
                methods.SUBMIT_TASK, pb.SubmitTaskRequest(org_id=server.org_id, workflow_execution_id="x")
            )


async def test_a_task_body_writes_down_what_it_likes() -> None:
    async with served() as (server, client):
        await client.start()
        run, token = await client.poll()
        await client.submit(run, schedule(0), suspend(), claim=token)
        task, token = await client.poll_task()

        async def call(method: Method[Any, Any], request: Any) -> Any:
            return (await client.channel.unary(method, request, metadata=_echo(token))).message

        missing = await call(methods.GET_STATE, pb.GetStateRequest(task_execution_id=task, key="a"))
        assert missing == pb.GetStateResponse(value=b"", found=False)
        for key, value in (("a", b"1"), ("b", b"null"), ("c", b"3")):
            await call(methods.SET_STATE, pb.SetStateRequest(task_execution_id=task, key=key, value=value))
        await call(methods.CLEAR_STATE, pb.ClearStateRequest(task_execution_id=task, key="c"))
        found = await call(methods.GET_STATE, pb.GetStateRequest(task_execution_id=task, key="b"))
        assert found == pb.GetStateResponse(value=b"null", found=True)
        keys = await call(methods.GET_STATE_KEYS, pb.GetStateKeysRequest(task_execution_id=task))
        assert keys.keys == ["a", "b"]
        await call(methods.CLEAR_ALL_STATE, pb.ClearAllStateRequest(task_execution_id=task))
        assert (await call(methods.GET_STATE_KEYS, pb.GetStateKeysRequest(task_execution_id=task))).keys == []
        await call(methods.REPORT_PROGRESS, pb.ReportProgressRequest(task_execution_id=task, progress=0.5, details="x"))
        await call(methods.LOG_MESSAGE, pb.LogMessageRequest(task_execution_id=task, level="INFO", message="hello"))
        data = pb.StreamTaskDataRequest(task_execution_id=task, type=pb.StreamEventType.TOKEN, payload="{}")
        assert (await call(methods.STREAM_TASK_DATA, data)).acknowledged is True
        notes = server.engine.core.store.notes
        assert [(line.level, line.message) for line in notes.lines(1)] == [("INFO", "hello")]
        progress = notes.progress(1)
        assert progress is not None
        assert (progress.progress, progress.details) == (0.5, "x")
        with pytest.raises(InvalidArgument, match="task_execution_id is empty"):
            await call(methods.STREAM_TASK_DATA, pb.StreamTaskDataRequest())


async def test_queries_are_answered_from_recorded_state() -> None:
    async with served() as (_, client):
        await client.start()
        run, token = await client.poll()
        await client.submit(run, set_state("step", b'"paid"'), suspend(), claim=token)

        async def query(name: str) -> pb.QueryWorkflowResponse:
            request = pb.QueryWorkflowRequest(workflow_execution_id=run, query_name=name)
            return (await client.channel.unary(methods.QUERY_WORKFLOW, request)).message

        assert await query("step") == pb.QueryWorkflowResponse(result=b'"paid"')
        assert await query("state") == pb.QueryWorkflowResponse(result=b'{"step":"paid"}')
        error = "this server answers queries from recorded state, which has no key 'nope'"
        assert await query("nope") == pb.QueryWorkflowResponse(error=error)


async def test_notifications_tell_of_work_in_a_queue_and_cost_nothing_when_nobody_listens() -> None:
    async with served() as (server, client):
        request = pb.SubscriptionRequest(worker_id="w", org_id=server.org_id, queue="q")
        async with client.channel.server_stream(methods.SUBSCRIBE_TO_NOTIFICATIONS, request) as news:
            while not server.statistics().listeners:
                await anyio.sleep(0.001)
            await client.start(queue="other")
            await client.start(queue="q")
            told = await anext(aiter(news))
            assert (told.org_id, told.queue) == (server.org_id, "q")
            assert abs(told.timestamp_ms - server.engine.core.clock()) < 5_000
        while server.statistics().listeners:
            await anyio.sleep(0.001)
        await client.start(queue="q")


async def test_what_only_tells_something() -> None:
    async with served() as (_, client):
        spans = pb.ReportExecutionSpansRequest(spans=[pb.ExecutionSpan(span_id="a"), pb.ExecutionSpan(span_id="b")])
        reply = (await client.channel.unary(methods.REPORT_EXECUTION_SPANS, spans)).message
        assert reply == pb.ReportExecutionSpansResponse(accepted_count=2)
        wanted = pb.GetVisualWorkflowDefinitionByIdRequest(workflow_definition_id="d")
        with pytest.raises(NotFound, match="workflow definition 'd' is unknown: this server has no visual"):
            await client.channel.unary(methods.GET_VISUAL_WORKFLOW_DEFINITION_BY_ID, wanted)


async def test_cancelling_and_failing_tasks() -> None:
    async with served() as (_, client):
        run = await client.start()
        _, token = await client.poll()
        await client.submit(run, schedule(0), schedule(1, max_retries=0), suspend(), claim=token)
        await client.channel.unary(methods.CANCEL_TASK, pb.CancelTaskRequest(task_execution_id=task_id(0)))
        task, token = await client.poll_task()
        assert task == task_id(1)
        failure = pb.FailTaskRequest(task_execution_id=task, error="no")
        await client.channel.unary(methods.FAIL_TASK, failure, metadata=_echo(token))
        assert (await client.history(run))[-3:] == ["TASK_CANCELLED", "TASK_FAILED", "TASK_FAILED"]


@pytest.mark.parametrize(
    ("token", "text"),
    [
        (None, "carries no authorization metadata"),
        ("", "not of the form `Bearer <token>`"),
        ("wrong", "the token is not known to this server"),
        ("flovyn_wk_de", "the token is not known to this server"),
        ("ü", "the token is not known to this server"),
    ],
)
async def test_a_call_without_the_right_token_is_not_answered(token: str | None, text: str) -> None:
    async with served() as (server, _):
        try:
            channel = Channel(server.url, token=token)
        except ConfigurationError:
            return  # the channel itself refuses what no header can carry
        async with channel as opened:
            with pytest.raises(Unauthenticated, match=text):
                await Client(server, opened).start()


async def test_another_scheme_is_not_answered() -> None:
    async with served() as (server, _), Channel(server.url) as channel:
        request = pb.GetEventsRequest(workflow_execution_id="x")
        with pytest.raises(Unauthenticated, match="not of the form `Bearer <token>`"):
            await channel.unary(methods.GET_EVENTS, request, metadata={"authorization": "Basic abc"})


async def test_a_request_for_another_organisation_is_refused() -> None:
    async with served() as (_, client):
        client.org_id = str(uuid4())
        for call in (client.start, client.poll, client.poll_task):
            with pytest.raises(PermissionDenied, match=f"does not belong to organisation '{client.org_id}'"):
                await call()
        with pytest.raises(PermissionDenied):
            await client.channel.unary(
                methods.REGISTER_WORKER, pb.WorkerRegistrationRequest(worker_name="w", org_id=client.org_id)
            )


async def test_a_server_of_ones_own_organisation(tmp_path: Path) -> None:
    org = str(uuid4())
    async with served(dev=False, token="secret", org_id=org.upper()) as (server, client):
        assert (server.org_id, server.org_slug, server.token) == (org, f"org-{org[:8]}", "secret")
        assert "secret" not in repr(server)
        assert await client.start()


async def test_the_fixed_identity_of_development_mode() -> None:
    async with served() as (server, _):
        assert (server.org_id, server.org_slug, server.token) == (DEV_ORG_ID, "dev", DEV_TOKEN)
        assert server.url == f"http://127.0.0.1:{server.grpc_port}"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"host": "0.0.0.0"}, "development mode listens only at addresses of this machine, not at '0.0.0.0'"),
        ({"dev": False}, r"a server needs a token \(FLOVYN_WORKER_TOKEN\)"),
        ({"dev": False, "token": "t"}, r"a server needs an organisation \(FLOVYN_ORG_ID\)"),
        ({"dev": False, "token": "t", "org_id": "acme"}, "the organisation 'acme' is not a UUID"),
        ({"dev": False, "token": "", "org_id": DEV_ORG_ID}, "at least one key, and none may be empty"),
        ({"dev": False, "token": " t\n", "org_id": DEV_ORG_ID}, "none may be empty or have characters that no header"),
        ({"token": "schlüssel"}, "none may be empty or have characters that no header"),
        ({"grpc_port": 70_000}, "grpc_port is 70000; it must be between 0 and 65535"),
        ({"grpc_port": -1}, "grpc_port is -1; it must be between 0 and 65535"),
        ({"db": ""}, "a server needs a database file; `:memory:` keeps nothing"),
        ({"db": "a\0b"}, "cannot open the database file 'a.*b': embedded null byte"),
        ({"worker_timeout": 0}, "worker_timeout is 0"),
        ({"worker_timeout": float("nan")}, "worker_timeout is nan"),
        ({"durability": "some"}, "durability 'some'"),
        ({"db": "/"}, "cannot open the database file '/'"),
    ],
)
async def test_what_cannot_work_is_said_before_anything_starts(options: dict[str, Any], text: str) -> None:
    with anyio.fail_after(LIMIT_S), pytest.raises(ConfigurationError, match=text):
        async with serve(**options):
            pass


async def test_a_port_that_is_taken_is_named() -> None:
    async with served() as (server, _):
        with pytest.raises(ConfigurationError, match=f"cannot listen at 127.0.0.1:{server.grpc_port}: "):
            async with serve(grpc_port=server.grpc_port):
                pass


async def test_what_the_block_raises_leaves_it_as_it_is() -> None:
    with anyio.fail_after(LIMIT_S), pytest.raises(KeyError) as caught:
        async with serve():
            raise KeyError("mine")
    assert caught.value.args == ("mine",)
    group = ExceptionGroup("mine", [KeyError()])
    with anyio.fail_after(LIMIT_S), pytest.RaisesGroup(KeyError) as grouped:
        async with serve():
            raise group
    assert grouped.value is group


async def test_a_cancelled_server_ends_while_polls_wait() -> None:
    with anyio.fail_after(LIMIT_S):
        async with anyio.create_task_group() as tasks, serve() as server:
            with anyio.CancelScope() as scope:
                async with connected(server) as client:
                    tasks.start_soon(until_waiting, server, 1)
                    with anyio.move_on_after(0.2):
                        await client.poll()
                    scope.cancel()
        assert server.statistics().waiting_polls == 0
