"""Tasks and child workflows: begun, and waited for or not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from flovyn.definitions import definition_of, task_of
from flovyn.definitions.durations import whole_milliseconds, whole_seconds
from flovyn.replay.waits import waits_for_child, waits_for_task
from flovyn.workflow.failures import child_error, task_error
from flovyn.workflow.handles import ChildHandle, TaskHandle
from flovyn.workflow.waiting import begin, enter, is_open, seen_off, settled

if TYPE_CHECKING:
    from flovyn.definitions import AnyTask, AnyWorkflow, Task, Workflow
    from flovyn.replay import Execution
    from flovyn.replay.children import Child

__all__ = ["begin_child", "begin_task", "run_child", "run_task"]

P = ParamSpec("P")
R = TypeVar("R")


async def run_task(execution: Execution, target: AnyTask[P, R], args: Any, kwargs: Any) -> R:
    """Schedule a task and wait for it."""
    if not is_open(execution):
        await enter(execution, "schedule a task")
    task = task_of(target)
    task_id = _schedule(execution, task, args, kwargs)
    given_up = False

    def abort() -> bool:
        nonlocal given_up
        given_up = True
        if task.on_cancel != "abandon":
            execution.tasks.give_up(task_id)
        return task.on_cancel != "wait"

    event = await settled(execution, execution.settlements.get(task_id), waits_for_task(task_id), abort)
    if event.type == "TASK_COMPLETED":
        return task.decode_output(bytes(event.data.output))
    raise await seen_off(execution, task_error(event, task.kind), stays=given_up)


def begin_task(execution: Execution, target: AnyTask[P, R], args: Any, kwargs: Any) -> TaskHandle[R]:
    """Schedule a task."""
    begin(execution, "schedule a task")
    task = task_of(target)
    return TaskHandle(execution, task, _schedule(execution, task, args, kwargs))


def _schedule(execution: Execution, task: Task[..., Any], args: Any, kwargs: Any) -> str:
    return execution.tasks.schedule(
        task.kind,
        task.encode_input(args, kwargs),
        queue=task.queue,
        timeout_ms=whole_milliseconds(task.schedule_to_close),
        priority_seconds=whole_seconds(task.priority),
        idempotency_key=task.idempotency_key,
        idempotency_key_ttl_seconds=whole_seconds(task.idempotency_key_ttl),
        # With a policy of its own the worker makes the attempts, all of them within the one that the server grants.
        max_retries=None if task.retry is None else 0,
    )


async def run_child(execution: Execution, workflow: AnyWorkflow[P, R], args: Any, kwargs: Any) -> R:
    """Start a child workflow and wait for it."""
    await enter(execution, "start a child workflow")
    definition = definition_of(workflow)
    child = _start(execution, definition, args, kwargs)
    given_up = False

    def abort() -> bool:
        nonlocal given_up
        given_up = True
        if definition.on_cancel != "abandon":
            execution.children.give_up(child)
        return definition.on_cancel != "wait"

    event = await settled(execution, execution.children.settlement(child), waits_for_child(child.name), abort)
    if event.type == "CHILD_WORKFLOW_COMPLETED":
        return definition.decode_output(bytes(event.data.output))
    raise await seen_off(execution, child_error(event, child, definition.kind), stays=given_up)


def begin_child(execution: Execution, workflow: AnyWorkflow[P, R], args: Any, kwargs: Any) -> ChildHandle[R]:
    """Start a child workflow."""
    begin(execution, "start a child workflow")
    definition = definition_of(workflow)
    return ChildHandle(execution, definition, _start(execution, definition, args, kwargs))


def _start(execution: Execution, workflow: Workflow[..., Any], args: Any, kwargs: Any) -> Child:
    return execution.children.schedule(
        workflow.kind,
        workflow.encode_input(args, kwargs),
        name=workflow.child_name,
        queue=workflow.queue,
        priority_seconds=whole_seconds(workflow.priority),
    )
