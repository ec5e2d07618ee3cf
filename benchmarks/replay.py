"""How fast a history is replayed: 1 000 sequential tasks, about four events each, with nothing cached.

python benchmarks/replay.py [STEPS]
"""

from __future__ import annotations

import gc
import sys
import time
from typing import TYPE_CHECKING

from flovyn import WorkflowContext, task, workflow
from flovyn.replay import Activation, Event, Execution, RunInfo, Submission, read_event
from flovyn.replay.commands import CompleteWorkflow, RecordOperation, ScheduleTask, SuspendWorkflow
from flovyn.wire import coding
from flovyn.wire.messages.flovyn import v1 as pb

if TYPE_CHECKING:
    from collections.abc import Callable

WORKFLOW_ID = "550e8400-e29b-41d4-a716-446655440000"
REPEATS = 5


@task
async def step(ctx: object, number: int) -> int:
    """Never run here: its results are in the history."""
    return number + 1


@workflow
async def steps(ctx: WorkflowContext, count: int) -> int:
    """One task after the other."""
    number = 0
    for _ in range(count):
        number = await ctx.schedule(step, number)
    return number


def execution(count: int) -> Execution:
    """A run with nothing applied yet."""
    info = RunInfo(WORKFLOW_ID, "org", "steps", "default", str(count).encode())
    return Execution(steps, info, WorkflowContext)


def activate(run: Execution, salt: str) -> Submission:
    """One activation."""
    activation = Activation(run, at_ms=1_764_000_000_000, salt=salt)
    for _ in activation.slices():
        pass
    return activation.submission()


def recorded(count: int) -> list[pb.WorkflowEvent]:
    """The history of a whole run but for its end, made by running it."""
    events: list[pb.WorkflowEvent] = []

    def append(kind: str, data: str) -> None:
        events.append(pb.WorkflowEvent(len(events) + 1, kind, data.encode()))

    append("WORKFLOW_STARTED", "{}")
    task_id = ""
    run = execution(count)
    for number in range(count):
        run.load(decoded(events[run.history.length :]))
        for command in activate(run, f"{number:08x}").commands:
            match command:
                case RecordOperation(name, result):
                    append("OPERATION_COMPLETED", f'{{"operationName":"{name}","result":{result.decode()}}}')
                case ScheduleTask(task_id=task_id):
                    append("TASK_SCHEDULED", f'{{"kind":"step","taskExecutionId":"{task_id}"}}')
                case SuspendWorkflow(reason):
                    append("WORKFLOW_SUSPENDED", f'{{"reason":"{reason}"}}')
                    append("TASK_COMPLETED", f'{{"taskExecutionId":"{task_id}","kind":"step","output":{number + 1}}}')
                case other:
                    raise AssertionError(other)
    run.close()
    return events


def decoded(events: list[pb.WorkflowEvent]) -> list[Event]:
    """As the worker decodes them."""
    return [read_event(event.sequence_number, event.event_type, event.event_data) for event in events]


def replay(count: int, events: list[Event]) -> None:
    """Everything from the first step to the end of the workflow."""
    run = execution(count)
    run.load(events)
    end = activate(run, "end").commands[-1]
    assert end == CompleteWorkflow(str(count).encode()), end


def best(work: Callable[[], None]) -> float:
    """The shortest of several times, in seconds."""
    times: list[float] = []
    for _ in range(REPEATS):
        gc.collect()
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return min(times)


def main(count: int) -> None:
    """Print the figures."""
    messages = recorded(count)
    raw = coding.encode(pb.GetEventsResponse(events=messages))
    events = decoded(messages)

    def from_bytes() -> None:
        replay(count, decoded(coding.decode(pb.GetEventsResponse, raw).events))

    in_memory, with_decoding = best(lambda: replay(count, events)), best(from_bytes)
    print(f"replay of {count} sequential tasks, {len(events)} events, {len(raw) / 1024:.0f} KiB")
    print(f"  decoded history   {count / in_memory:9.0f} steps/s  {len(events) / in_memory:9.0f} events/s")
    print(f"  GetEvents bytes   {count / with_decoding:9.0f} steps/s  {len(events) / with_decoding:9.0f} events/s")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000)
