"""Child workflows: names, ids, ends, and asking one to stop."""

from __future__ import annotations

import anyio
import pytest

from flovyn.definitions import workflow
from flovyn.errors import DeterminismViolation, UsageError
from flovyn.replay import Status
from flovyn.replay.commands import (
    CancelTimer,
    CompleteWorkflow,
    RequestCancelChild,
    ScheduleChild,
    ScheduleTask,
    StartTimer,
    SuspendWorkflow,
)
from replay.direct import Direct
from replay.replay_platform import START_MS, Run, drive, plain

CACHED = pytest.mark.parametrize("cached", [True, False])


@workflow
async def two_children(ctx: Direct) -> list[str]:
    first = await ctx.child("ship")
    async with anyio.create_task_group() as tg:
        second, third = tg.create_task(ctx.child("ship")), tg.create_task(ctx.child("bill"))
    return [first, second.return_value, third.return_value]


@CACHED
def test_children_are_named_by_kind_and_number_and_end_as_history_says(cached: bool) -> None:
    run = Run(two_children, context=Direct)
    submission = run.activate(cached=cached, salt="a")
    (first,) = plain(submission)
    assert isinstance(first, ScheduleChild)
    assert first == ScheduleChild("ship-1", "ship", first.id, b"null")
    assert submission.commands[-1] == SuspendWorkflow("Waiting for child workflow ship-1 to complete")
    run.platform.complete_child("ship-1", 2)
    second, third = plain(run.activate(cached=cached, salt="b"))
    assert isinstance(second, ScheduleChild)
    assert isinstance(third, ScheduleChild)
    assert (second.name, third.name) == ("ship-2", "bill-1")
    assert len({first.id, second.id, third.id}) == 3
    run.platform.cancel_child("bill-1", "not wanted")
    run.platform.fail_child("ship-2", "out of stock")
    (end,) = plain(run.activate(cached=cached))
    assert end == CompleteWorkflow(b'["COMPLETED 2","FAILED out of stock","CANCELLED not wanted"]')


def test_ids_of_children_are_salted_and_share_the_counter_of_the_platform() -> None:
    @workflow
    async def counts(ctx: Direct) -> str:
        ctx.execution.identifiers.random_uuid()
        ctx.execution.children.schedule("ship", b"1")
        return str(ctx.execution.identifiers.random_uuid())

    def scheduled(salt: str) -> tuple[ScheduleChild, object]:
        child, end = plain(Run(counts, context=Direct).dry(salt=salt))
        assert isinstance(child, ScheduleChild)
        return child, end

    (one, end), (other, other_end) = scheduled("a"), scheduled("b")
    assert one.id != other.id
    assert end == other_end == CompleteWorkflow(b'"6732940f-3a11-565a-aae1-d6a5b75a3ef9"')


@CACHED
def test_the_id_in_history_wins(cached: bool) -> None:
    @workflow
    async def tells(ctx: Direct) -> str:
        child = ctx.execution.children.schedule("ship", b"null")
        await anyio.sleep(1)
        return f"{child.id} {ctx.execution.identifiers.random_uuid()}"

    run = Run(tells, context=Direct)
    (child, _) = plain(run.activate(salt="a"))
    assert isinstance(child, ScheduleChild)
    run.platform.fire_next()
    (end,) = plain(run.activate(cached=cached, salt="b"))
    assert end == CompleteWorkflow(f'"{child.id} 0e10bfc9-059a-54d9-839c-40f6cec6828a"'.encode())


def test_a_name_is_used_once_and_an_automatic_one_gives_way() -> None:
    @workflow
    async def names(ctx: Direct) -> list[str]:
        start = ctx.execution.children.schedule
        made = [start("ship", b"1", name="ship-1").name, start("ship", b"2").name]
        for name in ("ship-1", "ship-2"):
            with pytest.raises(UsageError, match=f"a child workflow named '{name}' was started already"):
                start("other", b"3", name=name)
        return [*made, start("ship", b"4").name]

    *children, end = plain(Run(names, context=Direct).dry())
    assert [child.input for child in children if isinstance(child, ScheduleChild)] == [b"1", b"2", b"4"]
    assert end == CompleteWorkflow(b'["ship-1","ship-2","ship-3"]')


@workflow(kind="redeployed")
async def starts_a(ctx: Direct) -> None:
    await ctx.child("ship", "a")


@workflow(kind="redeployed")
async def starts_b(ctx: Direct) -> None:
    await ctx.child("ship", "b")


@workflow(kind="redeployed")
async def starts_other_kind(ctx: Direct) -> None:
    await ctx.child("bill", "a")


@workflow(kind="redeployed")
async def starts_two(ctx: Direct) -> None:
    ctx.execution.children.schedule("ship", b"null", name="a")
    await ctx.child("ship", "b")


