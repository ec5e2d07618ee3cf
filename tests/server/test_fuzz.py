"""Hostile calls: random bytes, and valid messages with values that nobody means well with.

Whatever comes, the answer is one that the protocol has for it: no INTERNAL, no UNKNOWN, none that never comes. The
server keeps nothing of what it refuses, and works as before.
"""

from __future__ import annotations

import gc
import math
import random
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import anyio
import pytest

from flovyn.errors import FlovynError, ServerError
from flovyn.server import Server, serve
from flovyn.server.engine.invariants import violations
from flovyn.wire import coding, methods
from flovyn.wire.channel import Channel
from flovyn.wire.messages.flovyn import v1 as pb
from flovyn.wire.transport import Method, Shape
from server.world import complete, schedule, schedule_child, start_timer, suspend
from wire.reference import Descriptor, descriptor, our_class

pytestmark = pytest.mark.anyio

METHODS: list[Method[Any, Any]] = [getattr(methods, name) for name in methods.__all__ if name.isupper()]
HANDLED = [
    method
    for method in METHODS
    if method.shape is Shape.UNARY and not method.path.startswith("/flovyn.v1.AgentDispatch")
]
ALLOWED = {
    "INVALID_ARGUMENT",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "FAILED_PRECONDITION",
    "PERMISSION_DENIED",
    "UNAUTHENTICATED",
    "UNIMPLEMENTED",
}

TEXTS = [
    "",
    "default",
    "order",
    "charge",
    "a" * 255,
    "a" * 256,
    "\x00",
    "a\x00b",
    "\x7f\r\n\t",
    "naïve ☃ \U0001f600",
    "\u202eright to left",
    "%00%0a",
    "' OR 1=1 --",
    "$flovyn.activation",
    "00000000-0000-4000-8000-00000000F10B",
    "{00000000-0000-4000-8000-00000000f10b}",
    "urn:uuid:00000000-0000-4000-8000-00000000f10b",
    "nil",
    "../../etc/passwd",
    "x" * 20_000,
]
BLOBS = [
    b"",
    b"null",
    b"{}",
    b'"text"',
    b"[1,2.5,true,null]",
    b'{"a":{"b":["\\u0000\\ud83d\\ude00"]}}',
    b"{",
    b"NaN",
    b"-Infinity",
    b"1e999",
    b"0" * 50,
    b"9" * 5_000,
    b'"\\ud800"',
    b"\xff\xfe",
    b"[" * 2_000,
    b"[" * 500 + b"]" * 500,
    b'{"a":' * 300 + b"1" + b"}" * 300,
    b'"' + b"x" * 100_000 + b'"',
    b'{"cancellation":"scopes"}',
    b'{"cancellation":' + b"[" * 3_000,
]
INTEGERS = [0, 1, -1, 2, 255, 256, 86_400, 2**31 - 1, -(2**31)]
LONG_INTEGERS = [*INTEGERS, 2**31, 10**12, 2**53, 2**63 - 1, -(2**63)]
DOUBLES = [0.0, 0.5, 1.0, -0.5, 1.5, math.inf, -math.inf, math.nan, 5e-324]


