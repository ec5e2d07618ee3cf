"""Signals: first come, first served; none is ever lost."""

from __future__ import annotations

import json
from functools import partial

import anyio
import pytest

from flovyn.definitions import workflow
from flovyn.errors import UsageError
from flovyn.replay import read_event
from flovyn.replay.commands import CompleteWorkflow, SuspendWorkflow
from replay.direct import Direct
from replay.replay_platform import Run, plain

CACHED = pytest.mark.parametrize("cached", [True, False])


@workflow
async def looks_before(ctx: Direct) -> list[object]:
    signals = ctx.execution.signals
    seen: list[object] = [signals.pending("go"), signals.pending("other")]
    seen.append(await ctx.signal("go"))
    seen.append(signals.pending("go"))
    await anyio.sleep(1)
    seen += [signals.pending("go"), [json.loads(one) for one in signals.drain("go")], signals.pending("go")]
    return seen


@CACHED
def test_signals_sent_with_the_start_are_there_before_the_first_step(cached: bool) -> None:
    run = Run(looks_before, context=Direct)
    run.platform.signal("go", 1)
    run.platform.signal("go", [2])
    run.activate(cached=cached)
    run.platform.signal("other", 0)
    run.platform.signal("go", {"n": 3})
    run.activate(cached=cached)
    run.platform.fire_next()
    run.platform.signal("go", "behind the timer: not there yet when it fired")
    assert plain(run.activate(cached=cached)) == [CompleteWorkflow(b'[2,0,1,1,2,[[2],{"n":3}],0]')]


@CACHED
def test_a_look_that_found_nothing_finds_nothing_on_replay(cached: bool) -> None:
    run = Run(looks_before, context=Direct)
    assert run.activate(cached=cached).commands[-1] == SuspendWorkflow("Waiting for signal")
    for n in range(3):
        run.platform.signal("go", n)
    run.activate(cached=cached)
    run.platform.fire_next()
    assert plain(run.activate(cached=cached)) == [CompleteWorkflow(b"[0,0,0,0,2,[1,2],0]")]


@CACHED
def test_waiters_are_served_in_the_order_in_which_they_came(cached: bool) -> None:
    @workflow
    async def queue(ctx: Direct) -> list[list[object]]:
        served: list[list[object]] = []

        async def wait(name: str, signal: str) -> None:
            served.append([name, await ctx.signal(signal)])

        async with anyio.create_task_group() as tg:
            for name in ("first", "second", "third"):
                tg.start_soon(wait, name, "go")
            tg.start_soon(wait, "other", "stop")
        return served

    run = Run(queue, context=Direct)
    run.activate(cached=cached)
    for n, name in enumerate(("go", "stop", "go")):
        run.platform.signal(name, n)
    run.activate(cached=cached)
    run.platform.signal("go", 3)
    end = b'[["first",0],["other",1],["second",2],["third",3]]'
    assert plain(run.activate(cached=cached)) == [CompleteWorkflow(end)]


@CACHED
def test_a_waiter_that_is_cancelled_leaves_the_signal_to_the_next(cached: bool) -> None:
    @workflow
    async def gives_up(ctx: Direct) -> list[object]:
        with anyio.move_on_after(5):
            await ctx.signal("go")
        return ["after", await ctx.signal("go")]

    run = Run(gives_up, context=Direct)
    run.activate(cached=cached)
    run.platform.fire_next()
    run.platform.signal("go", 1)
    assert plain(run.activate(cached=cached)) == [CompleteWorkflow(b'["after",1]')]


@CACHED
def test_a_signal_that_was_assigned_is_delivered_though_the_scope_is_cancelled_before_the_waiter_runs(
    cached: bool,
) -> None:
    @workflow
    async def cancelled(ctx: Direct) -> list[object]:
        got: list[object] = []

        async def wait() -> None:
            got.append(await ctx.signal("go"))
            await anyio.lowlevel.checkpoint()
            got.append("not reached")

        async with anyio.create_task_group() as tg:
            tg.start_soon(wait)
            await anyio.sleep(1)
            # As if it came while this very step is made: the waiter is woken, and cancelled before its next step.
            ctx.execution.signals.deliver(read_event(99, "SIGNAL_RECEIVED", b'{"signalName":"go","signalValue":7}'))
            tg.cancel_scope.cancel()
        return got

    run = Run(cancelled, context=Direct)
    run.activate(cached=cached)
    run.platform.fire_next()
    assert plain(run.activate(cached=cached)) == [CompleteWorkflow(b"[7]")]


@CACHED
def test_handlers_get_what_waits_in_the_order_in_which_it_came_and_then_what_comes(cached: bool) -> None:
    @workflow
    async def handles(ctx: Direct) -> list[str]:
        heard: list[str] = []
        signals = ctx.execution.signals

        def hear(name: str, data: bytes) -> None:
            heard.append(f"{name} {data.decode()}")

        signals.handle({name: partial(hear, name) for name in ("b", "a")})
        heard.append("run")
        with pytest.raises(UsageError, match="signal 'a' has a handler already"):
            signals.handle({"c": lambda _: None, "a": lambda _: None})
        await anyio.sleep(1)
        return [*heard, f"c {signals.pending('c')}"]

    run = Run(handles, context=Direct)
    for n, name in enumerate(("a", "b", "c", "a")):
        run.platform.signal(name, n)
    run.activate(cached=cached)
    run.platform.signal("b", 4)
    run.platform.fire_next()
    assert plain(run.activate(cached=cached)) == [CompleteWorkflow(b'["a 0","b 1","a 3","run","b 4","c 1"]')]


def test_a_signal_without_a_name_or_a_value_is_one_all_the_same() -> None:
    @workflow
    async def any_signal(ctx: Direct) -> list[object]:
        return [await ctx.signal("__default__")]

    run = Run(any_signal, context=Direct)
    run.platform.append("SIGNAL_RECEIVED")
    assert plain(run.dry(cached=False)) == [CompleteWorkflow(b"[null]")]
