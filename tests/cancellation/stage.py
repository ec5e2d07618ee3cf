"""A server under a clock that stands still, and a worker's executions, one activation after the other."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar, cast
from uuid import uuid4

import httpx2

from cancellation.programs import REASON, SECONDS, cell, part
from cancellation.table import Thing
from flovyn import Client, WorkflowHandle
from flovyn.serde.codecs import CodecChain
from flovyn.server import rpc
from flovyn.server.auth import DEV_ORG_ID, DEV_ORG_SLUG, Key, Keys
from flovyn.server.engine import Engine
from flovyn.server.engine.invariants import violations
from flovyn.server.hosting import hosted
from flovyn.server.memory import Memory
from flovyn.server.rest.application import application
from flovyn.server.shell import Shell
from flovyn.server.store import Store
from flovyn.testing.environments.clock import VirtualClock
from flovyn.testing.environments.rest import Rest
from flovyn.wire import methods
from flovyn.wire.messages.flovyn import v1 as pb
from flovyn.wire.transport import NO_METADATA, Method, Reply, Transport
from flovyn.worker.claims import claim_of
from flovyn.worker.execution import Executions
from flovyn.worker.options import WorkerOptions
from flovyn.worker.registration import registration_request

__all__ = ["Played", "Stage", "staged"]

Q = TypeVar("Q")
R = TypeVar("R")

START = datetime(2030, 1, 31, 12, tzinfo=UTC)
TOKEN = "token"


def labelled(command: pb.WorkflowCommand) -> str:
    """A command in a word or two, without what differs from run to run."""
    if (operation := command.record_operation) is not None:
        result = json.loads(operation.result)
        outcome = next(key for key in result["$flovyn"] if key != "v") if is_envelope(result) else "value"
        return f"record {operation.operation_name}: {outcome}"
    if (task := command.schedule_task) is not None:
        return f"schedule {task.kind}"
    if (start := command.start_timer) is not None:
        return f"start {timer(start.timer_id)}"
    if (cancel := command.cancel_timer) is not None:
        return f"cancel {timer(cancel.timer_id)}"
    if (promise := command.create_promise) is not None:
        return f"promise {promise.promise_id}"
    if (child := command.schedule_child_workflow) is not None:
        return f"child {child.child_execution_name}"
    if (ask := command.request_cancel_child_workflow) is not None:
        return f"cancel child {ask.child_execution_name}"
    if command.suspend_workflow is not None:
        return "suspend"
    if (end := command.cancel_workflow) is not None:
        return f"end as cancelled: {end.reason}"
    if command.complete_workflow is not None:
        return "complete"
    return repr(command)


def is_envelope(result: object) -> bool:
    return isinstance(result, dict) and "$flovyn" in result


def timer(timer_id: str) -> str:
    return timer_id.partition("/")[0] if timer_id.startswith("$flovyn.") else "timer"


class Recorder:
    """A transport that notes what a worker asks for, once it is granted."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self.asked: list[str] = []

    async def unary(self, method: Method[Q, R], request: Q, *, metadata: Mapping[str, str] = NO_METADATA) -> Reply[R]:
        reply = await self._transport.unary(method, request, metadata=metadata)
        match request:
            case pb.SubmitWorkflowCommandsRequest():
                marker, *commands = [labelled(command) for command in request.commands]
                assert marker == "record $flovyn.activation: value"
                self.asked += commands
            case pb.CancelTaskRequest():
                self.asked.append("CancelTask")
            case _:
                pass
        return reply

    def server_stream(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError

    async def client_stream(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError


@dataclass
class Played:
    """One workflow of the matrix.

    Attributes:
        tasks: The tasks that the test has claimed for itself, with what is to be sent along.
    """

    stage: Stage
    handle: WorkflowHandle[Any]
    queue: str
    cached: bool
    tasks: list[tuple[str, Mapping[str, str]]] = field(default_factory=list[tuple[str, Mapping[str, str]]])

    # --- the worker -------------------------------------------------------------------------

    async def activations(self) -> list[tuple[str, ...]]:
        """Run what can be run, and return what each activation asked for: its commands, and then its calls."""
        asked: list[tuple[str, ...]] = []
        while True:
            self.stage.engine.tick()  # timers of 0 ms fire
            request = pb.PollRequest(
                worker_id="worker", org_id=DEV_ORG_ID, queue=self.queue, workflow_capabilities=["cell"]
            )
            reply = await self.stage.transport.unary(methods.POLL_WORKFLOW, request)
            if (polled := reply.message.workflow_execution) is None:
                return asked
            asked.append(await self.stage.activate(polled, claim_of(reply.metadata), cached=self.cached))
            await self._claim_tasks()

    async def _claim_tasks(self) -> None:
        """Whoever works on tasks takes them at once, so that they are under way when they are cancelled."""
        request = pb.PollTaskRequest(worker_id="other", org_id=DEV_ORG_ID, queue=self.queue)
        reply = await self.stage.other.unary(methods.POLL_TASK, request)
        if (claimed := reply.message.task) is not None:
            self.tasks.append((claimed.task_execution_id, claim_of(reply.metadata)))

    # --- the outside world ------------------------------------------------------------------

    async def signal(self, name: str, value: object) -> None:
        request = pb.SignalWorkflowRequest(
            org_id=DEV_ORG_ID,
            workflow_execution_id=self.handle.id,
            signal_name=name,
            signal_value=json.dumps(value).encode(),
        )
        await self.stage.other.unary(methods.SIGNAL_WORKFLOW, request)

    async def request_cancel(self) -> None:
        await self.stage.rest("POST", f"/{self.handle.id}/cancel", {"reason": REASON})

    async def complete_task(self) -> None:
        ((task_id, claim),) = self.tasks
        request = pb.CompleteTaskRequest(task_execution_id=task_id, output=b'"done"')
        await self.stage.other.unary(methods.COMPLETE_TASK, request, metadata=claim)

    async def complete_child(self) -> bool:
        """Whether there was one that could still be claimed."""
        poll = pb.PollRequest(worker_id="other", org_id=DEV_ORG_ID, queue=self.queue, workflow_capabilities=[part.kind])
        reply = await self.stage.other.unary(methods.POLL_WORKFLOW, poll)
        if (polled := reply.message.workflow_execution) is None:
            return False
        complete = pb.WorkflowCommand(
            pb.CommandType.COMPLETE_WORKFLOW, 2, complete_workflow=pb.CompleteWorkflowCommand(output=b'"done"')
        )
        submit = pb.SubmitWorkflowCommandsRequest(polled.id, [complete], pb.WorkflowStatus.COMPLETED)
        await self.stage.other.unary(methods.SUBMIT_WORKFLOW_COMMANDS, submit, metadata=claim_of(reply.metadata))
        return True

    async def resolve_promise(self) -> None:
        (created,) = [event for event in await self.handle.history() if event.type == "PROMISE_CREATED"]
        request = pb.ResolvePromiseRequest(created.data["promiseId"], b'"granted"')
        await self.stage.other.unary(methods.RESOLVE_PROMISE, request)

    async def pass_time(self) -> None:
        await self.stage.clock.advance(SECONDS, wait_for_work=False)

    # --- what can be seen -------------------------------------------------------------------

    async def events(self) -> list[str]:
        """The types of the history's events."""
        return [event.type for event in await self.handle.history()]

    async def shown(self) -> dict[str, Any]:
        """The workflow, as REST shows it."""
        return cast("dict[str, Any]", await self.stage.rest("GET", f"/{self.handle.id}"))

    async def kept(self, things: Collection[Thing] = ("task", "child", "timer", "promise")) -> dict[str, str]:
        """What the server keeps for the workflow: of each sort of thing there is one at most, with its status."""
        every: dict[str, list[str]] = {}
        if "task" in things:
            shown = await self.stage.rest("GET", f"/{self.handle.id}/tasks")
            every["task"] = [task["status"] for task in shown["tasks"]]
        if "child" in things:
            shown = await self.stage.rest("GET", f"/{self.handle.id}/children")
            every["child"] = [child["status"] for child in shown["workflows"]]
        store = self.stage.engine.core.store
        run = store.runs.find(self.handle.id)
        assert run is not None
        if "timer" in things:
            every["timer"] = ["ARMED" for n, _ in store.timers.armed() if n == run.n]
        if "promise" in things:
            every["promise"] = [promise.status for promise in store.promises.all() if promise.run == run.n]
        return {thing: ", ".join(statuses) for thing, statuses in every.items() if statuses}


class Stage:
    """Where workflows of the matrix are played.

    Args:
        transport: The connection of the worker.
        other: The connection of all others: clients, and who works on tasks and children.
    """

    def __init__(
        self,
        engine: Engine,
        clock: VirtualClock,
        transport: Transport,
        other: Transport,
        http: httpx2.AsyncClient,
    ) -> None:
        self.engine = engine
        self.clock = clock
        self.transport = transport
        self.other = other
        self._http = http
        self._recorder = Recorder(transport)
        self._cached = self._executions()
        self._count = 0

    def _executions(self) -> Executions:
        options = WorkerOptions(on_violation="fail")
        return Executions(
            self._recorder,
            [cell],
            codecs=CodecChain(()),
            cancel_task=lambda _, __: None,
            workflow_ended=lambda _: None,
            options=options,
        )

    async def activate(
        self, polled: pb.WorkflowExecution, claim: Mapping[str, str], *, cached: bool
    ) -> tuple[str, ...]:
        """Run one activation, in the worker that knows the workflow or in a fresh one; return what it asked for."""
        self._recorder.asked = []
        executions = self._cached if cached else self._executions()
        try:
            await executions.execute(polled, claim)
        finally:
            if not cached:
                executions.close()
        return tuple(self._recorder.asked)

    async def start(self, *args: Any, cached: bool, **kwargs: Any) -> Played:
        self._count += 1
        queue = f"q{self._count}"
        client = Client(self.other, org_id=DEV_ORG_ID, queue=queue)
        return Played(self, await client.start(cell, *args, **kwargs), queue, cached)

    async def rest(self, method: str, path: str, body: object = None) -> Any:
        """The body of a good answer about workflows."""
        url = f"/api/orgs/{DEV_ORG_SLUG}/workflow-executions{path}"
        reply = await self._http.request(method, url, json=body)
        assert reply.status_code == 200, reply.text
        return reply.json()

    def close(self) -> None:
        self._cached.close()


@asynccontextmanager
async def staged() -> AsyncGenerator[Stage]:
    """A stage, and the check that its server is sound in the end. Its server is an environment's, with REST beside."""
    clock = VirtualClock(START)
    store = Store(":memory:")
    shell = Shell(
        Engine(store, clock=clock, new_id=lambda: str(uuid4())),
        Keys([Key(TOKEN, DEV_ORG_ID, "Worker"), Key(TOKEN, DEV_ORG_ID, "User", "ada")]),
    )
    memory = Memory(rpc.routes(shell), on_disconnect=shell.disconnected)
    channel, other = memory.channel(token=TOKEN), memory.channel(token=TOKEN)
    clock.attach(shell, Rest(shell, [channel, other]))
    app: Any = application(shell, {DEV_ORG_SLUG: DEV_ORG_ID})
    http = httpx2.AsyncClient(
        transport=httpx2.ASGITransport(app=app),
        base_url="http://server",
        headers={"authorization": f"Bearer {TOKEN}"},
    )
    # Nobody keeps the time: timers fire when a test says so.
    async with hosted(shell, memory.serve, keeps_time=False), channel, other, http:
        registration = registration_request(name="worker", org_id=DEV_ORG_ID, workflows=[cell], tasks=[])
        await channel.unary(methods.REGISTER_WORKER, registration)
        stage = Stage(shell.engine, clock, channel, other, http)
        try:
            yield stage
        finally:
            stage.close()
        assert violations(shell.engine) == []
    store.close()
