"""Histories that are read as they grow."""

from __future__ import annotations

import math

import anyio
import pytest

from flovyn.client.pauses import Pauses
from flovyn.client.watch import Tail
from flovyn.wire import coding
from flovyn.wire.messages.flovyn import v1 as pb

pytestmark = pytest.mark.anyio

EVENT = coding.encode(pb.GetEventsResponse(events=[pb.WorkflowEvent(sequence_number=1, event_type="WORKFLOW_STARTED")]))


class Counted(Pauses):
    """Counts the pauses, and makes none."""

    def __init__(self) -> None:
        super().__init__()
        self.made = 0

    async def wait(self) -> None:
        self.made += 1


async def pauses_between(held_for: float) -> int:
    """How often one pauses who finds nothing three times, in answers that are held back for a fiftieth of a second."""
    answers = [EVENT, b"", b"", b""]

    async def read(_: str) -> bytes:
        await anyio.sleep(0.02)
        return answers.pop()

    pauses = Counted()
    tail = Tail("wf-1", read, pauses, held_for=held_for)
    assert [event.event_type for event in await tail.more()] == ["WORKFLOW_STARTED"]
    return pauses.made


async def test_an_answer_that_was_held_back_to_the_last_is_followed_by_the_next_question() -> None:
    assert await pauses_between(held_for=0.01) == 0


async def test_any_other_is_followed_by_a_pause() -> None:
    assert await pauses_between(held_for=math.inf) == 3
    assert await pauses_between(held_for=20.0) == 3
