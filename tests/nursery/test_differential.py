"""The same program on Trio and on the nursery: the same log, the same errors, the same scopes caught."""

from __future__ import annotations

import anyio
import pytest
import trio.testing
from hypothesis import example, given

from nursery.driving import run
from nursery.programs import Node, Report, World, number_fractions, programs


def outcome(program: list[Node], backend: str) -> Report:
    world = World(program)
    number_fractions(world)
    if backend == "flovyn":
        return run(world.run)
    clock = trio.testing.MockClock(autojump_threshold=0)
    return anyio.run(world.run, backend="trio", backend_options={"clock": clock})


@example([("scope", 1, False, [("scope", None, True, [("sleep", 3)]), ("sleep", 1)])])
@example([("group", [[("raise", 1)], [("finally", [("forever",)], 2)]], [("sleep", 5)])])
@example([("start", [("sleep", 2)], [("forever",)], [("cancel", 1, 0)])])
@example([("scope", 1, False, [("start", [("forever",)], [("sleep", 1)], [("sleep", 1)])])])
@given(programs)
def test_trio_agrees(program: list[Node]) -> None:
    assert outcome(program, "flovyn") == outcome(program, "trio")


@pytest.mark.deep
@given(programs)
def test_trio_agrees_on_many(program: list[Node]) -> None:
    assert outcome(program, "flovyn") == outcome(program, "trio")
