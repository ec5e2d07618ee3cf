"""Activations under a worker: claims, slots, and what happens when they are interrupted."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import anyio
import pytest

from flovyn.definitions import Workflow, task, workflow
from flovyn.errors import ConnectionLost, NotFound
from flovyn.nursery import Tripwires
from flovyn.serde.codecs import CodecChain
from flovyn.task import TaskContext
from flovyn.wire.messages.flovyn import v1 as pb
from flovyn.worker import ExponentialReconnect, Worker, WorkerStatistics
from flovyn.worker.options import WorkerOptions
from worker.fakes import FakeServer

pytestmark = pytest.mark.anyio

NOTHING = WorkerStatistics(running_workflows=0, running_tasks=0, open_polls=0, internal_tasks=0)


@workflow
async def flow(ctx: Any) -> None: ...


class FakeExecutions:
    """Stands for replay: notes what it is given, and does what the test says."""

    made: list[FakeExecutions]

    def __init__(
        self,
        transport: object,
        workflows: Sequence[Workflow[..., Any]],
        *,
        codecs: CodecChain,
        cancel_task: Any,
        workflow_ended: Any,
        options: WorkerOptions,
    ) -> None:
        self.made.append(self)
        self.cancel_task = cancel_task
        self.options = options
        self.kinds = [workflow.kind for workflow in workflows]
        self.executed: list[tuple[str, dict[str, str]]] = []
        self.ended: list[str] = []
        self.closed = 0

    async def keep_young(self) -> NoReturn:
        while True:
            await anyio.sleep(60)

    async def execute(self, polled: pb.WorkflowExecution, claim: Mapping[str, str]) -> None:
        self.executed.append((polled.id, dict(claim)))
        match polled.id:
            case "lost":
                raise ConnectionLost("broke")
            case "refused":
                raise NotFound("no such run")
            case "bug":
                raise RuntimeError("a bug")
            case "slow":
                try:
                    await anyio.sleep_forever()
                finally:
                    self.ended.append(polled.id)
            case _:
                await anyio.lowlevel.checkpoint()
        self.ended.append(polled.id)

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def executions(monkeypatch: pytest.MonkeyPatch) -> list[FakeExecutions]:
    made: list[FakeExecutions] = []
    monkeypatch.setattr(FakeExecutions, "made", made, raising=False)
    monkeypatch.setattr("flovyn.worker.tree.Executions", FakeExecutions)
    return made


def a_worker(server: FakeServer, **options: Any) -> Worker:
    options.setdefault("grace", 1.0)
    return Worker(
        server.client(), workflows=[flow], reconnect=ExponentialReconnect(initial=0.001, maximum=0.01), **options
    )


async def test_activation_gets_its_claim(executions: list[FakeExecutions]) -> None:
    server = FakeServer()
    worker = a_worker(server)
    with anyio.fail_after(5):
        async with worker:
            server.offer_workflow("a", "flow")
            server.offer_workflow("b", "flow")
            await server.until(lambda: len(executions[0].ended) == 2)
            assert executions[0].closed == 0
    assert executions[0].kinds == ["flow"]
    assert executions[0].executed == [("a", {"flovyn-claim": "claim-a"}), ("b", {"flovyn-claim": "claim-b"})]
    assert [made.closed for made in executions] == [1]
    assert worker.statistics() == NOTHING


@pytest.mark.parametrize(
    ("workflow_id", "level", "text"),
    [
        ("lost", logging.WARNING, "workflow lost (flow) was interrupted: broke"),
        ("refused", logging.WARNING, "workflow refused (flow) was interrupted: no such run"),
        ("bug", logging.ERROR, "a piece of work was lost by a bug of this SDK; the worker goes on"),
    ],
)
async def test_interrupted_activation_gives_its_slot_back(
    executions: list[FakeExecutions], caplog: pytest.LogCaptureFixture, workflow_id: str, level: int, text: str
) -> None:
    server = FakeServer()
    with anyio.fail_after(5):
        async with a_worker(server, max_concurrent_workflows=1):
            server.offer_workflow(workflow_id, "flow")
            server.offer_workflow("next", "flow")
            await server.until(lambda: executions[0].ended == ["next"])
    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [(level, text)]


async def test_the_claim_of_an_activation_that_takes_long_is_shown_again_and_again(
    executions: list[FakeExecutions], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flovyn.worker.workflows._SHOW_EVERY", 0.02)
    server = FakeServer()
    with anyio.fail_after(5):
        async with a_worker(server, grace=0):
            server.offer_workflow("slow", "flow")
            server.refuse("GetEvents", ConnectionLost("not now"))
            await server.until(lambda: len(server.seen("GetEvents")) == 3)
            server.offer_workflow("fast", "flow")
            await server.until(lambda: executions[0].ended == ["fast"])
    assert {call.request.workflow_execution_id for call in server.seen("GetEvents")} == {"slow"}
    assert all(call.metadata == {"flovyn-claim": "claim-slow"} for call in server.seen("GetEvents"))
    assert {call.metadata.get("flovyn-history") for call in server.seen("PollWorkflow")} == {"262144"}


async def test_no_more_activations_than_allowed(executions: list[FakeExecutions]) -> None:
    server = FakeServer()
    worker = a_worker(server, max_concurrent_workflows=2, grace=0.0)
    with anyio.fail_after(5):
        async with worker:
            for _ in range(3):
                server.offer_workflow("slow", "flow")
            await server.until(lambda: worker.statistics().running_workflows == 2)
            for _ in range(10):
                await anyio.lowlevel.checkpoint()
            assert (worker.statistics().running_workflows, worker.statistics().open_polls) == (2, 0)
    # Cancelled at the end of the grace; the third was never asked for.
    assert (executions[0].ended, len(server.workflows)) == (["slow", "slow"], 1)
    assert worker.statistics() == NOTHING


async def test_silence_longer_than_the_lease_ends_activations(executions: list[FakeExecutions]) -> None:
    server = FakeServer()
    with anyio.fail_after(5):
        async with a_worker(server, lease=0.05, heartbeat_interval=0.01, task_heartbeat_interval=0.01) as worker:
            server.offer_workflow("slow", "flow")
            await server.until(lambda: worker.statistics().running_workflows == 1)
            server.go_down()
            await server.until(lambda: executions[0].ended == ["slow"])
            server.come_up()
            server.offer_workflow("next", "flow")
            await server.until(lambda: executions[0].ended == ["slow", "next"])


async def test_workflow_cancels_a_task_of_the_same_worker_at_once(executions: list[FakeExecutions]) -> None:
    reasons: list[str | None] = []

    @task
    async def endless(ctx: TaskContext) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            reasons.append(ctx.cancel_reason)

    server = FakeServer()
    with anyio.fail_after(5):
        async with a_worker(server, tasks=[endless]) as worker:
            server.offer("t1", "endless")
            server.offer("t2", "endless")
            await server.until(lambda: worker.statistics().running_tasks == 2)
            executions[0].cancel_task("t1", "cancelled by its workflow")
            executions[0].cancel_task("unknown", "cancelled by its workflow")
            await server.until(lambda: worker.statistics().running_tasks == 1)
            assert reasons == ["cancelled by its workflow"]
            executions[0].cancel_task("t2", "likewise")
            await server.until(lambda: worker.statistics().running_tasks == 0)
    assert reasons == ["cancelled by its workflow", "likewise"]
    assert (server.completed, server.failed) == ({}, {})


async def test_the_options_of_the_worker_reach_its_executions(executions: list[FakeExecutions]) -> None:
    given: dict[str, Any] = {
        "on_violation": "fail",
        "cache_size": 7,
        "cache_age": 8.0,
        "step_limit": 9,
        "tripwires": Tripwires(files="off"),
    }
    with anyio.fail_after(5):
        async with a_worker(FakeServer(), **given):
            options = executions[0].options
    assert {name: getattr(options, name) for name in given} == given


async def test_a_worker_has_its_tripwires_armed(
    executions: list[FakeExecutions], monkeypatch: pytest.MonkeyPatch
) -> None:
    armed: list[int] = []
    monkeypatch.setattr("flovyn.worker.worker.arm_tripwires", lambda: armed.append(len(executions)))
    with anyio.fail_after(5):
        async with a_worker(FakeServer()):
            assert armed == [0]  # before anything can run
            assert executions[0].options.tripwires == Tripwires()
