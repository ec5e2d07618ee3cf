"""Bodies that are plain functions: they run in threads, and their calls cross into the event loop and back."""

from __future__ import annotations

import contextvars
import sys
import threading
import time
from typing import Any

import anyio
import anyio.to_thread
import pytest

from flovyn import (
    FailedPrecondition,
    NonRetryableError,
    RetryPolicy,
    StateKey,
    SyncTaskContext,
    TaskCancelled,
    TaskContext,
    UsageError,
    task,
)
from flovyn.serde.envelope import parse_error
from worker.fakes import FakeServer
from worker.test_task_context import hold, keep_state, told
from worker.test_worker_tasks import outcome, working

pytestmark = pytest.mark.anyio

SEEN = StateKey[list[str]]("seen")


def spin(condition: threading.Event, context: SyncTaskContext) -> None:
    """Wait in a thread, with a look at the context now and then."""
    while not condition.is_set():
        context.check_cancellation()
        time.sleep(0.002)


@task
def square(ctx: SyncTaskContext, number: int) -> int:
    return number * number


async def test_a_plain_function_runs_in_a_thread_of_its_own() -> None:
    threads: list[bool] = []

    @task
    def where(ctx: SyncTaskContext, number: int) -> int:
        threads.append(threading.current_thread() is main)
        return number + 1

    main = threading.current_thread()
    server = FakeServer()
    async with working(server, where, square):
        server.offer("t1", "where", b"1", claim="token")
        server.offer("t2", "square", b"12")
        assert (await outcome(server), await outcome(server, "t2")) == (b"2", b"144")
    assert threads == [False]
    claims = {call.request.task_execution_id: call.metadata for call in server.seen("CompleteTask")}
    assert claims["t1"] == {"flovyn-claim": "token"}


async def test_threads_run_beside_each_other_and_beside_the_loop() -> None:
    server = FakeServer()
    meet = threading.Barrier(3, timeout=5)

    @task
    def meets(ctx: SyncTaskContext) -> None:
        meet.wait()

    async with working(server, meets):
        for name in ("t1", "t2", "t3"):
            server.offer(name, "meets")
        for name in ("t1", "t2", "t3"):
            assert await outcome(server, name) == b"null"


async def test_threads_of_users_do_not_keep_tasks_waiting() -> None:
    """R20: the worker shares its limiter with nobody."""
    server = FakeServer()
    release = threading.Event()
    limiter = anyio.to_thread.current_default_thread_limiter()

    async def block() -> None:
        await anyio.to_thread.run_sync(release.wait)

    async with working(server, square), anyio.create_task_group() as tg:
        for _ in range(int(limiter.total_tokens)):
            tg.start_soon(block)
        await server.until(lambda: limiter.available_tokens == 0)
        server.offer("t1", "square", b"3")
        assert await outcome(server) == b"9"
        release.set()


async def test_failures_carry_type_and_traceback() -> None:
    @task
    def broken(ctx: SyncTaskContext) -> None:
        try:
            raise KeyError("card")
        except KeyError as error:
            raise ValueError("no such card") from error

    server = FakeServer()
    async with working(server, broken):
        server.offer("t1", "broken")
        failure = parse_error(str(await outcome(server)))
    assert (failure.type, failure.message, failure.retryable) == ("ValueError", "no such card", True)
    assert failure.cause is not None and failure.cause.type == "KeyError"
    assert failure.traceback is not None and "in broken" in failure.traceback


