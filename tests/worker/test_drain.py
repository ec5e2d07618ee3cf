"""How a worker ends: what may still finish, what is cut short, and what is told of it."""

from __future__ import annotations

import logging
from typing import Any

import anyio
import pytest

import flovyn
from flovyn import (
    FailedPrecondition,
    TaskContext,
    Unauthenticated,
    Worker,
    WorkerReport,
    WorkflowContext,
    WorkItem,
    serde,
    task,
    workflow,
)
from flovyn.server import serve
from worker.fakes import FakeServer, until
from worker.test_worker_life import QUICK

pytestmark = pytest.mark.anyio

STOPPING = "the worker is stopping"


class Body:
    """A task that waits to be released, and notes how it was ended if it was."""

    def __init__(self) -> None:
        self.release = anyio.Event()
        self.ends: list[tuple[str | None, str | None]] = []

        @task
        async def body(ctx: TaskContext) -> str:
            try:
                await self.release.wait()
            except anyio.get_cancelled_exc_class():
                self.ends.append((ctx.cancel_cause, ctx.cancel_reason))
                raise
            return "done"

        self.task = body


def a_worker(server: FakeServer, body: Body, **options: Any) -> Worker:
    return Worker(server.client(), tasks=[body.task], name="w", reconnect=QUICK, **options)


async def busy(server: FakeServer, worker: Worker, count: int) -> None:
    for number in range(count):
        server.offer(f"t{number}", "body")
    await server.until(lambda: worker.statistics().running_tasks == count)


async def release_soon(server: FakeServer, worker: Worker, body: Body) -> None:
    await server.until(lambda: worker.statistics().open_polls == 0)  # it has heard that it is to end
    body.release.set()


def item(number: int, reason: str | None = None) -> WorkItem:
    return WorkItem("task", "body", f"t{number}", reason)


# --- the report --------------------------------------------------------------------------------


async def test_there_is_no_report_before_the_end_and_an_empty_one_of_an_idle_worker() -> None:
    server, body = FakeServer(), Body()
    with anyio.fail_after(5):
        async with a_worker(server, body) as worker:
            assert worker.report is None
    assert worker.report == WorkerReport((), (), ())
    assert str(worker.report) == "0 finished; 0 cancelled; 0 abandoned"


