"""Promises, signals and state, by typed names and by text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import pytest

from flovyn.definitions import Promise, Signal, StateKey, workflow
from flovyn.errors import DefinitionError, PayloadError, PromiseRejected, PromiseTimeout, UsageError
from flovyn.replay.commands import ClearState, CompleteWorkflow, CreatePromise, SetState
from flovyn.workflow import WorkflowContext
from replay.replay_platform import WORKFLOW_ID, Platform, plain
from workflow.cases import CACHED, Order, reason, result, running

APPROVAL = Promise[bool | None]("approval")
ORDERS = Signal[Order]("orders")
SEEN = StateKey[list[str]]("seen")


@CACHED
def test_a_promise_exists_before_anybody_waits_for_it(cached: bool) -> None:
    @workflow
    async def asks(ctx: WorkflowContext) -> list[Any]:
        promise = ctx.create_promise(APPROVAL, expires_after=1.0005)
        again = ctx.create_promise("approval")
        await anyio.sleep(1)
        return [promise.key, again.key, promise.name, await promise, await again.wait(), await promise.wait()]

    run = running(asks)
    key = f"{WORKFLOW_ID}/approval"
    assert plain(run.activate(cached=cached))[0] == CreatePromise("approval", 1001, key, 2_592_000)
    run.platform.fire_next()
    assert reason(run.activate(cached=cached)) == "Waiting for promise approval to be resolved"
    run.platform.resolve("approval", True)
    assert result(run.activate(cached=cached)) == [key, key, "approval", True, True, True]


def test_a_promise_with_a_key_of_its_own() -> None:
    @workflow
    async def asks(ctx: WorkflowContext) -> str:
        return ctx.create_promise("p", idempotency_key="k", idempotency_key_ttl=1.5).key

    assert plain(running(asks).dry()) == [CreatePromise("p", None, "k", 2), CompleteWorkflow(b'"k"')]


ENDS: list[tuple[Callable[[Platform], object], type[Exception], str]] = [
    (lambda platform: platform.reject("approval", "never"), PromiseRejected, "never"),
    (
        lambda platform: platform.expire("approval"),
        PromiseTimeout,
        "nobody has resolved promise 'approval' in time",
    ),
    (
        lambda platform: platform.resolve("approval", "yes"),
        PayloadError,
        "promise 'approval': the payload does not fit bool | None: Expected `bool | null`, got `str`, at $",
    ),
]


@CACHED
@pytest.mark.parametrize(("end", "kind", "text"), ENDS)
def test_a_promise_that_is_not_kept(cached: bool, end: Any, kind: type[Any], text: str) -> None:
    seen: list[Any] = []

    @workflow
    async def asks(ctx: WorkflowContext) -> None:
        try:
            await ctx.promise(APPROVAL)
        except Exception as error:
            seen.append(error)

    run = running(asks)
    run.activate(cached=cached)
    end(run.platform)
    assert plain(run.activate(cached=cached)) == [CompleteWorkflow(b"null")]
    assert (type(seen[-1]), str(seen[-1])) == (kind, text)


@CACHED
def test_signals_are_taken_in_order_and_by_type(cached: bool) -> None:
    @workflow
    async def takes(ctx: WorkflowContext) -> list[Any]:
        first = await ctx.wait_for_signal(ORDERS)
        assert isinstance(first, Order)
        await anyio.sleep(1)
        known = [ctx.has_signal(ORDERS), ctx.pending_signals("orders"), ctx.has_signal("others")]
        rest = ctx.drain_signals(ORDERS)
        assert [type(order) for order in rest] == [Order, Order]
        return [first, known, rest, ctx.pending_signals(ORDERS), await ctx.wait_for_signal("others")]

    run = running(takes)
    assert reason(run.activate(cached=cached)) == "Waiting for signal"
    for name in "abc":
        run.platform.signal("orders", {"id": name, "amount": 1})
    run.platform.signal("others", {"any": ["thing"]})
    run.activate(cached=cached)
    run.platform.fire_next()
    order = {name: {"id": name, "amount": 1} for name in "abc"}
    assert result(run.activate(cached=cached)) == [
        order["a"],
        [True, 2, True],
        [order["b"], order["c"]],
        0,
        {"any": ["thing"]},
    ]


@CACHED
def test_a_signal_that_does_not_fit_is_taken_and_told(cached: bool) -> None:
    @workflow
    async def takes(ctx: WorkflowContext) -> list[Any]:
        try:
            await ctx.wait_for_signal(ORDERS)
        except PayloadError as error:
            return [error.message, error.path, ctx.has_signal(ORDERS)]
        return []

    run = running(takes)
    run.activate(cached=cached)
    run.platform.signal("orders", {"id": 7})
    text = "signal 'orders': the payload does not fit Order: Expected `str`, got `int`, at $.id"
    assert result(run.activate(cached=cached)) == [text, "$.id", False]


def test_a_loop_over_signals_that_are_there_lets_the_others_go_on() -> None:
    order: list[str] = []

    @workflow
    async def loops(ctx: WorkflowContext) -> None:
        async def other() -> None:
            order.append("other")

        async with anyio.create_task_group() as tg:
            tg.start_soon(other)
            for _ in range(2):
                await ctx.wait_for_signal("s")
                order.append("signal")

    run = running(loops)
    run.platform.signal("s")
    run.platform.signal("s")
    run.activate()
    assert order == ["other", "signal", "signal"]


@CACHED
def test_state_is_what_the_code_has_written(cached: bool) -> None:
    @workflow
    async def writes(ctx: WorkflowContext) -> list[Any]:
        before = [ctx.get(SEEN), ctx.get(SEEN, "none"), ctx.get("count", 0), ctx.state_keys()]
        ctx.set(SEEN, ["a"])
        ctx.set("count", 2)
        await anyio.sleep(1)
        during = [ctx.get(SEEN), ctx.get("count"), ctx.state_keys()]
        ctx.clear("nothing")
        ctx.clear_all()
        return [before, during, ctx.get(SEEN), ctx.state_keys()]

    run = running(writes)
    assert plain(run.activate(cached=cached))[:2] == [SetState("seen", b'["a"]'), SetState("count", b"2")]
    run.platform.fire_next()
    last = plain(run.activate(cached=cached))
    assert last == [
        ClearState("nothing"),
        ClearState("count"),
        ClearState("seen"),
        CompleteWorkflow(b'[[null,"none",0,[]],[["a"],2,["count","seen"]],null,[]]'),
    ]


def test_state_of_another_type_is_told() -> None:
    @workflow
    async def writes(ctx: WorkflowContext) -> str:
        ctx.set("seen", 1)
        try:
            ctx.get(SEEN)
        except PayloadError as error:
            return error.message
        return ""

    last = running(writes).dry().commands[-1]
    assert isinstance(last, CompleteWorkflow)
    assert last.output.startswith(b"\"state 'seen': the payload does not fit list[str]: ")


WRONG: list[tuple[Callable[[WorkflowContext], object], str]] = [
    (lambda ctx: ctx.create_promise(""), "'' cannot be used as Promise name"),
    (lambda ctx: ctx.create_promise("$x"), "'$x' cannot be used as Promise name"),
    (
        lambda ctx: ctx.create_promise("p", expires_after=0),
        "promise 'p': expires_after=0 has to be a positive time",
    ),
    (lambda ctx: ctx.create_promise("p", expires_after=float("nan")), "promise 'p': expires_after=nan has to be"),
    (lambda ctx: ctx.create_promise("p", idempotency_key=""), "promise 'p': an idempotency_key has 1 to 255"),
    (lambda ctx: ctx.create_promise("p", idempotency_key_ttl=5), "promise 'p': idempotency_key_ttl="),
    (lambda ctx: ctx.create_promise(Promise[complex]("c")), "the type complex cannot be a payload"),
    (lambda ctx: ctx.drain_signals("$x"), "'$x' cannot be used as signal name"),
    (lambda ctx: ctx.has_signal(""), "'' cannot be used as signal name"),
    (lambda ctx: ctx.set("", 1), "'' cannot be used as StateKey name"),
    (lambda ctx: ctx.patched("$p"), "'$p' cannot be used as patch name"),
]


@pytest.mark.parametrize(("call", "message"), WRONG)
def test_wrong_arguments_record_nothing(call: Any, message: str) -> None:
    seen: list[UsageError] = []

    @workflow
    async def wrong(ctx: WorkflowContext) -> None:
        try:
            call(ctx)
        except (UsageError, DefinitionError) as error:
            seen.append(error)

    assert plain(running(wrong).dry()) == [CompleteWorkflow(b"null")]
    assert seen[0].message.startswith(message)


def test_a_signal_of_a_type_that_cannot_be_read_is_not_waited_for() -> None:
    @workflow
    async def wrong(ctx: WorkflowContext) -> str:
        try:
            await ctx.wait_for_signal(Signal[complex]("s"))
        except PayloadError as error:
            return error.message.partition(":")[0]
        return "no"

    assert plain(running(wrong).dry()) == [CompleteWorkflow(b'"the type complex cannot be a payload"')]
