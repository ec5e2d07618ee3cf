"""How a worker begins, lives through outages, and ends."""

from __future__ import annotations

import hashlib
import os
from typing import Any

import anyio
import msgspec
import pytest

from flovyn.definitions import task, task_by_kind, workflow, workflow_by_kind
from flovyn.errors import (
    ConfigurationError,
    ConnectionLost,
    DefinitionError,
    FailedPrecondition,
    InvalidArgument,
    MalformedMessage,
    NotFound,
    PermissionDenied,
    ServerError,
    ServerUnavailable,
    Unauthenticated,
    Unimplemented,
    UsageError,
)
from flovyn.task import TaskContext
from flovyn.wire.messages.flovyn import v1 as pb
from flovyn.worker import ExponentialReconnect, Outage, Worker, WorkerStatistics
from worker.fakes import ORG, SERVER_ID, FakeServer

pytestmark = pytest.mark.anyio

QUICK = ExponentialReconnect(initial=0.001, maximum=0.01)
NOTHING = WorkerStatistics(running_workflows=0, running_tasks=0, open_polls=0, internal_tasks=0)


@task(description="Doubles.", tags=["math"], version="1.2.0", cancellable=False, streaming=True)
async def double(ctx: TaskContext, number: int) -> int:
    return number * 2


@workflow(version="2.0.0")
async def order_workflow(ctx: Any, number: int) -> int:
    return number


def a_worker(server: FakeServer, **options: Any) -> Worker:
    options.setdefault("tasks", [double])
    options.setdefault("reconnect", QUICK)
    options.setdefault("grace", 1.0)
    return Worker(server.client(), **options)


# --- ways in -----------------------------------------------------------------------------------


async def test_block_goes_on_once_the_worker_polls() -> None:
    server = FakeServer()
    with anyio.fail_after(5):
        async with a_worker(server, workflows=[order_workflow]) as worker:
            # The worker itself, a session's heartbeat, two pollers, watches over the lease, the cache and the claims.
            busy = WorkerStatistics(running_workflows=0, running_tasks=0, open_polls=2, internal_tasks=7)
            await server.until(lambda: worker.statistics() == busy)
    assert worker.statistics() == NOTHING
    assert sorted(call.name for call in server.calls) == ["PollTask", "PollWorkflow", "RegisterWorker"]


async def test_start_goes_on_once_the_worker_polls_and_stop_ends_it() -> None:
    server = FakeServer()
    worker = a_worker(server)
    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            assert await group.start(worker.run) is worker
            server.offer("t1", "double", b"1")
            await server.until(lambda: server.completed)
            worker.stop()
    assert worker.statistics() == NOTHING


async def test_cancelling_run_ends_it() -> None:
    server = FakeServer()
    worker = a_worker(server)
    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            await group.start(worker.run)
            group.cancel_scope.cancel()
    assert worker.statistics() == NOTHING


async def test_nothing_happens_before_the_way_in() -> None:
    server = FakeServer()
    worker = a_worker(server)
    await anyio.lowlevel.checkpoint()
    assert (server.calls, worker.statistics()) == ([], NOTHING)


async def test_worker_runs_once() -> None:
    server = FakeServer()
    worker = a_worker(server, name="w")
    with anyio.fail_after(5):
        async with worker:
            with pytest.raises(UsageError, match="^worker w has run already; make a new Worker to run again$"):
                await worker.run()
        with pytest.raises(UsageError, match="has run already"):
            async with worker:
                pass


async def test_stop_before_and_during_the_start() -> None:
    server = FakeServer()
    worker = a_worker(server)
    worker.stop()
    with anyio.fail_after(5):
        await worker.run()
    assert server.seen("PollTask") == []
    server.go_down()
    worker = a_worker(server)
    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(_stop_soon, server, worker)
            assert await group.start(worker.run) is worker
    assert worker.statistics() == NOTHING


async def _stop_soon(server: FakeServer, worker: Worker) -> None:
    await server.until(lambda: len(server.seen("RegisterWorker")) > 2)
    worker.stop()


