"""The machine's clock is set while the server runs."""

from __future__ import annotations

import time
from itertools import pairwise

from flovyn.server.clock import Clock
from server.world import TIMEOUT_MS, World, start_timer, suspend

HOUR_MS = 3_600_000


class Machine:
    """A wall clock that can be set, and the time that really passes, in milliseconds."""

    def __init__(self) -> None:
        self.wall = 1_000_000
        self.passed = 77
        self.clock = Clock(lambda: self.wall * 1_000_000, lambda: self.passed * 1_000_000)

    def advance(self, milliseconds: int) -> None:
        self.wall += milliseconds
        self.passed += milliseconds


def test_it_shows_the_time_of_the_machine() -> None:
    assert abs(Clock()() - time.time_ns() // 1_000_000) < 1_000


def test_it_follows_the_machine_forward_and_goes_on_when_that_is_set_back() -> None:
    machine = Machine()
    shown = [machine.clock()]
    for jump in (0, HOUR_MS, -2 * HOUR_MS, 0, 2 * HOUR_MS, 1):
        machine.advance(10)
        machine.wall += jump
        shown.append(machine.clock())
    steps = [later - earlier for earlier, later in pairwise(shown)]
    assert steps == [10, HOUR_MS + 10, 10, 10, 10, 11]


def test_setting_the_clock_back_keeps_no_lease_and_no_timer() -> None:
    world = World()
    machine = Machine()
    world.engine.core.clock = machine.clock
    world.start()
    world.activate(start_timer("t", TIMEOUT_MS), suspend())
    held = world.start()
    assert world.claim() is not None
    machine.wall -= HOUR_MS
    world.engine.call_begun(world.caller())
    machine.advance(TIMEOUT_MS)
    assert world.engine.next_at <= machine.clock()
    world.engine.tick()
    assert world.status(held) == "PENDING"
    assert world.types(world.store.runs.all()[0].id)[-1] == "TIMER_FIRED"
