"""What ends an attempt early, and what becomes of a body that does not end."""

from __future__ import annotations

import logging
import threading
import time
from datetime import timedelta
from typing import Any

import anyio
import pytest

from flovyn import (
    ConfigurationError,
    FailedPrecondition,
    RetryPolicy,
    SyncTaskContext,
    TaskContext,
    UsageError,
    Worker,
    WorkerStatistics,
    task,
)
from flovyn.serde.envelope import parse_error
from worker.fakes import FakeServer
from worker.test_task_context import keep_state
from worker.test_worker_tasks import outcome, working

pytestmark = pytest.mark.anyio

AT_ONCE = RetryPolicy(max_attempts=2, initial_interval=0)
CANCELLED = FailedPrecondition("it was cancelled")


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]


# --- limits ------------------------------------------------------------------------------------


async def test_a_body_that_is_over_its_time_is_told_which_limit_it_was() -> None:
    told: list[tuple[bool, str | None, str | None]] = []

    @task(start_to_close=0.02)
    async def slow(ctx: TaskContext) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            told.append((ctx.is_cancelled, ctx.cancel_cause, ctx.cancel_reason))

    server = FakeServer()
    async with working(server, slow):
        server.offer("t1", "slow")
        await outcome(server)
    assert told == [(True, "timeout", "no end within its start_to_close of 0.02 s")]


async def test_a_body_that_keeps_still_is_over_its_heartbeat_timeout() -> None:
    @task(heartbeat_timeout=0.03, retry=AT_ONCE)
    async def silent(ctx: TaskContext) -> None:
        ctx.heartbeat()
        await anyio.sleep_forever()

    server = FakeServer()
    async with working(server, silent):
        server.offer("t1", "silent", attempt=2)
        failure = parse_error(str(await outcome(server)))
    text = "Task execution timed out: no heartbeat within its heartbeat_timeout of 0.03 s"
    assert (failure.type, failure.message, failure.reason) == ("TimeoutError", text, "heartbeat_timeout")


async def test_each_heartbeat_gives_the_body_its_time_anew() -> None:
    server = FakeServer()
    keep_state(server)

    @task(heartbeat_timeout=0.2, start_to_close=30)
    async def steady(ctx: TaskContext) -> str:
        began = anyio.current_time()
        while anyio.current_time() - began < 0.5:
            ctx.heartbeat("still here")
            await anyio.sleep(0.01)
        return "done"

    async with working(server, steady):
        server.offer("t1", "steady")
        assert await outcome(server) == b'"done"'


async def test_the_sooner_limit_counts() -> None:
    @task(heartbeat_timeout=60, start_to_close=0.02)
    async def slow(ctx: TaskContext) -> None:
        await anyio.sleep_forever()

    server = FakeServer()
    async with working(server, slow):
        server.offer("t1", "slow")
        assert parse_error(str(await outcome(server))).reason == "start_to_close"


async def test_heartbeats_can_be_left_to_a_block() -> None:
    server = FakeServer()

    @task(heartbeat_timeout=0.2)
    async def long(ctx: TaskContext) -> str:
        async with ctx.heartbeat_every(0.01):
            await anyio.sleep(0.5)
        return "done"

    @task
    async def broken(ctx: TaskContext) -> None:
        async with ctx.heartbeat_every(1):
            raise ValueError("mine")

    async with working(server, long, broken):
        server.offer("t1", "long")
        server.offer("t2", "broken")
        assert await outcome(server) == b'"done"'
        assert parse_error(str(await outcome(server, "t2"))).type == "ValueError"  # not a group
    with pytest.raises(UsageError, match="^interval is a number of seconds above 0, not 0$"):
        async with TaskContext(task_execution_id="t1", kind="k").heartbeat_every(0):
            pass


async def test_a_thread_is_told_of_its_limit_by_its_next_call() -> None:
    @task(start_to_close=0.02)
    def slow(ctx: SyncTaskContext) -> None:
        while True:
            ctx.check_cancellation()
            time.sleep(0.002)

    @task(heartbeat_timeout=0.2)
    def steady(ctx: SyncTaskContext) -> str:
        began = time.monotonic()
        while time.monotonic() - began < 0.5:
            ctx.heartbeat()
            time.sleep(0.01)
        return "done"

    server = FakeServer()
    async with working(server, slow, steady):
        server.offer("t1", "slow")
        server.offer("t2", "steady")
        failure = parse_error(str(await outcome(server)))
        assert await outcome(server, "t2") == b'"done"'
    assert (failure.type, failure.reason) == ("TimeoutError", "start_to_close")


