"""What is kept of what a run has waited for: the first end, for whoever asked, and nothing once nobody can ask."""

from __future__ import annotations

import gc

import pytest

from flovyn.definitions import workflow
from flovyn.replay import Event, read_event
from flovyn.replay.settlements import Settlements
from replay.direct import Direct
from replay.replay_platform import Run


def ended(sequence: int) -> Event:
    return read_event(sequence, "TASK_COMPLETED", b'{"taskExecutionId":"t","output":1}')


@pytest.fixture
def settlements() -> Settlements:
    return Settlements(Run(looks_often, context=Direct).execution.kernel)


def test_the_first_end_counts_for_whoever_asked_before(settlements: Settlements) -> None:
    settlements.begin("t")
    assert settlements.is_open("t")
    asked = settlements.get("t")
    assert settlements.get("t") is asked
    settlements.settle("t", ended(3))
    settlements.settle("t", ended(4))
    assert asked.event == ended(3)
    assert not settlements.is_open("t")


def test_an_end_is_kept_until_somebody_asks(settlements: Settlements) -> None:
    settlements.settle("early", ended(3))
    settlements.settle("early", ended(4))
    settlements.begin("early")
    assert not settlements.is_open("early")
    assert settlements.get("early").event == ended(3)
    settlements.begin("begun")
    settlements.settle("begun", ended(5))
    assert settlements.early("begun") == ended(5)
    assert settlements.early("begun") is None
    assert not settlements.is_open("never begun")


@workflow
async def looks_often(ctx: Direct) -> None:
    for _ in range(3):
        await ctx.task("work")


def test_the_end_of_a_task_goes_with_the_wait_for_it() -> None:
    run = Run(looks_often, context=Direct)
    run.activate()
    settlement = run.execution.settlements.get(run.platform.tasks("work")[0])
    run.platform.complete("work", 1)
    run.activate()
    assert settlement.event is not None
    assert [one for one in gc.get_referrers(settlement) if isinstance(one, dict)] == []
