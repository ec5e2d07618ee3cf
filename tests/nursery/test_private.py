"""A private kernel: nobody outside touches what belongs to its tasks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import pytest

from flovyn.errors import DeterminismError
from flovyn.nursery.kernel import CancelScope
from nursery.driving import Driver


class Belongings:
    """What a workflow holds while it waits."""

    def __init__(self) -> None:
        self.awaited = anyio.Event()
        self.event = anyio.Event()
        self.semaphore = anyio.Semaphore(0)
        self.limiter = anyio.CapacityLimiter(1)
        self.scope = anyio.CancelScope()
        self.sender, self.receiver = anyio.create_memory_object_stream[int](0)
        self.went_on: list[str] = []

    async def waits(self, name: str, func: Callable[..., Any], *args: Any) -> None:
        await func(*args)
        self.went_on.append(name)

    async def run(self) -> None:
        self.limiter.acquire_on_behalf_of_nowait("somebody")
        with self.scope, self.sender, self.receiver:
            async with anyio.create_task_group() as tg:
                tg.start_soon(self.waits, "event", self.awaited.wait)
                tg.start_soon(self.waits, "semaphore", self.semaphore.acquire)
                tg.start_soon(self.waits, "limiter", self.limiter.acquire_on_behalf_of, "another")
                tg.start_soon(self.waits, "receiver", self.receiver.receive)


TOUCHES: dict[str, Callable[[Belongings], object]] = {
    "an event that is waited for": lambda its: its.awaited.set(),
    "an event that nobody waits for yet": lambda its: its.event.set(),
    "a semaphore": lambda its: its.semaphore.release(),
    "a limiter": lambda its: its.limiter.release_on_behalf_of("somebody"),
    "a larger limiter": lambda its: setattr(its.limiter, "total_tokens", 2),
    "a stream": lambda its: its.sender.send_nowait(1),
    "a cancellation": lambda its: its.scope.cancel(),
    "a deadline": lambda its: setattr(its.scope, "deadline", 5.0),
    "a shield": lambda its: setattr(its.scope, "shield", True),
}


def waiting(*, private: bool) -> tuple[Driver, Belongings]:
    driver = Driver(private=private)
    held: list[Belongings] = []

    async def main() -> None:
        held.append(Belongings())
        await held[0].run()

    driver.run(main())
    return driver, held[0]


@pytest.mark.parametrize("touch", TOUCHES)
def test_the_host_is_kept_out(touch: str) -> None:
    driver, its = waiting(private=True)
    with pytest.raises(DeterminismError, match="belongs to a workflow"):
        TOUCHES[touch](its)
    driver.kernel.run()
    assert its.went_on == []
    assert not its.event.is_set()
    assert isinstance(its.scope, CancelScope)
    assert (its.scope.cancel_called, its.scope.deadline, its.scope.shield) == (False, float("inf"), False)
    driver.kernel.close()


@pytest.mark.parametrize("touch", TOUCHES)
def test_its_owner_may_touch_what_it_likes_inside_an_activation(touch: str) -> None:
    driver, its = waiting(private=True)
    with driver.kernel.activation():
        TOUCHES[touch](its)
    driver.kernel.close()


@pytest.mark.parametrize("touch", TOUCHES)
def test_a_kernel_is_not_private_unless_it_is_said(touch: str) -> None:
    driver, its = waiting(private=False)
    TOUCHES[touch](its)
    driver.kernel.close()


@pytest.mark.parametrize("touch", [touch for touch in TOUCHES if touch != "a stream"])  # that one is closed by now
def test_a_dead_one_takes_no_notice(touch: str) -> None:
    driver, its = waiting(private=True)
    driver.kernel.close()
    TOUCHES[touch](its)
    assert its.went_on == []