async def test_an_error_of_its_own_that_comes_late_is_the_bodys() -> None:
    @task(start_to_close=0.02)
    async def clumsy(ctx: TaskContext) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            raise RuntimeError("clean-up failed")

    server = FakeServer()
    async with working(server, clumsy):
        server.offer("t1", "clumsy")
        assert parse_error(str(await outcome(server))).type == "RuntimeError"


async def test_a_limit_may_be_hopeless() -> None:
    attempts: list[int] = []

    @task(start_to_close=0.02, retry=RetryPolicy(initial_interval=0, non_retryable=(TimeoutError,)))
    async def slow(ctx: TaskContext) -> None:
        attempts.append(ctx.attempt)
        await anyio.sleep_forever()

    server = FakeServer()
    async with working(server, slow):
        server.offer("t1", "slow")
        assert parse_error(str(await outcome(server))).retryable is False
    assert attempts == [1]


async def refusal_heard(server: FakeServer, worker: Worker) -> None:
    """Wait until a heartbeat of the one task was refused, and the worker has taken note: it makes no more."""
    await server.until(lambda: server.seen("Heartbeat") and worker.statistics().internal_tasks == 4)


async def test_what_is_not_cancellable_goes_on() -> None:
    server = FakeServer()
    server.refuse("Heartbeat", CANCELLED)
    refused = anyio.Event()
    seen: list[Any] = []

    @task(cancellable=False)
    async def pays(ctx: TaskContext) -> None:
        await refused.wait()
        seen.append((ctx.is_cancelled, ctx.cancel_reason))

    async with working(server, pays, task_heartbeat_interval=0.01) as worker:
        server.offer("t1", "pays")
        await refusal_heard(server, worker)
        refused.set()
        await server.until(lambda: seen and worker.statistics().running_tasks == 0)
    assert seen == [(False, None)]
    # The server has no use for its outcome, and is not bothered with further heartbeats.
    assert (server.completed, server.failed, len(server.seen("Heartbeat"))) == ({}, {}, 1)


async def test_what_is_not_cancellable_makes_no_further_attempt_once_nobody_wants_it() -> None:
    server = FakeServer()
    server.refuse("Heartbeat", CANCELLED)
    refused = anyio.Event()
    attempts: list[int] = []

    @task(cancellable=False, retry=RetryPolicy(initial_interval=0))
    async def pays(ctx: TaskContext) -> None:
        attempts.append(ctx.attempt)
        await refused.wait()
        raise ValueError("not yet")

    async with working(server, pays, task_heartbeat_interval=0.01) as worker:
        server.offer("t1", "pays")
        await refusal_heard(server, worker)
        refused.set()
        await server.until(lambda: attempts and worker.statistics().running_tasks == 0)
    assert (attempts, server.failed) == ([1], {})


async def test_what_is_not_cancellable_ends_with_its_worker() -> None:
    began = anyio.Event()
    told: list[str | None] = []

    @task(cancellable=False)
    async def pays(ctx: TaskContext) -> None:
        began.set()
        try:
            await anyio.sleep_forever()
        finally:
            told.append(ctx.cancel_cause)

    server = FakeServer()
    async with working(server, pays, grace=0.0):
        server.offer("t1", "pays")
        await began.wait()
    assert told == ["stopping"]


# --- bodies that do not end --------------------------------------------------------------------


class Stubborn:
    """An asynchronous task that swallows its cancellation, until it is released."""

    def __init__(self, **options: Any) -> None:
        self.release = anyio.Event()
        self.began = anyio.Event()
        self.attempts: list[int] = []

        @task(**options)
        async def stubborn(ctx: TaskContext) -> str:
            self.attempts.append(ctx.attempt)
            self.began.set()
            with anyio.move_on_after(10, shield=True):  # should the test fail, nothing else ends it
                await self.release.wait()
            ctx.log("INFO", "after all")
            return "after all"

        self.task = stubborn


