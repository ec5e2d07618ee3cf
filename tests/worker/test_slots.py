"""Slots: who runs, who waits, and when new work is asked for."""

from __future__ import annotations

import anyio
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from flovyn.worker.slots import Slot, Slots

pytestmark = pytest.mark.anyio


async def is_free(slots: Slots) -> bool:
    with anyio.move_on_after(0) as scope:
        await slots.free()
    return not scope.cancelled_caught


async def holds(slot: Slot) -> bool:
    with anyio.move_on_after(0) as scope:
        await slot.held()
    return not scope.cancelled_caught


async def test_a_slot_is_taken_at_once_while_there_is_one() -> None:
    slots = Slots(2)
    first, second = slots.slot(), slots.slot()
    assert (await holds(first), await holds(second), await is_free(slots), slots.open) == (True, True, False, 2)
    first.close()
    assert (await is_free(slots), slots.open) == (True, 1)


async def test_who_waits_is_served_in_order_and_before_new_work_is_asked_for() -> None:
    slots = Slots(1)
    running = slots.slot()
    between = [slots.slot(), slots.slot()]
    assert [await holds(slot) for slot in between] == [False, False]
    running.release()
    assert [await holds(slot) for slot in between] == [True, False]
    assert not await is_free(slots)
    between[0].release()
    assert (await holds(between[1]), await is_free(slots)) == (True, False)
    between[1].release()
    assert await is_free(slots)


async def test_a_slot_that_was_given_back_is_claimed_again() -> None:
    slots = Slots(1)
    slot = slots.slot()
    slot.release()
    assert (await is_free(slots), slots.open) == (True, 1)
    slot.claim()
    assert (await holds(slot), await is_free(slots)) == (True, False)


async def test_who_waits_may_leave_the_line() -> None:
    slots = Slots(1)
    running, first, second = slots.slot(), slots.slot(), slots.slot()
    first.close()
    running.close()
    assert (await holds(second), slots.open) == (True, 1)


async def test_idle_is_when_no_work_is_under_way_with_a_slot_or_without() -> None:
    slots = Slots(1)
    await slots.idle()
    slot = slots.slot()
    slot.release()
    order: list[str] = []

    async def wait() -> None:
        await slots.idle()
        order.append("idle")

    with anyio.fail_after(5):
        async with anyio.create_task_group() as tg:
            tg.start_soon(wait)
            await anyio.lowlevel.checkpoint()
            order.append("closed")
            slot.close()
    assert order == ["closed", "idle"]


async def test_closing_twice_is_closing_once() -> None:
    slots = Slots(1)
    first, second = slots.slot(), slots.slot()
    first.close()
    first.close()
    assert (await holds(second), await is_free(slots), slots.open) == (True, False, 1)


class Model(RuleBasedStateMachine):
    """Any order of what pieces of work do with their slots."""

    def __init__(self) -> None:
        super().__init__()
        self.slots = Slots(2)
        self.held: list[Slot] = []
        self.line: list[Slot] = []
        self.between: list[Slot] = []

    def settle(self) -> None:
        while self.line and len(self.held) < 2:
            self.held.append(self.line.pop(0))

    @rule()
    def begin(self) -> None:
        self.line.append(self.slots.slot())
        self.settle()

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        slot = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
        slot.release()
        self.between.append(slot)
        self.settle()

    @precondition(lambda self: self.between)
    @rule()
    def claim(self) -> None:
        slot = self.between.pop()
        slot.claim()
        self.line.append(slot)
        self.settle()

    @precondition(lambda self: self.held or self.line or self.between)
    @rule(data=st.data())
    def close(self, data: st.DataObject) -> None:
        slot = data.draw(st.sampled_from([*self.held, *self.line, *self.between]))
        for place in (self.held, self.line, self.between):
            if slot in place:
                place.remove(slot)
        slot.close()
        slot.close()
        self.settle()

    @invariant()
    def who_holds_a_slot_is_who_should(self) -> None:
        assert all(slot.is_held for slot in self.held)
        assert not any(slot.is_held for slot in (*self.line, *self.between))
        assert self.slots.open == len(self.held) + len(self.line) + len(self.between)


TestModel = Model.TestCase
