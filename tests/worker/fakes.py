"""A server in a few lines: it answers by script, and remembers what it was told."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import anyio

from flovyn.client import Client
from flovyn.errors import FlovynError, ServerUnavailable
from flovyn.wire import coding, methods
from flovyn.wire.messages.flovyn import v1 as pb
from flovyn.wire.transport import NO_METADATA, Method, Reply

Q = TypeVar("Q")
R = TypeVar("R")

ORG = "0d9f8a3e-1c52-4d7b-9f6e-2a1b3c4d5e6f"
SERVER_ID = "5a5a5a5a-0000-4000-8000-000000000001"


async def until(condition: Callable[[], object], seconds: float = 5) -> None:
    """Wait for a state that nobody announces."""
    with anyio.fail_after(seconds):
        while not condition():
            await anyio.sleep(0.002)


@dataclass(frozen=True)
class Seen:
    """One call that reached the server."""

    name: str
    request: Any
    metadata: Mapping[str, str]


@dataclass
class FakeServer:
    """A `Transport` with a queue of tasks and of workflows behind it.

    `said[name]` is the metadata of what `answers[name]` answers. `fail[name]` holds errors that the next calls of that
    name raise; `down` makes all calls fail, also those that wait.
    """

    calls: list[Seen] = field(default_factory=list[Seen])
    tasks: deque[tuple[pb.TaskExecutionInfo, dict[str, str]]] = field(
        default_factory=deque[tuple[pb.TaskExecutionInfo, dict[str, str]]]
    )
    workflows: deque[tuple[pb.WorkflowExecution, dict[str, str]]] = field(
        default_factory=deque[tuple[pb.WorkflowExecution, dict[str, str]]]
    )
    fail: dict[str, deque[FlovynError]] = field(default_factory=dict[str, deque[FlovynError]])
    answers: dict[str, Callable[[Any], Awaitable[Any]]] = field(
        default_factory=dict[str, Callable[[Any], Awaitable[Any]]]
    )
    said: dict[str, dict[str, str]] = field(default_factory=dict[str, "dict[str, str]"])
    registration: pb.WorkerRegistrationResponse = field(
        default_factory=lambda: pb.WorkerRegistrationResponse(worker_id=SERVER_ID, success=True)
    )
    completed: dict[str, bytes] = field(default_factory=dict[str, bytes])
    failed: dict[str, str] = field(default_factory=dict[str, str])
    down: bool = False
    unreachable: str = "cannot reach http://fake:9090"

    def __post_init__(self) -> None:
        self._changed = anyio.Event()

    def client(self, queue: str = "default") -> Client:
        return Client(self, org_id=ORG, queue=queue)

    def offer(
        self, task_id: str, kind: str, data: bytes = b"null", *, claim: str | None = "claim-1", attempt: int = 1
    ) -> None:
        info = pb.TaskExecutionInfo(
            task_execution_id=task_id,
            kind=kind,
            input=data,
            workflow_execution_id="wf-1",
            execution_count=attempt,
            queue="default",
        )
        self.tasks.append((info, {} if claim is None else {"flovyn-claim": claim, "date": "today"}))
        self.change()

    def offer_workflow(self, workflow_id: str, kind: str, *, history: bytes = b"") -> None:
        execution = pb.WorkflowExecution(
            id=workflow_id, kind=kind, org_id=ORG, input=b"null", queue="default", history=history
        )
        self.workflows.append((execution, {"flovyn-claim": f"claim-{workflow_id}"}))
        self.change()

    def refuse(self, name: str, *errors: FlovynError) -> None:
        self.fail.setdefault(name, deque()).extend(errors)

    def go_down(self) -> None:
        self.down = True
        self.change()

    def come_up(self) -> None:
        self.down = False
        self.change()

    def change(self) -> None:
        """Wake whoever waits for the server's state to change."""
        self._changed.set()
        self._changed = anyio.Event()

    def seen(self, name: str) -> list[Seen]:
        return [call for call in self.calls if call.name == name]

    async def until(self, condition: Callable[[], object], seconds: float = 5) -> None:
        await until(condition, seconds)

    async def unary(self, method: Method[Q, R], request: Q, *, metadata: Mapping[str, str] = NO_METADATA) -> Reply[R]:
        await anyio.lowlevel.checkpoint()
        name = method.path.rpartition("/")[2]
        self.calls.append(Seen(name, request, dict(metadata)))
        self._check()
        if self.fail.get(name):
            raise self.fail[name].popleft()
        message, answer_metadata = await self._answer(name, request)
        if method.reply is bytes and not isinstance(message, bytes):
            message = coding.encode(message)
        return Reply(cast("R", message), answer_metadata)

    def _check(self) -> None:
        if self.down:
            raise ServerUnavailable(self.unreachable)

    async def _answer(self, name: str, request: Any) -> tuple[Any, Mapping[str, str]]:
        if name in self.answers:
            return await self.answers[name](request), self.said.get(name, {})
        match name:
            case "RegisterWorker":
                return self.registration, {}
            case "PollTask":
                info, metadata = await self._next(self.tasks)
                return pb.PollTaskResponse(task=info), metadata
            case "PollWorkflow":
                execution, metadata = await self._next(self.workflows)
                return pb.PollResponse(workflow_execution=execution), metadata
            case "CompleteTask":
                self.completed[request.task_execution_id] = request.output
            case "FailTask":
                self.failed[request.task_execution_id] = request.error
            case _:
                pass
        return methods.Empty(), {}

    async def _next(self, queue: deque[tuple[Any, dict[str, str]]]) -> tuple[Any, dict[str, str]]:
        while not queue:
            await self._changed.wait()
            self._check()
        return queue.popleft()

    def server_stream(
        self, method: Method[Q, R], request: Q, *, metadata: Mapping[str, str] = NO_METADATA
    ) -> AbstractAsyncContextManager[AsyncIterator[R]]:
        raise NotImplementedError

    async def client_stream(
        self, method: Method[Q, R], requests: AsyncIterable[Q], *, metadata: Mapping[str, str] = NO_METADATA
    ) -> Reply[R]:
        raise NotImplementedError