async def test_an_async_body_that_swallows_its_cancellation_is_abandoned_and_its_slot_returned(
    caplog: pytest.LogCaptureFixture,
) -> None:
    server, stubborn = FakeServer(), Stubborn()

    @task
    async def next_one(ctx: TaskContext) -> str:
        return "ran"

    options = {"abandon_after": 0.05, "task_heartbeat_interval": 0.01, "max_concurrent_tasks": 1}
    async with working(server, stubborn.task, next_one, **options) as worker:
        server.offer("t1", "stubborn")
        await stubborn.began.wait()
        server.refuse("Heartbeat", CANCELLED)
        server.offer("t2", "next_one")
        assert await outcome(server, "t2") == b'"ran"'  # though there is one slot only
        await server.until(lambda: worker.statistics().running_tasks == 0)
        assert worker.statistics().abandoned_tasks == 1
        stubborn.release.set()
        await server.until(lambda: worker.statistics().abandoned_tasks == 0)
    assert (server.completed, server.failed) == ({"t2": b'"ran"'}, {})
    assert errors(caplog) == [
        "task t1 (stubborn) is abandoned: its body went on for 0.05 s after it was cancelled: it was cancelled. "
        "The worker cannot end before it does: a body must not swallow its cancellation"
    ]
    assert "the body of task t1 (stubborn), which was abandoned, has ended after all" in caplog.messages


async def test_the_timeout_of_an_async_body_that_does_not_end_is_reported_and_is_the_last_attempt() -> None:
    server, stubborn = FakeServer(), Stubborn(start_to_close=0.02, retry=RetryPolicy(initial_interval=0))
    async with working(server, stubborn.task, abandon_after=0.02) as worker:
        server.offer("t1", "stubborn", claim="token")
        failure = parse_error(str(await outcome(server)))
        assert (failure.type, failure.reason) == ("TimeoutError", "start_to_close")
        assert server.seen("FailTask")[0].metadata == {"flovyn-claim": "token"}
        heard = len(server.seen("Heartbeat"))
        assert worker.statistics().running_tasks == 0
        stubborn.release.set()
    assert (stubborn.attempts, server.completed) == ([1], {})
    assert len(server.seen("Heartbeat")) == heard


async def test_a_worker_ends_with_an_async_body_that_does_not_end_only_when_it_does() -> None:
    server, stubborn = FakeServer(), Stubborn()
    order: list[str] = []

    async def let_go() -> None:
        await server.until(lambda: worker.statistics() == WorkerStatistics(0, 0, 0, 1, abandoned_tasks=1))
        order.append("released")
        stubborn.release.set()

    async with anyio.create_task_group() as tg:
        options = {"grace": 0.01, "abandon_after": 0.02, "task_heartbeat_interval": 0.01}
        async with working(server, stubborn.task, **options) as worker:
            server.offer("t1", "stubborn")
            await stubborn.began.wait()
            tg.start_soon(let_go)
        order.append("ended")
    assert order == ["released", "ended"]
    assert worker.report is not None
    assert [(item.sort, item.kind, item.id, item.reason) for item in worker.report.abandoned] == [
        (
            "task",
            "stubborn",
            "t1",
            "its body went on for 0.02 s after it was cancelled: the worker is stopping",
        )
    ]
    assert (worker.report.finished, worker.report.cancelled) == ((), ())


class Deaf:
    """A task in a thread that never looks at its context, until it is released."""

    def __init__(self, **options: Any) -> None:
        self.release = threading.Event()
        self.began = threading.Event()
        self.ended = threading.Event()
        self.attempts: list[int] = []

        @task(**options)
        def deaf(ctx: SyncTaskContext) -> str:
            self.attempts.append(ctx.attempt)
            self.began.set()
            self.release.wait(10)
            self.ended.set()
            return "after all"

        self.task = deaf


