"""A bad network: connections are cut, stalled and left half open while 200 workflows run, and all come out right.

The server is a process of its own; worker and clients reach it over lines that the test has in its hands.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import anyio
import pytest

from flovyn import Client, ExponentialReconnect, TaskContext, Worker, WorkflowContext, WorkflowHandle, task, workflow
from flovyn.errors import ConnectionLost, DeadlineExceeded, ServerUnavailable
from flovyn.wire.channel import Channel
from flovyn.wire.options import ChannelOptions
from system.processes import ServerProcess, server
from system.proxy import Proxy

pytestmark = pytest.mark.anyio

R = TypeVar("R")

WORKFLOWS = 200
LOST = (ConnectionLost, ServerUnavailable, DeadlineExceeded)
# A line that is half open is known by its silence, so that is told soon.
WATCHFUL = ChannelOptions(keepalive_interval=0.5, keepalive_timeout=0.5, connect_within=1)


@task
async def step(ctx: TaskContext, number: int) -> tuple[int, str]:
    """Says who it was: of two attempts only one counts."""
    await anyio.sleep(random.random() * 0.01)
    return number, uuid4().hex


@workflow
async def busy(ctx: WorkflowContext, number: int, rounds: int, pause: float) -> list[Any]:
    """A task and a pause after each other, so that it is under way for as long as the network is bad."""
    seen: list[Any] = [await ctx.run("mark", lambda: uuid4().hex)]
    for one in range(rounds):
        seen.append(await ctx.schedule(step, number))
        await ctx.sleep(pause * (1 + (number + one) % 7) / 4)
    return seen


@asynccontextmanager
async def reached(url: str, at: ServerProcess) -> AsyncGenerator[Client]:
    """A client, and through it a worker, that notice soon when nobody is there."""

    def dial() -> Channel:
        return Channel(url, token=at.token, options=WATCHFUL)

    async with dial() as channel:
        yield Client(channel, org_id=at.org_id, dial=dial)


async def insisting(call: Callable[..., Any], *arguments: Any) -> Any:
    """Call until there is an answer."""
    while True:
        try:
            return await call(*arguments)
        except LOST:
            await anyio.sleep(0.02)


async def interfere(proxy: Proxy, source: random.Random, done: Counter[str], seconds: float) -> None:
    """Do something to the network again and again, at random moments."""
    until = anyio.current_time() + seconds
    while anyio.current_time() < until:
        await anyio.sleep(source.uniform(0.05, 0.5))
        lines = proxy.lines
        if not lines:
            continue
        hit = lines if source.random() < 0.2 else [source.choice(lines)]
        sort = source.choice(("cut", "stall", "half open"))
        done[sort] += 1
        if sort == "stall":
            for line in hit:
                line.stall()
            await anyio.sleep(source.uniform(0.05, 0.6))
        for line in hit:
            {"cut": line.cut, "stall": line.go_on, "half open": line.half_open}[sort]()


async def see_through(client: Client, number: int, rounds: int, pause: float) -> None:
    """One workflow, from its start to its result, and whether its history agrees with that."""
    starter = client.options(idempotency_key=f"busy-{number}-{rounds}")
    handle: WorkflowHandle[list[Any]] = await insisting(starter.start, busy, number, rounds, pause)
    mark, *steps = await insisting(handle.result)
    assert [step_number for step_number, _ in steps] == [number] * rounds
    history = await insisting(handle.history)
    assert [event.sequence for event in history] == list(range(1, len(history) + 1))
    marks = [event.data["result"] for event in history if event.data.get("operationName") == "mark"]
    assert marks == [mark]
    ended = [event.data for event in history if event.type == "TASK_COMPLETED"]
    assert [data["output"] for data in ended] == steps
    assert len({data["taskExecutionId"] for data in ended}) == rounds
    types = Counter(event.type for event in history)
    assert (types["TASK_SCHEDULED"], types["TASK_COMPLETED"], types["TASK_FAILED"]) == (rounds, rounds, 0)
    assert (types["TIMER_STARTED"], types["TIMER_FIRED"]) == (rounds, rounds)
    assert types["WORKFLOW_COMPLETED"] == 1


async def under_way(directory: Path, *, seed: int, seconds: float) -> Counter[str]:
    """Run the workflows over a bad network; returns what was done to it."""
    source = random.Random(seed)
    done: Counter[str] = Counter()
    rounds = 4 + int(seconds) // 10
    async with server(directory / "db", "--worker-timeout", "2") as at, anyio.create_task_group() as network:
        proxy = Proxy(at.port, source)
        await network.start(proxy.run)
        async with reached(proxy.url, at) as client:
            worker = Worker(
                client,
                workflows=[busy],
                tasks=[step],
                max_concurrent_tasks=50,
                reconnect=ExponentialReconnect(initial=0.01, maximum=0.1),
            )
            network.start_soon(interfere, proxy, source, done, seconds)
            async with worker:
                async with anyio.create_task_group() as waiting:
                    for number in range(WORKFLOWS):
                        waiting.start_soon(see_through, client, number, rounds, seconds / rounds)
                network.cancel_scope.cancel()
                # What the worker still has to say goes nowhere, and it ends all the same.
                worker.stop()
        idle = worker.statistics()
        assert (idle.running_workflows, idle.running_tasks, idle.open_polls, idle.internal_tasks) == (0, 0, 0, 0)
    return done


@pytest.fixture
def plain_loop(anyio_backend: tuple[str, dict[str, Any]]) -> None:
    """Once with asyncio and once with trio is enough."""
    if anyio_backend[1].get("use_uvloop"):
        pytest.skip("asyncio without uvloop says the same")


@pytest.mark.usefixtures("plain_loop")
async def test_all_of_them_finish_over_a_bad_network(tmp_path: Path) -> None:
    with anyio.fail_after(120):
        done = await under_way(tmp_path, seed=1, seconds=10)
    assert min(done[sort] for sort in ("cut", "stall", "half open")) > 0


@pytest.mark.deep
@pytest.mark.usefixtures("plain_loop")
@pytest.mark.parametrize("seed", [2, 3])
async def test_all_of_them_finish_over_a_network_that_is_bad_for_long(seed: int, tmp_path: Path) -> None:
    with anyio.fail_after(240):
        await under_way(tmp_path, seed=seed, seconds=60)
