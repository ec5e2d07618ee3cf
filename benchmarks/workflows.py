"""Workflows a second, end to end: server, worker and client on this machine, a task each; and how long one takes.

python benchmarks/workflows.py [COUNT]
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import anyio

import flovyn
from flovyn import Client, TaskContext, Worker, Workflow, WorkflowContext, task, workflow

if TYPE_CHECKING:
    from collections.abc import Generator

AT_ONCE = 50
ALONE = 50
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


@contextmanager
def server() -> Generator[tuple[str, str, str]]:
    """A server in a process of its own: its URL, organisation and token."""
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
            yield f"http://{said['grpc']}", said["org"].split()[0], said["token"]
        finally:
            process.terminate()
            process.communicate()


async def many(client: Client, definition: Workflow[[int], int], count: int) -> float:
    """So many workflows, `AT_ONCE` at a time; returns how many a second."""
    limiter = anyio.CapacityLimiter(AT_ONCE)

    async def one(number: int) -> None:
        async with limiter:
            handle = await client.start(definition, number)
            assert await handle.result() == number * number

    began = time.perf_counter()
    async with anyio.create_task_group() as tg:
        for number in range(count):
            tg.start_soon(one, number)
    return count / (time.perf_counter() - began)


async def alone(client: Client, definition: Workflow[[int], int]) -> list[float]:
    """One after the other; returns how long each took, in milliseconds."""
    times: list[float] = []
    for number in range(ALONE):
        began = time.perf_counter()
        handle = await client.start(definition, number)
        await handle.result()
        times.append((time.perf_counter() - began) * 1000)
    return times


async def measure(url: str, org_id: str, token: str, count: int) -> None:
    """Print one line for each definition."""
    async with (
        flovyn.connect(url, org_id=org_id, token=token) as client,
        Worker(client, workflows=[trivial, one_task], tasks=[square], max_concurrent_workflows=50),
    ):
        for definition in (trivial, one_task):
            await many(client, definition, AT_ONCE)
            rate = await many(client, definition, count)
            times = await alone(client, definition)
            quantiles = statistics.quantiles(times, n=100)
            alone_ms = f"alone p50 {quantiles[49]:6.1f} ms  p99 {quantiles[98]:6.1f} ms"
            print(f"    {definition.kind:10} {rate:7.0f}/s   {alone_ms}")


def main(count: int) -> None:
    """Measure on every backend."""
    print(f"{count} workflows, {AT_ONCE} at a time; server in its own process")
    for backend, uvloop in BACKENDS.items():
        with server() as (url, org_id, token):
            print(f"  {backend}")
            options = {"use_uvloop": uvloop} if backend.startswith("asyncio") else {}
            anyio.run(measure, url, org_id, token, count, backend=backend.partition("+")[0], backend_options=options)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 500)
