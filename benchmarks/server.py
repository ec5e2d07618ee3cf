"""The embedded server alone: calls a second, workflows a second, and how soon a waiting poll has what was started.

python benchmarks/server.py [COUNT [STORED [RUNS]]]

COUNT workflows are measured, RUNS times, of which the best is shown; STORED executions are in the file before that. The
server has one core to itself, as far as nobody else uses it, and the client another. What the server could do follows
also from its own CPU time.
"""

from __future__ import annotations

import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count as numbers
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import anyio

from flovyn.server.auth import DEV_ORG_ID, DEV_TOKEN
from flovyn.server.engine import Caller, Engine, Start
from flovyn.server.store import Store
from flovyn.wire import methods
from flovyn.wire.channel import Channel
from flovyn.wire.messages.flovyn import v1 as pb

if TYPE_CHECKING:
    from collections.abc import Generator

IN_FLIGHT = 16
COMPLETE = [
    pb.WorkflowCommand(
        command_type=pb.CommandType.COMPLETE_WORKFLOW, complete_workflow=pb.CompleteWorkflowCommand(output=b"1")
    )
]


def engine_alone(path: str, count: int) -> tuple[float, float]:
    """Trivial workflows a second without a network, and microseconds for each call."""
    store = Store(path)
    engine = Engine(store, clock=lambda: time.time_ns() // 1_000_000, new_id=lambda: str(uuid4()))
    caller = Caller(DEV_ORG_ID, 1)
    began = time.perf_counter()
    for _ in range(count):
        engine.workflows.start(caller, Start("trivial", payload=b"1"))
        claimed = engine.workflows.claim(caller, engine.workers.poller(caller, "workflow", worker_id="w", queue=""))
        assert claimed is not None
        engine.workflows.events(caller, claimed.run.id)
        engine.workflows.submit(
            Caller(DEV_ORG_ID, 1, claimed.token), claimed.run.id, COMPLETE, pb.WorkflowStatus.COMPLETED
        )
    spent = time.perf_counter() - began
    store.close()
    return count / spent, spent / count / 4 * 1e6


def fill(path: str, count: int) -> None:
    """Put completed executions into a file."""
    if count:
        engine_alone(path, count)


@contextmanager
def server(path: str, *, durability: str = "normal") -> Generator[Process]:
    """A server on one core, in a process of its own; this process keeps to the others."""
    command = [sys.executable, "-m", "flovyn", "server", "--dev", "--grpc-port", "0", "--no-http", "--db", path]
    process = subprocess.Popen([*command, "--durability", durability], stdout=subprocess.PIPE, text=True)
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_setaffinity") else []
    if cores:
        os.sched_setaffinity(process.pid, {cores[-1]})
        os.sched_setaffinity(0, set(cores[:-1] or cores))
    try:
        assert process.stdout is not None
        address = process.stdout.readline().split()[1]
        yield Process(f"http://{address}", process.pid)
    finally:
        process.terminate()
        process.communicate()
        if cores:
            os.sched_setaffinity(0, set(cores))


@dataclass(frozen=True)
class Process:
    """A server in a process of its own."""

    url: str
    pid: int

    def cpu_seconds(self) -> float:
        """What it has used until now."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def megabytes(self) -> float:
        """What it has in memory."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


async def starts(channel: Channel, count: int) -> None:
    """Nothing but so many starts, `IN_FLIGHT` at a time."""
    left = numbers()
    request = pb.StartWorkflowRequest(org_id=DEV_ORG_ID, workflow_kind="waits", queue="nobody's", input=b"1")

    async def one_after_another() -> None:
        while next(left) < count:
            await channel.unary(methods.START_WORKFLOW, request)

    async with anyio.create_task_group() as tg:
        for _ in range(IN_FLIGHT):
            tg.start_soon(one_after_another)


async def trivial_workflows(channel: Channel, count: int) -> None:
    """Start, poll, read and complete so many workflows, `IN_FLIGHT` at a time."""
    left = numbers()

    async def one_after_another() -> None:
        while next(left) < count:
            request = pb.StartWorkflowRequest(org_id=DEV_ORG_ID, workflow_kind="trivial", input=b"1")
            await channel.unary(methods.START_WORKFLOW, request)
            poll = pb.PollRequest(worker_id="w", org_id=DEV_ORG_ID, timeout_seconds=10)
            polled = await channel.unary(methods.POLL_WORKFLOW, poll)
            run = polled.message.workflow_execution
            assert run is not None
            echo = {"flovyn-claim": polled.metadata["flovyn-claim"]}
            events = pb.GetEventsRequest(workflow_execution_id=run.id)
            await channel.unary(methods.GET_EVENTS, events, metadata=echo)
            done = pb.SubmitWorkflowCommandsRequest(
                workflow_execution_id=run.id, commands=COMPLETE, status=pb.WorkflowStatus.COMPLETED
            )
            await channel.unary(methods.SUBMIT_WORKFLOW_COMMANDS, done, metadata=echo)

    async with anyio.create_task_group() as tg:
        for _ in range(IN_FLIGHT):
            tg.start_soon(one_after_another)


async def first_polls(channel: Channel, count: int) -> list[float]:
    """Milliseconds from a start to its arrival at a poll that was waiting."""
    times: list[float] = []
    for _ in range(count):
        arrived = began = 0.0

        async def poll() -> None:
            nonlocal arrived
            request = pb.PollRequest(worker_id="v", org_id=DEV_ORG_ID, queue="latency", timeout_seconds=10)
            polled = await channel.unary(methods.POLL_WORKFLOW, request)
            assert polled.message.workflow_execution is not None
            arrived = time.perf_counter()

        async with anyio.create_task_group() as tg:
            tg.start_soon(poll)
            await anyio.sleep(0.005)
            began = time.perf_counter()
            request = pb.StartWorkflowRequest(org_id=DEV_ORG_ID, workflow_kind="t", queue="latency", input=b"1")
            await channel.unary(methods.START_WORKFLOW, request)
        times.append((arrived - began) * 1000)
    return times


async def over_grpc(process: Process, count: int, runs: int) -> None:
    """Print the best of some runs."""
    async with Channel(process.url, token=DEV_TOKEN) as channel:
        await trivial_workflows(channel, 200)
        before = process.megabytes()
        for name, work, calls in (("starts", starts, 1), ("workflows", trivial_workflows, 4)):
            wall = busy = math.inf
            for _ in range(runs):
                used, began = process.cpu_seconds(), time.perf_counter()
                await work(channel, count)
                wall = min(wall, time.perf_counter() - began)
                busy = min(busy, process.cpu_seconds() - used)
            print(
                f"    {count / wall:6.0f} {name}/s   {calls * count / wall:6.0f} RPCs/s"
                f"   by the server's CPU {count / busy:6.0f}/s   {calls * count / busy:6.0f} RPCs/s"
            )
        times = await first_polls(channel, 100)
        print(f"    start to first poll of a waiting poller: p50 {statistics.median(times):.2f} ms")
        print(f"    memory {before:.0f} MB, {process.megabytes() - before:+.0f} MB after {2 * runs * count} executions")


def main(count: int, stored: int, runs: int) -> None:
    """Measure the engine, then the server at each durability."""
    with tempfile.TemporaryDirectory() as directory:
        rate, each = max(engine_alone(f"{directory}/engine-{run}.db", count) for run in range(runs))
        print(f"  engine alone  {rate:6.0f} workflows/s   {each:5.0f} us a call")
        fill(f"{directory}/normal.db", stored)
        for durability in ("normal", "full"):
            kept = f", {stored} executions stored" if stored and durability == "normal" else ""
            print(f"  gRPC, {IN_FLIGHT} in flight, {durability} durability{kept}")
            with server(f"{directory}/{durability}.db", durability=durability) as process:
                options = {"use_uvloop": True}
                anyio.run(over_grpc, process, count, runs, backend="asyncio", backend_options=options)


if __name__ == "__main__":
    arguments = [int(argument) for argument in sys.argv[1:]]
    main(*[*arguments, *(2_000, 0, 3)[len(arguments) :]])
