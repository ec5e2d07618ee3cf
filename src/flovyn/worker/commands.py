"""A submission of `flovyn.replay` as messages of the wire."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flovyn.replay.commands import (
    CancelTimer,
    CancelWorkflow,
    Command,
    CompleteWorkflow,
    FailWorkflow,
    RecordOperation,
    ScheduleTask,
    StartTimer,
    SuspendWorkflow,
)
from flovyn.replay.submission import Status
from flovyn.wire.messages.flovyn import v1 as pb

if TYPE_CHECKING:
    from flovyn.replay import Submission

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


def _command(number: int, command: Command) -> pb.WorkflowCommand:
    types = pb.CommandType
    match command:
        case RecordOperation(name, result):
            body = pb.RecordOperationCommand(operation_name=name, result=result)
            return pb.WorkflowCommand(types.RECORD_OPERATION, number, record_operation=body)
        case ScheduleTask():
            return pb.WorkflowCommand(types.SCHEDULE_TASK, number, schedule_task=_schedule_task(command))
        case StartTimer(timer_id, duration_ms):
            timer = pb.StartTimerCommand(timer_id=timer_id, duration_ms=duration_ms)
            return pb.WorkflowCommand(types.START_TIMER, number, start_timer=timer)
        case CancelTimer(timer_id):
            return pb.WorkflowCommand(types.CANCEL_TIMER, number, cancel_timer=pb.CancelTimerCommand(timer_id=timer_id))
        case SuspendWorkflow(reason):
            suspend = pb.SuspendWorkflowCommand(reason=reason)
            return pb.WorkflowCommand(types.SUSPEND_WORKFLOW, number, suspend_workflow=suspend)
        case CompleteWorkflow(output):
            complete = pb.CompleteWorkflowCommand(output=output)
            return pb.WorkflowCommand(types.COMPLETE_WORKFLOW, number, complete_workflow=complete)
        case FailWorkflow(error, stack_trace, failure_type):
            failure = pb.FailWorkflowCommand(error=error, stack_trace=stack_trace, failure_type=failure_type)
            return pb.WorkflowCommand(types.FAIL_WORKFLOW, number, fail_workflow=failure)
        case CancelWorkflow(reason):
            cancel = pb.CancelWorkflowCommand(reason=reason)
            return pb.WorkflowCommand(types.CANCEL_WORKFLOW, number, cancel_workflow=cancel)


def _schedule_task(command: ScheduleTask) -> pb.ScheduleTaskCommand:
    return pb.ScheduleTaskCommand(
        kind=command.kind,
        input=command.input,
        task_execution_id=command.task_id,
        queue=command.queue,
        timeout_ms=command.timeout_ms,
    )
