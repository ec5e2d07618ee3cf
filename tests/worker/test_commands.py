"""Each command of a submission as a message, with every field that it has."""

from __future__ import annotations

import typing

import pytest

from flovyn.replay import Status, Submission, commands
from flovyn.wire import coding
from flovyn.wire.messages.flovyn import v1 as pb
from flovyn.worker.commands import submission_request

TYPES = pb.CommandType

CASES: list[tuple[commands.Command, pb.WorkflowCommand]] = [
    (
        commands.RecordOperation("name", b"1"),
        pb.WorkflowCommand(TYPES.RECORD_OPERATION, 8, record_operation=pb.RecordOperationCommand("name", b"1")),
    ),
    (
        commands.SetState("key", b"1"),
        pb.WorkflowCommand(TYPES.SET_STATE, 8, set_state=pb.SetStateCommand(key="key", value=b"1")),
    ),
    (
        commands.ClearState("key"),
        pb.WorkflowCommand(TYPES.CLEAR_STATE, 8, clear_state=pb.ClearStateCommand(key="key")),
    ),
    (
        commands.ScheduleTask("id", "kind", b"1"),
        pb.WorkflowCommand(
            TYPES.SCHEDULE_TASK,
            8,
            schedule_task=pb.ScheduleTaskCommand(kind="kind", input=b"1", task_execution_id="id"),
        ),
    ),
    (
        commands.ScheduleTask("id", "kind", b"1", "queue", 2, -3, "key", 4, 0),
        pb.WorkflowCommand(
            TYPES.SCHEDULE_TASK,
            8,
            schedule_task=pb.ScheduleTaskCommand(
                kind="kind",
                input=b"1",
                task_execution_id="id",
                max_retries=0,
                timeout_ms=2,
                queue="queue",
                priority_seconds=-3,
                idempotency_key="key",
                idempotency_key_ttl_seconds=4,
            ),
        ),
    ),
    (
        commands.ScheduleChild("name", "kind", "id", b"1"),
        pb.WorkflowCommand(
            TYPES.SCHEDULE_CHILD_WORKFLOW,
            8,
            schedule_child_workflow=pb.ScheduleChildWorkflowCommand(
                child_execution_name="name", workflow_kind="kind", child_workflow_execution_id="id", input=b"1"
            ),
        ),
    ),
    (
        commands.ScheduleChild("name", "kind", "id", b"1", "queue", 2),
        pb.WorkflowCommand(
            TYPES.SCHEDULE_CHILD_WORKFLOW,
            8,
            schedule_child_workflow=pb.ScheduleChildWorkflowCommand(
                child_execution_name="name",
                workflow_kind="kind",
                child_workflow_execution_id="id",
                input=b"1",
                queue="queue",
                priority_seconds=2,
            ),
        ),
    ),
    (
        commands.RequestCancelChild("name", "id", "why"),
        pb.WorkflowCommand(
            TYPES.REQUEST_CANCEL_CHILD_WORKFLOW,
            8,
            request_cancel_child_workflow=pb.RequestCancelChildWorkflowCommand(
                child_execution_name="name", child_workflow_execution_id="id", reason="why"
            ),
        ),
    ),
    (
        commands.CreatePromise("name", None, "key"),
        pb.WorkflowCommand(
            TYPES.CREATE_PROMISE,
            8,
            create_promise=pb.CreatePromiseCommand(promise_id="name", idempotency_key="key"),
        ),
    ),
    (
        commands.CreatePromise("name", 1, "key", 2),
        pb.WorkflowCommand(
            TYPES.CREATE_PROMISE,
            8,
            create_promise=pb.CreatePromiseCommand(
                promise_id="name", timeout_ms=1, idempotency_key="key", idempotency_key_ttl_seconds=2
            ),
        ),
    ),
    (
        commands.StartTimer("id", 1),
        pb.WorkflowCommand(TYPES.START_TIMER, 8, start_timer=pb.StartTimerCommand(timer_id="id", duration_ms=1)),
    ),
    (
        commands.CancelTimer("id"),
        pb.WorkflowCommand(TYPES.CANCEL_TIMER, 8, cancel_timer=pb.CancelTimerCommand(timer_id="id")),
    ),
    (
        commands.SuspendWorkflow("why"),
        pb.WorkflowCommand(TYPES.SUSPEND_WORKFLOW, 8, suspend_workflow=pb.SuspendWorkflowCommand(reason="why")),
    ),
    (
        commands.CompleteWorkflow(b"1"),
        pb.WorkflowCommand(TYPES.COMPLETE_WORKFLOW, 8, complete_workflow=pb.CompleteWorkflowCommand(output=b"1")),
    ),
    (
        commands.FailWorkflow("no", "stack", "ERROR"),
        pb.WorkflowCommand(
            TYPES.FAIL_WORKFLOW,
            8,
            fail_workflow=pb.FailWorkflowCommand(error="no", stack_trace="stack", failure_type="ERROR"),
        ),
    ),
    (
        commands.CancelWorkflow("why"),
        pb.WorkflowCommand(TYPES.CANCEL_WORKFLOW, 8, cancel_workflow=pb.CancelWorkflowCommand(reason="why")),
    ),
]


@pytest.mark.parametrize(("command", "message"), CASES, ids=lambda case: type(case).__name__)
def test_each_command_is_its_message(command: commands.Command, message: pb.WorkflowCommand) -> None:
    request = submission_request("run", Submission((command,), Status.SUSPENDED), after=7)
    assert request.commands == [message]
    assert coding.decode(type(request), coding.encode(request)) == request


def test_there_is_a_case_for_each() -> None:
    assert {type(command) for command, _ in CASES} == set(typing.get_args(commands.Command))


@pytest.mark.parametrize("status", Status)
def test_a_submission_says_how_it_leaves_the_run_and_numbers_its_commands(status: Status) -> None:
    made = (commands.RecordOperation("a", b"1"), commands.ClearState("b"), commands.SuspendWorkflow("why"))
    request = submission_request("run", Submission(made, status), after=7)
    assert request.workflow_execution_id == "run"
    assert [command.sequence_number for command in request.commands] == [8, 9, 10]
    assert pb.WorkflowStatus(request.status).name == status.name