# --- registration ------------------------------------------------------------------------------


async def test_registration_says_what_the_worker_can_do() -> None:
    server = FakeServer()
    with anyio.fail_after(5):
        async with a_worker(server, workflows=[order_workflow], name="w", queue="q") as worker:
            assert (worker.name, worker.queue) == ("w", "q")
            await server.until(lambda: worker.statistics().open_polls == 2)
    request: pb.WorkerRegistrationRequest = server.seen("RegisterWorker")[0].request
    assert (request.worker_name, request.worker_type, request.org_id) == ("w", "UNIFIED", ORG)
    assert (request.process_id, bool(request.host_name), bool(request.worker_version)) == (str(os.getpid()), True, True)
    (flow,) = request.workflows
    assert (flow.kind, flow.name, flow.version, flow.cancellable) == ("order_workflow", "order_workflow", "2.0.0", True)
    assert flow.metadata == b'{"cancellation":"scopes"}'
    assert flow.content_hash == hashlib.sha256(b"order_workflow:2.0.0").hexdigest()
    assert flow.timeout_seconds is None
    assert (flow.input_schema, flow.output_schema) == (b'{"type":"integer"}', b'{"type":"integer"}')
    (job,) = request.tasks
    assert (job.kind, job.description, job.tags, job.cancellable) == ("double", "Doubles.", ["math"], False)
    assert job.metadata == b'{"version":"1.2.0","streaming":true}'
    assert (job.input_schema, job.output_schema) == (b'{"type":"integer"}', b'{"type":"integer"}')
    poll: pb.PollRequest = server.seen("PollWorkflow")[0].request
    assert (poll.worker_id, poll.org_id, poll.queue) == ("w", ORG, "q")
    assert poll.workflow_capabilities == ["order_workflow"]


async def test_registration_has_the_platforms_own_hash_and_what_is_not_cancellable() -> None:
    @workflow(kind="order-workflow", cancellable=False, tags=["shop", "old"])
    class Orders:
        """Takes orders."""

        async def run(self, ctx: Any, order: str, *, express: bool = False) -> list[str]: ...  # type: ignore[empty-body]

    server = FakeServer()
    with anyio.fail_after(5):
        async with a_worker(server, workflows=[Orders]) as worker:
            await server.until(lambda: worker.statistics().open_polls == 2)
    (flow,) = server.seen("RegisterWorker")[0].request.workflows
    # The vector of the platform's own documentation.
    assert flow.content_hash == "6b22a6089e8f6b17b368608dc4de03c2500872659e8d1be34d492b45b60185a8"
    assert (flow.name, flow.description, flow.tags) == ("Orders", "Takes orders.", ["shop", "old"])
    assert (flow.cancellable, flow.metadata) == (False, b'{"cancellation":"never"}')
    assert msgspec.json.decode(flow.input_schema)["$defs"]["run"] == {
        "title": "run",
        "type": "object",
        "properties": {"order": {"type": "string"}, "express": {"type": "boolean", "default": False}},
        "required": ["order"],
    }
    assert flow.output_schema == b'{"type":"array","items":{"type":"string"}}'


@pytest.mark.parametrize(
    ("definitions", "kind", "polls"),
    [
        ({"tasks": [double]}, "TASK", ["PollTask"]),
        ({"tasks": [], "workflows": [order_workflow]}, "WORKFLOW", ["PollWorkflow"]),
    ],
)
async def test_a_worker_polls_for_what_it_has(definitions: dict[str, Any], kind: str, polls: list[str]) -> None:
    server = FakeServer()
    with anyio.fail_after(5):
        async with a_worker(server, **definitions) as worker:
            await server.until(lambda: worker.statistics().open_polls == 1)
    assert server.seen("RegisterWorker")[0].request.worker_type == kind
    assert [call.name for call in server.calls if call.name.startswith("Poll")] == polls


async def test_names_differ_by_default() -> None:
    server = FakeServer()
    first, second = a_worker(server), a_worker(server)
    assert first.name != second.name
    assert first.name.startswith("worker-")