@dataclass
class Fuzzer:
    """Makes hostile messages, of ids that exist among others.

    Attributes:
        known: Ids that the server has given out, and tokens.
    """

    source: random.Random
    org_id: str
    known: list[str] = field(default_factory=lambda: ["w"])
    tokens: list[str] = field(default_factory=lambda: [""])

    def message(self, name: str, depth: int = 0) -> Any:
        """A message of which each field is set or not."""
        described = descriptor(name)
        values: dict[str, Any] = {}
        for one in described.fields:
            if self.source.random() < 0.75:
                values[one.name] = self.value(one, depth)
        for oneof in described.oneofs:
            if len(oneof.fields) > 1:
                chosen = self.source.choice(oneof.fields).name
                for member in oneof.fields:
                    if member.name != chosen:
                        values.pop(member.name, None)
        return our_class(name)(**values)

    def value(self, one: Descriptor, depth: int) -> Any:
        if one.message_type is not None and one.message_type.GetOptions().map_entry:
            return {self.text(): self.text() for _ in range(self.source.randrange(3))}
        if one.is_repeated:
            return [self._single(one, depth) for _ in range(self.source.choice([0, 1, 2, 5]) if depth < 2 else 0)]
        return self._single(one, depth)

    def _single(self, one: Descriptor, depth: int) -> Any:
        pick = self.source.choice
        if one.name == "org_id":
            return self.org_id if self.source.random() < 0.9 else self.text()
        if one.name == "timeout_seconds" and one.type == one.TYPE_INT64:
            return pick([0, -1, -(2**63)])  # whoever may wait is tried by itself
        kinds: dict[int, Callable[[], Any]] = {
            one.TYPE_STRING: self.text,
            one.TYPE_BYTES: lambda: pick(BLOBS),
            one.TYPE_INT32: lambda: pick(INTEGERS),
            one.TYPE_INT64: lambda: pick(LONG_INTEGERS),
            one.TYPE_DOUBLE: lambda: pick(DOUBLES),
            one.TYPE_BOOL: lambda: pick([False, True]),
            one.TYPE_ENUM: lambda: pick([*range(15), 77, -1, 2**31 - 1]),
            one.TYPE_MESSAGE: lambda: self.message(one.message_type.full_name, depth + 1),
        }
        return kinds[one.type]()

    def text(self) -> str:
        return self.source.choice(TEXTS if self.source.random() < 0.4 else self.known[-50:])

    def bytes(self) -> bytes:
        """Bytes that are mostly no message, or one that was damaged."""
        if self.source.random() < 0.5:
            return self.source.randbytes(self.source.choice([0, 1, 2, 10, 100, 1_000]))
        name = self.source.choice(HANDLED).request.__name__
        data = bytearray(coding.encode(self.message(f"flovyn.v1.{name}")))
        for _ in range(self.source.randrange(1, 4)):
            if data:
                data[self.source.randrange(len(data))] = self.source.randrange(256)
        return bytes(data[: self.source.randrange(len(data) + 1)])

    def metadata(self) -> dict[str, str]:
        claim = self.source.choice(self.tokens[-20:])
        return {"flovyn-claim": claim} if claim else {}

    def learn(self, reply: Any, metadata: Any) -> None:
        """Remember the ids of an answer."""
        found: list[str] = []
        match reply:
            case pb.PollResponse(workflow_execution=run) if run is not None:
                found.append(run.id)
            case pb.PollTaskResponse(task=task) if task is not None:
                found.append(task.task_execution_id)
            case pb.GetEventsResponse():
                for event in reply.events[-5:]:
                    text = event.event_data.decode("utf-8", "replace")
                    found += [part for part in text.split('"') if len(part) == 36][:3]
            case _:
                fields = cast("dict[str, object]", vars(reply))
                found += [value for value in fields.values() if isinstance(value, str) and len(value) == 36]
        self.known += found
        if "flovyn-claim" in metadata:
            self.tokens.append(metadata["flovyn-claim"])


class Attack:
    """One connection, over which hostile calls go one after the other, and what came of them."""

    def __init__(self, server: Server, channel: Channel, seed: int) -> None:
        self.server = server
        self.channel = channel
        self.fuzzer = Fuzzer(random.Random(seed), server.org_id)
        self.outcomes: Counter[str] = Counter()

    async def call(self, method: Method[Any, Any], request: Any, metadata: dict[str, str]) -> None:
        try:
            reply = await self.channel.unary(method, request, metadata=metadata)
        except FlovynError as error:
            assert isinstance(error, ServerError), (method.path, request, error)
            assert error.status in ALLOWED, (method.path, request, error.status, error.message)
            assert error.message
            self.outcomes[error.status] += 1
        else:
            self.outcomes["OK"] += 1
            if not isinstance(reply.message, bytes):
                self.fuzzer.learn(reply.message, reply.metadata)

    async def with_bytes(self, count: int) -> None:
        for _ in range(count):
            method = self.fuzzer.source.choice(METHODS)
            raw = Method(method.path, bytes, bytes, Shape.UNARY)
            await self.call(raw, self.fuzzer.bytes(), self.fuzzer.metadata())

    async def with_messages(self, count: int) -> None:
        for number in range(count):
            if number % 5 == 0:
                await self.meant_well()
                continue
            method = self.fuzzer.source.choice(HANDLED)
            message = self.fuzzer.message(f"flovyn.v1.{method.request.__name__}")
            await self.call(method, message, self.fuzzer.metadata())

    async def meant_well(self) -> None:
        """A call that gets somewhere, so that the hostile ones find something to spoil."""
        source, org_id = self.fuzzer.source, self.server.org_id
        start = pb.StartWorkflowRequest(org_id=org_id, workflow_kind="order", input=b"{}")
        poll = pb.PollRequest(org_id=org_id, worker_id="w")
        poll_task = pb.PollTaskRequest(org_id=org_id, worker_id="w")
        number = source.randrange(1_000_000)
        commands = [schedule(number), start_timer(f"t{number}", source.choice([0, 10**6])), schedule_child(number)]
        end = source.choice([suspend(), suspend(), complete()])
        status = pb.WorkflowStatus.COMPLETED if end.complete_workflow else pb.WorkflowStatus.SUSPENDED
        run = source.choice(self.fuzzer.known[-10:])
        submit = pb.SubmitWorkflowCommandsRequest(workflow_execution_id=run, commands=[*commands, end], status=status)
        events = pb.GetEventsRequest(workflow_execution_id=run)
        done = pb.CompleteTaskRequest(task_execution_id=run, output=b"1")
        calls: list[tuple[Method[Any, Any], Any]] = [
            (methods.START_WORKFLOW, start),
            (methods.POLL_WORKFLOW, poll),
            (methods.POLL_TASK, poll_task),
            (methods.SUBMIT_WORKFLOW_COMMANDS, submit),
            (methods.GET_EVENTS, events),
            (methods.COMPLETE_TASK, done),
        ]
        await self.call(*source.choice(calls), self.fuzzer.metadata())

    async def works(self) -> None:
        """A workflow from its start to its end, in a queue of its own."""
        org_id, queue = self.server.org_id, "quiet"
        start = pb.StartWorkflowRequest(org_id=org_id, workflow_kind="order", input=b"{}", queue=queue)
        run = (await self.channel.unary(methods.START_WORKFLOW, start)).message.workflow_execution_id
        kinds = ["order"]  # or it is given those that somebody registered over this connection
        poll = pb.PollRequest(
            org_id=org_id, worker_id="sane", queue=queue, timeout_seconds=5, workflow_capabilities=kinds
        )
        reply = await self.channel.unary(methods.POLL_WORKFLOW, poll)
        assert reply.message.workflow_execution is not None
        assert reply.message.workflow_execution.id == run
        submit = pb.SubmitWorkflowCommandsRequest(
            workflow_execution_id=run, commands=[complete()], status=pb.WorkflowStatus.COMPLETED
        )
        claim = {"flovyn-claim": reply.metadata["flovyn-claim"]}
        await self.channel.unary(methods.SUBMIT_WORKFLOW_COMMANDS, submit, metadata=claim)

    def rows(self) -> dict[str, int]:
        """How many rows each table has."""
        execute = self.server.engine.core.store.database.connection.execute
        tables = [name for (name,) in execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {table: execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0] for table in tables}


