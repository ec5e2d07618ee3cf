"""Workflows end to end, with server, worker and client on this machine: how long one takes, and how many a second.

python benchmarks/workflows.py [RUNS]

* W1: trivial workflows, started and awaited one after the other.
* W2: trivial workflows, and such with one task each, `AT_ONCE` at a time.
* W3: one workflow of a hundred tasks, one after the other.
* W4: one workflow of a hundred tasks at once, whose results it adds up.

The server runs in a process of its own with its file on disk; worker and client share another. Each figure is the
median of so many runs. Behind it stands what a unit took of a processor, in the worker's process and in the server's:
that says more than the figure when the machine has other work to do.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

import flovyn
from flovyn import Client, TaskContext, Worker, Workflow, WorkflowContext, task, workflow

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator

ALONE = 200
MANY = 500
AT_ONCE = 50
STEPS = 100
BACKENDS = {"asyncio": False, "asyncio+uvloop": True, "trio": False}


@task
async def square(ctx: TaskContext, number: int) -> int:
    """As little work as can be."""
    return number * number


@workflow
async def trivial(ctx: WorkflowContext, number: int) -> int:
    """Ends in its first activation."""
    return number * number


@workflow
async def one_task(ctx: WorkflowContext, number: int) -> int:
    """Ends when its task has."""
    return await ctx.schedule(square, number)


@workflow
async def in_sequence(ctx: WorkflowContext, steps: int) -> int:
    """One task after the other."""
    total = 0
    for number in range(steps):
        total += await ctx.schedule(square, number)
    return total


@workflow
async def in_parallel(ctx: WorkflowContext, steps: int) -> int:
    """All tasks at once."""
    handles = [ctx.schedule_async(square, number) for number in range(steps)]
    return sum([await handle for handle in handles])


@dataclass(frozen=True)
class Server:
    """A server in a process of its own."""

    process: subprocess.Popen[str]
    url: str
    org_id: str
    token: str

    def cpu(self) -> float:
        """Seconds of a processor that it has used."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def server() -> Generator[Server]:
    """Run one."""
    with tempfile.TemporaryDirectory() as directory:
        ports = ("--grpc-port", "0", "--no-http")
        command = [sys.executable, "-m", "flovyn", "server", "--dev", *ports, "--db", f"{directory}/db"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout is not None
            said: dict[str, str] = {}
            while "token" not in said:
                key, _, value = process.stdout.readline().strip().partition(" ")
                said[key] = value
            yield Server(process, f"http://{said['grpc']}", said["org"].split()[0], said["token"])
        finally:
            process.terminate()
            process.communicate()


async def alone(client: Client) -> float:
    """W1: the median of how long each takes, in seconds."""
    times: list[float] = []
    for number in range(ALONE):
        began = time.perf_counter()
        handle = await client.start(trivial, number)
        assert await handle.result() == number * number
        times.append(time.perf_counter() - began)
    return statistics.median(times)


async def many(client: Client, definition: Workflow[[int], int]) -> float:
    """W2: seconds until the last result."""
    limiter = anyio.CapacityLimiter(AT_ONCE)

    async def one(number: int) -> None:
        async with limiter:
            handle = await client.start(definition, number)
            assert await handle.result() == number * number

    began = time.perf_counter()
    async with anyio.create_task_group() as tg:
        for number in range(MANY):
            tg.start_soon(one, number)
    return time.perf_counter() - began


async def steps(client: Client, definition: Workflow[[int], int]) -> float:
    """W3 and W4: seconds from the start to the result."""
    began = time.perf_counter()
    handle = await client.start(definition, STEPS)
    assert await handle.result() == sum(number * number for number in range(STEPS))
    return time.perf_counter() - began


async def report(
    at: Server, what: str, runs: int, units: int, measured: Callable[[], Awaitable[float]], show: Callable[[float], str]
) -> None:
    """Print a line about one workload."""
    await measured()
    here, there, found = time.process_time(), at.cpu(), list[float]()
    for _ in range(runs):
        found.append(await measured())
    each = 1000 / (runs * units)
    here, there = (time.process_time() - here) * each, (at.cpu() - there) * each
    print(f"    {what:24} {show(statistics.median(found)):>10}   worker {here:5.2f} ms, server {there:5.2f} ms each")


async def measure(at: Server, runs: int) -> None:
    """Everything, on the backend of this event loop."""
    async with (
        flovyn.connect(at.url, org_id=at.org_id, token=at.token) as client,
        Worker(
            client,
            workflows=[trivial, one_task, in_sequence, in_parallel],
            tasks=[square],
            max_concurrent_workflows=AT_ONCE,
            max_concurrent_tasks=STEPS,
        ),
    ):
        await report(at, "W1 p50", runs, ALONE, lambda: alone(client), lambda s: f"{s * 1000:.1f} ms")
        await report(at, "W2 trivial", runs, MANY, lambda: many(client, trivial), lambda s: f"{MANY / s:.0f}/s")
        await report(at, "W2 with a task", runs, MANY, lambda: many(client, one_task), lambda s: f"{MANY / s:.0f}/s")
        await report(
            at, "W3 tasks in sequence", runs, STEPS, lambda: steps(client, in_sequence), lambda s: f"{STEPS / s:.0f}/s"
        )
        await report(
            at, "W4 tasks in parallel", runs, STEPS, lambda: steps(client, in_parallel), lambda s: f"{s * 1000:.0f} ms"
        )


def main(runs: int) -> None:
    """Measure on every backend."""
    print(f"medians of {runs} runs; load of the machine before them: {os.getloadavg()[0]:.1f}")
    for backend, uvloop in BACKENDS.items():
        with server() as at:
            print(f"  {backend}")
            options = {"use_uvloop": uvloop} if backend.startswith("asyncio") else {}
            anyio.run(measure, at, runs, backend=backend.partition("+")[0], backend_options=options)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
