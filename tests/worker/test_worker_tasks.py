"""Task bodies under a worker: outcomes, cancellation, reports."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import anyio
import pytest

from flovyn.definitions import Task, task
from flovyn.errors import (
    ConnectionLost,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PayloadTooLarge,
    ServerError,
    ServerUnavailable,
    TaskCancelled,
    Unauthenticated,
    Unimplemented,
)
from flovyn.serde.envelope import parse_error
from flovyn.task import TaskContext
from flovyn.wire.messages.flovyn import v1 as pb
from flovyn.worker import ExponentialReconnect, Worker, WorkerStatistics, bodies
from worker.fakes import FakeServer

pytestmark = pytest.mark.anyio

QUICK = ExponentialReconnect(initial=0.001, maximum=0.01)
NOTHING = WorkerStatistics(running_workflows=0, running_tasks=0, open_polls=0, internal_tasks=0)


@task
async def double(ctx: TaskContext, number: int) -> int:
    return number * 2


@asynccontextmanager
async def working(server: FakeServer, *tasks: Task[..., Any], **options: Any) -> AsyncGenerator[Worker]:
    """A worker for the length of a block, which leaves nothing behind."""
    options.setdefault("grace", 1.0)
    worker = Worker(server.client(), tasks=tasks, reconnect=QUICK, **options)
    with anyio.fail_after(10):
        async with worker:
            yield worker
    assert worker.statistics() == NOTHING


async def outcome(server: FakeServer, task_id: str = "t1") -> bytes | str:
    await server.until(lambda: task_id in server.completed or task_id in server.failed)
    return server.completed.get(task_id) or server.failed[task_id]


async def test_value_is_reported_with_the_claim() -> None:
    server = FakeServer()
    async with working(server, double, name="w"):
        server.offer("t1", "double", b"21", claim="token")
        assert await outcome(server) == b"42"
    (poll, *_) = server.seen("PollTask")
    assert (poll.request.worker_id, poll.request.queue, poll.request.timeout_seconds) == ("w", "default", 30)
    (report,) = server.seen("CompleteTask")
    assert report.metadata == {"flovyn-claim": "token"}


async def test_a_server_without_claims_is_sent_none() -> None:
    server = FakeServer()
    async with working(server, double):
        server.offer("t1", "double", b"21", claim=None)
        assert await outcome(server) == b"42"
    assert server.seen("CompleteTask")[0].metadata == {}


async def test_context_tells_about_the_task() -> None:
    class About(NamedTuple):
        id: str
        kind: str
        attempt: int
        queue: str
        workflow: str | None
        cancelled: bool

    seen: list[About] = []

    @task
    async def look(ctx: TaskContext) -> None:
        seen.append(
            About(ctx.task_execution_id, ctx.kind, ctx.attempt, ctx.queue, ctx.workflow_execution_id, ctx.is_cancelled)
        )

    server = FakeServer()
    async with working(server, look):
        server.offer("t1", "look", attempt=3)
        await outcome(server)
    assert seen == [About("t1", "look", 3, "default", "wf-1", False)]


async def test_failure_carries_type_and_cause() -> None:
    @task
    async def broken(ctx: TaskContext) -> None:
        try:
            raise KeyError("card")
        except KeyError as error:
            raise ValueError("no such card") from error

    server = FakeServer()
    async with working(server, broken):
        server.offer("t1", "broken")
        text = await outcome(server)
    assert isinstance(text, str)
    assert text.splitlines()[0] == "ValueError: no such card"
    told = parse_error(text)
    assert (told.type, told.message, told.retryable) == ("ValueError", "no such card", True)
    assert told.cause is not None and told.cause.type == "KeyError"


async def test_exit_of_a_body_is_its_failure_only() -> None:
    @task
    async def leave(ctx: TaskContext) -> None:
        sys.exit(3)

    server = FakeServer()
    async with working(server, leave, double):
        server.offer("t1", "leave")
        assert parse_error(str(await outcome(server))).type == "SystemExit"
        server.offer("t2", "double", b"4")
        assert await outcome(server, "t2") == b"8"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (BaseExceptionGroup("of a task group", [SystemExit(3)]), "SystemExit"),
        # What awaiting a future raises that somebody has cancelled.
        (asyncio.CancelledError(), "CancelledError"),
    ],
    ids=repr,
)
async def test_whatever_a_body_raises_is_its_failure_only(error: BaseException, kind: str) -> None:
    @task
    async def strange(ctx: TaskContext) -> None:
        raise error

    server = FakeServer()
    async with working(server, strange, double):
        server.offer("t1", "strange")
        assert parse_error(str(await outcome(server))).type == kind
        server.offer("t2", "double", b"4")
        assert await outcome(server, "t2") == b"8"


def test_a_loop_that_shuts_down_is_no_failure_of_a_task() -> None:
    """asyncio.run cancels every task by itself when its coroutine has returned."""

    async def main() -> tuple[FakeServer, asyncio.Task[None]]:
        began = asyncio.Event()

        @task
        async def waits(ctx: TaskContext) -> None:
            began.set()
            await asyncio.sleep(60)

        server = FakeServer()
        server.offer("t1", "waits")
        running = asyncio.ensure_future(Worker(server.client(), tasks=[waits]).run())
        with anyio.fail_after(5):
            await began.wait()
        return server, running

    server, running = asyncio.run(main())
    assert running.cancelled()
    assert server.failed == {}


async def test_unknown_kind_fails_the_task() -> None:
    server = FakeServer()
    async with working(server, double):
        server.offer("t1", "missing")
        assert parse_error(str(await outcome(server))).message == "Task kind not found: missing"


async def test_input_that_does_not_fit_fails_for_good() -> None:
    server = FakeServer()
    async with working(server, double):
        server.offer("t1", "double", b'"many"')
        told = parse_error(str(await outcome(server)))
        assert (told.type, told.retryable) == ("PayloadError", False)
        assert "Expected `int`, got `str`" in told.message
        server.offer("t2", "double", b"1")
        assert await outcome(server, "t2") == b"2"


async def test_result_that_cannot_be_written_fails_for_good() -> None:
    @task
    async def opaque(ctx: TaskContext) -> Any:
        return object()

    server = FakeServer()
    async with working(server, opaque):
        server.offer("t1", "opaque")
        told = parse_error(str(await outcome(server)))
        assert (told.type, told.retryable) == ("PayloadError", False)


@pytest.mark.parametrize(
    "refusal",
    [
        PayloadTooLarge("the message has 70 bytes, over max_send_size", size=70, limit=64),
        InvalidArgument("output is not JSON"),
        Unimplemented("no such call"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_result_that_is_not_taken_fails_the_task(refusal: Any) -> None:
    server = FakeServer()
    server.refuse("CompleteTask", refusal)
    async with working(server, double):
        server.offer("t1", "double", b"21")
        told = parse_error(str(await outcome(server)))
        assert (told.type, told.message, told.retryable) == (type(refusal).__name__, refusal.message, False)


async def test_refusal_of_no_known_reason_is_tried_again_and_then_told() -> None:
    server = FakeServer()
    server.refuse("CompleteTask", *[ServerError("disk full", status="INTERNAL") for _ in range(5)])
    async with working(server, double):
        server.offer("t1", "double", b"21")
        assert parse_error(str(await outcome(server))).message == "disk full"
    assert len(server.seen("CompleteTask")) == 5


async def test_start_to_close_ends_an_attempt() -> None:
    @task(start_to_close=0.02)
    async def slow(ctx: TaskContext) -> None:
        await anyio.sleep_forever()

    server = FakeServer()
    async with working(server, slow):
        server.offer("t1", "slow")
        told = parse_error(str(await outcome(server)))
    text = "Task execution timed out: no end within its start_to_close of 0.02 s"
    assert (told.type, told.message, told.reason, told.retryable) == ("TimeoutError", text, "start_to_close", True)


async def test_value_returned_in_spite_of_the_limit_counts() -> None:
    @task(start_to_close=0.01)
    async def stubborn(ctx: TaskContext) -> str:
        try:
            await anyio.sleep_forever()
        finally:
            return "in time enough"  # noqa: B012

    server = FakeServer()
    async with working(server, stubborn):
        server.offer("t1", "stubborn")
        assert await outcome(server) == b'"in time enough"'


class Waiting:
    """A task that waits, and notes how its waiting ended."""

    def __init__(self) -> None:
        self.began = anyio.Event()
        self.ended: list[tuple[bool, str | None]] = []
        self.release = anyio.Event()

        @task
        async def waiting(ctx: TaskContext) -> str:
            self.began.set()
            try:
                await self.release.wait()
            except anyio.get_cancelled_exc_class():
                self.ended.append((ctx.is_cancelled, ctx.cancel_reason))
                with pytest.raises(TaskCancelled, match=ctx.cancel_reason):
                    ctx.check_cancellation()
                raise
            return "released"

        self.task = waiting


@pytest.mark.parametrize("refusal", [FailedPrecondition("task was cancelled"), NotFound("no such task")])
async def test_refused_heartbeat_cancels_the_body(refusal: FailedPrecondition | NotFound) -> None:
    server, waiting = FakeServer(), Waiting()
    server.refuse("Heartbeat", refusal)
    async with working(server, waiting.task, task_heartbeat_interval=0.01) as worker:
        server.offer("t1", "waiting", claim="token")
        await server.until(lambda: waiting.ended)
        await server.until(lambda: worker.statistics().running_tasks == 0)
    assert waiting.ended == [(True, refusal.message)]
    assert server.seen("Heartbeat")[0].metadata == {"flovyn-claim": "token"}
    assert (server.completed, server.failed) == ({}, {})


async def test_heartbeats_survive_what_is_not_a_refusal() -> None:
    server, waiting = FakeServer(), Waiting()
    server.refuse("Heartbeat", ServerUnavailable("away"), ServerError("oops", status="INTERNAL"))
    async with working(server, waiting.task, task_heartbeat_interval=0.005):
        server.offer("t1", "waiting")
        await server.until(lambda: len(server.seen("Heartbeat")) > 3)
        waiting.release.set()
        assert await outcome(server) == b'"released"'


async def test_server_without_heartbeats_is_asked_once() -> None:
    server, waiting = FakeServer(), Waiting()
    server.refuse("Heartbeat", Unimplemented("no such call"))
    async with working(server, waiting.task, task_heartbeat_interval=0.002) as worker:
        server.offer("t1", "waiting")
        await server.until(lambda: server.seen("Heartbeat"))
        # The worker itself, its session's heartbeat, its poller and its watch over the lease: no task heartbeat.
        await server.until(lambda: worker.statistics().internal_tasks == 4)
        waiting.release.set()
        assert await outcome(server) == b'"released"'
    assert len(server.seen("Heartbeat")) == 1


async def test_body_that_fails_while_it_is_cancelled_is_not_reported() -> None:
    began = anyio.Event()

    @task
    async def clumsy(ctx: TaskContext) -> None:
        began.set()
        try:
            await anyio.sleep_forever()
        finally:
            raise RuntimeError("clean-up failed")

    server = FakeServer()
    server.refuse("Heartbeat", FailedPrecondition("cancelled"))
    async with working(server, clumsy, task_heartbeat_interval=0.01) as worker:
        server.offer("t1", "clumsy")
        await began.wait()
        await server.until(lambda: worker.statistics().running_tasks == 0)
    assert (server.completed, server.failed) == ({}, {})


async def test_group_in_a_cancelled_body_ends_quietly() -> None:
    began = anyio.Event()

    @task
    async def fan_out(ctx: TaskContext) -> None:
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(anyio.sleep_forever)
            began.set()

    server = FakeServer()
    server.refuse("Heartbeat", FailedPrecondition("cancelled"))
    async with working(server, fan_out, task_heartbeat_interval=0.01) as worker:
        server.offer("t1", "fan_out")
        await began.wait()
        await server.until(lambda: worker.statistics().running_tasks == 0)
    assert (server.completed, server.failed) == ({}, {})


async def test_task_that_is_claimed_again_ends_its_first_run() -> None:
    server, waiting = FakeServer(), Waiting()
    async with working(server, waiting.task):
        server.offer("t1", "waiting", claim="first")
        await waiting.began.wait()
        server.offer("t1", "waiting", claim="second")
        await server.until(lambda: waiting.ended)
        waiting.release.set()
        assert await outcome(server) == b'"released"'
    assert waiting.ended == [(True, "the task was claimed again")]
    assert [call.metadata for call in server.seen("CompleteTask")] == [{"flovyn-claim": "second"}]


@pytest.mark.parametrize("too_late", [FailedPrecondition("claimed again"), NotFound("no such task")])
async def test_outcome_that_comes_too_late_is_dropped(too_late: ServerError) -> None:
    server = FakeServer()
    server.refuse("CompleteTask", too_late)
    async with working(server, double) as worker:
        server.offer("t1", "double", b"1")
        await server.until(lambda: server.seen("CompleteTask"))
        await server.until(lambda: worker.statistics().running_tasks == 0)
        server.offer("t2", "double", b"2")
        assert await outcome(server, "t2") == b"4"
    assert (server.completed, server.failed) == ({"t2": b"4"}, {})


async def test_report_outlives_an_outage() -> None:
    server, waiting = FakeServer(), Waiting()
    async with working(server, waiting.task):
        server.offer("t1", "waiting")
        await waiting.began.wait()
        server.go_down()
        waiting.release.set()
        await server.until(lambda: len(server.seen("CompleteTask")) >= 3)
        server.come_up()
        assert await outcome(server) == b'"released"'


async def test_lost_connection_repeats_what_is_harmless_or_fenced() -> None:
    @task
    async def broken(ctx: TaskContext) -> None:
        raise ValueError("no")

    server = FakeServer()
    lost = ConnectionLost("it may have taken effect")
    server.refuse("CompleteTask", lost, lost)
    server.refuse("FailTask", lost, lost)
    async with working(server, double, broken):
        server.offer("t1", "double", b"1", claim=None)
        assert await outcome(server) == b"2"
        server.offer("t2", "broken", claim="token")
        assert str(await outcome(server, "t2")).startswith("ValueError: no")


async def test_lost_connection_does_not_repeat_a_failure_without_a_fence(caplog: pytest.LogCaptureFixture) -> None:
    @task
    async def broken(ctx: TaskContext) -> None:
        raise ValueError("no")

    server = FakeServer()
    server.refuse("FailTask", ConnectionLost("it may have taken effect"))
    async with working(server, broken) as worker:
        server.offer("t1", "broken", claim=None)
        await server.until(lambda: server.seen("FailTask"))
        await server.until(lambda: worker.statistics().running_tasks == 0)
    assert len(server.seen("FailTask")) == 1
    assert "the end of task t1 may or may not have reached the server: it may have taken effect" in caplog.messages


async def test_report_with_a_bad_token_is_given_up(caplog: pytest.LogCaptureFixture) -> None:
    server = FakeServer()
    server.refuse("CompleteTask", Unauthenticated("token revoked"))
    async with working(server, double) as worker:
        server.offer("t1", "double", b"1")
        await server.until(lambda: server.seen("CompleteTask"))
        await server.until(lambda: worker.statistics().running_tasks == 0)
    assert "the end of task t1 could not be reported: token revoked" in caplog.messages


async def test_a_poll_asks_for_what_there_is_room_for_and_all_that_it_brings_runs() -> None:
    began: list[str] = []
    go_on = anyio.Event()

    @task
    async def held(ctx: TaskContext) -> None:
        began.append(ctx.task_execution_id)
        await go_on.wait()

    server = FakeServer()

    async def poll(request: pb.PollTaskRequest) -> pb.PollTaskResponse:
        if len(server.seen("PollTask")) > 1:
            await anyio.sleep_forever()
        first, *more = [
            pb.TaskExecutionInfo(f"t-{number}", "held", b"null", execution_count=1, claim=f"claim-{number}")
            for number in range(3)
        ]
        return pb.PollTaskResponse(task=first, more=more)

    server.answers["PollTask"] = poll
    server.said["PollTask"] = {"flovyn-claim": "claim-0"}
    with anyio.fail_after(5):
        async with Worker(server.client(), tasks=[held], max_concurrent_tasks=20, grace=1):
            await server.until(lambda: len(began) == 3 and len(server.seen("PollTask")) == 2)
            go_on.set()
            await server.until(lambda: len(server.completed) == 3)
    # 20 slots, of which at most 16 are asked for at once; then 17 are left.
    assert [call.metadata["flovyn-more"] for call in server.seen("PollTask")] == ["15", "15"]
    claims = {call.request.task_execution_id: call.metadata["flovyn-claim"] for call in server.seen("CompleteTask")}
    assert claims == {f"t-{number}": f"claim-{number}" for number in range(3)}


async def test_a_poll_asks_for_no_more_than_there_is_room_for() -> None:
    server = FakeServer()
    with anyio.fail_after(5):
        async with Worker(server.client(), tasks=[double], max_concurrent_tasks=1, grace=1):
            await server.until(lambda: server.seen("PollTask"))
    assert server.seen("PollTask")[0].metadata["flovyn-more"] == "0"


async def test_no_more_tasks_than_allowed_run_at_once() -> None:
    running = most = 0
    gate = anyio.Event()

    @task
    async def crowd(ctx: TaskContext) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await gate.wait()
        running -= 1

    server = FakeServer()
    async with working(server, crowd, max_concurrent_tasks=3) as worker:
        for number in range(9):
            server.offer(f"t{number}", "crowd")
        await server.until(lambda: running == 3)
        for _ in range(10):
            await anyio.lowlevel.checkpoint()
        # All slots are taken, so nothing is asked for.
        assert (worker.statistics().running_tasks, worker.statistics().open_polls) == (3, 0)
        gate.set()
        await server.until(lambda: len(server.completed) == 9)
    assert most == 3


async def test_a_server_that_answers_empty_at_once_is_not_asked_all_the_time() -> None:
    server = FakeServer()
    asked: list[float] = []

    async def empty(_: Any) -> Any:
        asked.append(anyio.current_time())
        return pb.PollTaskResponse()

    server.answers["PollTask"] = empty
    async with working(server, double):
        await server.until(lambda: len(asked) >= 5)
    assert asked[4] - asked[2] >= 0.19


async def test_a_bug_in_the_sdk_costs_no_slot(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real: Callable[..., Coroutine[Any, Any, Any]] = bodies.run_body
    bugs = [RuntimeError("a bug")]

    async def buggy(*args: Any) -> Any:
        if bugs:
            raise bugs.pop()
        return await real(*args)

    monkeypatch.setattr("flovyn.worker.claimed.run_body", buggy)
    server = FakeServer()
    async with working(server, double, max_concurrent_tasks=1) as worker:
        server.offer("t1", "double", b"1")
        server.offer("t2", "double", b"2")
        assert await outcome(server, "t2") == b"4"
        await server.until(lambda: worker.statistics().running_tasks == 0)
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.getMessage() == "a piece of work was lost by a bug of this SDK; the worker goes on"
