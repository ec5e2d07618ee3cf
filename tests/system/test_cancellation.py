"""Cancellation both ways, against a server in a process of its own."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import anyio
import httpx2
import pytest

import flovyn
from flovyn import (
    ChildWorkflowCancelled,
    Client,
    FailedPrecondition,
    TaskContext,
    Worker,
    WorkflowCancelled,
    WorkflowContext,
    WorkflowHandle,
    task,
    workflow,
)
from flovyn.server.auth import DEV_ORG_SLUG
from flovyn.wire import methods
from flovyn.wire.messages.flovyn import v1 as pb
from flovyn.wire.transport import NO_METADATA, Method, Reply, Transport
from system.owing_worker import QUEUE, gives_up
from system.processes import ServerProcess, kill, server, until, worker

pytestmark = pytest.mark.anyio

Q = TypeVar("Q")
R = TypeVar("R")

OWING = Path(__file__).with_name("owing_worker.py")
HEARTBEAT_S = 0.2


@pytest.fixture(scope="module")
async def at(anyio_backend: Any, tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[ServerProcess]:
    """One server for all tests; each has a queue of its own."""
    async with server(tmp_path_factory.mktemp("server") / "db", http=True) as at:
        yield at


@pytest.fixture
def backend(anyio_backend: tuple[str, dict[str, Any]]) -> str:
    """The backend of the worker's process: the one of the test."""
    name, options = anyio_backend
    return f"{name}+uvloop" if options.get("use_uvloop") else name


def connected(at: ServerProcess, queue: str) -> Any:
    return flovyn.connect(at.url, org_id=at.org_id, token=at.token, queue=queue)


async def rest(at: ServerProcess, method: str, path: str, body: object = None) -> Any:
    """The body of a good answer about workflows."""
    assert at.http_url is not None
    url = f"{at.http_url}/api/orgs/{DEV_ORG_SLUG}/workflow-executions/{path}"
    async with httpx2.AsyncClient(headers={"authorization": f"Bearer {at.api_key}"}, trust_env=False) as http:
        reply = await http.request(method, url, json=body)
    assert reply.status_code == 200, reply.text
    return reply.json()


async def signal(client: Client, handle: WorkflowHandle[Any], name: str) -> None:
    request = pb.SignalWorkflowRequest(
        org_id=client.org_id, workflow_execution_id=handle.id, signal_name=name, signal_value=b"null"
    )
    await client.transport.unary(methods.SIGNAL_WORKFLOW, request)


async def event(handle: WorkflowHandle[Any], kind: str, times: int = 1) -> None:
    """Wait until the history has so many events of that type."""
    while [entry.type for entry in await handle.history()].count(kind) < times:
        await anyio.sleep(0.01)


class Bodies:
    """What became of a task's bodies."""

    def __init__(self) -> None:
        self.begun = anyio.Event()
        self.ended = anyio.Event()
        self.seen: list[tuple[str | None, str | None, bool]] = []

    async def run(self, ctx: TaskContext) -> None:
        self.begun.set()
        try:
            await anyio.sleep_forever()
        except BaseException as error:
            is_backends = isinstance(error, anyio.get_cancelled_exc_class())
            self.seen.append((ctx.cancel_cause, ctx.cancel_reason, is_backends))
            raise
        finally:
            self.ended.set()


# --- a workflow is cancelled from outside ---------------------------------------------------


async def test_a_workflow_that_is_cancelled_from_outside_cleans_up_and_tells_its_parent(at: ServerProcess) -> None:
    bodies = Bodies()
    undone: list[str] = []

    @task
    async def build(ctx: TaskContext) -> None:
        await bodies.run(ctx)

    @task
    async def undo(ctx: TaskContext, what: str) -> None:
        undone.append(what)

    @workflow
    async def room(ctx: WorkflowContext) -> None:
        await ctx.wait_for_signal("painted")

    @workflow
    async def house(ctx: WorkflowContext) -> None:
        async with flovyn.compensation() as steps, anyio.create_task_group() as tg:
            for what in ("walls", "roof"):
                steps.push(ctx.schedule, undo, what)
                steps.push(ctx.sleep, 0.01)
            tg.create_task(ctx.schedule(build))
            tg.create_task(ctx.schedule_workflow(room))
            await anyio.sleep(86_400)

    @workflow
    async def village(ctx: WorkflowContext) -> list[str]:
        try:
            await ctx.schedule_workflow(house.options(child_name="first"))
        except ChildWorkflowCancelled as error:
            return [error.message, error.name, error.kind, error.workflow_id]
        return []

    with anyio.fail_after(20):
        async with connected(at, "outside") as client:
            async with Worker(client, workflows=[village, house, room], tasks=[build, undo]):
                parent = await client.start(village)
                await bodies.begun.wait()
                ((child,),) = [(await rest(at, "GET", f"{parent.id}/children"))["workflows"]]
                asked = await rest(at, "POST", f"{child['id']}/cancel", {"reason": "no money"})
                assert asked["cancellationRequested"] is True
                assert await parent.result() == ["no money", "first", "house", child["id"]]
                handle = client.handle(house, child["id"])
                with pytest.raises(WorkflowCancelled, match="no money") as caught:
                    await handle.result()
                history = await handle.history()
            ended = await rest(at, "GET", child["id"])
            tasks = (await rest(at, "GET", f"{child['id']}/tasks"))["tasks"]
            rooms = (await rest(at, "GET", f"{child['id']}/children"))["workflows"]
    assert caught.value.workflow_id == child["id"]
    assert (ended["status"], ended["cancelReason"], ended["error"]) == ("CANCELLED", "no money", "no money")
    # The last that was done is undone first; each step suspends the workflow, whose root scope is cancelled.
    assert undone == ["roof", "walls"]
    assert [(one["kind"], one["status"]) for one in tasks] == [
        ("build", "CANCELLED"),
        ("undo", "COMPLETED"),
        ("undo", "COMPLETED"),
    ]
    assert bodies.seen == [("cancelled", "cancelled by its workflow", True)]
    assert [(one["workflowKind"], one["status"], one["cancelReason"]) for one in rooms] == [
        ("room", "CANCELLED", "cancelled by its parent")
    ]
    long = [entry.data["timerId"] for entry in history if entry.data.get("durationMs") == 86_400_000]
    cancelled = [entry.data["timerId"] for entry in history if entry.type == "TIMER_CANCELLED"]
    assert len(long) == 1
    assert long[0] in cancelled
    started = [entry.data["timerId"] for entry in history if entry.type == "TIMER_STARTED"]
    fired = [entry.data["timerId"] for entry in history if entry.type == "TIMER_FIRED"]
    assert sorted(started) == sorted(cancelled + fired)
    types = [entry.type for entry in history]
    assert types[-1] == "WORKFLOW_CANCELLED"
    assert types.count("CANCELLATION_REQUESTED") == 1


