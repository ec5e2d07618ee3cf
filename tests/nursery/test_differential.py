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
@example([("group", [[("hold", 0, 0, [("sleep", 3)])] for _ in range(3)], [("hold", 1, 0, [("sleep", 1)])])])
@example(
    [("group", [[("hold", 0, n, [("sleep", 3)])] for n in (2, 3, 3, 3, 4, 5, 5)], [("hold", 1, 4, [("raise", 1)])])]
)
@example([("group", [[("hold", 0, 4, [("sleep", 3)])] for _ in range(4)], [("hold", 1, 4, [("sleep", 1)])])])
@example([("group", [[("hold", n, 2, [("sleep", 3)])] for n in (0, 0, 1, 5, 6)], [("hold", 1, 2, [("sleep", 1)])])])
@example([("group", [[("await_notice", 0, 0)] for _ in range(3)], [("notify", 1, 0, False), ("notify", 1, 0, True)])])
@example([("group", [[("send", 0, n)] for n in (0, 0, 1, 1, 1)], [("receive", 2, n) for n in (0, 1, 1, 0)])])
@example([("handle", [("hold", 0, 0, [("forever",)])], [("sleep", 2), ("hold", 0, 0, [("sleep", 1)])], True)])
@example([("scope", 2, False, [("swallow", [("sleep", 5)]), ("checkpoint",), ("sleep", 1)])])
@given(programs)
def test_trio_agrees(program: list[Node]) -> None:
    assert outcome(program, "flovyn") == outcome(program, "trio")


@pytest.mark.deep
@given(programs)
def test_trio_agrees_on_many(program: list[Node]) -> None:
    assert outcome(program, "flovyn") == outcome(program, "trio")
