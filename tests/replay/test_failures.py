"""What an uncaught exception of a workflow tells whoever reads its end."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import anyio
import pytest

from flovyn.definitions import workflow
from flovyn.replay import Status
from flovyn.replay.commands import FailWorkflow
from flovyn.serde.envelope import ErrorInfo, parse_error
from replay.direct import Direct
from replay.replay_platform import Run

CACHED = pytest.mark.parametrize("cached", [True, False])


class OutOfStock(Exception):
    pass


def look_up(shelf: dict[str, int]) -> int:
    return shelf["tea"]


async def order() -> None:
    try:
        look_up({})
    except KeyError as missing:
        raise OutOfStock("no tea") from missing


def failing(body: Callable[[], Coroutine[Any, Any, None]], cached: bool) -> FailWorkflow:
    """How a workflow ends that runs this behind a timer."""

    @workflow
    async def fails(ctx: Direct) -> None:
        await anyio.sleep(1)
        await body()

    run = Run(fails, context=Direct)
    run.activate(cached=cached)
    run.platform.fire_next()
    submission = run.activate(cached=cached)
    assert submission.status is Status.FAILED
    failure = submission.commands[-1]
    assert isinstance(failure, FailWorkflow)
    assert failure.failure_type == "ERROR"
    return failure


@CACHED
def test_it_tells_its_type_message_cause_and_where_it_was_raised(cached: bool) -> None:
    failure = failing(order, cached)
    assert failure.error.splitlines()[0] == "OutOfStock: no tea"
    info = parse_error(failure.error)
    assert (info.type, info.message, info.retryable) == ("OutOfStock", "no tea", True)
    assert info.cause == ErrorInfo("'tea'", type="KeyError")
    assert info.traceback is not None
    assert info.traceback.endswith("OutOfStock: no tea\n")
    for place in ("in fails", "in order", 'raise OutOfStock("no tea") from missing'):
        assert place in info.traceback
    assert "flovyn/nursery" not in info.traceback, "the scheduler's own frames tell a reader nothing"
    assert failure.stack_trace == info.traceback, "the platform's own place for it"


@CACHED
def test_a_group_tells_its_tree(cached: bool) -> None:
    async def both() -> None:
        async def waits_too_long() -> None:
            async with anyio.create_task_group() as inner:
                inner.start_soon(order)

        async with anyio.create_task_group() as tg:
            tg.start_soon(order)
            tg.start_soon(waits_too_long)

    info = parse_error(failing(both, cached).error)
    assert info.type == "ExceptionGroup"
    cause = ErrorInfo("'tea'", type="KeyError")
    assert info.members == (ErrorInfo("no tea", type="OutOfStock", cause=cause),) * 2


@CACHED
def test_a_group_of_one_is_told_as_its_member(cached: bool) -> None:
    async def one() -> None:
        async with anyio.create_task_group() as tg:
            tg.start_soon(order)

    text = failing(one, cached).error
    assert text.splitlines()[0] == "OutOfStock: no tea"
    info = parse_error(text)
    assert (info.type, info.members, info.cause) == ("OutOfStock", (), ErrorInfo("'tea'", type="KeyError"))


@CACHED
def test_it_is_bounded(cached: bool) -> None:
    async def wide() -> None:
        raise ExceptionGroup("many", [ExceptionGroup("x" * 99_999, [ValueError("y" * 99_999)] * 9)] * 9)

    assert len(failing(wide, cached).error) < 48 * 1024