# --- a task is cancelled by a workflow ------------------------------------------------------


class Heartbeats:
    """A transport that notes how the heartbeats of tasks are answered."""

    def __init__(self, transport: Transport, answers: list[str]) -> None:
        self._transport = transport
        self._answers = answers

    async def unary(self, method: Method[Q, R], request: Q, *, metadata: Mapping[str, str] = NO_METADATA) -> Reply[R]:
        if method.path != methods.HEARTBEAT.path:
            return await self._transport.unary(method, request, metadata=metadata)
        try:
            reply = await self._transport.unary(method, request, metadata=metadata)
        except FailedPrecondition:
            self._answers.append("refused")
            raise
        self._answers.append("accepted")
        return reply

    def server_stream(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError

    async def client_stream(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError


async def test_a_task_in_another_worker_ends_with_its_next_heartbeat(at: ServerProcess) -> None:
    bodies = Bodies()
    answers: list[str] = []

    @task(kind="endless")
    async def run(ctx: TaskContext) -> None:
        await bodies.run(ctx)

    with anyio.fail_after(20):
        async with connected(at, "another") as client:

            @asynccontextmanager
            async def dial() -> AsyncGenerator[Transport]:
                async with client.connection() as transport:
                    yield Heartbeats(transport, answers)

            elsewhere = Client(client.transport, org_id=at.org_id, queue="another", dial=dial)
            async with (
                Worker(client, workflows=[gives_up]),
                Worker(elsewhere, tasks=[run], task_heartbeat_interval=HEARTBEAT_S) as other,
            ):
                handle = await client.start(gives_up, ends=False)
                while "accepted" not in answers:
                    await anyio.sleep(0.01)
                await signal(client, handle, "enough")
                await event(handle, "TASK_CANCELLED")
                told, already = anyio.current_time(), len(answers)
                await bodies.ended.wait()
                assert anyio.current_time() - told < HEARTBEAT_S + 0.5
                await signal(client, handle, "end")
                assert await handle.result() == "over"
                while other.statistics().running_tasks:
                    await anyio.sleep(0.01)
    assert bodies.seen[0][0] == "cancelled"
    assert bodies.seen[0][2] is True
    assert answers.count("refused") == 1
    assert answers[-1] == "refused"
    assert len(answers) <= already + 1  # no second heartbeat was needed


@pytest.mark.parametrize("ends", [False, True], ids=["goes on", "ends"])
async def test_a_cancel_survives_the_death_of_the_worker_that_owes_it(
    at: ServerProcess, backend: str, ends: bool, tmp_path: Path
) -> None:
    bodies = Bodies()

    @task(kind="endless")
    async def run(ctx: TaskContext) -> None:
        await bodies.run(ctx)

    with anyio.fail_after(20):
        async with connected(at, QUEUE) as client:
            async with Worker(client, tasks=[run], task_heartbeat_interval=HEARTBEAT_S):
                async with worker(backend, at, tmp_path, script=OWING) as owing:
                    handle = await client.start(gives_up, ends=ends)
                    await bodies.begun.wait()
                    await signal(client, handle, "enough")
                    await until(tmp_path, "owes a cancel")
                    await kill(owing)
                types = [entry.type for entry in await handle.history()]
                assert (types.count("TASK_CANCELLED"), bodies.seen) == (0, [])
                async with Worker(client, workflows=[gives_up]):
                    await event(handle, "TASK_CANCELLED")
                    await bodies.ended.wait()
                    if not ends:
                        await signal(client, handle, "end")
                    assert await handle.result() == "over"
                types = [entry.type for entry in await handle.history()]
    assert types.count("TASK_CANCELLED") == 1
    assert bodies.seen[0][0] == "cancelled"
    assert bodies.seen[0][2] is True
