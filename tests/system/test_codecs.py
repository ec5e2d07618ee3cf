"""Payloads that nobody on the way can read: client, worker and server, with all that a program can say."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import anyio
import pytest

import flovyn
from flovyn import (
    Client,
    CodecError,
    NonRetryableError,
    Promise,
    Query,
    Signal,
    StateKey,
    TaskContext,
    Worker,
    WorkflowContext,
    WorkflowFailed,
    query,
    signal,
    task,
    workflow,
)
from flovyn.definitions import AnyWorkflow
from flovyn.serde.codecs import AesGcmCodec, DirectoryStore, OffloadCodec, PayloadCodec, ZlibCodec
from flovyn.server import Server, serve
from flovyn.testing import History, Replayer
from flovyn.wire import methods
from flovyn.wire.messages.flovyn import v1 as pb
from system.tapping import CANARY, FORMS, KEYS, tapped

pytestmark = pytest.mark.anyio

Q = TypeVar("Q")
R = TypeVar("R")


@dataclass
class Order:
    id: str
    notes: list[str]


class Declined(NonRetryableError): ...


@task
async def process(ctx: TaskContext, order: Order) -> list[str]:
    """Uses every call that a task has."""
    await ctx.set("k", CANARY)
    ctx.report_progress(0.5, f"half of {CANARY}")
    ctx.log("INFO", f"read {CANARY}")
    ctx.heartbeat({"row": CANARY})
    await ctx.stream_token(CANARY)
    await ctx.stream_data([CANARY])
    assert await ctx.get("k") == CANARY
    return [*order.notes, CANARY]


@task
async def refuse(ctx: TaskContext, why: str) -> None:
    raise Declined(why) from LookupError(why)


@workflow
async def inner(ctx: WorkflowContext, secret: str) -> str:
    return secret


@workflow
async def inner_failing(ctx: WorkflowContext, secret: str) -> str:
    raise ValueError(secret)


@workflow
async def waits(ctx: WorkflowContext) -> None:
    await anyio.sleep_forever()


APPROVAL = Promise[str]("approval")
DENIAL = Promise[str]("denial")
MESSAGE = Signal[str]("message")
NOTE = StateKey[str]("note")


@workflow
async def everything(ctx: WorkflowContext, order: Order) -> list[str]:
    """Uses every way in which a workflow can say something."""
    told = await ctx.schedule(process, order)
    ctx.set(NOTE, CANARY)
    told.append(await ctx.run("effect", lambda: CANARY))
    for failing in (
        ctx.schedule(refuse, CANARY),
        ctx.run("broken", broken),
        ctx.schedule_workflow(inner_failing, CANARY),
        ctx.promise(DENIAL),
    ):
        try:
            await failing
        except flovyn.ExecutionError as error:
            assert CANARY in str(error)
            told.append(type(error).__name__)
    told.append(await ctx.schedule_workflow(inner, CANARY))
    told.append(await ctx.promise(APPROVAL))
    told.append(await ctx.wait_for_signal(MESSAGE))
    child = ctx.schedule_workflow_async(waits)
    child.cancel()
    return told


def broken() -> None:
    raise ValueError(CANARY)


@workflow
class cart:
    def __init__(self) -> None:
        self.items: list[str] = []

    async def run(self, ctx: WorkflowContext, first: str) -> list[str]:
        await ctx.wait_condition(lambda: bool(self.items))
        self.items.append(first)
        return self.items

    @signal
    async def message(self, ctx: WorkflowContext, item: str) -> None:
        self.items.append(item)

    @query
    def holds(self, item: str) -> str:
        return f"{item}: {self.items.count(item)}"


@workflow
async def fails(ctx: WorkflowContext) -> None:
    raise ValueError(CANARY) from KeyError(CANARY)


WORKFLOWS: list[AnyWorkflow[..., Any]] = [everything, inner, inner_failing, waits, cart, fails]
EXPECTED = [
    f"note {CANARY}",
    CANARY,
    CANARY,
    "TaskFailed",
    "OperationFailed",
    "ChildWorkflowFailed",
    "PromiseRejected",
    CANARY,
    f"approved {CANARY}",
    f"said {CANARY}",
]


async def promise_id(client: Client, handle: flovyn.WorkflowHandle[Any], name: str) -> str:
    with anyio.fail_after(10):
        while True:
            for event in await handle.history():
                if event.type == "PROMISE_CREATED" and event.data["promiseName"] == name:
                    return str(event.data["promiseId"])
            await anyio.sleep(0.005)


async def say_everything(client: Client) -> flovyn.WorkflowHandle[list[str]]:
    """Start the workflow, and everything that the outside world can say to it."""
    handle = await client.start(everything, Order(CANARY, [f"note {CANARY}"]))
    await handle.reject(DENIAL, LookupError(f"no {CANARY}"))
    await handle.signal(MESSAGE, f"said {CANARY}")
    await handle.resolve(APPROVAL, f"approved {CANARY}")
    return handle


@pytest.mark.parametrize("cache_size", [0, 100], ids=["re-enacted", "cached"])
async def test_no_plaintext_is_on_the_wire_or_in_the_servers_file(tmp_path: Path, cache_size: int) -> None:
    db = tmp_path / "flovyn.db"
    codecs: list[PayloadCodec] = [ZlibCodec(), AesGcmCodec(KEYS, current="new")]
    with anyio.fail_after(20):
        async with serve(db=str(db)) as server:
            async with tapped(server, codecs, workflows=WORKFLOWS, tasks=[process, refuse], cache_size=cache_size) as (
                client,
                tap,
            ):
                handle = await say_everything(client)
                assert await handle.result() == EXPECTED
                with pytest.raises(WorkflowFailed, match=CANARY) as caught:
                    await (await client.start(fails)).result()
                assert caught.value.__cause__ is not None
                assert repr(caught.value.__cause__.__cause__) == f"RemoteError(\"'{CANARY}'\", type='KeyError')"
                assert await handle.query_server("state", CANARY) == {"note": CANARY}
                keyed = client.options(idempotency_key="key")
                started = await keyed.with_signal(MESSAGE, CANARY).start(cart, CANARY)
                assert await started.handle.result() == [CANARY, CANARY]
                assert await started.handle.query(Query[str]("holds"), CANARY) == f"{CANARY}: 2"
                history = await History.fetch(client, handle.id)
    assert CANARY in history.to_json()
    report = Replayer(WORKFLOWS).replay(history)
    assert report.status == "equal", str(report)
    assert {name for name, data in tap.heard if any(form in data for form in FORMS)} == set()
    assert {name for name, _ in tap.heard} >= {"StartWorkflow", "GetEvents", "SubmitWorkflowCommands", "PollTask"}
    assert stored_forms(tmp_path) == []


def stored_forms(directory: Path) -> list[bytes]:
    """In which forms the canary stands in the files of a server."""
    data = b"".join(file.read_bytes() for file in directory.iterdir())
    assert data.count(b"WORKFLOW_STARTED") >= 5
    return [form for form in FORMS if form in data]


async def test_the_same_without_codecs_does_show(tmp_path: Path) -> None:
    """That the test above can fail."""
    with anyio.fail_after(20):
        async with serve() as server, tapped(server, [], workflows=WORKFLOWS, tasks=[process, refuse]) as (client, tap):
            handle = await say_everything(client)
            assert await handle.result() == EXPECTED
    showing = {name for name, data in tap.heard if CANARY.encode() in data}
    assert showing >= {
        "StartWorkflow", "GetEvents", "SubmitWorkflowCommands", "PollTask", "PollWorkflow", "CompleteTask", "FailTask",
        "ReportProgress", "LogMessage", "StreamTaskData", "SetState", "GetState", "SignalWorkflow", "ResolvePromise",
        "RejectPromise",
    }  # fmt: skip


class Counting:
    """Changes nothing, and counts."""

    name = "counting"

    def __init__(self) -> None:
        self.decoded = 0

    async def encode(self, data: bytes) -> tuple[bytes, Mapping[str, str]] | None:
        return data, {}

    async def decode(self, data: bytes, metadata: Mapping[str, str]) -> bytes:
        self.decoded += 1
        return data


@workflow
async def steps(ctx: WorkflowContext, count: int) -> int:
    for number in range(count):
        await ctx.schedule(echo, str(number))
    return count


@task
async def echo(ctx: TaskContext, text: str) -> str:
    return text


@pytest.mark.parametrize(("cache_size", "most"), [(100, 80), (0, 1_000)], ids=["cached", "re-enacted"])
async def test_a_cached_workflow_decodes_each_payload_once(cache_size: int, most: int) -> None:
    codec = Counting()
    with anyio.fail_after(20):
        async with serve() as server, connected(server, [codec]) as client:
            async with Worker(client, workflows=[steps], tasks=[echo], cache_size=cache_size, grace=1.0):
                assert await (await client.start(steps, 20)).result() == 20
    # Three for each task (what was scheduled, the task's own input, its output), and some for beginning and end.
    assert 60 <= codec.decoded <= most
    assert cache_size or codec.decoded > 400


# --- what goes wrong ------------------------------------------------------------------------


@workflow
async def echoes(ctx: WorkflowContext, text: str) -> str:
    first = await ctx.schedule(echo, text)
    await ctx.promise("go on")
    return await ctx.schedule(echo, first)


def encryption(*ids: str, current: str | None = None) -> list[PayloadCodec]:
    return [AesGcmCodec({key: KEYS[key] for key in ids}, current=current or ids[-1])]


@asynccontextmanager
async def connected(server: Server, codecs: list[PayloadCodec]) -> AsyncGenerator[Client]:
    async with flovyn.connect(server.url, org_id=server.org_id, token=server.token, codecs=codecs) as client:
        yield client


async def test_keys_rotate_while_a_workflow_runs() -> None:
    with anyio.fail_after(20):
        async with serve() as server:
            async with connected(server, encryption("old")) as client:
                async with Worker(client, workflows=[echoes], tasks=[echo], grace=1.0):
                    handle = await client.start(echoes, CANARY)
                    gate = await promise_id(client, handle, "go on")
            async with connected(server, encryption("old", "new")) as client:
                async with Worker(client, workflows=[echoes], tasks=[echo], grace=1.0):
                    await client.transport.unary(methods.RESOLVE_PROMISE, pb.ResolvePromiseRequest(gate, b"null"))
                    handle = client.handle(echoes, handle.id)
                    assert await handle.result() == CANARY
            async with connected(server, encryption("new")) as client:
                with pytest.raises(CodecError, match="encrypted with the key 'old'; the keys here are: new") as caught:
                    await client.handle(echoes, handle.id).history()
                assert (caught.value.codec, caught.value.key) == ("aes-gcm", "old")
                assert await client.handle(echoes, handle.id).result() == CANARY
            async with connected(server, []) as client:
                with pytest.raises(CodecError, match="encoded by the codec 'aes-gcm', key 'new', which is not here"):
                    await client.handle(echoes, handle.id).result()


@pytest.mark.parametrize("codecs", [[], encryption("new")], ids=["none", "another key"])
async def test_a_worker_that_cannot_decode_holds_workflows_until_another_one_can(codecs: list[PayloadCodec]) -> None:
    with anyio.fail_after(20):
        async with serve() as server:
            async with connected(server, encryption("old")) as client, connected(server, codecs) as other:
                handle = await client.start(echoes, CANARY)
                async with Worker(other, workflows=[echoes], grace=1.0):
                    while not (held := [e for e in await handle.history() if e.type == "WORKFLOW_SUSPENDED"]):
                        await anyio.sleep(0.005)
                assert held[0].data["reason"].startswith("Held: ")
                assert ("CodecError" in held[0].data["reason"]) is bool(codecs)
                async with Worker(client, workflows=[echoes], tasks=[echo], grace=1.0):
                    gate = await promise_id(client, handle, "go on")
                    await client.transport.unary(methods.RESOLVE_PROMISE, pb.ResolvePromiseRequest(gate, b"null"))
                    assert await handle.result() == CANARY


async def test_a_task_that_cannot_be_decoded_is_left_to_other_attempts() -> None:
    with anyio.fail_after(20):
        async with serve() as server:
            async with connected(server, encryption("old")) as client, connected(server, []) as other:
                async with Worker(client, workflows=[echoes], grace=1.0), Worker(other, tasks=[echo], grace=1.0):
                    with pytest.raises(
                        WorkflowFailed, match="CodecError: the payload was encoded by the codec"
                    ) as caught:
                        await (await client.start(echoes, CANARY)).result()
    assert caught.value.error_type == "TaskFailed"


async def test_an_outcome_that_cannot_be_encoded_is_tried_again(tmp_path: Path) -> None:
    store, attempts = Unreachable(tmp_path), 0

    @task
    async def makes(ctx: TaskContext) -> str:
        nonlocal attempts
        attempts += 1
        store.down = attempts < 3
        return CANARY * 100

    @workflow
    async def asks(ctx: WorkflowContext) -> str:
        return await ctx.schedule(makes)

    codecs: list[PayloadCodec] = [OffloadCodec(store, larger_than=1_000)]
    with anyio.fail_after(20):
        async with serve() as server, connected(server, codecs) as client:
            async with Worker(client, workflows=[asks], tasks=[makes], grace=1.0):
                handle = await client.start(asks)
                assert await handle.result() == CANARY * 100
    assert attempts == 3


async def test_a_submission_that_cannot_be_encoded_holds_the_workflow(tmp_path: Path) -> None:
    store = Unreachable(tmp_path)

    @workflow
    async def ends(ctx: WorkflowContext) -> str:
        return CANARY * 100

    codecs: list[PayloadCodec] = [OffloadCodec(store, larger_than=1_000)]
    with anyio.fail_after(20):
        async with serve() as server, connected(server, codecs) as client:
            store.down = True
            async with Worker(client, workflows=[ends], grace=1.0):
                handle = await client.start(ends)
                while not (held := [e for e in await handle.history() if e.type == "WORKFLOW_SUSPENDED"]):
                    await anyio.sleep(0.005)
                assert held[0].data["reason"] == "Held: CodecError"
                store.down = False
                assert await handle.result() == CANARY * 100


class Unreachable(DirectoryStore):
    """A store that is away at times."""

    down = False

    async def put(self, key: str, data: bytes) -> None:
        if self.down:
            raise ConnectionError("the store is away")
        await super().put(key, data)


async def test_a_history_from_a_file_is_decoded_to_be_replayed(tmp_path: Path) -> None:
    codecs = encryption("old")
    with anyio.fail_after(20):
        async with serve() as server:
            async with connected(server, codecs) as client, connected(server, []) as anybody:
                async with Worker(client, workflows=WORKFLOWS, grace=1.0):
                    with pytest.raises(WorkflowFailed):
                        await (handle := await client.start(fails)).result()
                exported = tmp_path / f"{handle.id}.json"
                exported.write_text((await History.fetch(anybody, handle.id)).to_json())
    history = History.read(exported)
    report = Replayer(WORKFLOWS).replay(history)
    assert (report.status, type(report.error)) == ("error", CodecError)
    report = Replayer(WORKFLOWS).replay(await history.decoded(codecs))
    assert report.status == "equal", str(report)
    with pytest.raises(CodecError, match="encrypted with the key 'old'"):
        await history.decoded(encryption("new"))