@workflow(kind="redeployed")
async def starts_none(ctx: Direct) -> None:
    await anyio.sleep_forever()


@pytest.mark.parametrize(
    ("other", "text"),
    [
        (starts_b, "Child workflow name mismatch at sequence 0: expected 'a', got 'b'"),
        (starts_other_kind, "Child workflow kind mismatch at sequence 0: expected 'ship', got 'bill'"),
        (starts_two, "Child workflow call not in history at sequence 1: activation 1 did not make it"),
        (starts_none, "Child workflow call missing at sequence 0: activation 1 made it, the code does not"),
    ],
)
def test_code_that_starts_other_children_disagrees(other: object, text: str) -> None:
    run = Run(starts_a, context=Direct)
    run.activate()
    run.workflow = other  # type: ignore[assignment]
    with pytest.raises(DeterminismViolation) as caught:
        run.dry(cached=False)
    assert str(caught.value) == f"Determinism violation: {text}"


def test_a_history_that_tells_no_kind_is_not_asked_for_it() -> None:
    run = Run(starts_other_kind, context=Direct)
    run.platform.append(
        "OPERATION_COMPLETED", operationName="$flovyn.activation", result={"id": "a", "after": 0, "seen": 1, "at": 0}
    )
    run.platform.append("CHILD_WORKFLOW_INITIATED", childExecutionName="a")
    run.platform.append("WORKFLOW_SUSPENDED", reason="")
    run.platform.append("CHILD_WORKFLOW_COMPLETED", childExecutionName="a", output=1)
    assert plain(run.dry(cached=False)) == [CompleteWorkflow(b"null")]


@CACHED
@pytest.mark.parametrize("told", ["id", "name"])
def test_the_first_end_counts_and_is_found_by_id_or_by_name(told: str, cached: bool) -> None:
    @workflow
    async def late(ctx: Direct) -> str:
        child = ctx.execution.children.schedule("ship", b"null")
        await anyio.sleep(10)
        return (await ctx.settled(ctx.execution.children.settlement(child), "")).type

    run = Run(late, context=Direct)
    run.activate(cached=cached)
    data = {"childExecutionName": "ship-1"}
    if told == "id":
        data["childworkflowExecutionId"] = run.platform.child("ship-1")
    run.platform.append("CHILD_WORKFLOW_FAILED", **data, error="first")
    run.activate(cached=cached)
    run.platform.append("CHILD_WORKFLOW_COMPLETED", **data, output=1)
    run.platform.fire_next()
    assert plain(run.activate(cached=cached)) == [CompleteWorkflow(b'"CHILD_WORKFLOW_FAILED"')]


@workflow
async def impatient(ctx: Direct) -> str:
    with anyio.move_on_after(5):
        return await ctx.child("ship")
    await ctx.task("work")
    return "gave up"


@CACHED
def test_a_child_is_asked_to_stop_once_the_decision_stands_in_history_and_until_it_has_ended(cached: bool) -> None:
    run = Run(impatient, context=Direct)
    run.activate(cached=cached)
    child = run.platform.child("ship-1")
    ask = RequestCancelChild("ship-1", child, "cancelled by its parent")
    run.platform.fire_next()
    decided = plain(run.activate(cached=cached, salt="b"))
    assert isinstance(decided[0], ScheduleTask)
    # Nothing is asked yet: were this submission one that does not come to count, it would have stopped the child alone.
    assert decided[1:] == [StartTimer("$flovyn.soon/b", 0)]
    assert run.platform.fire_next() == "$flovyn.soon/b"
    assert plain(run.activate(cached=cached)) == [ask]
    run.platform.signal("nothing")
    assert plain(run.activate(cached=cached)) == [ask]
    run.platform.fail_child("ship-1", "cancelled")
    assert plain(run.activate(cached=cached)) == []
    run.platform.signal("nothing")
    assert plain(run.activate(cached=cached)) == []


@workflow
async def gives_up(ctx: Direct, fails: bool) -> str:
    with anyio.move_on_after(5):
        return await ctx.child("ship")
    if fails:
        raise ValueError("too slow")
    return "gave up"


@CACHED
def test_a_child_is_asked_at_once_where_the_server_fences(cached: bool) -> None:
    run = Run(impatient, context=Direct)
    run.activate(cached=cached, fenced=True)
    ask = RequestCancelChild("ship-1", run.platform.child("ship-1"), "cancelled by its parent")
    run.platform.fire_next()
    scheduled, *decided = plain(run.activate(cached=cached, fenced=True))
    assert isinstance(scheduled, ScheduleTask)
    assert decided == [ask]
    run.platform.fail_child("ship-1", "cancelled")
    assert plain(run.activate(cached=cached, fenced=True)) == []