async def test_a_thread_that_never_looks_is_abandoned_and_its_slot_returned(caplog: pytest.LogCaptureFixture) -> None:
    server, deaf = FakeServer(), Deaf()

    @task
    def next_one(ctx: SyncTaskContext) -> str:
        return "ran"

    options = {"abandon_after": 0.05, "task_heartbeat_interval": 0.01, "max_concurrent_tasks": 1}
    try:
        async with working(server, deaf.task, next_one, **options) as worker:
            server.offer("t1", "deaf")
            await server.until(deaf.began.is_set)
            server.refuse("Heartbeat", CANCELLED)
            server.offer("t2", "next_one")
            assert await outcome(server, "t2") == b'"ran"'
            await server.until(lambda: worker.statistics().running_tasks == 0)
            assert worker.statistics().abandoned_tasks == 1
            deaf.release.set()
            await server.until(lambda: worker.statistics().abandoned_tasks == 0)
    finally:
        deaf.release.set()
    assert (server.completed, server.failed) == ({"t2": b'"ran"'}, {})
    assert errors(caplog) == [
        "task t1 (deaf) is abandoned: its body went on for 0.05 s after it was cancelled: it was cancelled. "
        "Its thread goes on: a body in a thread has to call its context now and then"
    ]


async def test_a_worker_ends_without_a_thread_that_does_not() -> None:
    server, deaf = FakeServer(), Deaf()
    try:
        worker = Worker(server.client(), tasks=[deaf.task], grace=0.01, abandon_after=0.02)
        with anyio.fail_after(5):
            async with worker:
                server.offer("t1", "deaf")
                await server.until(deaf.began.is_set)
        assert not deaf.ended.is_set()
        assert worker.statistics() == WorkerStatistics(0, 0, 0, 0, abandoned_tasks=1)
        assert worker.report is not None
        assert [item.id for item in worker.report.abandoned] == ["t1"]
        deaf.release.set()
        await server.until(lambda: worker.statistics() == WorkerStatistics(0, 0, 0, 0))
    finally:
        deaf.release.set()
    assert (server.completed, server.failed) == ({}, {})


async def test_a_thread_that_is_over_its_time_does_not_keep_the_next_attempt_waiting() -> None:
    server, deaf = FakeServer(), Deaf(start_to_close=0.02, retry=AT_ONCE)
    try:
        async with working(server, deaf.task, abandon_after=0.02) as worker:
            server.offer("t1", "deaf")
            failure = parse_error(str(await outcome(server)))
            assert (failure.type, failure.reason) == ("TimeoutError", "start_to_close")
            assert worker.statistics().abandoned_tasks == 2
            deaf.release.set()
            await server.until(lambda: worker.statistics().abandoned_tasks == 0)
    finally:
        deaf.release.set()
    assert (deaf.attempts, server.completed, len(server.seen("FailTask"))) == ([1, 2], {}, 1)


async def test_a_context_of_an_abandoned_thread_goes_on_saying_so() -> None:
    server = FakeServer()
    release, ended = threading.Event(), threading.Event()
    caught: list[str] = []

    @task(start_to_close=0.02)
    def deaf(ctx: SyncTaskContext) -> None:
        release.wait()
        try:
            ctx.log("INFO", "am I heard?")
        except Exception as error:
            caught.append(f"{type(error).__name__}: {error}")
        ended.set()

    try:
        async with working(server, deaf, abandon_after=0.02) as worker:
            server.offer("t1", "deaf")
            await outcome(server)
            release.set()
            await server.until(lambda: ended.is_set() and worker.statistics().abandoned_tasks == 0)
    finally:
        release.set()
    assert caught == ["TaskCancelled: no end within its start_to_close of 0.02 s"]
    assert server.seen("LogMessage") == []


async def test_a_body_may_take_its_time_to_clean_up() -> None:
    server = FakeServer()
    cleaned = anyio.Event()

    @task
    async def careful(ctx: TaskContext) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.05)
                cleaned.set()

    server.refuse("Heartbeat", CANCELLED)
    async with working(server, careful, task_heartbeat_interval=0.01, abandon_after=5.0) as worker:
        server.offer("t1", "careful")
        await cleaned.wait()
        await server.until(lambda: worker.statistics().running_tasks == 0)
    assert worker.report is not None
    assert worker.report.abandoned == ()


# --- slots between attempts --------------------------------------------------------------------


