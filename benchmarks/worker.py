"""What an idle worker costs, and how soon a task hears that it is cancelled.

python benchmarks/worker.py [SECONDS]

The server runs in a process of its own. Idle: calls and processor time of a worker with a workflow and a task, with the
defaults, over so many seconds. Cancelling: from the end of the scope around `ctx.schedule` in the workflow (it is
decided in the worker's own process) until the body of the task is raised its cancellation.
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
from flovyn import Client, TaskContext, Worker, WorkflowContext, task, workflow
from flovyn.wire import methods
from flovyn.wire.channel import Channel
from flovyn.wire.messages.flovyn import v1 as pb

if TYPE_CHECKING:
    from collections.abc import Generator

CANCELS = 100
BACKENDS = {"asyncio": False, "asyncio+uvloop": True, "trio": False}

decided: list[float] = []
heard: list[float] = []
began: list[anyio.Event] = []


def note() -> None:
    """The workflow's end of the measure; a `ctx.run`, so that it is the host's clock that is read."""
    decided.append(time.perf_counter())


@task
async def endless(ctx: TaskContext) -> None:
    """Waits to be cancelled."""
    began.pop().set()
    try:
        await anyio.sleep_forever()
    finally:
        heard.append(time.perf_counter())


@workflow
async def gives_up(ctx: WorkflowContext) -> None:
    """Cancels its task as soon as it is told to."""
    async with anyio.create_task_group() as tg:
        tg.start_soon(ctx.schedule, endless)
        await ctx.wait_for_signal("now")
        await ctx.run("note", note)
        tg.cancel_scope.cancel()


@contextmanager
def server() -> Generator[tuple[str, str, str]]:
    """A server in a process of its own: its URL, organisation and token."""
    with tempfile.TemporaryDirectory() as directory:
        command = [sys.executable, "-m", "flovyn", "server", "--dev", "--grpc-port", "0", "--db", f"{directory}/db"]
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


async def idle(url: str, org_id: str, token: str, seconds: float) -> None:
    """Print what a worker does that has nothing to do."""
    line = Channel(url, token=token)
    client = Client(line, org_id=org_id, dial=lambda: line)
    async with Worker(client, workflows=[gives_up], tasks=[endless]):
        await anyio.sleep(1)  # until it has settled
        calls, cpu, began_at = line.statistics().calls_started, time.process_time(), time.perf_counter()
        await anyio.sleep(seconds)
        passed = time.perf_counter() - began_at
        rate = (line.statistics().calls_started - calls) / passed
        share = (time.process_time() - cpu) / passed * 100
        print(f"    idle        {rate:6.2f} calls/s   {share:6.3f} % of a processor")


async def cancels(client: Client) -> None:
    """Print how long a cancel takes in the same worker."""
    async with Worker(client, workflows=[gives_up], tasks=[endless]):
        decided.clear()
        heard.clear()
        for _ in range(CANCELS):
            up = anyio.Event()
            began.append(up)
            handle = await client.start(gives_up)
            await up.wait()
            signal = pb.SignalWorkflowRequest(
                org_id=client.org_id, workflow_execution_id=handle.id, signal_name="now", signal_value=b"null"
            )
            await client.transport.unary(methods.SIGNAL_WORKFLOW, signal)
            await handle.result()
    times = [(late - early) * 1000 for early, late in zip(decided, heard, strict=True)]
    quantiles = statistics.quantiles(times, n=100)
    print(f"    cancelling  p50 {quantiles[49]:6.1f} ms  p99 {quantiles[98]:6.1f} ms  worst {max(times):6.1f} ms")


async def measure(url: str, org_id: str, token: str, seconds: float) -> None:
    """Both."""
    await idle(url, org_id, token, seconds)
    async with flovyn.connect(url, org_id=org_id, token=token) as client:
        await cancels(client)


def main(seconds: float) -> None:
    """Measure on every backend."""
    print(f"a worker, idle for {seconds:g} s, and {CANCELS} cancels; server in its own process")
    for backend, uvloop in BACKENDS.items():
        with server() as (url, org_id, token):
            print(f"  {backend}")
            options = {"use_uvloop": uvloop} if backend.startswith("asyncio") else {}
            anyio.run(measure, url, org_id, token, seconds, backend=backend.partition("+")[0], backend_options=options)


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 20)