async def test_the_report_tells_what_finished_within_the_grace(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    server, body = FakeServer(), Body()
    with anyio.fail_after(5):
        async with anyio.create_task_group() as tg:
            async with a_worker(server, body, grace=5.0) as worker:
                await busy(server, worker, 2)
                tg.start_soon(release_soon, server, worker, body)
    assert worker.report is not None
    assert (set(worker.report.finished), worker.report.cancelled) == ({item(0), item(1)}, ())
    assert server.completed == {"t0": b'"done"', "t1": b'"done"'}
    assert "worker w has ended: 2 finished; 0 cancelled; 0 abandoned" in caplog.messages


async def test_what_finished_earlier_is_in_no_report() -> None:
    server, body = FakeServer(), Body()
    body.release.set()
    with anyio.fail_after(5):
        async with a_worker(server, body) as worker:
            server.offer("t0", "body")
            await server.until(lambda: server.completed)
            await server.until(lambda: worker.statistics().running_tasks == 0)
    assert worker.report == WorkerReport()


async def test_the_report_tells_what_was_cut_short(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    server, body = FakeServer(), Body()
    with anyio.fail_after(5):
        async with a_worker(server, body, grace=0.01) as worker:
            await busy(server, worker, 1)
    assert worker.report == WorkerReport(cancelled=(item(0, STOPPING),))
    assert body.ends == [("stopping", STOPPING)]
    text = "worker w has ended: 0 finished; 1 cancelled: task body t0 (the worker is stopping); 0 abandoned"
    assert text in caplog.messages


async def test_the_report_tells_of_an_end_that_could_not_be_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flovyn.worker.tree._FAREWELL", 0.05)
    server, body = FakeServer(), Body()
    with anyio.fail_after(5):
        async with a_worker(server, body, grace=0.05) as worker:
            await busy(server, worker, 1)
            server.go_down()
            body.release.set()
            await server.until(lambda: server.seen("CompleteTask"))
    assert worker.report == WorkerReport(cancelled=(item(0, "its end could not be reported"),))


async def test_a_worker_that_fails_has_a_report_too() -> None:
    server, body = FakeServer(), Body()
    worker = a_worker(server, body)
    with anyio.fail_after(5), pytest.raises(Unauthenticated):
        async with worker:
            await busy(server, worker, 1)
            server.refuse("RegisterWorker", Unauthenticated("token revoked"))
            server.go_down()
            await server.until(lambda: worker.statistics().open_polls == 0)
            server.come_up()
            await anyio.sleep_forever()
    assert worker.report == WorkerReport(cancelled=(item(0, STOPPING),))
    assert body.ends == [("stopping", STOPPING)]


@pytest.mark.parametrize("grace", [5.0, 0.01], ids=["finishes", "is cut short"])
async def test_activations_of_workflows_are_in_the_report(grace: float) -> None:
    gate, began = anyio.Event(), anyio.Event()

    async def effect() -> str:
        began.set()
        await gate.wait()
        return "done"

    @workflow
    async def flow(ctx: WorkflowContext) -> str:
        return await ctx.run("effect", effect)

    async def release(worker: Worker) -> None:
        await until(lambda: worker.statistics().open_polls == 0)
        gate.set()

    with anyio.fail_after(20):
        async with serve() as at, flovyn.connect(at.url, org_id=at.org_id, token=at.token) as client:
            async with anyio.create_task_group() as tg:
                async with Worker(client, workflows=[flow], grace=grace) as worker:
                    handle = await client.start(flow)
                    await began.wait()
                    if grace > 1:
                        tg.start_soon(release, worker)
    told = WorkItem("workflow", "flow", handle.id, None if grace > 1 else STOPPING)
    expected = WorkerReport(finished=(told,)) if grace > 1 else WorkerReport(cancelled=(told,))
    assert worker.report == expected


# --- cancelled from outside --------------------------------------------------------------------


async def test_a_cancellation_from_outside_takes_no_grace_and_says_why() -> None:
    server, body = FakeServer(), Body()
    worker = a_worker(server, body, grace=60.0)
    with anyio.fail_after(5):
        with anyio.CancelScope() as scope:
            async with worker:
                await busy(server, worker, 1)
                scope.cancel()
                await anyio.sleep_forever()
    assert scope.cancelled_caught
    assert body.ends == [("stopping", STOPPING)]
    assert worker.report == WorkerReport(cancelled=(item(0, STOPPING),))


async def test_a_cancellation_from_outside_drains_within_its_own_grace() -> None:
    server, body = FakeServer(), Body()
    worker = a_worker(server, body, cancel_grace=5.0, heartbeat_interval=0.01)

    async def release() -> None:
        with anyio.CancelScope(shield=True):
            await server.until(lambda: worker.statistics().open_polls == 0)
            heard = len(server.seen("SendHeartbeat"))
            await server.until(lambda: len(server.seen("SendHeartbeat")) > heard)  # its claims are kept meanwhile
            body.release.set()

    with anyio.fail_after(8):
        async with anyio.create_task_group() as tg:
            tg.start_soon(release)
            await tg.start(worker.run)
            await busy(server, worker, 1)
            tg.cancel_scope.cancel()
    assert (body.ends, server.completed) == ([], {"t0": b'"done"'})
    assert worker.report == WorkerReport(finished=(item(0),))


async def test_the_grace_of_a_cancellation_is_bounded() -> None:
    server, body = FakeServer(), Body()
    worker = a_worker(server, body, cancel_grace=0.05)
    with anyio.fail_after(5):
        async with anyio.create_task_group() as tg:
            await tg.start(worker.run)
            await busy(server, worker, 1)
            began = anyio.current_time()
            tg.cancel_scope.cancel()
    assert anyio.current_time() - began >= 0.048  # uvloop counts whole milliseconds
    assert worker.report == WorkerReport(cancelled=(item(0, STOPPING),))


async def test_a_cancellation_cuts_the_grace_of_a_stop_short() -> None:
    server, body = FakeServer(), Body()
    worker = a_worker(server, body, grace=60.0)
    with anyio.fail_after(5):
        async with anyio.create_task_group() as tg:
            await tg.start(worker.run)
            await busy(server, worker, 1)
            worker.stop()
            await server.until(lambda: worker.statistics().open_polls == 0)
            assert body.ends == []
            tg.cancel_scope.cancel()
    assert worker.report == WorkerReport(cancelled=(item(0, STOPPING),))


async def test_an_error_of_a_body_that_is_ended_with_its_worker_is_not_the_tasks() -> None:
    """However the worker is ended, a body knows why before it is cancelled."""
    server = FakeServer()
    began = anyio.Event()

    @task
    async def clumsy(ctx: TaskContext) -> None:
        began.set()
        try:
            await anyio.sleep_forever()
        finally:
            assert ctx.is_cancelled
            raise RuntimeError("clean-up failed")

    with anyio.fail_after(5):
        async with anyio.create_task_group() as tg:
            worker = Worker(server.client(), tasks=[clumsy])
            await tg.start(worker.run)
            server.offer("t0", "clumsy")
            await began.wait()
            tg.cancel_scope.cancel()
    assert (server.completed, server.failed) == ({}, {})


async def test_the_farewell_of_a_cancelled_worker_is_heard_over_a_real_connection() -> None:
    """Its connection lives until the last of its work is reported."""
    began = anyio.Event()

    @task
    async def careful(ctx: TaskContext) -> str:
        began.set()
        try:
            await anyio.sleep_forever()
        finally:
            return "cleaned up"  # noqa: B012

    @workflow
    async def flow(ctx: WorkflowContext) -> str:
        return await ctx.schedule(careful)

    with anyio.fail_after(20):
        async with serve() as at, flovyn.connect(at.url, org_id=at.org_id, token=at.token) as client:
            async with anyio.create_task_group() as tg:
                worker = Worker(client, workflows=[flow], tasks=[careful])
                await tg.start(worker.run)
                handle = await client.start(flow)
                await began.wait()
                tg.cancel_scope.cancel()
            completed = [entry for entry in await handle.history() if entry.type == "TASK_COMPLETED"]
            assert [entry.data["output"] for entry in completed] == ["cleaned up"]
    assert worker.report is not None
    assert [(done.kind, done.reason) for done in worker.report.finished] == [("careful", None)]


# --- odds and ends -----------------------------------------------------------------------------


async def test_work_that_comes_in_the_moment_of_the_end_is_ended_with_it() -> None:
    """A piece that was claimed, but had not begun when the worker was told to end, ends too."""
    server, body = FakeServer(), Body()
    worker = a_worker(server, body)
    with anyio.fail_after(5):
        async with anyio.create_task_group() as tg:
            await tg.start(worker.run)
            await server.until(lambda: worker.statistics().open_polls == 1)
            server.offer("t0", "body")
            for _ in range(3):
                await anyio.lowlevel.checkpoint()
            tg.cancel_scope.cancel()
    assert worker.report in (WorkerReport(), WorkerReport(cancelled=(item(0, STOPPING),)))


async def test_a_task_that_was_lost_is_in_the_report_with_the_servers_words() -> None:
    server, body = FakeServer(), Body()
    gate = anyio.Event()

    async def refuse(_: Any) -> Any:
        await gate.wait()
        raise FailedPrecondition("it was cancelled")

    async def lose() -> None:
        await server.until(lambda: worker.statistics().open_polls == 0)
        gate.set()

    server.answers["Heartbeat"] = refuse
    with anyio.fail_after(5):
        async with anyio.create_task_group() as tg:
            async with a_worker(server, body, grace=5.0, task_heartbeat_interval=0.01) as worker:
                await busy(server, worker, 1)
                tg.start_soon(lose)
    assert worker.report == WorkerReport(cancelled=(item(0, "it was cancelled"),))
    assert body.ends == [("cancelled", "it was cancelled")]


def test_a_report_is_plain_data() -> None:
    report = WorkerReport(abandoned=(item(1, "why"),))
    assert b'"kind":"body"' in serde.encode(report)
    assert str(report) == "0 finished; 0 cancelled; 1 abandoned: task body t1 (why)"
