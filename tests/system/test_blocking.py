"""The client for threads: the same calls, against the embedded server, from programs that have no event loop."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from inspect import getfile
from traceback import extract_stack
from typing import Any, cast
from uuid import uuid4

import anyio
import pytest
from anyio.from_thread import start_blocking_portal

import flovyn.blocking
from conftest import BACKENDS, MISSING_UVLOOP
from flovyn import (
    ConfigurationError,
    NotFound,
    Promise,
    QueryFailed,
    Signal,
    TaskCancelled,
    TaskContext,
    UsageError,
    Worker,
    WorkflowCancelled,
    WorkflowContext,
    WorkflowFailed,
    query,
    task,
    workflow,
)
from flovyn import signal as signal_
from flovyn.server import Server, serve

APPROVAL = Promise[bool]("approval")
NOTE = Signal[str]("note")


@task
async def double(ctx: TaskContext, number: int) -> int:
    return 2 * number


@task
async def endless(ctx: TaskContext) -> None:
    await anyio.sleep_forever()


@workflow
async def doubled(ctx: WorkflowContext, number: int) -> int:
    return await ctx.schedule(double, number)


@workflow
async def approve(ctx: WorkflowContext, key: str | None = None) -> bool:
    return await ctx.create_promise(APPROVAL, idempotency_key=key)


@workflow
async def parent(ctx: WorkflowContext) -> int:
    return await ctx.schedule_workflow(doubled, 1)


BROKEN = [True]


@workflow
async def fails(ctx: WorkflowContext) -> str:
    if BROKEN[0]:
        raise ValueError("no")
    return "mended"


@workflow
class Cart:
    def __init__(self) -> None:
        self.items: list[str] = []

    async def run(self, ctx: WorkflowContext, limit: int) -> list[str]:
        await ctx.wait_condition(lambda: len(self.items) >= limit)
        return self.items

    @signal_
    async def add(self, ctx: WorkflowContext, item: str) -> None:
        self.items.append(item)

    @query
    def size(self) -> int:
        return len(self.items)


@dataclass
class World:
    server: Server
    options: dict[str, Any]


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(backend, id=name, marks=MISSING_UVLOOP if name == "asyncio+uvloop" else ())
        for name, backend in BACKENDS.items()
    ],
)
def world(request: pytest.FixtureRequest) -> Generator[World]:
    """A server and a worker in a thread of their own."""
    backend, backend_options = request.param
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(serve(http_port=0)) as server:
        options: dict[str, Any] = {
            "org_id": server.org_id,
            "token": server.token,
            "http_url": server.http_url,
            "api_key": server.api_key,
        }
        connecting = flovyn.connect(server.url, **options)
        with portal.wrap_async_context_manager(connecting) as client:
            workflows: list[Any] = [doubled, approve, parent, fails, Cart]
            worker = Worker(client, workflows=workflows, tasks=[double, endless], grace=1.0)
            with portal.wrap_async_context_manager(cast("Any", worker)):
                yield World(server, {**options, "backend": backend, "backend_options": backend_options})


@pytest.fixture
def client(world: World) -> Generator[flovyn.blocking.Client]:
    with flovyn.blocking.connect(world.server.url, **world.options) as client, flovyn.blocking.fail_after(20):
        yield client


def until(handle: flovyn.blocking.WorkflowHandle[Any], event: str) -> Any:
    return next(found for found in handle.follow() if found.type == event).data


def test_workflows(client: flovyn.blocking.Client) -> None:
    assert client.execute(doubled, 4) == 8
    handle = client.start(doubled, number=21)
    assert (handle.kind, repr(handle)) == ("doubled", f"<blocking <WorkflowHandle doubled {handle.id}>>")
    assert handle.result() == 42
    assert client.handle(doubled, handle.id).result() == 42
    assert handle.describe().output == 42
    history = handle.history()
    assert [event.type for event in handle.follow()] == [event.type for event in history]
    assert [event.sequence for event in handle.follow(after=len(history) - 1)] == [len(history)]
    keyed = client.options(idempotency_key=str(uuid4()), queue="nobody", metadata={"a": "b"})
    found = keyed.start(doubled, 1)
    assert keyed.start(doubled, 2).id == found.id
    assert next(client.workflows(queue="nobody", status="PENDING")).id == found.id
    assert client.options(priority=5, version="2").execute(doubled, 2) == 4
    above = client.start(parent)
    assert above.result() == 2
    assert [child.kind for child in above.children()] == ["doubled"]


def test_signals_queries_and_promises(client: flovyn.blocking.Client) -> None:
    keyed = client.options(idempotency_key=str(uuid4()))
    started = keyed.with_signal(Cart.add, "tea").start(Cart, 3)
    assert (started.created, started.sequence > 0) == (True, True)
    cart = started.handle
    assert keyed.with_signal(Cart.add, "milk").start(Cart, 3).created is False
    until(cart, "WORKFLOW_SUSPENDED")
    assert cart.query(Cart.size) in (1, 2)
    assert cart.signal("add", "jam") > 0
    assert cart.result() == ["tea", "milk", "jam"]
    assert cart.query("size") == 3
    with pytest.raises(QueryFailed):
        cart.query_server("nothing")
    handle = client.start(approve)
    handle.resolve(APPROVAL, True)
    assert handle.result() is True
    rejected = client.start(approve)
    rejected.reject("approval", ValueError("no"))
    with pytest.raises(WorkflowFailed, match="no"):
        rejected.result()
    key = str(uuid4())
    by_key = client.start(approve, key)
    until(by_key, "PROMISE_CREATED")
    client.resolve(APPROVAL, False, key=key)
    assert by_key.result() is False
    by_id = client.start(approve)
    client.reject(APPROVAL, "no", id=until(by_id, "PROMISE_CREATED")["promiseId"])
    with pytest.raises(WorkflowFailed, match="no"):
        by_id.result()


def test_cancelling_and_retrying(client: flovyn.blocking.Client) -> None:
    handle = client.start(approve)
    until(handle, "WORKFLOW_SUSPENDED")
    handle.cancel("too late")
    with pytest.raises(WorkflowCancelled, match="^too late$"):
        handle.result()
    BROKEN[:] = [True]
    failed = client.start(fails)
    with pytest.raises(WorkflowFailed):
        failed.result()
    BROKEN[:] = [False]
    assert failed.retry("mended").result() == "mended"


def test_tasks(client: flovyn.blocking.Client) -> None:
    submitted = client.submit(double, 3)
    assert submitted.result() == 6
    assert (submitted.kind, repr(submitted)) == ("double", f"<blocking <SubmittedTask double {submitted.id}>>")
    assert client.task_handle(double, submitted.id).describe().output == 6
    assert [attempt.status for attempt in submitted.attempts()] == ["COMPLETED"]
    assert list(submitted.logs()) == []
    assert next(client.tasks(kind="double")).id == submitted.id
    held = client.submit_options(queue="nobody").submit(endless)
    held.cancel()
    with pytest.raises(TaskCancelled):
        held.result()


def test_errors_are_those_of_the_client(client: flovyn.blocking.Client, world: World) -> None:
    with pytest.raises(NotFound):
        client.handle(doubled, str(uuid4())).result()
    assert repr(client) == f"<blocking <Client org_id={client.org_id} queue='default'>>"
    assert (client.org_id, client.queue) == (world.server.org_id, "default")
    with pytest.raises(ConfigurationError, match="org_id must be a UUID"):
        with flovyn.blocking.connect(world.server.url, org_id="acme"):
            pytest.fail("the block is not entered")
    with pytest.raises(LookupError, match="^mine$"):
        with flovyn.blocking.connect(world.server.url, **world.options):
            raise LookupError("mine")


def test_a_wait_that_is_limited_leaves_the_workflow_alone(client: flovyn.blocking.Client) -> None:
    handle = client.start(approve)
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        with flovyn.blocking.fail_after(60), flovyn.blocking.fail_after(0.05), flovyn.blocking.fail_after(60):
            handle.result()
    assert time.monotonic() - began < 10
    with pytest.raises(TimeoutError):
        with flovyn.blocking.fail_after(-1):
            handle.history()
    handle.resolve(APPROVAL, True)
    assert handle.result() is True


def test_any_thread_may_call(client: flovyn.blocking.Client) -> None:
    def call(number: int) -> int:
        return client.execute(doubled, number)

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(call, range(16))) == [2 * number for number in range(16)]


def test_a_client_that_is_closed_says_so(world: World) -> None:
    before = set(threading.enumerate())
    with flovyn.blocking.connect(world.server.url, **world.options) as client:
        handle = client.start(approve)
    assert set(threading.enumerate()) <= before  # others may have ended meanwhile
    with pytest.raises(
        UsageError, match="^the client is closed: call inside the `with` block of flovyn.blocking.connect$"
    ):
        handle.history()


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="no way to interrupt a thread")
def test_an_interrupt_ends_the_call(client: flovyn.blocking.Client) -> None:
    handle = client.start(approve)
    main = threading.get_ident()

    def interrupt() -> None:
        until(handle, "WORKFLOW_SUSPENDED")
        while not any(frame.filename == getfile(Future) for frame in extract_stack(sys._current_frames()[main])):
            time.sleep(0.001)  # it does not wait for its call yet
        signal.pthread_kill(main, signal.SIGINT)

    with ThreadPoolExecutor(1) as threads:
        interrupting = threads.submit(interrupt)
        with pytest.raises(KeyboardInterrupt):
            handle.result()
        interrupting.result()
    handle.resolve(APPROVAL, True)
    assert handle.result() is True
