"""Who may not change a run: a query, the predicate of a condition, and code of a run that was evicted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import pytest

from flovyn.definitions import workflow
from flovyn.errors import UsageError
from flovyn.replay import Execution
from flovyn.replay.commands import CompleteWorkflow
from flovyn.replay.records import Failure
from replay.direct import Direct
from replay.replay_platform import Run, drive, plain

CHANGES: dict[str, Callable[[Execution], Any]] = {
    "schedule a task": lambda run: run.tasks.schedule("work", b"null"),
    "cancel a task": lambda run: run.tasks.give_up("task"),
    "start a child workflow": lambda run: run.children.schedule("ship", b"null"),
    "create a promise": lambda run: run.promises.create("approval"),
    "take a signal": lambda run: run.signals.take("go"),
    "take signals": lambda run: run.signals.drain("go"),
    "set state": lambda run: run.state.set("a", b"1"),
    "clear state": lambda run: run.state.clear("a"),
    "ask whether the workflow is patched": lambda run: run.patched("new-way"),
    "draw a random id": lambda run: run.identifiers.random_uuid(),
    "draw random numbers": lambda run: run.randomness.random(),
}


@workflow
async def waits(ctx: Direct) -> list[str]:
    execution = ctx.execution
    child = execution.children.schedule("ship", b"null")
    execution.state.set("a", b"1")
    await anyio.sleep(1)
    execution.children.give_up(child)
    first = (execution.signals.drain("go"), execution.state.get("a"), execution.randomness.next())
    return [*map(repr, first), str(execution.identifiers.random_uuid()), execution.children.schedule("ship", b"").name]


@pytest.mark.parametrize(("what", "change"), CHANGES.items(), ids=CHANGES)
def test_a_query_changes_nothing(what: str, change: Callable[[Execution], Any]) -> None:
    ends: list[list[object]] = []
    for asked in (False, True):
        run = Run(waits, context=Direct)
        run.platform.signal("go", 1)
        run.activate(salt="a")
        if asked:
            with run.execution.read_only:
                assert run.execution.read_only
                with pytest.raises(UsageError, match=f"^cannot {what} in a query or in the predicate of a condition"):
                    change(run.execution)
                assert (run.execution.state.get("a"), run.execution.state.keys()) == (b"1", ["a"])
                assert run.execution.signals.pending("go") == 1
        assert not run.execution.read_only
        run.platform.fire_next()
        ends.append(plain(run.activate(salt="b")))
    assert ends[0] == ends[1]


def test_giving_up_a_child_changes_a_run_too() -> None:
    run = Run(waits, context=Direct)
    run.activate()
    with run.execution.kernel.activation():
        child = run.execution.children.schedule("other", b"null")
    with run.execution.read_only, pytest.raises(UsageError, match="^cannot cancel a child workflow in a query"):
        run.execution.children.give_up(child)


@pytest.mark.parametrize(("what", "change"), CHANGES.items(), ids=CHANGES)
def test_the_body_of_an_operation_changes_nothing(what: str, change: Callable[[Execution], Any]) -> None:
    """A replay does not run it, and would miss what it did."""

    @workflow
    async def lets_a_body_try(ctx: Direct) -> str:
        execution = ctx.execution

        def body() -> None:
            change(execution)

        operation = execution.start_operation("try", body, lambda _: b"null")
        await execution.kernel.park(operation.abort)
        assert isinstance(operation.answer, Failure)
        return str(operation.answer.error)

    run = Run(lets_a_body_try, context=Direct)
    _, end = plain(run.activate())
    assert isinstance(end, CompleteWorkflow)
    assert (
        f"UsageError: cannot {what} here: a workflow's context works in the code of the workflow only"
        in end.output.decode()
    )


def test_read_only_ends_with_the_last_of_those_who_asked_for_it() -> None:
    run = Run(waits, context=Direct)
    with run.execution.read_only:
        with run.execution.read_only:
            pass
        assert run.execution.read_only
    assert not run.execution.read_only


@pytest.mark.parametrize(("what", "change"), CHANGES.items(), ids=CHANGES)
def test_code_of_an_evicted_run_records_nothing_and_is_told_nothing(
    what: str, change: Callable[[Execution], Any]
) -> None:
    ran: list[Any] = []

    @workflow
    async def cleans_up(ctx: Direct) -> None:
        try:
            await ctx.signal("never")
        finally:
            ran.append(change(ctx.execution))

    run = Run(cleans_up, context=Direct)
    first = drive(run.execution, 0, "a")
    run.platform.signal("go", 1)
    before = [*run.execution.journal.commands]
    run.execution.close()
    assert len(ran) == 1
    assert run.execution.journal.commands == before
    assert run.execution.journal.poison is None
    assert run.execution.tasks.owed() == []
    assert run.execution.children.requests() == []
    assert len(first.commands) == 2


def test_an_evicted_run_gives_up_nothing() -> None:
    @workflow
    async def cancels(ctx: Direct) -> None:
        task_id = ctx.execution.tasks.schedule("work", b"null")
        child = ctx.execution.children.schedule("ship", b"null")
        try:
            await ctx.signal("never")
        finally:
            ctx.execution.tasks.give_up(task_id)
            ctx.execution.children.give_up(child)

    run = Run(cancels, context=Direct)
    drive(run.execution, 0, "a")
    run.execution.close()
    assert run.execution.tasks.owed() == []
    assert run.execution.children.requests() == []


def test_a_live_run_and_a_re_enacted_one_know_which_they_are() -> None:
    seen: list[bool] = []

    @workflow
    async def looks(ctx: Direct) -> str:
        seen.append(ctx.execution.replaying)
        await anyio.sleep(1)
        seen.append(ctx.execution.replaying)
        return "done"

    run = Run(looks, context=Direct)
    run.activate()
    run.platform.fire_next()
    assert plain(run.activate(cached=False)) == [CompleteWorkflow(b'"done"')]
    assert seen == [False, True, False]
