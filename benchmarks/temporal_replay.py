"""The same replay by Temporal's Replayer, for comparison: `replay.py` prints it where `temporalio` is installed.

Its history is made by hand, with no server: activities one after the other, six events each.
"""

# mypy: disallow-untyped-decorators=False
# pyright: reportMissingImports=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUntypedFunctionDecorator=false, reportUntypedClassDecorator=false, reportUnknownParameterType=false

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from typing import Any

from temporalio import workflow
from temporalio.api.common.v1 import ActivityType, Payload, Payloads, WorkflowType
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.client import WorkflowHistory
from temporalio.worker import Replayer, UnsandboxedWorkflowRunner

REPEATS = 3


@workflow.defn(name="steps")
class Steps:
    """One activity after the other."""

    @workflow.run
    async def run(self, steps: int) -> int:
        """Never run but replayed: the results are in the history."""
        number = 0
        for _ in range(steps):
            number = await workflow.execute_activity(
                "step", number, result_type=int, start_to_close_timeout=timedelta(minutes=1)
            )
        return number


def steps_per_second(count: int) -> float:
    """Activities replayed in a second, at best and without the import sandbox."""
    return count / min(asyncio.run(_replay(count)) for _ in range(REPEATS))


async def _replay(count: int) -> float:
    history = WorkflowHistory("steps", _history(count))
    replayer = Replayer(workflows=[Steps], workflow_runner=UnsandboxedWorkflowRunner())
    began = time.perf_counter()
    await replayer.replay_workflow(history)
    return time.perf_counter() - began


def _history(count: int) -> list[Any]:
    events: list[Any] = []
    queue = TaskQueue(name="steps")

    def payloads(value: int) -> Payloads:
        return Payloads(payloads=[Payload(metadata={"encoding": b"json/plain"}, data=str(value).encode())])

    def append(kind: str) -> Any:
        event = HistoryEvent(event_id=len(events) + 1, event_type=EventType.Value(f"EVENT_TYPE_{kind}"))
        event.event_time.FromSeconds(1_764_000_000)
        events.append(event)
        return getattr(event, f"{kind.lower()}_event_attributes")

    started = append("WORKFLOW_EXECUTION_STARTED")
    started.workflow_type.CopyFrom(WorkflowType(name="steps"))
    started.task_queue.CopyFrom(queue)
    started.input.CopyFrom(payloads(count))
    started.original_execution_run_id = "550e8400-e29b-41d4-a716-446655440000"
    for number in range(count + 1):
        append("WORKFLOW_TASK_SCHEDULED").task_queue.CopyFrom(queue)
        append("WORKFLOW_TASK_STARTED").scheduled_event_id = len(events)
        completed = append("WORKFLOW_TASK_COMPLETED")
        completed.scheduled_event_id, completed.started_event_id = len(events) - 2, len(events) - 1
        if number == count:
            append("WORKFLOW_EXECUTION_COMPLETED").result.CopyFrom(payloads(count))
            break
        scheduled = append("ACTIVITY_TASK_SCHEDULED")
        scheduled.activity_id = str(number + 1)
        scheduled.activity_type.CopyFrom(ActivityType(name="step"))
        scheduled.task_queue.CopyFrom(queue)
        scheduled.input.CopyFrom(payloads(number))
        scheduled.workflow_task_completed_event_id = len(events) - 1
        append("ACTIVITY_TASK_STARTED").scheduled_event_id = len(events)
        done = append("ACTIVITY_TASK_COMPLETED")
        done.scheduled_event_id, done.started_event_id = len(events) - 2, len(events) - 1
        done.result.CopyFrom(payloads(number + 1))
    return events