@asynccontextmanager
async def attacking(seed: int) -> AsyncGenerator[Attack]:
    async with serve() as server, Channel(server.url, token=server.token) as channel:
        attack = Attack(server, channel, seed)
        yield attack
        await attack.works()
        assert violations(server.engine) == []
        statistics = server.statistics()
        assert (statistics.connections, statistics.waiting_polls, statistics.listeners) == (1, 0, 0)


def handles() -> int:
    directory = Path("/proc/self/fd")
    return len(list(directory.iterdir())) if directory.exists() else 0


async def bytes_leave_nothing(count: int, seed: int) -> None:
    async with attacking(seed) as attack:
        await attack.with_bytes(300)  # caches fill
        gc.collect()
        rows, objects, open_files = attack.rows(), len(gc.get_objects()), handles()
        before = attack.outcomes["OK"]
        await attack.with_bytes(count)
        gc.collect()
        assert len(gc.get_objects()) - objects < max(500, count // 2)  # headers are remembered, up to a bound
        assert handles() == open_files
        # Some bytes are messages after all, and few of those are ones that do something.
        assert sum(attack.rows().values()) - sum(rows.values()) <= 5 * (attack.outcomes["OK"] - before)
        assert attack.outcomes["INVALID_ARGUMENT"] > count // 4


async def messages_leave_what_they_may(count: int, seed: int) -> None:
    async with attacking(seed) as attack:
        await attack.with_messages(count)
        assert handles() < 200
        assert set(attack.outcomes) >= {"OK", "INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION"}
        rows = attack.rows()
        # What a call may leave is bounded by the commands that it may have.
        assert sum(rows.values()) < 40 * attack.outcomes["OK"]
        assert rows["worker"] <= attack.outcomes["OK"]
        leases = attack.server.engine.core.leases
        assert len(leases.links()) == 1
        assert attack.server.statistics().claims <= rows["run"] + rows["task"]


async def test_bytes_that_are_no_messages() -> None:
    with anyio.fail_after(60):
        await bytes_leave_nothing(600, seed=1)  # on each backend


async def test_messages_that_nobody_means_well_with() -> None:
    with anyio.fail_after(60):
        await messages_leave_what_they_may(1_100, seed=1)


@pytest.mark.deep
@pytest.mark.parametrize("seed", range(4))
async def test_many_bytes_that_are_no_messages(seed: int) -> None:
    await bytes_leave_nothing(4_000, seed=100 + seed)


@pytest.mark.deep
@pytest.mark.parametrize("seed", range(4))
async def test_many_messages_that_nobody_means_well_with(seed: int) -> None:
    await messages_leave_what_they_may(5_000, seed=200 + seed)


async def test_polls_of_any_length_are_held_open_and_given_up() -> None:
    with anyio.fail_after(20):
        async with attacking(seed=3) as attack:
            for seconds in (1, 60, 2**31, 2**63 - 1):
                org_id = attack.server.org_id
                polls: list[tuple[Method[Any, Any], Any]] = [
                    (methods.POLL_WORKFLOW, pb.PollRequest(org_id=org_id, worker_id="w", timeout_seconds=seconds)),
                    (methods.POLL_TASK, pb.PollTaskRequest(org_id=org_id, worker_id="w", timeout_seconds=seconds)),
                ]
                for method, request in polls:
                    with anyio.move_on_after(0.02) as scope:
                        await attack.channel.unary(method, request)
                    assert scope.cancelled_caught
            while attack.server.statistics().waiting_polls:
                await anyio.sleep(0.001)
