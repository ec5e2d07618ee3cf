"""A submission of `flovyn.replay` as messages of the wire."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flovyn.replay import commands as made
from flovyn.replay.submission import Status
from flovyn.wire.messages.flovyn import v1 as pb

if TYPE_CHECKING:
    from flovyn.replay import Submission
    from flovyn.replay.submission import Result

__all__ = ["submission_request"]

_STATUS = {
    Status.SUSPENDED: pb.WorkflowStatus.SUSPENDED,
    Status.COMPLETED: pb.WorkflowStatus.COMPLETED,
    Status.FAILED: pb.WorkflowStatus.FAILED,
    Status.CANCELLED: pb.WorkflowStatus.CANCELLED,
}


def submission_request(workflow_id: str, submission: Submission, *, after: int) -> pb.SubmitWorkflowCommandsRequest:
    """The request that submits.

    Args:
        workflow_id: The execution.
        submission: What its activation asks for.
        after: The last sequence number of the history that was read; the commands are numbered from the next one on.
    """
    return pb.SubmitWorkflowCommandsRequest(
        workflow_execution_id=workflow_id,
        commands=[_command(number, command) for number, command in enumerate(submission.commands, after + 1)],
        status=_STATUS[submission.status],
    )


def _command(number: int, command: made.Command) -> pb.WorkflowCommand:
    types = pb.CommandType
    match command:
        case made.RecordOperation(name, result):
            body = pb.RecordOperationCommand(operation_name=name, result=result)
            return pb.WorkflowCommand(types.RECORD_OPERATION, number, record_operation=body)
        case made.ScheduleTask():
            return pb.WorkflowCommand(types.SCHEDULE_TASK, number, schedule_task=_schedule_task(command))
        case made.StartTimer() | made.CancelTimer():
            return _timer_command(number, command)
        case made.SetState(key, value):
            return pb.WorkflowCommand(types.SET_STATE, number, set_state=pb.SetStateCommand(key=key, value=value))
        case made.ClearState(key):
            return pb.WorkflowCommand(types.CLEAR_STATE, number, clear_state=pb.ClearStateCommand(key=key))
        case made.CreatePromise():
            return pb.WorkflowCommand(types.CREATE_PROMISE, number, create_promise=_create_promise(command))
        case made.ScheduleChild() | made.RequestCancelChild():
            return _child_command(number, command)
        case _:
            return _last_command(number, command)


def _timer_command(number: int, command: made.StartTimer | made.CancelTimer) -> pb.WorkflowCommand:
    types = pb.CommandType
    match command:
        case made.StartTimer(timer_id, duration_ms):
            timer = pb.StartTimerCommand(timer_id=timer_id, duration_ms=duration_ms)
            return pb.WorkflowCommand(types.START_TIMER, number, start_timer=timer)
        case made.CancelTimer(timer_id):
            return pb.WorkflowCommand(types.CANCEL_TIMER, number, cancel_timer=pb.CancelTimerCommand(timer_id=timer_id))


def _child_command(number: int, command: made.ScheduleChild | made.RequestCancelChild) -> pb.WorkflowCommand:
    types = pb.CommandType
    match command:
        case made.ScheduleChild():
            child = _schedule_child(command)
            return pb.WorkflowCommand(types.SCHEDULE_CHILD_WORKFLOW, number, schedule_child_workflow=child)
        case made.RequestCancelChild(name, identity, reason):
            request = pb.RequestCancelChildWorkflowCommand(
                child_execution_name=name, child_workflow_execution_id=identity, reason=reason
            )
            kind = types.REQUEST_CANCEL_CHILD_WORKFLOW
            return pb.WorkflowCommand(kind, number, request_cancel_child_workflow=request)


def _last_command(number: int, command: made.SuspendWorkflow | Result) -> pb.WorkflowCommand:
    types = pb.CommandType
    match command:
        case made.SuspendWorkflow(reason):
            suspend = pb.SuspendWorkflowCommand(reason=reason)
            return pb.WorkflowCommand(types.SUSPEND_WORKFLOW, number, suspend_workflow=suspend)
        case made.CompleteWorkflow(output):
            complete = pb.CompleteWorkflowCommand(output=output)
            return pb.WorkflowCommand(types.COMPLETE_WORKFLOW, number, complete_workflow=complete)
        case made.FailWorkflow(error, stack_trace, failure_type):
            failure = pb.FailWorkflowCommand(error=error, stack_trace=stack_trace, failure_type=failure_type)
            return pb.WorkflowCommand(types.FAIL_WORKFLOW, number, fail_workflow=failure)
        case made.CancelWorkflow(reason):
            cancel = pb.CancelWorkflowCommand(reason=reason)
            return pb.WorkflowCommand(types.CANCEL_WORKFLOW, number, cancel_workflow=cancel)


def _schedule_task(command: made.ScheduleTask) -> pb.ScheduleTaskCommand:
    return pb.ScheduleTaskCommand(
        kind=command.kind,
        input=command.input,
        task_execution_id=command.task_id,
        max_retries=command.max_retries,
        timeout_ms=command.timeout_ms,
        queue=command.queue,
        priority_seconds=command.priority_seconds,
        idempotency_key=command.idempotency_key,
        idempotency_key_ttl_seconds=command.idempotency_key_ttl_seconds,
    )


def _schedule_child(command: made.ScheduleChild) -> pb.ScheduleChildWorkflowCommand:
    return pb.ScheduleChildWorkflowCommand(
        child_execution_name=command.name,
        workflow_kind=command.kind,
        child_workflow_execution_id=command.id,
        input=command.input,
        # Neither can be left out on this wire: an empty queue is the parent's own.
        queue=command.queue or "",
        priority_seconds=command.priority_seconds or 0,
    )


def _create_promise(command: made.CreatePromise) -> pb.CreatePromiseCommand:
    return pb.CreatePromiseCommand(
        promise_id=command.name,
        timeout_ms=command.timeout_ms,
        idempotency_key=command.idempotency_key,
        idempotency_key_ttl_seconds=command.idempotency_key_ttl_seconds,
    )