@CACHED
@pytest.mark.parametrize("fails", [False, True])
def test_only_a_failure_waits_for_the_decision_to_stand_in_history_where_the_server_fences(
    cached: bool, fails: bool
) -> None:
    """Somebody may retry a failure, and then it is made anew: nothing that it decided may have happened."""
    run = Run(gives_up, fails, context=Direct)
    run.activate(cached=cached, fenced=True)
    ask = RequestCancelChild("ship-1", run.platform.child("ship-1"), "cancelled by its parent")
    run.platform.fire_next()
    decided = run.activate(cached=cached, salt="b", fenced=True)
    if not fails:
        assert plain(decided) == [ask, CompleteWorkflow(b'"gave up"')]
        return
    assert decided.status is Status.SUSPENDED
    assert plain(decided) == [ask, StartTimer("$flovyn.soon/b", 0)]
    run.platform.fire_next()
    ended = run.activate(cached=cached, fenced=True)
    assert ended.status is Status.FAILED
    assert plain(ended)[:-1] == [ask]


@CACHED
def test_a_child_that_ends_before_it_could_be_asked_is_not_asked(cached: bool) -> None:
    run = Run(impatient, context=Direct)
    run.activate(cached=cached)
    run.platform.fire_next()
    run.activate(cached=cached, salt="b")
    run.platform.complete_child("ship-1", 1)
    assert plain(run.activate(cached=cached)) == [CancelTimer("$flovyn.soon/b")]


@CACHED
def test_a_child_that_was_started_and_given_up_at_once_is_asked_at_once(cached: bool) -> None:
    @workflow
    async def fickle(ctx: Direct) -> None:
        child = ctx.execution.children.schedule("ship", b"null")
        ctx.execution.children.give_up(child, "a whim")
        await anyio.sleep(1)

    run = Run(fickle, context=Direct)
    started, timer, asked = plain(run.activate(cached=cached))
    assert isinstance(started, ScheduleChild)
    assert isinstance(timer, StartTimer)
    assert asked == RequestCancelChild("ship-1", started.id, "a whim")
    run.platform.fire_next()
    # An end is no reason to stop asking.
    assert plain(run.activate(cached=cached)) == [asked, CompleteWorkflow(b"null")]


@CACHED
def test_an_end_waits_until_a_child_that_it_leaves_has_been_asked(cached: bool) -> None:
    @workflow
    async def leaves(ctx: Direct) -> str:
        with anyio.move_on_after(5):
            await ctx.child("ship")
        return "left"

    run = Run(leaves, context=Direct)
    run.activate(cached=cached)
    run.platform.fire_next()
    put_off = run.activate(cached=cached, salt="b")
    assert put_off.status is Status.SUSPENDED
    assert plain(put_off) == [StartTimer("$flovyn.soon/b", 0)]
    run.platform.fire_next()
    end = run.activate(cached=cached)
    assert plain(end) == [
        RequestCancelChild("ship-1", run.platform.child("ship-1"), "cancelled by its parent"),
        CompleteWorkflow(b'"left"'),
    ]


@CACHED
def test_a_child_of_a_fork_settles_nothing_of_ours_and_is_asked_to_stop(cached: bool) -> None:
    @workflow
    async def one_child(ctx: Direct) -> str:
        await ctx.task("work")
        return await ctx.child("ship")

    run = Run(one_child, context=Direct)
    run.activate()
    run.platform.append("TASK_COMPLETED", taskExecutionId=run.platform.tasks("work")[0], output=1, kind="work")
    stale = drive(run.rebuilt(), run.platform.now_ms, "stale")
    run.activate(cached=cached, salt="ours")
    ours = run.platform.child("ship-1")
    run.platform.accept(stale)
    theirs = run.platform.child("ship-1")
    assert ours != theirs
    run.platform.complete_child("ship-1", "theirs", child_id=theirs)
    run.platform.signal("nothing")
    assert plain(run.activate(cached=cached)) == []
    run.platform.complete_child("ship-1", "ours", child_id=ours)
    assert plain(run.activate(cached=cached)) == [CompleteWorkflow(b'"COMPLETED \\"ours\\""')]


@CACHED
def test_an_open_child_of_a_fork_is_asked_to_stop_until_it_has_ended(cached: bool) -> None:
    run = Run(two_children, context=Direct)
    stale = drive(run.rebuilt(), START_MS, "stale")
    run.activate(salt="ours")
    run.platform.accept(stale)
    theirs = run.platform.child("ship-1")
    asked = RequestCancelChild("ship-1", theirs, "cancelled by its parent")
    assert plain(run.activate(cached=cached)) == [asked]
    run.platform.signal("nothing")
    assert plain(run.activate(cached=cached)) == [asked]
    run.platform.cancel_child("ship-1", "cancelled by its parent", child_id=theirs)
    assert plain(run.activate(cached=cached)) == []