@pytest.mark.parametrize(
    ("error", "kind", "retryable"),
    [
        (SystemExit(3), "SystemExit", True),
        (NonRetryableError("never"), "NonRetryableError", False),
        (ExceptionGroup("both", [ValueError("a"), TypeError("b")]), "ExceptionGroup", True),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_whatever_a_thread_raises_is_its_failure_only(error: BaseException, kind: str, retryable: bool) -> None:
    @task
    def strange(ctx: SyncTaskContext) -> None:
        raise error

    server = FakeServer()
    async with working(server, strange, square):
        server.offer("t1", "strange")
        failure = parse_error(str(await outcome(server)))
        assert (failure.type, failure.retryable) == (kind, retryable)
        server.offer("t2", "square", b"2")
        assert await outcome(server, "t2") == b"4"


async def test_attempts_are_made_in_one_claim() -> None:
    attempts: list[int] = []

    @task(retry=RetryPolicy(max_attempts=3, initial_interval=0))
    def flaky(ctx: SyncTaskContext) -> str:
        attempts.append(ctx.attempt)
        if ctx.attempt < 3:
            raise ValueError("not yet")
        return "now"

    server = FakeServer()
    async with working(server, flaky):
        server.offer("t1", "flaky")
        assert await outcome(server) == b'"now"'
    assert attempts == [1, 2, 3]


async def test_a_coroutine_that_is_returned_is_named_as_the_mistake() -> None:
    async def hidden() -> int:
        return 1

    @task
    def wrapped(ctx: SyncTaskContext) -> Any:
        return hidden()

    server = FakeServer()
    async with working(server, wrapped):
        server.offer("t1", "wrapped")
        failure = parse_error(str(await outcome(server)))
    assert failure.type == "DefinitionError"
    assert "is a plain function, so it ran in a thread, but it returned a coroutine" in failure.message


async def test_context_variables_are_the_workers() -> None:
    variable = contextvars.ContextVar("variable", default="unset")

    @task
    def reads(ctx: SyncTaskContext) -> str:
        return variable.get()

    server = FakeServer()
    variable.set("set around the worker")
    async with working(server, reads):
        server.offer("t1", "reads")
        assert await outcome(server) == b'"set around the worker"'


# --- calls of the context ----------------------------------------------------------------------


async def test_what_is_said_reaches_the_server_before_the_outcome() -> None:
    @task
    def speaks(ctx: SyncTaskContext) -> str:
        ctx.log("INFO", "begins")
        ctx.report_progress(0.5, "half of it")
        ctx.stream_token("Hel")
        ctx.stream_data([1])
        ctx.stream_progress(0.75, "more")
        ctx.stream_error("oh", "E1")
        ctx.log("WARN", "ends")
        return "done"

    server = FakeServer()
    async with working(server, speaks):
        server.offer("t1", "speaks")
        assert await outcome(server) == b'"done"'
    assert told(server)[-1] == "CompleteTask"
    assert [call.request.message for call in server.seen("LogMessage")] == ["begins", "ends"]
    assert [call.request.details for call in server.seen("ReportProgress")] == ["half of it"]
    assert [(call.request.sequence, call.request.payload) for call in server.seen("StreamTaskData")] == [
        (0, '{"type":"token","text":"Hel"}'),
        (1, '{"type":"data","data":[1]}'),
        (2, '{"type":"progress","progress":0.75,"details":"more"}'),
        (3, '{"type":"error","message":"oh","code":"E1"}'),
    ]


async def test_state_and_heartbeats() -> None:
    seen: list[Any] = []

    @task
    def keeps(ctx: SyncTaskContext) -> None:
        seen.append(ctx.get(SEEN))
        ctx.set(SEEN, ["a"])
        ctx.set("plain", 1)
        seen.extend([ctx.get(SEEN), ctx.get("none", 0), ctx.state_keys()])
        ctx.clear("plain")
        seen.append(ctx.state_keys())
        ctx.heartbeat({"row": 3})
        seen.append(ctx.last_heartbeat())
        ctx.clear_all()
        seen.extend([ctx.state_keys(), ctx.last_heartbeat(int)])

    server = FakeServer()
    keep_state(server)
    async with working(server, keeps):
        server.offer("t1", "keeps")
        assert await outcome(server) == b"null"
    assert seen == [None, ["a"], 0, ["plain", "seen"], ["seen"], {"row": 3}, [], None]


async def test_mistakes_are_raised_where_they_are_made() -> None:
    caught: list[str] = []

    @task
    def careless(ctx: SyncTaskContext) -> None:
        level: Any = "LOUD"
        calls: list[Any] = [
            lambda: ctx.report_progress(2),
            lambda: ctx.log(level, "x"),
            lambda: ctx.stream_data(object()),
            lambda: ctx.set("$mine", 1),
        ]
        for call in calls:
            try:
                call()
            except Exception as error:
                caught.append(type(error).__name__)

    server = FakeServer()
    async with working(server, careless):
        server.offer("t1", "careless")
        assert await outcome(server) == b"null"
    assert caught == ["UsageError", "UsageError", "PayloadError", "UsageError"]
    assert told(server) == ["CompleteTask"]


async def test_any_thread_may_use_the_context_while_the_body_runs() -> None:
    @task
    def spreads(ctx: SyncTaskContext) -> list[int]:
        results: list[int] = []

        def work(number: int) -> None:
            ctx.set(str(number), number)
            results.append(ctx.get(str(number)))

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return sorted(results)

    server = FakeServer()
    keep_state(server)
    async with working(server, spreads):
        server.offer("t1", "spreads")
        assert await outcome(server) == b"[0,1,2,3]"


async def test_a_context_is_of_no_use_after_its_body() -> None:
    kept: list[SyncTaskContext] = []

    @task
    def leaks(ctx: SyncTaskContext) -> None:
        kept.append(ctx)

    server = FakeServer()
    async with working(server, leaks):
        server.offer("t1", "leaks")
        await outcome(server)
        for call in (lambda: kept[0].log("INFO", "late"), kept[0].state_keys):
            with pytest.raises(UsageError, match="^the body of this task has ended: its context"):
                await anyio.to_thread.run_sync(call)
    assert server.seen("LogMessage") == []


def test_a_context_without_a_worker_keeps_state_and_tells_nobody() -> None:
    context = SyncTaskContext(task_execution_id="t1", kind="k", attempt=2)
    context.report_progress(0.5, "half")
    context.log("INFO", "hello")
    context.stream_token("a")
    context.set(SEEN, ["a"])
    context.heartbeat(4)
    assert (context.get(SEEN), context.state_keys(), context.last_heartbeat(int)) == (["a"], ["seen"], 4)
    assert repr(context) == "<SyncTaskContext k t1 attempt=2>"


# --- cancelling --------------------------------------------------------------------------------


async def test_a_cancelled_thread_learns_of_it_with_its_next_call_and_with_each_after_it() -> None:
    server = FakeServer()
    began = threading.Event()
    caught: list[tuple[str, str]] = []

    @task
    def loops(ctx: SyncTaskContext) -> None:
        began.set()
        while not ctx.is_cancelled:
            time.sleep(0.002)
        for call in (ctx.state_keys, lambda: ctx.log("INFO", "x"), lambda: ctx.stream_token("x"), ctx.heartbeat):
            try:
                call()
            except TaskCancelled as error:
                caught.append((error.message, error.kind))
        assert (ctx.cancel_reason, ctx.cancel_cause) == ("it was cancelled", "cancelled")
        ctx.check_cancellation()

    async with working(server, loops, task_heartbeat_interval=0.01) as worker:
        server.offer("t1", "loops")
        await server.until(began.is_set)
        server.refuse("Heartbeat", FailedPrecondition("it was cancelled"))
        await server.until(lambda: worker.statistics().running_tasks == 0)
    assert caught == [("it was cancelled", "loops")] * 4
    assert (server.completed, server.failed, server.seen("LogMessage")) == ({}, {}, [])


async def test_a_call_that_is_under_way_is_cut_short() -> None:
    server = FakeServer()
    hold(server, "GetState")
    caught: list[str] = []

    @task
    def waits(ctx: SyncTaskContext) -> None:
        try:
            ctx.get("key")
        except TaskCancelled as error:
            caught.append(error.message)
            raise

    async with working(server, waits, task_heartbeat_interval=0.01) as worker:
        server.offer("t1", "waits")
        await server.until(lambda: server.seen("GetState"))
        server.refuse("Heartbeat", FailedPrecondition("it was cancelled"))
        await server.until(lambda: worker.statistics().running_tasks == 0)
    assert caught == ["it was cancelled"]
    assert (server.completed, server.failed) == ({}, {})


async def test_the_value_of_a_thread_that_ends_in_spite_of_the_stop_is_reported() -> None:
    server = FakeServer()
    began = threading.Event()

    @task
    def careful(ctx: SyncTaskContext) -> str:
        began.set()
        while not ctx.is_cancelled:
            time.sleep(0.002)
        return f"cleaned up: {ctx.cancel_cause}"

    async with working(server, careful, grace=0.0):
        server.offer("t1", "careful")
        await server.until(began.is_set)
    assert server.completed == {"t1": b'"cleaned up: stopping"'}


async def test_a_thread_that_ends_by_its_cancellation_is_reported_by_nobody() -> None:
    server = FakeServer()
    began = threading.Event()

    @task
    def polite(ctx: SyncTaskContext) -> None:
        began.set()
        spin(threading.Event(), ctx)

    async with working(server, polite, grace=0.0) as worker:
        server.offer("t1", "polite")
        await server.until(began.is_set)
    assert (server.completed, server.failed) == ({}, {})
    assert worker.report is not None
    assert [(item.id, item.reason) for item in worker.report.cancelled] == [("t1", "the worker is stopping")]
    assert worker.report.abandoned == ()


async def test_threads_and_coroutines_are_tasks_of_one_worker() -> None:
    @task
    async def double(ctx: TaskContext, number: int) -> int:
        return number * 2

    server = FakeServer()
    async with working(server, double, square, max_concurrent_tasks=2):
        for number in range(20):
            server.offer(f"d{number}", "double", str(number).encode())
            server.offer(f"s{number}", "square", str(number).encode())
        await server.until(lambda: len(server.completed) == 40)
    assert server.completed == {
        **{f"d{number}": str(number * 2).encode() for number in range(20)},
        **{f"s{number}": str(number * number).encode() for number in range(20)},
    }


async def test_an_interpreter_switch_in_the_middle_of_a_call_harms_nothing() -> None:
    """Calls from many threads at once, with threads switched as often as can be."""
    server = FakeServer()
    state = keep_state(server)

    @task
    def writes(ctx: SyncTaskContext, name: str) -> None:
        for number in range(10):
            ctx.set(f"{name}{number}", number)
            ctx.log("INFO", f"{name}{number}")

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        async with working(server, writes):
            for name in "abcdef":
                server.offer(name, "writes", f'"{name}"'.encode())
            await server.until(lambda: len(server.completed) == 6)
    finally:
        sys.setswitchinterval(interval)
    assert state == {f"{name}{number}": str(number).encode() for name in "abcdef" for number in range(10)}
    for name in "abcdef":
        lines = [call.request.message for call in server.seen("LogMessage") if call.request.task_execution_id == name]
        assert lines == [f"{name}{number}" for number in range(10)]
