"""Children: made once, in the parent's queue; their end is told once, and no request to stop is lost."""

from __future__ import annotations

from typing import Any

import pytest

from flovyn.errors import FailedPrecondition, FlovynError, InvalidArgument, NotFound, Unimplemented
from flovyn.server.engine import Start
from flovyn.wire.messages.flovyn import v1 as pb
from server.world import World, cancel, cancel_child, child_id, complete, fail, schedule_child, suspend


@pytest.fixture
def world() -> World:
    return World()


def ids(number: int = 0) -> dict[str, str]:
    spellings = ("childExecutionId", "childWorkflowExecutionId", "childworkflowExecutionId")
    return {"childExecutionName": f"child-{number}", **dict.fromkeys(spellings, child_id(number))}


def test_a_child_is_started_and_its_value_told_to_the_parent(world: World) -> None:
    parent = world.start("parent")
    world.engine.take_ready()
    world.activate(schedule_child(0, kind="order", input=b'{"a":1}', priority_seconds=3), suspend())
    assert [ready.kind for ready in world.engine.take_ready()] == ["order"]
    assert world.history(parent)[1] == (
        "CHILD_WORKFLOW_INITIATED",
        {**ids(), "childWorkflowKind": "order", "input": {"a": 1}},
    )
    started = {"input": {"a": 1}, "kind": "order", "metadata": {}, "parentWorkflowExecutionId": parent}
    assert world.history(child_id(0)) == [("WORKFLOW_STARTED", started)]
    child = world.run(child_id(0))
    assert (child.priority_ms, child.status) == (3_000, "PENDING")
    assert world.activate(complete(b"[7]")) == child_id(0)
    assert world.history(parent)[-1] == ("CHILD_WORKFLOW_COMPLETED", {**ids(), "output": [7]})
    assert world.status(parent) == "PENDING"
    world.sound()


@pytest.mark.parametrize(
    ("end", "told"),
    [
        (fail("boom"), {"error": "boom"}),
        (cancel("enough"), {"error": "Child workflow cancelled", "reason": "enough"}),
    ],
)
def test_a_child_that_fails_or_is_cancelled_is_told_as_a_failure(world: World, end: Any, told: dict[str, str]) -> None:
    parent = world.start("parent")
    world.activate(schedule_child(), suspend())
    world.activate(end)
    assert world.history(parent)[-1] == ("CHILD_WORKFLOW_FAILED", {**ids(), **told})
    assert world.status(parent) == "PENDING"
    world.sound()


def test_the_end_of_a_child_while_the_parent_works_is_not_lost(world: World) -> None:
    parent = world.start("parent")
    world.activate(schedule_child(), suspend())
    world.signal(parent)
    claimed = world.engine.workflows.claim(world.caller(), world.poller(kinds=["parent"]))
    assert claimed is not None
    world.activate(complete())
    world.submit(parent, suspend(), claim=claimed.token)
    assert world.status(parent) == "PENDING"
    world.sound()


@pytest.mark.parametrize(("queue", "expected"), [("", "gpu"), ("default", "gpu"), ("cpu", "cpu")])
def test_a_child_waits_in_its_parents_queue_unless_it_names_one(world: World, queue: str, expected: str) -> None:
    world.start("parent", queue="gpu")
    claimed = world.claim(queue="gpu")
    assert claimed is not None
    world.submit(claimed[0], schedule_child(queue=queue), suspend(), claim=claimed[1])
    assert world.run(child_id(0)).queue == expected
    child = world.engine.workflows.start_child(world.caller(), claimed[0], "other", Start("order", queue=queue))
    assert world.run(child).queue == expected


def test_children_go_on_when_their_parent_ends(world: World) -> None:
    parent = world.start("parent")
    world.activate(schedule_child(), suspend())
    world.activate(suspend())
    world.signal(parent)
    world.activate(complete())
    before = world.history(parent)
    assert world.status(parent) == "COMPLETED"
    world.signal(child_id(0))
    world.activate(complete())
    assert world.history(parent) == before
    world.sound()


def test_a_child_that_is_asked_for_again_is_not_started_again(world: World) -> None:
    parent = world.start("parent")
    world.activate(schedule_child(), suspend())
    world.activate(complete())
    world.activate(schedule_child(), suspend())
    assert world.types(parent).count("CHILD_WORKFLOW_INITIATED") == 2
    assert world.types(parent).count("CHILD_WORKFLOW_COMPLETED") == 1
    assert len(world.store.runs.all()) == 2
    world.sound()


def test_a_key_of_one_child_per_parent(world: World) -> None:
    first, second = world.start("parent"), world.start("parent")
    world.activate(schedule_child(0, name="same"), suspend())
    world.activate(schedule_child(1, name="same"), suspend())
    world.activate(complete())
    assert "CHILD_WORKFLOW_COMPLETED" in world.types(first)
    assert "CHILD_WORKFLOW_COMPLETED" not in world.types(second)


