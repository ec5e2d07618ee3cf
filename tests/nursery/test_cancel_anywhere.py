"""Whatever a program does, and at whichever step it is cancelled: it hears of it soon, and leaves nothing behind."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nursery.driving import Driver
from nursery.programs import Node, World, number_fractions, programs


def cancel_at(program: list[Node], moment: int, *, late: int | None = None) -> None:
    """Cancel a program from outside after `moment` steps, and once more, in its shields, after `late` further ones."""
    world = World(program)
    number_fractions(world)
    driver = Driver(step_limit=10**6)
    kernel = driver.kernel
    scope = kernel.create_scope()
    driver.task(world.run(), scope=scope)
    while kernel.steps < moment and not driver.ended:
        if kernel.run(1) and driver.armed:
            driver.fire()

    kernel.steps = 0
    scope.cancel("from outside")
    assert kernel.run() is True
    # A few steps for each thing that the program is made of, and not one for each moment of its life.
    bound = 20 * (1 + len(world.fractions))
    assert kernel.steps <= bound
    for task in kernel.tasks:
        waits_for_children = task.abort is None
        assert waits_for_children or not kernel.is_cancelled(task), task.stack()

    if late is not None:
        for _, inner in world.scopes[:late]:
            inner.shield = False
        kernel.steps = 0
        assert kernel.run() is True
        assert kernel.steps <= bound
    fired = 0
    while not driver.ended:
        driver.fire()
        kernel.steps = 0
        kernel.run()
        assert kernel.steps <= bound
        fired += 1
        assert fired <= bound
    assert (kernel.tasks, driver.armed) == ((), {})


@given(programs, st.integers(0, 60), st.none() | st.integers(0, 5))
def test_a_cancellation_is_heard_within_a_bounded_number_of_steps(
    program: list[Node], moment: int, late: int | None
) -> None:
    cancel_at(program, moment, late=late)


@pytest.mark.deep
@given(programs, st.integers(0, 300), st.none() | st.integers(0, 5))
def test_a_cancellation_is_heard_in_many_programs(program: list[Node], moment: int, late: int | None) -> None:
    cancel_at(program, moment, late=late)


@given(programs, st.integers(0, 60))
def test_an_eviction_at_any_step_ends_everything(program: list[Node], moment: int) -> None:
    world = World(program)
    number_fractions(world)
    driver = Driver()
    driver.task(world.run())
    while driver.kernel.steps < moment and not driver.ended:
        if driver.kernel.run(1) and driver.armed:
            driver.fire()
    before = list(driver.log)
    driver.kernel.close()
    assert driver.kernel.tasks == ()
    assert driver.log == before  # neither started nor cancelled a timer
    assert driver.kernel.run() is True
