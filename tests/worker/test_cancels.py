"""CancelTask for what a workflow has given up: nothing is forgotten, nothing is asked for ever."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from flovyn import (
    ConnectionLost,
    FailedPrecondition,
    FlovynError,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ServerError,
    ServerUnavailable,
    Unimplemented,
    Workflow,
    WorkflowContext,
    workflow,
)
from flovyn.wire import methods
from flovyn.wire.messages.flovyn import v1 as pb
from flovyn.worker.cancels import send_cancels
from worker.fakes import FakeServer
from worker.test_execution import CLAIM, COMPLETE, MARK, SUSPEND, TIMER, OneRun, double, executions, nobody, polled

pytestmark = pytest.mark.anyio

PASSING = [
    ServerError("the disk is full", status="INTERNAL"),
    ServerUnavailable("away"),
    ConnectionLost("gone"),
]
FINAL = [
    NotFound("no such task"),
    FailedPrecondition("it has ended"),
    InvalidArgument("no such id"),
    PermissionDenied("not you"),
    Unimplemented("not here"),
]


@workflow(kind="run")
async def goes_on(ctx: WorkflowContext) -> None:
    with anyio.move_on_after(1):
        await ctx.schedule(double, 1)
    await anyio.sleep(100)


@workflow(kind="run")
async def ends(ctx: WorkflowContext) -> str:
    with anyio.move_on_after(1):
        await ctx.schedule(double, 1)
    return "done"


async def activated(definition: Workflow[..., Any], server: OneRun) -> None:
    """One activation by a worker that remembers nothing."""
    runs = executions(server, definition, cache_size=0)
    await runs.execute(polled("run", b"null"), CLAIM)
    runs.close()


def armed(server: OneRun) -> list[tuple[str, int]]:
    """What the last submission armed: the names of the timers, without the salts, and their milliseconds."""
    timers = [command.start_timer for command in server.submitted[-1].commands if command.start_timer]
    return [
        (timer.timer_id.split("/")[0].split(".")[-1], timer.duration_ms) for timer in timers if "$" in timer.timer_id
    ]


def fire(server: OneRun, name: str) -> None:
    """The timer of that name that was armed last fires."""
    timers = [c.start_timer.timer_id for s in server.submitted for c in s.commands if c.start_timer]
    server.append("TIMER_FIRED", timerId=[timer for timer in timers if name in timer][-1])


async def given_up(definition: Workflow[..., Any], server: OneRun) -> None:
    await activated(definition, server)
    fire(server, "timer-")
    await activated(definition, server)


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("error", PASSING, ids=repr)
async def test_a_cancel_that_the_server_could_not_answer_is_tried_again(error: FlovynError, cached: bool) -> None:
    server = OneRun()
    runs = executions(server, goes_on, cache_size=10 if cached else 0)
    await runs.execute(polled("run", b"null"), CLAIM)
    fire(server, "timer-")
    server.errors["CancelTask"] = [error]
    await runs.execute(polled("run", b"null"), CLAIM)
    assert server.cancelled == []
    assert armed(server) == [("cancels", 2_000)]
    fire(server, "$flovyn.cancels")
    await runs.execute(polled("run", b"null"), CLAIM)
    assert server.cancelled == server.tasks
    assert armed(server) == []  # nothing is owed any more, so nothing has to come back for it
    runs.close()


@pytest.mark.parametrize("error", FINAL, ids=repr)
async def test_a_cancel_that_is_refused_is_answered(error: FlovynError) -> None:
    server = OneRun()
    runs = executions(server, goes_on)
    await runs.execute(polled("run", b"null"), CLAIM)
    fire(server, "timer-")
    server.errors["CancelTask"] = [error]
    await runs.execute(polled("run", b"null"), CLAIM)
    fire(server, "$flovyn.cancels")
    await runs.execute(polled("run", b"null"), CLAIM)
    assert server.cancelled == []
    assert armed(server) == []
    runs.close()


async def test_an_end_that_leaves_cancels_comes_in_the_next_activation_though_nothing_is_remembered() -> None:
    """A refused CancelTask leaves no event: whoever replays the run does not know that it was answered."""
    server = OneRun()
    server.errors["CancelTask"] = [NotFound("no such task") for _ in range(10)]
    await given_up(ends, server)
    assert server.last() == [MARK, TIMER, SUSPEND]
    assert armed(server) == [("soon", 0)]
    fire(server, "$flovyn.soon")
    await activated(ends, server)
    assert server.last() == [MARK, COMPLETE]


async def test_an_end_that_waits_for_a_server_in_trouble_does_not_come_back_at_once() -> None:
    server = OneRun()
    server.errors["CancelTask"] = [PASSING[0] for _ in range(3)]
    await given_up(ends, server)
    assert armed(server) == [("soon", 0)]
    for name in ("$flovyn.soon", "$flovyn.cancels"):
        fire(server, name)
        await activated(ends, server)
        assert armed(server) == [("cancels", 2_000)]
    assert server.errors["CancelTask"] == []  # one call each time, no more
    fire(server, "$flovyn.cancels")
    await activated(ends, server)
    assert server.cancelled == server.tasks
    assert server.last()[-1] == COMPLETE


async def test_a_workflow_that_goes_on_is_not_woken_for_ever_by_a_cancel_that_leaves_no_event() -> None:
    server = OneRun()
    server.errors["CancelTask"] = [NotFound("no such task") for _ in range(10)]
    await given_up(goes_on, server)
    assert armed(server) == [("cancels", 2_000)]
    fire(server, "$flovyn.cancels")
    await activated(goes_on, server)
    assert armed(server) == []


async def test_cancels_go_out_together_but_not_all_at_once() -> None:
    server = FakeServer()
    under_way = most = 0
    told: list[str] = []

    async def answer(request: Any) -> methods.Empty:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        for _ in range(5):
            await anyio.lowlevel.checkpoint()
        under_way -= 1
        return methods.Empty()

    server.answers["CancelTask"] = answer
    ids = [f"task-{number}" for number in range(100)]
    answered = await send_cancels(server, ids, cancel_here=lambda task_id, reason: told.append(task_id))
    assert told == ids
    assert most == 16
    assert sorted(answered) == sorted(ids)
    assert {call.name for call in server.calls} == {"CancelTask"}
    assert sorted(call.request.task_execution_id for call in server.calls) == sorted(ids)


async def test_a_cancel_that_fails_stops_no_other() -> None:
    server = FakeServer()

    async def answer(request: pb.CancelTaskRequest) -> methods.Empty:
        if request.task_execution_id == "first":
            raise PASSING[0]
        return methods.Empty()

    server.answers["CancelTask"] = answer
    assert await send_cancels(server, ["first", "second"], cancel_here=nobody) == ["second"]
