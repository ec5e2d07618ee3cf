"""State: what the code has written so far, whatever history holds behind it."""

from __future__ import annotations

import anyio
import pytest

from flovyn.definitions import workflow
from flovyn.errors import DeterminismViolation
from flovyn.replay.commands import ClearState, CompleteWorkflow, SetState, StartTimer
from replay.direct import Direct
from replay.replay_platform import Run, plain

CACHED = pytest.mark.parametrize("cached", [True, False])


@workflow
async def counts(ctx: Direct) -> list[str | None]:
    state = ctx.execution.state
    read: list[str | None] = []

    def look() -> None:
        value = state.get("n")
        read.append(None if value is None else value.decode())

    look()
    state.set("n", b"1")
    look()
    await anyio.sleep(1)
    look()
    state.set("n", b"2")
    state.set("a", b"null")
    read += state.keys()
    await anyio.sleep(1)
    look()
    state.clear("n")
    state.clear("never there")
    look()
    return [*read, *state.keys()]


@CACHED
def test_reads_never_see_what_is_written_later(cached: bool) -> None:
    run = Run(counts, context=Direct)
    assert plain(run.activate(cached=cached, salt="a")) == [SetState("n", b"1"), StartTimer("timer-0.a", 1_000)]
    run.platform.fire_next()
    second = plain(run.activate(cached=cached, salt="b"))
    assert second == [SetState("n", b"2"), SetState("a", b"null"), StartTimer("timer-1.b", 1_000)]
    run.platform.fire_next()
    assert plain(run.activate(cached=cached)) == [
        ClearState("n"),
        ClearState("never there"),
        CompleteWorkflow(b'[null,"1","1","a","n","2",null,"a"]'),
    ]


@workflow(kind="redeployed")
async def sets_a(ctx: Direct) -> None:
    ctx.execution.state.set("a", b"1")
    await anyio.sleep(1)


@workflow(kind="redeployed")
async def sets_another_value(ctx: Direct) -> str:
    ctx.execution.state.set("a", b"2")
    await anyio.sleep(1)
    return (ctx.execution.state.get("a") or b"").decode()


@workflow(kind="redeployed")
async def sets_b(ctx: Direct) -> None:
    ctx.execution.state.set("b", b"1")


@workflow(kind="redeployed")
async def clears_a(ctx: Direct) -> None:
    ctx.execution.state.clear("a")


@workflow(kind="redeployed")
async def sets_twice(ctx: Direct) -> None:
    ctx.execution.state.set("a", b"1")
    ctx.execution.state.set("a", b"1")


@workflow(kind="redeployed")
async def sets_nothing(ctx: Direct) -> None:
    await anyio.sleep(1)


@pytest.mark.parametrize(
    ("other", "text"),
    [
        (sets_b, "State key mismatch at sequence 0: expected 'a', got 'b'"),
        (clears_a, "Type mismatch at sequence 0: expected StateSet, got StateCleared"),
        (sets_twice, "State call not in history at sequence 1: activation 1 did not make it"),
        (sets_nothing, "State call missing at sequence 0: activation 1 made it, the code does not"),
    ],
)
def test_code_that_writes_other_state_disagrees(other: object, text: str) -> None:
    run = Run(sets_a, context=Direct)
    run.activate()
    run.workflow = other  # type: ignore[assignment]
    with pytest.raises(DeterminismViolation) as caught:
        run.dry(cached=False)
    assert str(caught.value) == f"Determinism violation: {text}"


def test_a_clear_that_history_has_is_not_a_set() -> None:
    run = Run(clears_then_sleeps, context=Direct)
    run.activate()
    run.workflow = sets_a
    with pytest.raises(DeterminismViolation, match="expected StateCleared, got StateSet") as caught:
        run.dry(cached=False)
    assert (caught.value.expected, caught.value.got) == ("StateCleared", "StateSet")


@workflow(kind="redeployed")
async def clears_then_sleeps(ctx: Direct) -> None:
    ctx.execution.state.clear("a")
    await anyio.sleep(1)


def test_values_are_not_compared() -> None:
    run = Run(sets_a, context=Direct)
    run.activate()
    run.platform.fire_next()
    run.workflow = sets_another_value
    assert plain(run.activate(cached=False)) == [CompleteWorkflow(b'"2"')]
