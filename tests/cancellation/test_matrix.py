"""Every cell of the matrix: the exact commands, the exact state of the server, and exactly what the workflow sees."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import nullcontext
from itertools import pairwise
from typing import Any, get_args

import pytest

from cancellation.model import Deed, Expected, expected
from cancellation.programs import REASON, SIGHTS, races
from cancellation.stage import Played, Stage, staged
from cancellation.table import CANNOT_OCCUR, CELLS, OPERATIONS, Cell, Scope, When, product_of_axes
from flovyn import FailedPrecondition

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
async def stage(anyio_backend: Any) -> AsyncGenerator[Stage]:
    """One server for all cells; each has a queue of its own."""
    async with staged() as stage:
        yield stage


async def do(played: Played, deed: Deed, cell: Cell, *, late: bool) -> None:
    match deed:
        case "start":
            pass
        case "cancel" if not cell.is_inner:
            await played.request_cancel()
        case "go" | "cancel" | "end":
            await played.signal(deed, None)
        case "end of it":
            await bring_about_the_end(played, cell, late=late)


async def bring_about_the_end(played: Played, cell: Cell, *, late: bool) -> None:
    """Have the operation end; too late, whoever works on the task is refused, as is a signal for what has ended."""
    refused = pytest.raises(FailedPrecondition) if late else nullcontext()
    if not cell.what.things:
        with refused:
            await played.signal("done", "sent")
    if "task" in cell.what.things:
        with refused:
            await played.complete_task()
    if "child" in cell.what.things:
        waits = (await played.kept({"child"}))["child"] == "PENDING"
        assert waits or late
        assert await played.complete_child() is waits
    if "promise" in cell.what.things:
        with refused:
            await played.resolve_promise()
    if "timer" in cell.what.things:
        await played.pass_time()


@pytest.mark.parametrize("cell", CELLS, ids=str)
async def test_cell(stage: Stage, cell: Cell) -> None:
    wanted = expected(cell)
    played = await stage.start(
        cell.operation,
        inner=cell.is_inner,
        shielded=cell.is_shielded,
        gated=cell.is_gated,
        race=cell.when if cell.is_raced else "",
        cached=cell.cached,
    )
    for phase in wanted.phases:
        for deed in phase.deeds:
            await do(played, deed, cell, late=phase.late)
        assert tuple(await played.activations()) == phase.activations
        assert await played.kept({"timer", *cell.what.things}) == phase.kept  # reserved timers are timers, too
    assert await played.kept() == wanted.phases[-1].kept
    assert await played.events() == wanted.events
    await check_the_end(played, cell, wanted)
    check_sights(played.handle.id, cell, wanted)


async def check_the_end(played: Played, cell: Cell, wanted: Expected) -> None:
    shown = await played.shown()
    assert shown["status"] == wanted.status
    if cell.is_inner:
        assert shown["output"] == wanted.notes
        assert not shown["cancellationRequested"]
    else:
        assert (shown["output"], shown["error"], shown["cancelReason"]) == (None, REASON, REASON)


def check_sights(workflow_id: str, cell: Cell, wanted: Expected) -> None:
    """What a re-enactment sees begins with what was seen before it."""
    runs = SIGHTS.pop(workflow_id)
    assert runs[-1] == wanted.notes
    assert (len(runs) == 1) is (cell.cached or sum(len(phase.activations) for phase in wanted.phases) == 1)
    for earlier, later in pairwise(runs):
        assert later[: len(earlier)] == earlier
    # The body of an operation that is given up while it runs is cancelled, by the backend's own exception.
    if cell.operation == "run":
        race = races.pop(workflow_id)
        assert race.cancelled == (cell.is_raced and cell.when == "while" and not cell.is_shielded)


def test_the_list_of_cells_that_cannot_occur_is_exact() -> None:
    axes = (OPERATIONS, get_args(When), get_args(Scope), (True, False))
    size = 1
    for axis in axes:
        size *= len(axis)
    run = {(cell.operation, cell.when, cell.scope) for cell in CELLS}
    assert len(product_of_axes()) == size == len(CELLS) + 2 * len(CANNOT_OCCUR)
    assert run.isdisjoint(CANNOT_OCCUR)
    assert len(set(CELLS)) == len(CELLS)
    assert all(CANNOT_OCCUR.values())