async def test_a_task_that_waits_for_its_next_attempt_leaves_its_slot_to_others() -> None:
    server = FakeServer()

    @task(retry=RetryPolicy(max_attempts=2, initial_interval=60, max_interval=60))
    async def flaky(ctx: TaskContext) -> None:
        raise ValueError("not yet")

    @task
    async def next_one(ctx: TaskContext) -> str:
        return "ran"

    async with working(server, flaky, next_one, max_concurrent_tasks=1, grace=0.01) as worker:
        server.offer("t1", "flaky")
        server.offer("t2", "next_one")
        assert await outcome(server, "t2") == b'"ran"'
        await server.until(lambda: worker.statistics().running_tasks == 1)  # which waits, and is kept alive
    assert (server.failed, worker.report and worker.report.cancelled[0].id) == ({}, "t1")


async def test_a_due_attempt_is_made_before_new_work_and_never_one_too_many() -> None:
    """The poll in flight keeps nobody waiting who has a slot to claim; what it brings waits in its place."""
    server = FakeServer()
    running = most = 0
    order: list[str] = []
    gate = anyio.Event()

    @task(retry=RetryPolicy(max_attempts=2, initial_interval=0.05, jitter=0))
    async def flaky(ctx: TaskContext) -> str:
        nonlocal running, most
        running += 1
        most = max(most, running)
        order.append(f"{ctx.kind}{ctx.attempt}")
        try:
            if ctx.attempt == 1:
                raise ValueError("not yet")
            await gate.wait()
        finally:
            running -= 1
        return "now"

    @task
    async def other(ctx: TaskContext) -> str:
        nonlocal running, most
        running += 1
        most = max(most, running)
        order.append(ctx.kind)
        running -= 1
        return "ran"

    async with working(server, flaky, other, max_concurrent_tasks=1, task_heartbeat_interval=0.01) as worker:
        server.offer("t1", "flaky")
        await server.until(lambda: order == ["flaky1", "flaky2"])  # while a poll is in flight
        assert worker.statistics().open_polls == 1
        server.offer("t2", "other", claim="second")
        await server.until(lambda: worker.statistics().running_tasks == 2)
        # It waits for the only slot, and its claim is kept meanwhile.
        await server.until(
            lambda: any(call.metadata == {"flovyn-claim": "second"} for call in server.seen("Heartbeat"))
        )
        assert (order, worker.statistics().open_polls) == (["flaky1", "flaky2"], 0)
        gate.set()
        assert (await outcome(server), await outcome(server, "t2")) == (b'"now"', b'"ran"')
    assert (order, most) == (["flaky1", "flaky2", "other"], 1)


async def test_a_task_that_waits_for_a_slot_can_be_cancelled() -> None:
    server = FakeServer()
    again, gate = anyio.Event(), anyio.Event()

    @task(retry=RetryPolicy(max_attempts=2, initial_interval=0.01, jitter=0))
    async def flaky(ctx: TaskContext) -> None:
        if ctx.attempt == 1:
            raise ValueError("not yet")
        again.set()
        await gate.wait()

    @task
    async def other(ctx: TaskContext) -> None: ...

    async with working(server, flaky, other, max_concurrent_tasks=1, task_heartbeat_interval=0.01) as worker:
        server.offer("t1", "flaky")
        await server.until(lambda: worker.statistics() == WorkerStatistics(0, 1, 1, 5))
        await again.wait()
        server.offer("t2", "other")
        await server.until(lambda: worker.statistics().running_tasks == 2)
        server.answers["Heartbeat"] = refuse_second
        await server.until(lambda: worker.statistics().running_tasks == 1)
        gate.set()
        assert await outcome(server) == b"null"
    assert "t2" not in server.completed


async def refuse_second(request: Any) -> Any:
    if request.task_execution_id == "t2":
        raise CANCELLED


@pytest.mark.parametrize("value", [-1.0, float("nan")])
def test_seconds_that_cannot_work(value: float) -> None:
    @task
    async def nothing(ctx: TaskContext) -> None: ...

    for option in ("grace", "cancel_grace", "abandon_after"):
        with pytest.raises(ConfigurationError, match=f"^{option} must be 0 seconds or more, not {value}$"):
            Worker(FakeServer().client(), tasks=[nothing], **{option: value})  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]


def test_limits_may_be_timedeltas() -> None:
    @task(heartbeat_timeout=timedelta(minutes=1))
    async def slow(ctx: TaskContext) -> None: ...

    assert slow.heartbeat_timeout == timedelta(seconds=60)
