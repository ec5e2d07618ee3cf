"""How fast a history is replayed, how long that holds the host's loop, and what a suspended run costs.

python benchmarks/replay.py [STEPS]

Replays are of sequential tasks, about four events each, with nothing cached. Behind each figure stands its target.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import importlib.util
import statistics
import sys
import time
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

from flovyn import WorkflowContext, task, workflow
from flovyn.replay import Activation, Event, Execution, RunInfo, Submission, read_event
from flovyn.replay.commands import CompleteWorkflow, RecordOperation, ScheduleTask, SuspendWorkflow
from flovyn.serde.codecs import CodecChain
from flovyn.wire import coding
from flovyn.wire.messages.flovyn import v1 as pb
from flovyn.worker.histories import apply
from flovyn.worker.operations import drive

if TYPE_CHECKING:
    from collections.abc import Callable

# What other processes do to this machine meanwhile is no fault of the SDK's: its own CPU time counts.
clock = time.process_time

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
        began = clock()
        work()
        times.append(clock() - began)
    return min(times)


def one_more(steps_before: int) -> float:
    """Seconds in which a cached run of some steps takes one more completion: reads, moves on, and says what it asks."""
    further = 200
    messages = recorded(steps_before + further)
    run = execution(steps_before + further)
    blocks = [messages[:1], *(messages[first : first + 4] for first in range(1, len(messages), 4))]
    times: list[float] = []
    for number, block in enumerate(blocks):
        if number < steps_before:
            run.load(decoded(block))
            if number == steps_before - 1:
                activate(run, f"{number:08x}")
            continue
        events = decoded(block)
        began = clock()
        run.load(events)
        if not run.is_current:
            raise AssertionError("the cached run is not current")
        activate(run, f"{number:08x}")
        times.append(clock() - began)
    run.close()
    return statistics.median(times)


def cached_runs(count: int) -> list[Execution]:
    """Suspended runs that wait for their first task."""
    runs: list[Execution] = []
    for _ in range(count):
        run = execution(1)
        run.load([read_event(1, "WORKFLOW_STARTED", b"{}")])
        activate(run, "00000000")
        runs.append(run)
    return runs


def memory(count: int) -> tuple[float, float]:
    """KiB for each of many suspended runs: as Python counts, and as the operating system does."""
    cached_runs(10)
    gc.collect()
    before = resident()
    runs = cached_runs(count)
    gc.collect()
    by_system = (resident() - before) / count / 1024
    del runs
    gc.collect()
    tracemalloc.start()
    runs = cached_runs(count // 10)
    by_python = tracemalloc.get_traced_memory()[0] / len(runs) / 1024
    tracemalloc.stop()
    return by_python, by_system


def resident() -> int:
    """Bytes of memory that this process has now."""
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * 4096


async def longest_hold(count: int, raw: bytes) -> tuple[float, float]:
    """Seconds: of a whole replay from bytes by the worker's code, and the longest that it holds the host's loop."""
    longest = 0.0

    async def look() -> None:
        nonlocal longest
        last = clock()
        while True:
            await asyncio.sleep(0)
            now = clock()
            longest, last = max(longest, now - last), now

    await anyio.lowlevel.checkpoint()  # the first one imports half of AnyIO
    looking = asyncio.create_task(look())
    await asyncio.sleep(0)
    began = clock()
    run = execution(count)
    await apply(run, raw, CodecChain())
    await drive(Activation(run, at_ms=0, salt="end"))
    took = clock() - began
    await asyncio.sleep(0)
    looking.cancel()
    return took, longest


def replays(count: int) -> None:
    """Print how fast whole histories are replayed."""
    messages = recorded(count)
    raw = coding.encode(pb.GetEventsResponse(events=messages))
    events = decoded(messages)

    def from_bytes() -> None:
        replay(count, decoded(coding.decode(pb.GetEventsResponse, raw).events))

    in_memory, with_decoding = best(lambda: replay(count, events)), best(from_bytes)
    print(f"replay of {count} sequential tasks, {len(events)} events, {len(raw) / 1024:.0f} KiB")
    for what, seconds, target in (
        ("decoded history", in_memory, "50 000"),
        ("GetEvents bytes", with_decoding, "20 000"),
    ):
        print(f"  {what}   {count / seconds:9.0f} steps/s  {len(events) / seconds:9.0f} events/s  (>= {target})")
    if importlib.util.find_spec("temporalio") is None:
        print("  temporalio.worker.Replayer: not measured, for temporalio is not installed")
    else:
        steps_per_second = importlib.import_module("temporal_replay").steps_per_second(count)
        print(f"  temporalio.worker.Replayer {steps_per_second:9.0f} steps/s")


def main(count: int) -> None:
    """Print the figures."""
    replays(count)
    print("a cached run takes one more completion (< 60 us)")
    for steps_before in (2, 250, 5_000):
        print(f"  behind {4 * steps_before:6d} events  {one_more(steps_before) * 1e6:6.1f} us")
    by_python, by_system = memory(10_000)
    print("a cached idle run, of 10 000 (<= 20 KiB)")
    print(f"  as Python counts  {by_python:6.1f} KiB, as the system does {by_system:.1f} KiB")
    long = coding.encode(pb.GetEventsResponse(events=recorded(5_000)))
    gc.collect()
    took, longest = asyncio.run(longest_hold(5_000, long))
    print(f"a worker replays 20 001 events from bytes in {took * 1e3:.0f} ms")
    print(f"  the host's loop is held for {longest * 1e3:.1f} ms at most (<= 10 ms)")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000)