@pytest.mark.parametrize(
    ("command", "error", "text"),
    [
        (schedule_child(name=""), InvalidArgument, ".child_execution_name is empty"),
        (schedule_child(kind=""), InvalidArgument, ".workflow_kind is empty"),
        (schedule_child(input=b"{"), InvalidArgument, ".input is not JSON"),
        (schedule_child(queue="q" * 101), InvalidArgument, ".queue has 101 characters"),
        (schedule_child(workflow_definition_id="d"), Unimplemented, ".workflow_definition_id: this server has no"),
    ],
)
def test_a_faulty_child_is_refused(
    world: World, command: pb.WorkflowCommand, error: type[FlovynError], text: str
) -> None:
    parent = world.start("parent")
    with pytest.raises(error) as caught:
        world.activate(command, suspend())
    assert f"commands[0].schedule_child_workflow{text}" in caught.value.message
    assert world.types(parent) == ["WORKFLOW_STARTED"]
    assert len(world.store.runs.all()) == 1


def test_the_id_of_another_workflow_is_refused(world: World) -> None:
    world.start("parent")
    world.activate(schedule_child(), suspend())
    world.activate(complete())
    other = world.start("other")
    world.activate(suspend())
    with pytest.raises(InvalidArgument, match=f"id {child_id(0)} is taken by another workflow"):
        world.activate(schedule_child(), suspend())
    assert world.types(other) == ["WORKFLOW_STARTED"]


@pytest.mark.parametrize("by_name", [True, False])
def test_a_parent_cancels_its_child(world: World, by_name: bool) -> None:
    parent = world.start("parent")
    world.activate(schedule_child(), suspend())
    world.activate(suspend())
    world.signal(parent)
    asked = cancel_child(None, "child-0", "enough") if by_name else cancel_child(0, "", "")
    reason = "enough" if by_name else "its parent workflow asked for it"
    world.activate(asked, suspend())
    assert world.history(child_id(0))[2:] == [
        ("CANCELLATION_REQUESTED", {"reason": reason, "requestedBy": parent}),
        ("WORKFLOW_CANCELLED", {"reason": reason}),
    ]
    assert world.types(parent)[-2:] == ["WORKFLOW_SUSPENDED", "CHILD_WORKFLOW_FAILED"]
    assert world.status(parent) == "PENDING"
    world.sound()


def test_a_child_can_be_cancelled_with_the_command_that_makes_it(world: World) -> None:
    parent = world.start("parent")
    world.activate(schedule_child(), cancel_child(), suspend())
    assert world.status(child_id(0)) == "CANCELLED"
    assert world.types(parent) == [
        "WORKFLOW_STARTED",
        "CHILD_WORKFLOW_INITIATED",
        "WORKFLOW_SUSPENDED",
        "CHILD_WORKFLOW_FAILED",
    ]
    assert world.status(parent) == "PENDING"


def test_a_cooperating_child_is_asked_once_however_often_its_parent_asks(world: World) -> None:
    world.cooperate()
    parent = world.start("parent")
    world.activate(schedule_child(), suspend())
    world.activate(suspend())
    for _ in range(3):
        world.signal(parent)
        claimed = world.engine.workflows.claim(world.caller(), world.poller(kinds=["parent"]))
        assert claimed is not None
        world.submit(parent, cancel_child(), suspend(), claim=claimed.token)
    assert world.types(child_id(0)).count("CANCELLATION_REQUESTED") == 1
    assert world.activate(cancel("done")) == child_id(0)
    assert world.history(parent)[-1][1]["reason"] == "done"
    world.sound()


def test_a_parent_that_ends_can_leave_a_request_behind(world: World) -> None:
    parent = world.start("parent")
    world.activate(schedule_child(), cancel_child(), complete())
    assert world.status(child_id(0)) == "CANCELLED"
    assert world.types(parent)[-1] == "WORKFLOW_COMPLETED"
    world.sound()


def test_cancelling_what_is_not_there_or_not_ones_own_does_nothing(world: World) -> None:
    world.start("parent")
    world.activate(schedule_child(), suspend())
    world.activate(complete())
    world.activate(cancel_child(0), cancel_child(1), cancel_child(None, "nope"), suspend())
    assert world.types(child_id(0))[-1] == "WORKFLOW_COMPLETED"
    world.start("other")
    stranger = world.start("stranger")
    command = pb.RequestCancelChildWorkflowCommand(child_workflow_execution_id=stranger)
    world.activate(
        pb.WorkflowCommand(
            command_type=pb.CommandType.REQUEST_CANCEL_CHILD_WORKFLOW, request_cancel_child_workflow=command
        ),
        suspend(),
    )
    assert world.types(stranger) == ["WORKFLOW_STARTED"]
    world.sound()


def test_a_child_that_was_started_from_outside_is_none_of_the_programs_business(world: World) -> None:
    parent = world.start("parent")
    world.activate(suspend())
    workflows = world.engine.workflows
    child = workflows.start_child(world.caller(), parent, "extra", Start("order", payload=b"1"))
    assert world.history(child)[0][1]["parentWorkflowExecutionId"] == parent
    assert workflows.start_child(world.caller(), parent, "extra", Start("another")) == child
    assert world.history(child)[0][1]["input"] == 1
    assert world.activate(complete()) == child
    assert world.types(parent) == ["WORKFLOW_STARTED", "WORKFLOW_SUSPENDED"]
    assert world.status(parent) == "WAITING"
    world.request_cancel(parent)
    assert workflows.start_child(world.caller(), parent, "extra", Start("order")) == child
    with pytest.raises(FailedPrecondition, match="takes no more children: it is CANCELLED"):
        workflows.start_child(world.caller(), parent, "more", Start("order"))
    with pytest.raises(NotFound, match="workflow execution 'nope' is unknown"):
        workflows.start_child(world.caller(), "nope", "more", Start("order"))
    world.sound()