@pytest.mark.parametrize(
    "refusal",
    [
        Unauthenticated("unknown token"),
        PermissionDenied("not your organisation"),
        InvalidArgument("org_id is not a UUID"),
        Unimplemented("no such service"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_refused_registration_ends_the_worker_as_it_is(refusal: ServerError) -> None:
    server = FakeServer()
    server.refuse("RegisterWorker", refusal)
    worker = a_worker(server)
    with anyio.fail_after(5), pytest.raises(type(refusal)) as caught:
        async with worker:
            pytest.fail("the block is not entered")
    assert caught.value is refusal
    assert worker.statistics() == NOTHING
    assert len(server.calls) == 1


async def test_registration_without_success_ends_the_worker() -> None:
    server = FakeServer()
    server.registration = pb.WorkerRegistrationResponse(
        success=False,
        error="conflict",
        task_conflicts=[pb.TaskConflict(kind="double", reason="other schema", existing_worker_id="x")],
    )
    with anyio.fail_after(5), pytest.raises(FailedPrecondition) as caught:
        await a_worker(server, name="w").run()
    assert caught.value.message == "the server refuses worker 'w': conflict; double: other schema"


async def test_refusal_while_working_ends_the_worker_through_its_registration() -> None:
    server = FakeServer()
    refusal = Unauthenticated("token revoked")
    worker = a_worker(server)
    with anyio.fail_after(5), pytest.raises(Unauthenticated) as caught:
        async with worker:
            server.refuse("RegisterWorker", refusal)
            server.go_down()
            await server.until(lambda: worker.statistics().open_polls == 0)
            server.come_up()
            await anyio.sleep_forever()
    assert caught.value is refusal
    assert worker.statistics() == NOTHING


async def test_closed_transport_ends_the_worker() -> None:
    server = FakeServer()
    server.refuse("PollTask", UsageError("the channel is closed"))
    with anyio.fail_after(5), pytest.raises(UsageError, match="^the channel is closed$"):
        await a_worker(server).run()


# --- outages -----------------------------------------------------------------------------------


async def test_unreachable_server_is_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    server = FakeServer()
    server.refuse("RegisterWorker", *[ServerUnavailable("cannot reach http://fake:9090: refused")] * 3)
    with anyio.fail_after(5):
        async with a_worker(server, name="w"):
            pass
    assert len(server.seen("RegisterWorker")) == 4
    assert "worker w: cannot reach http://fake:9090: refused; trying again in 0.00 s" in caplog.messages


@pytest.mark.parametrize(
    "error",
    [
        ServerUnavailable("gone"),
        ConnectionLost("gone"),
        MalformedMessage("nonsense"),
        ServerError("oops", status="INTERNAL"),
        RuntimeError("a bug"),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("part", ["PollTask", "SendHeartbeat", "RegisterWorker"])
async def test_any_part_that_dies_restarts_the_session(part: str, error: Any) -> None:
    server = FakeServer()
    worker = a_worker(server, heartbeat_interval=0.002)
    with anyio.fail_after(5):
        async with worker:
            if part == "RegisterWorker":
                server.refuse("PollTask", ServerUnavailable("gone"))
                server.offer("t0", "double", b"1")
            server.refuse(part, error)
            server.offer("t1", "double", b"1")
            await server.until(lambda: not server.fail[part] and "t1" in server.completed)
            await server.until(lambda: len(server.seen("RegisterWorker")) >= 2)
            await server.until(lambda: worker.statistics().open_polls == 1)
    assert worker.statistics() == NOTHING


async def test_unknown_worker_registers_anew() -> None:
    server = FakeServer()
    server.refuse("SendHeartbeat", NotFound("no such worker"))
    with anyio.fail_after(5):
        async with a_worker(server, heartbeat_interval=0.002):
            await server.until(lambda: len(server.seen("RegisterWorker")) == 2)
    assert {call.request.worker_id for call in server.seen("SendHeartbeat")} == {SERVER_ID}


async def test_back_off_grows_and_starts_over_after_a_good_session(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flovyn.worker.sessions._STEADY", 0.05)
    server = FakeServer()
    attempts: list[int] = []

    def noted(outage: Outage) -> float:
        attempts.append(outage.attempt)
        return 0.001

    server.refuse("RegisterWorker", *[ServerUnavailable("away")] * 3)
    server.refuse("PollTask", ServerUnavailable("away"))
    with anyio.fail_after(5):
        async with a_worker(server, reconnect=noted, heartbeat_interval=0.01) as worker:
            # A session that breaks at once does not count as good.
            await server.until(lambda: len(server.seen("RegisterWorker")) == 5 and worker.statistics().open_polls == 1)
            heard = len(server.seen("SendHeartbeat"))
            await server.until(lambda: len(server.seen("SendHeartbeat")) > heard + 6)
            server.refuse("SendHeartbeat", ServerUnavailable("away"))
            await server.until(lambda: len(server.seen("RegisterWorker")) == 6)
    assert attempts == [1, 2, 3, 4, 1]


async def test_work_outlives_the_session_that_brought_it() -> None:
    server = FakeServer()
    gate = anyio.Event()

    @task
    async def long(ctx: TaskContext) -> bool:
        await gate.wait()
        return ctx.is_cancelled

    with anyio.fail_after(5):
        async with a_worker(server, tasks=[long]) as worker:
            server.offer("t1", "long")
            await server.until(lambda: worker.statistics().running_tasks == 1)
            server.go_down()
            await server.until(lambda: len(server.seen("RegisterWorker")) > 3)
            server.come_up()
            await server.until(lambda: worker.statistics().open_polls == 1)
            gate.set()
            await server.until(lambda: server.completed)
    assert server.completed == {"t1": b"false"}


async def test_silence_longer_than_the_lease_ends_what_runs() -> None:
    server = FakeServer()
    reasons: list[str | None] = []

    @task
    async def long(ctx: TaskContext) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            reasons.append(ctx.cancel_reason)

    with anyio.fail_after(5):
        async with a_worker(
            server, tasks=[long], lease=0.1, heartbeat_interval=0.01, task_heartbeat_interval=0.01
        ) as worker:
            server.offer("t1", "long")
            await server.until(lambda: worker.statistics().running_tasks == 1)
            await server.until(lambda: len(server.seen("SendHeartbeat")) > 15)
            assert reasons == []  # heartbeats are heard: the lease holds for longer than its length
            server.go_down()
            await server.until(lambda: reasons)
            server.come_up()
            await server.until(lambda: worker.statistics().open_polls == 1)
    assert reasons == ["the server has not been heard for 0.1 s and gives the work to others"]
    assert (server.completed, server.failed) == ({}, {})


# --- ways out ----------------------------------------------------------------------------------


async def test_leaving_lets_work_finish() -> None:
    server = FakeServer()
    began, gate = anyio.Event(), anyio.Event()

    @task
    async def long(ctx: TaskContext) -> str:
        began.set()
        await gate.wait()
        return "done"

    worker = a_worker(server, tasks=[long], heartbeat_interval=0.005)
    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            async with worker:
                server.offer("t1", "long")
                await began.wait()
                server.offer("t2", "long")
                await server.until(lambda: worker.statistics().running_tasks == 2)
                group.start_soon(_release_after_heartbeats, server, gate)
            assert server.completed == {"t1": b'"done"', "t2": b'"done"'}
    assert worker.statistics() == NOTHING


async def _release_after_heartbeats(server: FakeServer, gate: anyio.Event) -> None:
    """What drains keeps its claims: the worker is heard until the end."""
    before = len(server.seen("SendHeartbeat"))
    await server.until(lambda: len(server.seen("SendHeartbeat")) > before + 2)
    server.offer("t3", "long")
    await anyio.lowlevel.checkpoint()
    assert len(server.tasks) == 1  # nobody asks for it any more
    gate.set()


async def test_what_does_not_finish_in_its_grace_is_cancelled() -> None:
    server = FakeServer()
    reasons: list[str | None] = []

    @task
    async def endless(ctx: TaskContext) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            reasons.append(ctx.cancel_reason)

    with anyio.fail_after(5):
        async with a_worker(server, tasks=[endless], grace=0.05) as worker:
            server.offer("t1", "endless")
            await server.until(lambda: worker.statistics().running_tasks == 1)
            left = anyio.current_time()
        assert anyio.current_time() - left >= 0.048  # uvloop counts whole milliseconds
    assert reasons == ["the worker is stopping"]
    # Nobody reports it: the server gives it to the next worker.
    assert (server.completed, server.failed) == ({}, {})
    assert worker.statistics() == NOTHING


async def test_value_of_a_body_that_ends_in_spite_of_the_stop_is_reported() -> None:
    server = FakeServer()

    @task
    async def careful(ctx: TaskContext) -> str:
        with anyio.move_on_after(1, shield=True):
            await server.until(lambda: ctx.is_cancelled)
        return "cleaned up"

    with anyio.fail_after(5):
        async with a_worker(server, tasks=[careful], grace=0.0) as worker:
            server.offer("t1", "careful")
            await server.until(lambda: worker.statistics().running_tasks == 1)
    assert server.completed == {"t1": b'"cleaned up"'}


async def test_error_of_a_body_that_is_stopped_is_not_the_tasks() -> None:
    server = FakeServer()

    @task
    async def checking(ctx: TaskContext) -> None:
        with anyio.move_on_after(1, shield=True):
            await server.until(lambda: ctx.is_cancelled)
        ctx.check_cancellation()

    with anyio.fail_after(5):
        async with a_worker(server, tasks=[checking], grace=0.0) as worker:
            server.offer("t1", "checking")
            await server.until(lambda: worker.statistics().running_tasks == 1)
    assert (server.completed, server.failed) == ({}, {})


async def test_error_of_the_body_leaves_as_it_is_and_takes_no_grace() -> None:
    server = FakeServer()

    @task
    async def endless(ctx: TaskContext) -> None:
        await anyio.sleep_forever()

    worker = a_worker(server, tasks=[endless], grace=60.0)
    error = ValueError("mine")
    with anyio.fail_after(5), pytest.raises(ValueError, match="^mine$") as caught:
        async with worker:
            server.offer("t1", "endless")
            await server.until(lambda: worker.statistics().running_tasks == 1)
            raise error
    assert caught.value is error
    assert (error.__cause__, error.__context__) == (None, None)
    assert worker.statistics() == NOTHING


async def test_group_of_the_body_leaves_as_it_is() -> None:
    group = ExceptionGroup("mine", [ValueError("one")])
    with anyio.fail_after(5), pytest.RaisesGroup(ValueError, match="mine", check=lambda caught: caught is group):
        async with a_worker(FakeServer()):
            raise group


async def test_cancelled_body_leaves_no_trace() -> None:
    server = FakeServer()
    worker = a_worker(server, grace=60.0)
    with anyio.fail_after(5):
        with anyio.CancelScope() as scope:
            async with worker:
                scope.cancel()
                await anyio.sleep_forever()
        assert scope.cancelled_caught
    assert worker.statistics() == NOTHING


@pytest.mark.parametrize("way", ["return", "raise", "cancel"])
async def test_leaving_while_the_server_is_gone(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports that cannot be made are given up in a bounded time, and nothing stays behind."""
    monkeypatch.setattr("flovyn.worker.tree._FAREWELL", 0.1)
    server = FakeServer()
    gate = anyio.Event()

    @task
    async def long(ctx: TaskContext) -> None:
        await gate.wait()

    worker = a_worker(server, tasks=[long, double], grace=0.05)
    began = anyio.current_time()
    with anyio.fail_after(8):
        with anyio.CancelScope() as scope:
            try:
                async with worker:
                    server.offer("t1", "long")
                    await server.until(lambda: worker.statistics().running_tasks == 1)
                    server.go_down()
                    gate.set()
                    await server.until(lambda: server.seen("CompleteTask"))
                    if way == "raise":
                        raise ValueError("mine")
                    if way == "cancel":
                        scope.cancel()
            except ValueError:
                assert way == "raise"
    assert anyio.current_time() - began < 3
    assert worker.statistics() == NOTHING


# --- what cannot work --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"tasks": []}, ConfigurationError, "a worker needs something to run: give it workflows=[...] or tasks=[...]"),
        ({"max_concurrent_tasks": 0}, ConfigurationError, "max_concurrent_tasks must be at least 1, not 0"),
        ({"max_concurrent_workflows": -1}, ConfigurationError, "max_concurrent_workflows must be at least 1, not -1"),
        ({"queue": ""}, ConfigurationError, "queue must not be empty; leave it out for the default"),
        ({"name": ""}, ConfigurationError, "name must not be empty; leave it out for the default"),
        ({"grace": -1.0}, ConfigurationError, "grace must be 0 seconds or more, not -1.0"),
        ({"lease": float("nan")}, ConfigurationError, "lease must be more than 0 seconds, not nan"),
        ({"on_violation": "retry"}, ConfigurationError, "on_violation must be 'hold' or 'fail', not 'retry'"),
        ({"cache_size": -1}, ConfigurationError, "cache_size must be at least 0, not -1"),
        ({"cache_age": 0}, ConfigurationError, "cache_age must be more than 0 seconds, not 0"),
        ({"step_limit": 0}, ConfigurationError, "step_limit must be at least 1, not 0"),
        ({"heartbeat_interval": 0}, ConfigurationError, "heartbeat_interval must be more than 0 seconds, not 0"),
        (
            {"heartbeat_interval": 9.0, "lease": 9.0},
            ConfigurationError,
            "heartbeat_interval (9.0 s) must be shorter than the lease (9.0 s):"
            " work that is silent for that long is given to others",
        ),
        (
            {"task_heartbeat_interval": 60.0},
            ConfigurationError,
            "task_heartbeat_interval (60.0 s) must be shorter than the lease (60.0 s):"
            " work that is silent for that long is given to others",
        ),
        (
            {"tasks": [order_workflow]},
            DefinitionError,
            f"tasks=[...]: {order_workflow!r} is no task: decorate the function or the class itself with @task",
        ),
        (
            {"workflows": [double]},
            DefinitionError,
            f"workflows=[...]: {double!r} is no workflow: decorate the function or the class itself with @workflow",
        ),
        (
            {"workflows": [workflow_by_kind("theirs")]},
            DefinitionError,
            "workflows=[...]: <workflow 'theirs' at the workflow kind 'theirs'> has no code here: whoever defines it"
            " runs it",
        ),
        (
            {"tasks": [task_by_kind("theirs")]},
            DefinitionError,
            "tasks=[...]: <task 'theirs' at the task kind 'theirs'> has no code here: whoever defines it runs it",
        ),
    ],
)
async def test_options_that_cannot_work(options: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error) as caught:
        a_worker(FakeServer(), **options)
    assert str(caught.value) == text


async def test_two_of_one_kind_are_refused_and_one_twice_is_one() -> None:
    @task(kind="double")
    async def other(ctx: TaskContext) -> None: ...

    with pytest.raises(DefinitionError) as caught:
        a_worker(FakeServer(), tasks=[double, other])
    assert str(caught.value) == f"tasks=[...] has two of kind 'double': {double!r} and {other!r}"
    assert repr(a_worker(FakeServer(), tasks=[double, double], name="w")) == "<Worker w on 'default': double>"


async def test_a_class_is_a_workflow_like_any_other() -> None:
    @workflow(kind="cart")
    class Cart:
        async def run(self, ctx: Any) -> None: ...

    server = FakeServer()
    with anyio.fail_after(5):
        async with a_worker(server, workflows=[Cart], tasks=[]):
            (registered,) = server.seen("RegisterWorker")
    assert [capability.kind for capability in registered.request.workflows] == ["cart"]
