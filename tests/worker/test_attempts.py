"""Attempts at the body of a `ctx.run`: how many, how far apart, and what ends them."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any

import anyio
import pytest

from flovyn import NonRetryableError, OperationFailed, RetryPolicy, WorkflowContext, effect, workflow
from worker.fakes import until
from worker.test_execution import CLAIM, COMPLETE, MARK, OneRun, executions, polled
from worker.test_operations import activated, output, records

pytestmark = pytest.mark.anyio

AT_ONCE = RetryPolicy(max_attempts=3, initial_interval=0)
FAR_APART = RetryPolicy(max_attempts=3, initial_interval=60)


class Flaky:
    """Fails some times, then succeeds; notes when it was called."""

    def __init__(self, failures: int, error: Callable[[], BaseException] = lambda: ValueError("not yet")) -> None:
        self.failures = failures
        self.error = error
        self.calls: list[float] = []

    async def call(self, value: str) -> str:
        return self.call_now(value)

    def call_now(self, value: str) -> str:
        self.calls.append(anyio.current_time())
        if len(self.calls) <= self.failures:
            raise self.error()
        return value


def calling(fn: Callable[..., Any], *args: Any) -> Any:
    """A workflow that runs the effect, tells how it ended, and tells the same once more after a sleep."""

    @workflow(kind="run")
    async def calls(ctx: WorkflowContext) -> list[str]:
        try:
            told = [await ctx.run("flaky", fn, *args)]
        except OperationFailed as failed:
            told = [str(failed.error_type), failed.message]
        await anyio.sleep(1)
        return told

    return calls


async def told(definition: Any) -> Any:
    """What the workflow returns in a second worker, which replays the effect."""
    server = OneRun()
    await activated(definition, server)
    timer = server.submitted[-1].commands[-2].start_timer
    assert timer is not None
    server.append("TIMER_FIRED", timerId=timer.timer_id)
    await activated(definition, server, cached=False)
    assert server.last() == [MARK, COMPLETE]
    return output(server)


@pytest.mark.parametrize("sort", ["asynchronous", "synchronous", "with arguments in it"])
async def test_a_failure_is_tried_again_and_only_the_end_is_recorded(sort: str) -> None:
    flaky = Flaky(2)
    match sort:
        case "asynchronous":
            definition = calling(effect(flaky.call, retry=AT_ONCE), "done")
        case "synchronous":
            definition = calling(effect(flaky.call_now, retry=AT_ONCE), "done")
        case _:
            definition = calling(partial(effect(flaky.call, retry=AT_ONCE), "done"))
    assert await told(definition) == ["done"]
    assert len(flaky.calls) == 3


async def test_the_last_failure_is_recorded_and_raised_the_same_on_replay() -> None:
    flaky = Flaky(9)
    assert await told(calling(effect(flaky.call, retry=AT_ONCE), "done")) == ["ValueError", "ValueError: not yet"]
    assert len(flaky.calls) == 3


async def test_without_a_policy_there_is_one_attempt() -> None:
    flaky = Flaky(9)
    assert await told(calling(effect(flaky.call), "done")) == ["ValueError", "ValueError: not yet"]
    assert len(flaky.calls) == 1


class Declined(NonRetryableError): ...


@pytest.mark.parametrize(
    ("error", "name"),
    [(lambda: Declined("no such card"), "Declined"), (lambda: PermissionError("no"), "PermissionError")],
    ids=["marked", "named"],
)
async def test_what_cannot_be_mended_is_not_tried_again(error: Callable[[], BaseException], name: str) -> None:
    flaky = Flaky(9, error)
    policy = RetryPolicy(max_attempts=5, initial_interval=0, non_retryable=(PermissionError,))
    assert (await told(calling(effect(flaky.call, retry=policy), "done")))[0] == name
    assert len(flaky.calls) == 1


async def test_a_value_that_cannot_be_written_is_not_tried_again() -> None:
    calls: list[int] = []

    def unwritable() -> object:
        calls.append(1)
        return object()

    assert (await told(calling(effect(unwritable, retry=AT_ONCE))))[0] == "PayloadError"
    assert calls == [1]


async def test_the_waits_are_those_of_the_policy() -> None:
    flaky = Flaky(2)
    policy = RetryPolicy(max_attempts=3, initial_interval=0.05, multiplier=3, jitter=0)
    assert await told(calling(effect(flaky.call, retry=policy), "done")) == ["done"]
    first, second, third = flaky.calls
    assert second - first + 0.002 >= 0.05
    assert third - second + 0.002 >= 0.15
    assert third - first < 2


async def test_an_attempt_that_takes_too_long_is_ended_and_tried_again() -> None:
    ended: list[str] = []

    async def slow_at_first() -> str:
        if len(ended) == 2:
            return "done"
        try:
            await anyio.sleep_forever()
        finally:
            ended.append("cancelled")
        return "never"

    assert await told(calling(effect(slow_at_first, retry=AT_ONCE, start_to_close=0.02))) == ["done"]
    assert ended == ["cancelled", "cancelled"]


async def test_the_limit_of_the_last_attempt_is_a_failure() -> None:
    assert await told(calling(effect(anyio.sleep_forever, start_to_close=0.02))) == [
        "TimeoutError",
        "TimeoutError: the attempt took longer than its start_to_close of 0.02 s",
    ]


async def test_a_deadline_of_the_program_ends_the_wait_between_two_attempts() -> None:
    flaky = Flaky(9)
    asked = effect(flaky.call, retry=FAR_APART)

    @workflow(kind="run")
    async def late(ctx: WorkflowContext) -> bool:
        with anyio.move_on_after(0.05) as scope:
            await ctx.run("flaky", asked, "done")
        return scope.cancelled_caught

    server = OneRun()
    await activated(late, server)
    assert output(server) is True
    assert list(records(server)[0]["$flovyn"]) == ["v", "deadline"]  # type: ignore[index]
    assert len(flaky.calls) == 1


async def test_the_wait_between_two_attempts_ends_when_the_program_gives_the_operation_up() -> None:
    flaky = Flaky(9)
    asked = effect(flaky.call, retry=FAR_APART)

    async def once_it_waits() -> None:
        await until(lambda: flaky.calls)

    @workflow(kind="run")
    async def first(ctx: WorkflowContext) -> str:
        async with anyio.create_task_group() as tg:
            tg.create_task(ctx.run("flaky", asked, "done"))
            await anyio.lowlevel.checkpoint()
            await ctx.run("once it waits", once_it_waits)
            tg.cancel_scope.cancel()
        return "given up"

    server = OneRun()
    await activated(first, server)
    assert output(server) == "given up"
    assert records(server) == [{"$flovyn": {"v": 1, "cancelled": True}}, None]
    assert len(flaky.calls) == 1


async def test_an_attempt_that_is_cancelled_from_outside_has_not_failed() -> None:
    flaky = Flaky(0)

    async def long() -> None:
        flaky.call_now("")
        await anyio.sleep_forever()

    server = OneRun()
    runs = executions(server, calling(effect(long, retry=AT_ONCE)))
    async with anyio.create_task_group() as tg:
        tg.start_soon(runs.execute, polled("run", b"null"), CLAIM)
        await until(lambda: flaky.calls)
        tg.cancel_scope.cancel()
    assert server.submitted == []
    assert len(flaky.calls) == 1
    runs.close()


async def test_the_result_is_read_as_the_function_declares_it() -> None:
    def names() -> tuple[str, ...]:
        return ("a", "b")

    kinds: list[type] = []

    @workflow(kind="run")
    async def reads(ctx: WorkflowContext) -> None:
        kinds.append(type(await ctx.run("names", effect(names, retry=AT_ONCE))))

    server = OneRun()
    await activated(reads, server)
    assert json.loads(json.dumps(records(server))) == [["a", "b"]]
    assert kinds == [tuple]
