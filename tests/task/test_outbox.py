"""What a task has said and nobody has heard yet."""

from __future__ import annotations

import sys
from typing import Any

import anyio
import pytest

from flovyn.task.outbox import Message, Outbox
from flovyn.wire import methods

pytestmark = pytest.mark.anyio


def latest(text: str, slot: str = "progress") -> Message:
    return Message(methods.REPORT_PROGRESS, text, latest=slot)


def line(text: str) -> Message:
    return Message(methods.LOG_MESSAGE, text)


def event(text: str) -> Message:
    return Message(methods.STREAM_TASK_DATA, text)


def emptied(outbox: Outbox) -> list[Any]:
    taken: list[Any] = []
    while (message := outbox.take()) is not None:
        taken.append(message.request)
    return taken


def an_outbox() -> Outbox:
    return Outbox(lambda: None)


async def test_of_what_counts_last_only_the_last_is_kept() -> None:
    outbox = an_outbox()
    for text in ("10 %", "20 %", "30 %"):
        outbox.put(latest(text))
    outbox.put(latest("note", slot="heartbeat"))
    assert len(outbox) == 2
    assert emptied(outbox) == ["30 %", "note"]


async def test_the_sorts_take_turns_and_each_keeps_its_order() -> None:
    outbox = an_outbox()
    for number in range(3):
        outbox.put(line(f"l{number}"))
        await outbox.put_event(event(f"e{number}"))
    outbox.put(latest("p"))
    taken = emptied(outbox)
    assert [text for text in taken if text[0] == "l"] == ["l0", "l1", "l2"]
    assert [text for text in taken if text[0] == "e"] == ["e0", "e1", "e2"]
    assert {text[0] for text in taken[:3]} == {"p", "l", "e"}
    assert outbox.dropped == 0


async def test_of_too_many_lines_the_oldest_go() -> None:
    outbox = an_outbox()
    for number in range(1003):
        outbox.put(line(str(number)))
    assert emptied(outbox) == [str(number) for number in range(3, 1003)]
    assert outbox.dropped == 3


async def test_an_event_waits_for_room() -> None:
    outbox = an_outbox()
    for number in range(256):
        await outbox.put_event(event(str(number)))
    with anyio.fail_after(5):
        async with anyio.create_task_group() as tg:
            tg.start_soon(outbox.put_event, event("256"))
            await anyio.wait_all_tasks_blocked()
            assert len(outbox) == 256
            assert outbox.take() is not None
    assert emptied(outbox) == [str(number) for number in range(1, 257)]
    assert outbox.dropped == 0


async def test_an_event_that_finds_no_room_in_time_is_dropped_and_the_next_do_not_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = sys.modules[Outbox.__module__]  # `flovyn.task` as an attribute is the decorator
    monkeypatch.setattr(module, "_WAIT_FOR_ROOM", 0.02)
    monkeypatch.setattr(module, "_EVENTS", 2)
    outbox = an_outbox()
    for text in ("a", "b", "late"):
        await outbox.put_event(event(text))
    monkeypatch.setattr(module, "_WAIT_FOR_ROOM", 60)
    with anyio.fail_after(5):
        await outbox.put_event(event("later"))  # does not wait
        assert outbox.dropped == 2
        first = outbox.take()
        await outbox.put_event(event("c"))
        async with anyio.create_task_group() as tg:
            tg.start_soon(outbox.put_event, event("d"))  # waits again, as there has been room
            await anyio.wait_all_tasks_blocked()
            second = outbox.take()
    assert [message and message.request for message in (first, second)] == ["a", "b"]
    assert (emptied(outbox), outbox.dropped) == (["c", "d"], 2)


async def test_what_could_not_be_sent_comes_first_again_unless_it_is_outdated() -> None:
    outbox = an_outbox()
    outbox.put(line("l1"))
    outbox.put(latest("new"))
    outbox.restore(line("l0"), event=False)
    outbox.restore(event("e0"), event=True)
    outbox.restore(latest("old"), event=False)
    taken = emptied(outbox)
    assert [text for text in taken if text[0] == "l"] == ["l0", "l1"]
    assert sorted(text for text in taken if text[0] != "l") == ["e0", "new"]


async def test_a_closed_outbox_takes_nothing_and_keeps_nobody_waiting() -> None:
    told: list[None] = []
    outbox = Outbox(lambda: told.append(None))
    for number in range(256):
        await outbox.put_event(event(str(number)))
    outbox.put(latest("p"))
    with anyio.fail_after(5):
        async with anyio.create_task_group() as tg:
            tg.start_soon(outbox.put_event, event("waits"))
            await anyio.wait_all_tasks_blocked()
            outbox.close()
    before = len(told)
    outbox.put(line("late"))
    await outbox.put_event(event("late"))
    assert (emptied(outbox), outbox.dropped, len(told)) == ([], 256, before)
