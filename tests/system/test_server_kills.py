"""`kill -9` of the server under load: nothing that it acknowledged is lost, and nothing that it recorded is done again.

Every call that the worker and the clients make is written down with its answer. When all is over, that is held against
the final histories.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import anyio
import pytest

from flovyn import Client, ExponentialReconnect, TaskContext, Worker, WorkflowContext, task, workflow
from flovyn.errors import ConnectionLost, NotFound, ServerUnavailable
from flovyn.wire import coding, methods
from flovyn.wire.channel import Channel
from flovyn.wire.messages.flovyn import v1 as pb
from flovyn.wire.transport import NO_METADATA, Method, Reply, Transport
from system.processes import kill, server

pytestmark = pytest.mark.anyio

Q = TypeVar("Q")
R = TypeVar("R")

IN_FLIGHT = 40
QUICK = ExponentialReconnect(initial=0.01, maximum=0.1)
LOST = (ConnectionLost, ServerUnavailable)


@dataclass
class Log:
    """What happened, in the order in which it happened.

    Attributes:
        begun: The bodies that began: a task's id, or a workflow's id and the name of an operation.
        recorded: The same, when the server had acknowledged that they ended.
        shown: The most that anybody was shown of each history, as bytes, by workflow.
        submitted: How many commands of each workflow were acknowledged.
        signalled: The numbers of the signals that were acknowledged, by workflow.
        resolved: The promises whose value was acknowledged.
    """

    begun: list[str] = field(default_factory=list[str])
    recorded: dict[str, int] = field(default_factory=dict[str, int])
    shown: dict[str, bytes] = field(default_factory=dict[str, bytes])
    submitted: Counter[str] = field(default_factory=Counter[str])
    signalled: dict[str, list[int]] = field(default_factory=dict[str, "list[int]"])
    resolved: set[str] = field(default_factory=set[str])

    def record(self, effect: str) -> None:
        self.recorded.setdefault(effect, len(self.begun))

    def show(self, run: str, history: bytes) -> None:
        """A history was read. Whichever of two readers was faster, they have seen the same."""
        known = self.shown.setdefault(run, history)
        longer, shorter = (history, known) if len(history) > len(known) else (known, history)
        assert longer.startswith(shorter), f"two readers of {run} have seen different histories"
        self.shown[run] = longer

    def note(self, request: Any, reply: Any) -> None:
        """A call was answered."""
        match request:
            case pb.CompleteTaskRequest():
                self.record(request.task_execution_id)
            case pb.SubmitWorkflowCommandsRequest():
                run = request.workflow_execution_id
                self.submitted[run] += len(request.commands)
                for command in request.commands:
                    operation = command.record_operation
                    if operation is not None and operation.operation_name == "mark":
                        self.record(f"{run} mark")
            case pb.GetEventsRequest():
                self.show(request.workflow_execution_id, reply if isinstance(reply, bytes) else coding.encode(reply))
            case pb.SignalWorkflowRequest():
                self.signalled.setdefault(request.workflow_execution_id, []).append(reply.signal_event_sequence)
            case pb.ResolvePromiseRequest():
                self.resolved.add(request.promise_id)
            case _:
                pass


class Recorder(Transport):
    """A channel whose answered calls are written down."""

    def __init__(self, channel: Channel, log: Log) -> None:
        self._channel = channel
        self._log = log

    async def unary(self, method: Method[Q, R], request: Q, *, metadata: Mapping[str, str] = NO_METADATA) -> Reply[R]:
        reply = await self._channel.unary(method, request, metadata=metadata)
        self._log.note(request, reply.message)
        return reply

    def server_stream(
        self, method: Method[Q, R], request: Q, *, metadata: Mapping[str, str] = NO_METADATA
    ) -> AbstractAsyncContextManager[AsyncIterator[R]]:
        raise NotImplementedError

    async def client_stream(
        self, method: Method[Q, R], requests: Any, *, metadata: Mapping[str, str] = NO_METADATA
    ) -> Reply[R]:
        raise NotImplementedError


class Load:
    """Workflows with everything in them, `IN_FLIGHT` at a time."""

    def __init__(self, url: str, org_id: str, token: str) -> None:
        self.log = Log()
        self.org_id = org_id
        self._url = url
        self._token = token
        self.finished: list[str] = []

    @asynccontextmanager
    async def dial(self) -> AsyncGenerator[Transport]:
        async with Channel(self._url, token=self._token) as channel:
            yield Recorder(channel, self.log)

    def definitions(self) -> tuple[list[Any], list[Any]]:
        log = self.log

        @task
        async def step(ctx: TaskContext, number: int) -> int:
            log.begun.append(ctx.task_execution_id)
            await anyio.sleep(random.random() * 0.01)
            return number

        @workflow
        async def leaf(ctx: WorkflowContext, number: int) -> int:
            await ctx.sleep(0.01)
            return await ctx.schedule(step, number)

        @workflow
        async def busy(ctx: WorkflowContext, number: int) -> list[Any]:
            def mark() -> str:
                log.begun.append(f"{ctx.workflow_execution_id} mark")
                return f"mark {number}"

            link = ctx.create_promise("go")
            marked = await ctx.run("mark", mark)
            first = await ctx.schedule(step, number)
            child = ctx.schedule_workflow_async(leaf, number)
            beside = [ctx.schedule_async(step, number) for _ in range(2)]
            await ctx.sleep(0.02)
            several = [await each for each in beside]
            return [marked, first, several, await child, await link.wait(), await ctx.wait_for_signal("more")]

        self.busy = busy
        return [busy, leaf], [step]

    async def one(self, client: Client, number: int) -> None:
        """One workflow from its start to its result."""
        starter = client.options(idempotency_key=f"load-{uuid4()}")
        handle = await _insisting(starter.start, self.busy, number)
        transport, run = client.transport, handle.id
        promise = await self._promise(client, run)
        resolve = pb.ResolvePromiseRequest(promise_id=promise, value=b"true")
        await _insisting(transport.unary, methods.RESOLVE_PROMISE, resolve)
        signal = pb.SignalWorkflowRequest(
            org_id=self.org_id, workflow_execution_id=run, signal_name="more", signal_value=b"7"
        )
        await _insisting(transport.unary, methods.SIGNAL_WORKFLOW, signal)
        assert await handle.result() == [f"mark {number}", number, [number, number], number, True, 7]
        self.finished.append(run)

    async def _promise(self, client: Client, run: str) -> str:
        while True:
            for event in await _insisting(client.handle(self.busy, run).history):
                if event.type == "PROMISE_CREATED":
                    return str(event.data["promiseId"])
            await anyio.sleep(0.01)

    async def run(self, until: anyio.Event) -> None:
        """Start one workflow after the other, until told to stop, and see all of them through."""
        workflows, tasks = self.definitions()
        numbers = iter(range(1_000_000))
        async with self.dial() as transport:
            client = Client(transport, org_id=self.org_id, dial=self.dial)
            worker = Worker(client, workflows=workflows, tasks=tasks, reconnect=QUICK, max_concurrent_workflows=20)
            async with worker, anyio.create_task_group() as starters:

                async def one_after_another() -> None:
                    while not until.is_set():
                        await self.one(client, next(numbers))

                for _ in range(IN_FLIGHT):
                    starters.start_soon(one_after_another)
            await self.judge(client)

    async def judge(self, client: Client) -> None:
        """Hold what was acknowledged against what there is."""
        log = self.log
        for effect, when in log.recorded.items():
            assert effect in log.begun[:when]
            assert effect not in log.begun[when:], f"{effect} was recorded, and done again"
        for run, shown in log.shown.items():
            reply = await client.transport.unary(methods.GET_EVENTS, pb.GetEventsRequest(workflow_execution_id=run))
            final, events = coding.encode(reply.message), reply.message.events
            assert final.startswith(shown), f"the history of {run} as it was shown is not so any more"
            assert [event.sequence_number for event in events] == list(range(1, len(events) + 1))
            types = Counter(event.event_type for event in events)
            assert types["WORKFLOW_COMPLETED"] == 1
            assert types["TASK_SCHEDULED"] == types["TASK_COMPLETED"]
            assert len(events) >= log.submitted[run]
            for number in log.signalled.get(run, ()):
                assert events[number - 1].event_type == "SIGNAL_RECEIVED"
        assert set(self.finished) <= set(log.shown)


async def _insisting(call: Any, *arguments: Any) -> Any:
    """Call until there is an answer. What was acknowledged is judged later, also if it was done twice."""
    while True:
        try:
            return await call(*arguments)
        except LOST:
            await anyio.sleep(0.02)
        except NotFound as error:
            raise AssertionError("what was acknowledged is gone") from error


async def under_fire(directory: Path, *, seed: int, kills: int) -> None:
    """Put a load on a server that is killed again and again, each time when the work has gone on for a while."""
    source = random.Random(seed)
    stop, judged = anyio.Event(), anyio.Event()

    async def servers(*, task_status: Any) -> None:
        port, load = 0, None
        for number in range(kills + 1):
            async with server(directory / "db", "--worker-timeout", "1", port=port) as at:
                if load is None:
                    port, load = at.port, Load(at.url, at.org_id, at.token)
                    task_status.started(load)
                if number == kills:
                    stop.set()
                    await judged.wait()
                    return
                effects = len(load.log.begun) + IN_FLIGHT + source.randrange(IN_FLIGHT)
                while len(load.log.begun) < effects:
                    await anyio.sleep(0.002)
                await kill(at.process)

    async with anyio.create_task_group() as tasks:
        load: Load = await tasks.start(servers)
        await load.run(stop)
        judged.set()
    assert len(load.finished) >= IN_FLIGHT


async def test_a_server_that_is_killed_loses_and_repeats_nothing(tmp_path: Path) -> None:
    with anyio.fail_after(60):
        await under_fire(tmp_path, seed=1, kills=2)  # on each backend


@pytest.mark.deep
async def test_a_server_that_is_killed_often_loses_and_repeats_nothing(tmp_path: Path) -> None:
    with anyio.fail_after(900):
        await under_fire(tmp_path, seed=2, kills=50)
