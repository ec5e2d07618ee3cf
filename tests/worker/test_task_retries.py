"""Tasks with a policy: the worker makes the attempts within one claim."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import anyio
import pytest

from flovyn import FailedPrecondition, NonRetryableError, RetryPolicy, Task, TaskContext, task
from flovyn.serde.envelope import parse_error
from worker.fakes import FakeServer
from worker.test_worker_tasks import double, outcome, working

pytestmark = pytest.mark.anyio

AT_ONCE = RetryPolicy(max_attempts=3, initial_interval=0)
FAR_APART = RetryPolicy(max_attempts=3, initial_interval=60)


def failing(
    policy: RetryPolicy | None,
    attempts: list[int],
    *,
    until: int = 99,
    error: Callable[[], Exception] = lambda: ValueError("not yet"),
) -> Task[..., str]:
    """A task that fails in all attempts before one, and notes which ones it was given."""

    @task(retry=policy)
    async def flaky(ctx: TaskContext) -> str:
        attempts.append(ctx.attempt)
        if ctx.attempt < until:
            raise error()
        return f"attempt {ctx.attempt}"

    return flaky


@pytest.mark.parametrize(("claimed", "made"), [(1, [1, 2, 3]), (2, [2, 3])], ids=["first claim", "a worker died"])
async def test_attempts_are_made_in_one_claim(claimed: int, made: list[int]) -> None:
    attempts: list[int] = []
    server = FakeServer()
    async with working(server, failing(AT_ONCE, attempts, until=3)):
        server.offer("t1", "flaky", attempt=claimed)
        assert await outcome(server) == b'"attempt 3"'
    assert attempts == made
    assert len(server.seen("CompleteTask")) == 1
    assert server.seen("FailTask") == []


async def test_the_last_failure_is_reported_once() -> None:
    attempts: list[int] = []
    server = FakeServer()
    async with working(server, failing(AT_ONCE, attempts)):
        server.offer("t1", "flaky")
        assert parse_error(str(await outcome(server))).message == "not yet"
    assert attempts == [1, 2, 3]
    assert len(server.seen("FailTask")) == 1


async def test_without_a_policy_the_server_tries_again() -> None:
    attempts: list[int] = []
    server = FakeServer()
    async with working(server, failing(None, attempts)):
        server.offer("t1", "flaky")
        assert parse_error(str(await outcome(server))).retryable is True
    assert attempts == [1]


class Declined(NonRetryableError): ...


@pytest.mark.parametrize(
    ("policy", "error"),
    [
        (AT_ONCE, lambda: Declined("no")),
        (None, lambda: Declined("no")),
        (RetryPolicy(initial_interval=0, non_retryable=(PermissionError,)), lambda: PermissionError("no")),
    ],
    ids=["marked", "marked, without a policy", "named"],
)
async def test_what_cannot_be_mended_ends_the_task(policy: RetryPolicy | None, error: Callable[[], Exception]) -> None:
    attempts: list[int] = []
    server = FakeServer()
    async with working(server, failing(policy, attempts, error=error)):
        server.offer("t1", "flaky")
        info = parse_error(str(await outcome(server)))
    assert (info.message, info.retryable) == ("no", False)  # the server is told to try no more either
    assert attempts == [1]


async def test_input_that_cannot_be_read_is_not_tried_again() -> None:
    server = FakeServer()
    definition: Task[..., Any] = task(retry=FAR_APART)(double.fn)
    async with working(server, definition):
        server.offer("t1", "double", b'"no number"')
        assert parse_error(str(await outcome(server))).type == "PayloadError"


async def test_each_attempt_has_the_whole_time() -> None:
    attempts: list[int] = []

    @task(retry=AT_ONCE, start_to_close=timedelta(seconds=0.03))
    async def slow(ctx: TaskContext) -> int:
        attempts.append(ctx.attempt)
        if ctx.attempt < 3:
            await anyio.sleep_forever()
        return ctx.attempt

    server = FakeServer()
    async with working(server, slow):
        server.offer("t1", "slow")
        assert await outcome(server) == b"3"
    assert attempts == [1, 2, 3]


async def test_the_claim_is_kept_while_a_task_waits() -> None:
    attempts: list[int] = []
    policy = RetryPolicy(max_attempts=2, initial_interval=0.5, jitter=0)
    server = FakeServer()
    async with working(server, failing(policy, attempts, until=2), task_heartbeat_interval=0.02):
        server.offer("t1", "flaky", claim="mine")
        assert await outcome(server) == b'"attempt 2"'
    assert {call.metadata["flovyn-claim"] for call in server.seen("Heartbeat")} == {"mine"}
    assert len(server.seen("Heartbeat")) >= 3


async def test_a_task_that_is_cancelled_while_it_waits_makes_no_further_attempt() -> None:
    attempts: list[int] = []
    server = FakeServer()
    async with working(server, failing(FAR_APART, attempts), task_heartbeat_interval=0.02) as worker:
        server.offer("t1", "flaky")
        await server.until(lambda: attempts and worker.statistics().running_tasks == 1)
        server.refuse("Heartbeat", FailedPrecondition("cancelled"))
        await server.until(lambda: worker.statistics().running_tasks == 0)
    assert attempts == [1]
    assert server.failed == {}


async def test_a_worker_that_stops_lets_a_task_that_waits_have_its_attempts_within_the_grace() -> None:
    attempts: list[int] = []
    policy = RetryPolicy(max_attempts=2, initial_interval=0.1, jitter=0)
    server = FakeServer()
    async with working(server, failing(policy, attempts, until=2), grace=5.0):
        server.offer("t1", "flaky")
        await server.until(lambda: attempts)
    assert attempts == [1, 2]
    assert server.completed == {"t1": b'"attempt 2"'}


async def test_a_worker_that_stops_does_not_wait_beyond_the_grace() -> None:
    attempts: list[int] = []
    server = FakeServer()
    async with working(server, failing(FAR_APART, attempts), grace=0.05):
        server.offer("t1", "flaky")
        await server.until(lambda: attempts)
    assert attempts == [1]
    assert (server.completed, server.failed) == ({}, {})
