"""A session ends as one: when a part of it dies, when its connection is gone, when the server does not answer."""

from __future__ import annotations

import logging
from typing import Any

import anyio
import pytest

import flovyn
from flovyn import (
    Client,
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PayloadTooLarge,
    PermissionDenied,
    ServerError,
    TaskContext,
    Unauthenticated,
    Unimplemented,
    Worker,
    WorkflowContext,
    task,
    workflow,
)
from flovyn.server import serve
from flovyn.wire.channel import Channel
from worker.fakes import FakeServer, until
from worker.test_outages import Line
from worker.test_task_context import hold
from worker.test_worker_life import QUICK
from worker.test_worker_tasks import double, outcome

pytestmark = pytest.mark.anyio


def a_worker(server: FakeServer, **options: Any) -> Worker:
    return Worker(server.client(), tasks=[double], name="w", reconnect=QUICK, grace=1.0, **options)


class Connected(FakeServer):
    """A server behind a connection that can be lost."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.gone = anyio.Event()
        self.hung_up: list[str] = []

    def lose(self) -> None:
        self.gone.set()
        self.gone = anyio.Event()

    async def lost(self) -> None:
        await self.gone.wait()

    def hang_up(self, reason: str) -> None:
        self.hung_up.append(reason)


# --- errors by their codes ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [InvalidArgument("queue?"), PermissionDenied("not you"), Unimplemented("no tasks here")],
    ids=lambda error: type(error).__name__,
)
async def test_a_poll_that_will_never_be_answered_ends_the_worker(error: ServerError) -> None:
    server = FakeServer()
    server.refuse("PollTask", error)
    with anyio.fail_after(5), pytest.raises(type(error)) as caught:
        await a_worker(server).run()
    assert caught.value is error


@pytest.mark.parametrize(
    "error",
    [
        NotFound("no such worker"),
        FailedPrecondition("register first"),
        Unauthenticated("token expired"),
        DeadlineExceeded("too slow"),
        ServerError("busy", status="RESOURCE_EXHAUSTED"),
        ServerError("UNAVAILABLE: connection refused, says the text", status="ABORTED"),
        PayloadTooLarge("the task has 70 MB", size=70, limit=64),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_a_poll_that_fails_otherwise_begins_a_new_session(error: Exception) -> None:
    server = FakeServer()
    server.refuse("PollTask", error)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    with anyio.fail_after(5):
        async with a_worker(server):
            server.offer("t1", "double", b"4")
            assert await outcome(server) == b"8"
    assert len(server.seen("RegisterWorker")) == 2


async def test_a_token_that_is_bad_for_good_ends_the_worker_by_the_next_registration() -> None:
    server = FakeServer()
    refusal = Unauthenticated("token revoked")
    server.refuse("PollTask", Unauthenticated("token expired"))
    worker = a_worker(server)
    with anyio.fail_after(5), pytest.raises(Unauthenticated) as caught:
        async with worker:
            server.refuse("RegisterWorker", refusal)
            await anyio.sleep_forever()
    assert caught.value is refusal


async def test_a_server_without_heartbeats_is_asked_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    server = FakeServer()
    server.refuse("SendHeartbeat", Unimplemented("no such call"))
    with anyio.fail_after(5):
        async with a_worker(server, heartbeat_interval=0.005):
            await server.until(lambda: server.seen("SendHeartbeat"))
            server.offer("t1", "double", b"4")
            assert await outcome(server) == b"8"
    assert (len(server.seen("SendHeartbeat")), len(server.seen("RegisterWorker"))) == (1, 1)
    assert "worker w: the server takes no heartbeats" in caplog.messages


# --- silence -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "text"),
    [
        ("RegisterWorker", "the server has not answered the registration within 0.05 s"),
        ("SendHeartbeat", "the server has not answered a heartbeat within 0.05 s"),
    ],
)
async def test_a_server_that_does_not_answer_is_called_anew_over_another_connection(
    call: str, text: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("flovyn.worker.sessions.ANSWER_WITHIN", 0.05)
    server = Connected()
    hold(server, call)
    with anyio.fail_after(5):
        async with anyio.create_task_group() as tg:
            worker = a_worker(server, heartbeat_interval=0.005)
            tg.start_soon(worker.run)
            await server.until(lambda: server.hung_up)
            del server.answers[call]
            server.offer("t1", "double", b"4")
            assert await outcome(server) == b"8"
            worker.stop()
    assert server.hung_up[0] == text
    assert any(message.startswith(f"worker w: {text}; trying again") for message in caplog.messages)


async def test_a_poll_that_is_not_answered_in_its_time_ends_the_session(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flovyn.worker.tree.ANSWER_WITHIN", 0.05 - 30)  # a poll may take 30 s
    server = Connected()
    with anyio.fail_after(5):
        async with a_worker(server):
            await server.until(lambda: server.hung_up)
            await server.until(lambda: len(server.seen("RegisterWorker")) >= 2)
    assert server.hung_up[0] == "the server has not answered a poll within 0.05 s"


async def test_a_connection_that_is_gone_is_noticed_while_nothing_is_asked() -> None:
    server = Connected()
    gate = anyio.Event()

    @task
    async def long(ctx: TaskContext) -> None:
        await gate.wait()

    worker = Worker(
        server.client(), tasks=[long], reconnect=QUICK, max_concurrent_tasks=1, heartbeat_interval=30.0, lease=60.0
    )
    with anyio.fail_after(5):
        async with worker:
            server.offer("t1", "long")
            await server.until(lambda: worker.statistics().running_tasks == 1)
            assert worker.statistics().open_polls == 0  # and the next heartbeat is far away
            server.lose()
            await server.until(lambda: len(server.seen("RegisterWorker")) == 2)
            gate.set()
            assert await outcome(server) == b"null"
    assert server.hung_up == []


async def test_what_a_session_fails_with_is_told_rather_than_that_its_connection_is_gone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = Connected()
    with anyio.fail_after(5):
        async with a_worker(server) as worker:
            await server.until(lambda: worker.statistics().open_polls == 1)
            server.go_down()
            server.lose()
            await server.until(lambda: len(server.seen("RegisterWorker")) >= 2)
            server.come_up()
    warnings = [record.getMessage() for record in caplog.records if record.name == "flovyn.worker"]
    assert warnings[0].startswith("worker w: cannot reach http://fake:9090; trying again")


async def test_the_claims_of_a_saturated_worker_outlive_its_connection() -> None:
    """Nothing is under way when the line is cut, and the next heartbeat would come after the server's patience."""
    attempts: list[int] = []
    began, release = anyio.Event(), anyio.Event()

    @task
    async def body(ctx: TaskContext) -> int:
        attempts.append(ctx.attempt)
        began.set()
        await release.wait()
        return ctx.attempt

    @workflow
    async def runs_body(ctx: WorkflowContext) -> int:
        return await ctx.schedule(body)

    with anyio.fail_after(20):
        async with serve() as server, anyio.create_task_group() as group:
            line: Line = await group.start(Line(server.grpc_port).run)
            async with flovyn.connect(line.url, org_id=server.org_id, token=server.token) as client:
                options: dict[str, Any] = {"max_concurrent_tasks": 1, "max_concurrent_workflows": 1}
                async with Worker(client, workflows=[runs_body], tasks=[body], **options):
                    handle = await client.start(runs_body)
                    await began.wait()
                    registered = server.engine.core.leases.links()
                    before = {link.id for link in registered if link.process is not None}
                    line.cut()

                    def is_back() -> bool:
                        links = server.engine.core.leases.links()
                        return bool({link.id for link in links if link.process is not None} - before)

                    await until(is_back)
                    release.set()
                    assert await handle.result() == 1
            group.cancel_scope.cancel()
    assert attempts == [1]


# --- counting calls ----------------------------------------------------------------------------


async def test_an_idle_worker_makes_no_call_but_its_heartbeat() -> None:
    """By default that is one heartbeat in two seconds, and a poll of each sort in thirty: 0.57 calls a second."""

    @workflow
    async def nothing(ctx: WorkflowContext) -> None: ...

    with anyio.fail_after(20):
        async with serve() as at:
            line = Channel(at.url, token=at.token)
            client = Client(line, org_id=at.org_id, dial=lambda: line)
            async with Worker(client, workflows=[nothing], tasks=[double], heartbeat_interval=0.02) as worker:
                await until(lambda: worker.statistics().open_polls == 2)
                before = line.statistics().calls_started
                assert before == 3  # a registration, and a poll of each sort
                await until(lambda: line.statistics().calls_started >= before + 20)
                after = line.statistics()
            # All of them were heartbeats: the two polls are the same ones still.
            assert (after.active_calls, after.calls_failed, after.calls_cancelled) in ((2, 0, 0), (3, 0, 0))
