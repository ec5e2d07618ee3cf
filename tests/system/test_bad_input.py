"""Each mistake gets its own typed, readable error, and the worker lives on."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

import anyio
import pytest
from anyio.abc import SocketAttribute, SocketStream

import flovyn
from flovyn import (
    ChannelOptions,
    Client,
    PayloadError,
    PayloadTooLarge,
    ServerUnavailable,
    TaskContext,
    TaskFailed,
    TransportError,
    Unauthenticated,
    Worker,
    WorkerStatistics,
    WorkflowContext,
    WorkflowFailed,
    task,
    workflow,
    workflow_by_kind,
)
from flovyn.server import serve

pytestmark = pytest.mark.anyio

ORG = "00000000-0000-4000-8000-000000000001"
IDLE = WorkerStatistics(running_workflows=0, running_tasks=0, open_polls=0, internal_tasks=0)
SMALL = ChannelOptions(max_send_size=20_000)


@task
async def repeat(ctx: TaskContext, text: str, times: int) -> str:
    return text * times


@workflow
async def repeats(ctx: WorkflowContext, text: str, times: int) -> int:
    return len(await ctx.schedule(repeat, text, times))


@workflow
async def big_result(ctx: WorkflowContext, size: int) -> str:
    return "x" * size


@workflow
async def schedules_unknown(ctx: WorkflowContext) -> None:
    @task(kind="nobody.has.this")
    async def unknown(ctx: TaskContext) -> None: ...

    await ctx.schedule(unknown)


@asynccontextmanager
async def working(options: ChannelOptions | None = None) -> AsyncGenerator[Client]:
    """A server, a client and a worker; at the end the worker must still be at work."""
    with anyio.fail_after(20):
        async with (
            serve() as server,
            flovyn.connect(server.url, org_id=server.org_id, token=server.token, options=options) as client,
        ):
            async with Worker(client, workflows=[repeats, big_result], tasks=[repeat]) as worker:
                yield client
                handle = await client.start(repeats, "ab", 3)
                assert await handle.result() == 6
            assert worker.statistics() == IDLE


async def unused_port() -> int:
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with listener:
        return int(listener.extra(SocketAttribute.local_port))


async def test_an_unreachable_server_is_named() -> None:
    port = await unused_port()
    with anyio.fail_after(20):
        async with flovyn.connect(f"http://127.0.0.1:{port}", org_id=ORG) as client:
            with pytest.raises(ServerUnavailable, match=f"127.0.0.1:{port}"):
                await client.start(repeats, "a", 1)


async def test_a_wrong_token_is_refused_to_client_and_worker() -> None:
    with anyio.fail_after(20):
        async with serve() as server, flovyn.connect(server.url, org_id=server.org_id, token="fwt_wrong") as client:
            with pytest.raises(Unauthenticated) as raised:
                await client.start(repeats, "a", 1)
            assert "fwt_wrong" not in str(raised.value)
            worker = Worker(client, workflows=[repeats])
            with pytest.raises(Unauthenticated):
                async with worker:
                    raise AssertionError("the worker must not get this far")
            assert worker.statistics() == IDLE


async def test_a_kind_that_no_worker_has_waits_for_one_and_keeps_nobody_from_working() -> None:
    async with working() as client:
        handle = await client.start(workflow_by_kind("nobody.has.this"))
        other = await client.start(repeats, "abc", 2)
        assert await other.result() == 6
        assert [event.type for event in await handle.history()] == ["WORKFLOW_STARTED"]


async def test_input_that_does_not_fit_fails_the_workflow_with_the_path() -> None:
    async with working() as client:
        handle = await client.start(workflow_by_kind("repeats"), {"text": "a", "times": "three"})
        with pytest.raises(WorkflowFailed, match=r"\$\.times") as raised:
            await handle.result()
        assert raised.value.error_type == "PayloadError"


async def test_an_argument_that_cannot_be_written_is_told_at_the_call() -> None:
    async with working() as client:
        with pytest.raises(PayloadError):
            await client.start(workflow_by_kind("repeats"), object())


async def test_a_payload_over_the_limit_is_told_at_the_call() -> None:
    async with working(SMALL) as client:
        with pytest.raises(PayloadTooLarge, match="20000") as raised:
            await client.start(repeats, "x" * 30_000, 1)
        assert raised.value.limit == 20_000
        assert raised.value.size > 30_000


async def test_a_task_result_over_the_limit_fails_the_task() -> None:
    async with working(SMALL) as client:
        handle = await client.start(repeats, "x", 30_000)
        with pytest.raises(WorkflowFailed) as raised:
            await handle.result()
        assert raised.value.error_type == TaskFailed.__name__
        assert "PayloadTooLarge" in str(raised.value)


async def test_a_workflow_result_over_the_limit_fails_the_workflow() -> None:
    async with working(SMALL) as client:
        handle = await client.start(big_result, 30_000)
        with pytest.raises(WorkflowFailed) as raised:
            await handle.result()
        assert raised.value.error_type == PayloadTooLarge.__name__


@asynccontextmanager
async def nonsense(answer: bytes) -> AsyncGenerator[str]:
    """A server that gives everybody the same bytes."""

    async def serve_one(stream: SocketStream) -> None:
        async with stream:
            # A caller that is cancelled while it connects goes away without a word.
            with anyio.move_on_after(5), suppress(anyio.EndOfStream, anyio.BrokenResourceError):
                await stream.receive()
                await stream.send(answer)

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with listener, anyio.create_task_group() as tg:
        tg.start_soon(listener.serve, serve_one)
        yield f"http://127.0.0.1:{listener.extra(SocketAttribute.local_port)}"
        tg.cancel_scope.cancel()


@pytest.mark.parametrize(
    "answer",
    [b"HTTP/1.1 404 Not Found\r\n\r\n<html>", b"\x00" * 200, b"SSH-2.0-OpenSSH_9.2\r\n"],
    ids=["http1", "zeros", "ssh"],
)
async def test_a_server_that_answers_nonsense_is_an_error_of_the_connection(answer: bytes) -> None:
    with anyio.fail_after(20):
        async with nonsense(answer) as url, flovyn.connect(url, org_id=ORG) as client:
            with pytest.raises(TransportError, match="127.0.0.1"):
                await client.start(repeats, "a", 1)


async def test_a_worker_outlives_a_server_that_answers_nonsense() -> None:
    with anyio.fail_after(20):
        async with nonsense(b"\x00" * 200) as url, flovyn.connect(url, org_id=ORG) as client:
            worker = Worker(client, workflows=[repeats])
            with anyio.move_on_after(0.5) as scope:
                async with worker:
                    raise AssertionError("it can never be ready")
            assert scope.cancelled_caught
            assert worker.statistics() == IDLE
