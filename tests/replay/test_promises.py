"""Promises: matched by name, created once, ended by whatever comes first."""

from __future__ import annotations

from collections.abc import Callable

import anyio
import pytest

from flovyn.definitions import workflow
from flovyn.errors import DeterminismViolation, UsageError
from flovyn.replay.commands import CompleteWorkflow, CreatePromise, SuspendWorkflow
from replay.direct import Direct
from replay.replay_platform import START_MS, WORKFLOW_ID, Platform, Run, drive, plain

CACHED = pytest.mark.parametrize("cached", [True, False])
DAYS_30 = 30 * 86_400


@workflow
async def approval(ctx: Direct) -> str:
    return await ctx.promise("approval")


def resolved(platform: Platform) -> None:
    platform.resolve("approval", True)


def rejected(platform: Platform) -> None:
    platform.reject("approval", "no")


def expired(platform: Platform) -> None:
    platform.expire("approval")


@CACHED
@pytest.mark.parametrize(
    ("happens", "outcome"),
    [
        (resolved, "RESOLVED true"),
        (rejected, "REJECTED no"),
        (expired, "TIMEOUT"),
    ],
)
def test_a_promise_ends_as_history_says(cached: bool, happens: Callable[[Platform], None], outcome: str) -> None:
    run = Run(approval, context=Direct)
    first = run.activate(cached=cached)
    assert plain(first) == [CreatePromise("approval", None, f"{WORKFLOW_ID}/approval", DAYS_30)]
    assert first.commands[-1] == SuspendWorkflow("Waiting for promise approval to be resolved")
    happens(run.platform)
    run.platform.reject("approval", "too late")
    assert plain(run.activate(cached=cached)) == [CompleteWorkflow(f'"{outcome}"'.encode())]


@CACHED
def test_a_second_call_with_a_name_is_the_same_promise(cached: bool) -> None:
    @workflow
    async def twice(ctx: Direct) -> list[str]:
        create = ctx.execution.promises.create
        one = create("a", timeout_ms=5_000, idempotency_key="mine", idempotency_key_ttl_seconds=60)
        await anyio.sleep(1)
        assert create("a") is one
        return [one.key, create("b", idempotency_key="other").key, await ctx.promise("a")]

    run = Run(twice, context=Direct)
    assert plain(run.activate(cached=cached))[0] == CreatePromise("a", 5_000, "mine", 60)
    run.platform.fire_next()
    assert plain(run.activate(cached=cached)) == [CreatePromise("b", None, "other", None)]
    run.platform.resolve("a", 1)
    assert plain(run.activate(cached=cached)) == [CompleteWorkflow(b'["mine","other","RESOLVED 1"]')]


@CACHED
def test_an_end_is_found_by_id_or_by_name(cached: bool) -> None:
    @workflow
    async def both(ctx: Direct) -> list[str]:
        async with anyio.create_task_group() as tg:
            ended = [tg.create_task(ctx.promise(name)) for name in ("a", "b")]
        return [one.return_value for one in ended]

    run = Run(both, context=Direct)
    run.activate(cached=cached)
    created = {e.data.promise_name: e.data.promise_id for e in run.platform.events if e.type == "PROMISE_CREATED"}
    run.platform.append("PROMISE_RESOLVED", promiseId=created["b"], value="by id")
    run.platform.append("PROMISE_RESOLVED", promiseName="a", value="by name")
    run.platform.append("PROMISE_RESOLVED", value="nobody's")
    end = b'["RESOLVED \\"by name\\"","RESOLVED \\"by id\\""]'
    assert plain(run.activate(cached=cached)) == [CompleteWorkflow(end)]


def test_the_key_in_history_wins() -> None:
    @workflow
    async def keyed(ctx: Direct) -> str:
        return ctx.execution.promises.create("a").key

    run = Run(keyed, context=Direct)
    run.platform.append(
        "OPERATION_COMPLETED", operationName="$flovyn.activation", result={"id": "a", "after": 0, "seen": 1, "at": 0}
    )
    run.platform.append("PROMISE_CREATED", promiseName="a", promiseId="1", idempotencyKey="theirs")
    run.platform.append("WORKFLOW_SUSPENDED", reason="")
    run.platform.append("TIMER_FIRED", timerId="$flovyn.soon/a")
    run.execution.load(run.platform.events[1:])
    assert drive(run.execution, START_MS, "b").commands[-1] == CompleteWorkflow(b'"theirs"')


