"""The winner of a race is the first in history, whatever raced, however late it looks, and on every replay."""

from __future__ import annotations

import json
from typing import Any

import anyio
from hypothesis import given
from hypothesis import strategies as st

from flovyn.definitions import Workflow, task, workflow
from flovyn.replay import Submission
from flovyn.replay.commands import CompleteWorkflow
from flovyn.workflow import WorkflowContext, select
from replay.replay_platform import Run, evict

_WAY = st.sampled_from(["select", "group"])
_RACERS = st.lists(st.sampled_from(["task", "child", "timer", "promise", "signal"]), min_size=2, max_size=6)


@task
async def work(ctx: object, number: int) -> None: ...


@workflow(kind="child")
async def child(ctx: object) -> None: ...


def racing(kinds: list[str], way: str) -> Workflow[[], int]:
    """A workflow that tells which of these was first."""

    async def contend(ctx: WorkflowContext, number: int) -> None:
        match kinds[number]:
            case "task":
                await ctx.schedule(work, number)
            case "child":
                await ctx.schedule_workflow(child.options(child_name=f"c{number}"))
            case "timer":
                await anyio.sleep(10 + number)
            case "promise":
                await ctx.promise(f"p{number}")
            case _:
                await ctx.wait_for_signal(f"s{number}")

    @workflow
    async def race(ctx: WorkflowContext) -> int:
        if way == "select":
            return (await select(*(contend(ctx, number) for number in range(len(kinds)))))[0]
        first: list[int] = []

        async def run(number: int) -> None:
            await contend(ctx, number)
            first.append(number)
            tg.cancel_scope.cancel()

        async with anyio.create_task_group() as tg:
            for number in range(len(kinds)):
                tg.start_soon(run, number)
        return first[0]

    return race


class Outside:
    """Ends what races, one by one."""

    def __init__(self, run: Run, kinds: list[str]) -> None:
        self.platform = run.platform
        self.kinds = kinds
        tasks, timers = iter(self.platform.open_tasks()), iter(self.platform.due)
        self.ids = [next(tasks) if kind == "task" else next(timers) if kind == "timer" else "" for kind in kinds]

    def end(self, number: int) -> None:
        """One of them has ended."""
        platform, identity = self.platform, self.ids[number]
        match self.kinds[number]:
            case "task":
                platform.append("TASK_COMPLETED", taskExecutionId=identity, kind="work", output=None)
            case "child":
                platform.complete_child(f"c{number}", None)
            case "timer":
                platform.now_ms = max(platform.now_ms, platform.due[identity])
                platform.append("TIMER_FIRED", timerId=identity)
            case "promise":
                platform.resolve(f"p{number}", None)
            case _:
                platform.signal(f"s{number}")


@given(_RACERS, _WAY, st.booleans(), st.booleans(), st.data())
def test_the_winner_of_a_race_is_the_first_in_history(
    kinds: list[str], way: str, cached: bool, early: bool, data: st.DataObject
) -> None:
    run = Run(racing(kinds, way))
    order: list[int] = data.draw(st.permutations(range(len(kinds))), label="order")
    early = early and kinds[order[0]] == "signal"
    if early:
        run.platform.signal(f"s{order[0]}")  # with the start
    last = run.activate(cached=cached)
    outside = Outside(run, kinds)
    if not early:
        seen = data.draw(st.integers(1, len(kinds)), label="so many have ended before it looks again")
        for number in order[:seen]:
            outside.end(number)
        last = run.dry(cached=cached)
        for number in order[seen:]:
            outside.end(number)  # lands after the read
        run.platform.accept(last)
    assert winner(run, last, cached=cached) == order[0]
    evict()


def winner(run: Run, last: Submission, *, cached: bool) -> Any:
    """Go on to the end, and have it told; whoever replays the whole run tells the same."""
    platform = run.platform
    while not isinstance(told := last.commands[-1], CompleteWorkflow):
        assert run.activations < 6
        for task_id in run.execution.tasks.owed():
            platform.append("TASK_FAILED", taskExecutionId=task_id, kind="work", error="Task cancelled")
        for name, child_id in platform.open_children():
            if any(asked.id == child_id for asked in platform.asked):
                platform.cancel_child(name, "not wanted", child_id=child_id)
        last = run.activate(cached=cached)
    assert run.rebuilt_and_caught_up().result == told
    return json.loads(told.output)
