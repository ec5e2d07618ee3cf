"""Work and workers through the death of a server and of a connection."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import pytest

import flovyn
from flovyn import Client, TaskContext, Worker, WorkerStatistics, WorkflowContext, task, workflow
from flovyn.server import Server, serve
from worker.fakes import until

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

pytestmark = pytest.mark.anyio

NOTHING = WorkerStatistics(running_workflows=0, running_tasks=0, open_polls=0, internal_tasks=0)


def connected(server: Server) -> AbstractAsyncContextManager[Client]:
    return flovyn.connect(server.url, org_id=server.org_id, token=server.token)


@pytest.mark.parametrize("way", ["return", "raise"])
async def test_worker_leaves_nothing_behind_when_the_server_dies(
    way: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.CRITICAL)
    monkeypatch.setattr("flovyn.worker.tree._FAREWELL", 0.1)
    began = anyio.Event()

    @task
    async def endless(ctx: TaskContext) -> None:
        began.set()
        await anyio.sleep_forever()

    @workflow
    async def waits(ctx: WorkflowContext) -> None:
        await ctx.schedule(endless)

    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            life = Life()
            server: Server = await group.start(life.serve)
            async with connected(server) as client:
                worker = Worker(client, workflows=[waits], tasks=[endless], grace=0.1)
                try:
                    async with worker:
                        await client.start(waits)
                        await began.wait()
                        await life.end()
                        await until(lambda: not worker.statistics().open_polls)
                        if way == "raise":
                            raise ValueError("mine")
                except ValueError:
                    assert way == "raise"
                assert worker.statistics() == NOTHING


class Life:
    """A server that lives until it is told to die."""

    def __init__(self, db: str = ":memory:") -> None:
        self.db = db
        self._end = anyio.Event()
        self._ended = anyio.Event()

    async def end(self) -> None:
        self._end.set()
        await self._ended.wait()

    async def serve(self, *, task_status: anyio.abc.TaskStatus[Server] = anyio.TASK_STATUS_IGNORED) -> None:
        async with serve(db=self.db) as server:
            task_status.started(server)
            await self._end.wait()
        self._ended.set()


class Body:
    """A task that waits to be released, and counts how often it ran."""

    def __init__(self) -> None:
        self.attempts: list[int] = []
        self.began = anyio.Event()
        self.release = anyio.Event()

        @task
        async def body(ctx: TaskContext) -> int:
            self.attempts.append(ctx.attempt)
            self.began.set()
            await self.release.wait()
            return ctx.attempt

        @workflow
        async def runs_body(ctx: WorkflowContext) -> int:
            return await ctx.schedule(body)

        self.task, self.workflow = body, runs_body


async def test_work_outlives_a_restart_of_the_server(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The claim stands in the server's file, and the worker shows it again before it is given away."""
    caplog.set_level(logging.CRITICAL)
    body = Body()
    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            life = Life(str(tmp_path / "flovyn.db"))
            first: Server = await group.start(life.serve)
            async with connected(first) as client:
                worker = Worker(client, workflows=[body.workflow], tasks=[body.task])
                async with worker:
                    handle = await client.start(body.workflow)
                    await body.began.wait()
                    await life.end()
                    await until(lambda: not worker.statistics().open_polls)
                    async with serve(db=life.db, grpc_port=first.grpc_port):
                        body.release.set()
                        assert await handle.result() == 1
                assert worker.statistics() == NOTHING
    assert body.attempts == [1]


async def test_work_outlives_a_broken_connection(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    body = Body()
    with anyio.fail_after(20):
        async with serve() as server, anyio.create_task_group() as group:
            line: Line = await group.start(Line(server.grpc_port).run)
            async with flovyn.connect(line.url, org_id=server.org_id, token=server.token) as client:
                worker = Worker(client, workflows=[body.workflow], tasks=[body.task])
                async with worker:
                    handle = await client.start(body.workflow)
                    await body.began.wait()
                    line.cut()
                    # Longer than a server waits before it gives away the work of a connection that closed.
                    await anyio.sleep(1.5)
                    body.release.set()
                    assert await handle.result() == 1
                assert worker.statistics() == NOTHING
            assert line.connections >= 4
            group.cancel_scope.cancel()
    assert body.attempts == [1]


class Line:
    """A line to the server that can be cut."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = ""
        self.connections = 0
        self._open: list[anyio.CancelScope] = []

    def cut(self) -> None:
        for scope in self._open:
            scope.cancel()

    async def run(self, *, task_status: anyio.abc.TaskStatus[Line] = anyio.TASK_STATUS_IGNORED) -> None:
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        self.url = f"http://127.0.0.1:{listener.extra(anyio.abc.SocketAttribute.local_port)}"
        task_status.started(self)
        async with listener:
            await listener.serve(self._serve)

    async def _serve(self, near: anyio.abc.SocketStream) -> None:
        self.connections += 1
        with anyio.CancelScope() as scope:
            self._open.append(scope)
            async with near, await anyio.connect_tcp("127.0.0.1", self.port) as far, anyio.create_task_group() as group:
                group.start_soon(_pump, near, far, scope)
                group.start_soon(_pump, far, near, scope)


async def _pump(source: anyio.abc.SocketStream, sink: anyio.abc.SocketStream, scope: anyio.CancelScope) -> None:
    try:
        async for data in source:
            await sink.send(data)
    except (anyio.BrokenResourceError, anyio.ClosedResourceError):
        pass
    scope.cancel()


async def test_workers_that_come_and_go_lose_nothing() -> None:
    """A poll is answered in the very moment in which it is given up: the work goes on all the same."""

    @task
    async def echo(ctx: TaskContext, number: int) -> int:
        return number

    @workflow
    async def echoes(ctx: WorkflowContext, number: int) -> int:
        return await ctx.schedule(echo, number)

    results: dict[int, int] = {}
    with anyio.fail_after(40):
        async with serve() as server, connected(server) as client:

            async def one(number: int) -> None:
                results[number] = await (await client.start(echoes, number)).result()

            async def come_and_go() -> None:
                while len(results) < 30:
                    async with Worker(client, workflows=[echoes], tasks=[echo]):
                        await anyio.sleep(0.02)

            async with anyio.create_task_group() as group:
                group.start_soon(come_and_go)
                for number in range(30):
                    group.start_soon(one, number)
    assert results == {number: number for number in range(30)}