def test_a_key_that_no_server_takes_is_refused_at_the_call() -> None:
    @workflow
    async def long(ctx: Direct) -> str:
        ctx.execution.promises.create("n" * 218)
        with pytest.raises(UsageError, match="has 256 characters, and a server takes at most 255"):
            ctx.execution.promises.create("n" * 219)
        return "refused"

    created, end = plain(Run(long, context=Direct).dry())
    assert isinstance(created, CreatePromise)
    assert end == CompleteWorkflow(b'"refused"')


@workflow(kind="redeployed")
async def a_then_b(ctx: Direct) -> None:
    ctx.execution.promises.create("a")
    ctx.execution.promises.create("b")
    await anyio.sleep(1)
    ctx.execution.promises.create("c")
    await anyio.sleep(1)


@workflow(kind="redeployed")
async def b_then_a(ctx: Direct) -> None:
    ctx.execution.promises.create("b")
    ctx.execution.promises.create("a")
    await anyio.sleep(1)
    ctx.execution.promises.create("c")
    await anyio.sleep(1)


@workflow(kind="redeployed")
async def a_then_x(ctx: Direct) -> None:
    ctx.execution.promises.create("a")
    ctx.execution.promises.create("x")
    await anyio.sleep(1)


@workflow(kind="redeployed")
async def only_a(ctx: Direct) -> None:
    ctx.execution.promises.create("a")
    await anyio.sleep(1)


@workflow(kind="redeployed")
async def one_more(ctx: Direct) -> None:
    for name in "abx":
        ctx.execution.promises.create(name)
    await anyio.sleep(1)


@workflow(kind="redeployed")
async def c_at_once(ctx: Direct) -> None:
    for name in "abc":
        ctx.execution.promises.create(name)
    await anyio.sleep(1)


@pytest.mark.parametrize(
    ("other", "text"),
    [
        (a_then_x, "Promise name mismatch at sequence 1: expected 'b', got 'x'"),
        (only_a, "Promise call missing at sequence 1: activation 1 made it, the code does not"),
        (one_more, "Promise call not in history at sequence 2: activation 1 did not make it"),
        (
            c_at_once,
            "Promise call made too early at sequence 2: "
            "history has it in activation 2, the code made it in activation 1",
        ),
    ],
)
def test_code_that_creates_other_promises_disagrees(other: object, text: str) -> None:
    run = Run(a_then_b, context=Direct)
    run.activate()
    run.platform.fire_next()
    run.activate()
    run.workflow = other  # type: ignore[assignment]
    with pytest.raises(DeterminismViolation) as caught:
        run.dry(cached=False)
    assert str(caught.value) == f"Determinism violation: {text}"


def test_the_order_within_an_activation_does_not_matter() -> None:
    run = Run(a_then_b, context=Direct)
    run.activate()
    run.platform.fire_next()
    run.activate()
    run.workflow = b_then_a
    run.platform.fire_next()
    assert plain(run.activate(cached=False)) == [CompleteWorkflow(b"null")]


def test_a_fork_and_a_block_that_counts_create_the_same_promise() -> None:
    @workflow
    async def after_a_sleep(ctx: Direct) -> str:
        await anyio.sleep(1)
        return await ctx.promise("approval")

    run = Run(after_a_sleep, context=Direct)
    run.activate()
    run.platform.fire_next()
    stale = drive(run.rebuilt(), run.platform.now_ms, "stale")
    run.activate()
    run.platform.accept(stale)
    run.platform.resolve("approval", "once")
    assert plain(run.activate(cached=False)) == [CompleteWorkflow(b'"RESOLVED \\"once\\""')]


@CACHED
def test_a_promise_that_only_a_fork_has_is_not_created_again(cached: bool) -> None:
    @workflow
    async def when_told(ctx: Direct) -> str:
        await ctx.signal("go")
        return await ctx.promise("approval")

    run = Run(when_told, context=Direct)
    run.platform.signal("go")
    fork = drive(run.rebuilt(), START_MS, "fork")
    run.platform.events.pop()
    run.activate(salt="ours")
    run.platform.accept(fork)
    run.platform.signal("go")
    # The server has the promise already; this block will not hold it, and a replay does not miss it.
    assert plain(run.activate(cached=cached)) == []
    run.platform.resolve("approval", 1)
    assert plain(run.activate(cached=cached)) == [CompleteWorkflow(b'"RESOLVED 1"')]
