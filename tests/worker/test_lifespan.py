"""What lives around the work of a worker, and reaches its tasks."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import anyio
import pytest

from flovyn import ConfigurationError, SyncTaskContext, TaskContext, Unauthenticated, Worker, task
from flovyn.serde.envelope import parse_error
from worker.fakes import FakeServer
from worker.test_worker_life import NOTHING, QUICK
from worker.test_worker_tasks import outcome, working

pytestmark = pytest.mark.anyio


@dataclass
class Database:
    name: str


@dataclass
class Replica(Database):
    lag: float = 0.0


class Pair(NamedTuple):
    first: int
    second: int


@task
async def which(ctx: TaskContext) -> str:
    return ctx.resource(Database).name


@task
def which_in_a_thread(ctx: SyncTaskContext) -> str:
    return ctx.resource(Database).name


def yielding(resources: Any, events: list[str] | None = None) -> Any:
    """A lifespan that yields something, and notes what happens to it."""
    noted = [] if events is None else events

    @asynccontextmanager
    async def lifespan() -> AsyncGenerator[Any]:
        noted.append("opened")
        try:
            yield resources
        finally:
            noted.append("closed")

    return lifespan


def a_worker(server: FakeServer, lifespan: Any, **options: Any) -> Worker:
    return Worker(server.client(), tasks=[which], lifespan=lifespan, reconnect=QUICK, **options)


async def test_bodies_find_what_a_lifespan_yields() -> None:
    server = FakeServer()
    async with working(server, which, which_in_a_thread, lifespan=yielding((Replica("pg"), 7))):
        server.offer("t1", "which")
        server.offer("t2", "which_in_a_thread")
        assert (await outcome(server), await outcome(server, "t2")) == (b'"pg"', b'"pg"')


@pytest.mark.parametrize(
    ("yielded", "types"),
    [
        (None, "none (see Worker(lifespan=...))"),
        (3, "int"),
        (Pair(1, 2), "Pair"),
        ((3, "text"), "int, str"),
        ((), "none (see Worker(lifespan=...))"),
    ],
    ids=repr,
)
async def test_what_it_yields_is_one_resource_or_a_tuple_of_them(yielded: Any, types: str) -> None:
    server = FakeServer()
    async with working(server, which, lifespan=yielding(yielded)):
        server.offer("t1", "which")
        failure = parse_error(str(await outcome(server)))
    assert failure.type == "ConfigurationError"
    assert failure.message == f"this worker has no resource of type Database; its lifespan yields {types}"


async def test_it_is_opened_before_anything_is_sent_and_closed_when_the_last_work_is_done() -> None:
    server = FakeServer()
    events: list[str] = []
    release = anyio.Event()

    @task
    async def last(ctx: TaskContext) -> None:
        await release.wait()
        events.append("worked")

    @asynccontextmanager
    async def lifespan() -> AsyncGenerator[None]:
        events.append(f"opened after {len(server.calls)} calls")
        yield
        events.append(f"closed after {len(server.completed)} tasks")

    async def let_go(worker: Worker) -> None:
        await server.until(lambda: worker.statistics().open_polls == 0)
        release.set()

    with anyio.fail_after(5):
        async with anyio.create_task_group() as tg:
            async with Worker(server.client(), tasks=[last], lifespan=lifespan, grace=5.0) as worker:
                server.offer("t1", "last")
                await server.until(lambda: worker.statistics().running_tasks == 1)
                tg.start_soon(let_go, worker)
    assert events == ["opened after 0 calls", "worked", "closed after 1 tasks"]


@pytest.mark.parametrize("way", ["cancel", "raise", "refuse"])
async def test_it_is_closed_however_the_worker_ends(way: str) -> None:
    server = FakeServer()
    events: list[str] = []
    if way == "refuse":
        server.refuse("RegisterWorker", Unauthenticated("unknown token"))
    worker = a_worker(server, yielding(Database("pg"), events))
    with anyio.fail_after(5), anyio.CancelScope() as scope:
        try:
            async with worker:
                if way == "raise":
                    raise ValueError("mine")
                scope.cancel()
                await anyio.sleep_forever()
        except (ValueError, Unauthenticated) as error:
            assert way == ("raise" if isinstance(error, ValueError) else "refuse")
    assert (events, worker.statistics()) == (["opened", "closed"], NOTHING)


async def test_it_outlives_the_bodies_of_a_worker_that_is_cancelled() -> None:
    """A background task of the lifespan, too, is there until the last body has ended."""
    server = FakeServer()
    began = anyio.Event()
    seen: list[str] = []

    @asynccontextmanager
    async def lifespan() -> AsyncGenerator[Database]:
        database = Database("open")

        async def background() -> None:
            try:
                await anyio.sleep_forever()
            finally:
                database.name = "closed"

        async with anyio.create_task_group() as tg:
            tg.start_soon(background)
            yield database
            tg.cancel_scope.cancel()

    @task
    async def cleans_up(ctx: TaskContext) -> None:
        began.set()
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                for _ in range(10):
                    await anyio.lowlevel.checkpoint()
                seen.append(ctx.resource(Database).name)

    with anyio.fail_after(5):
        async with anyio.create_task_group() as tg:
            worker = Worker(server.client(), tasks=[cleans_up], lifespan=lifespan)
            await tg.start(worker.run)
            server.offer("t1", "cleans_up")
            await began.wait()
            tg.cancel_scope.cancel()
    assert seen == ["open"]


# --- errors ------------------------------------------------------------------------------------


def failing(when: str, error: Exception) -> Any:
    @asynccontextmanager
    async def lifespan() -> AsyncGenerator[None]:
        if when == "opening":
            raise error
        yield
        raise error

    return lifespan


@pytest.mark.parametrize("when", ["opening", "closing"])
@pytest.mark.parametrize(
    "error",
    [LookupError("no database"), ExceptionGroup("mine", [ValueError("a")])],
    ids=["an error", "a group of one"],
)
@pytest.mark.parametrize("way", ["block", "run"])
async def test_an_error_in_it_leaves_the_worker_as_it_is(when: str, error: Exception, way: str) -> None:
    server = FakeServer()
    worker = a_worker(server, failing(when, error))
    caught: Exception | None = None
    try:
        with anyio.fail_after(5):
            if way == "block":
                async with worker:
                    assert when == "closing"
            else:
                if when == "closing":
                    worker.stop()
                await worker.run()
    except Exception as raised:
        caught = raised
    assert caught is error
    assert worker.statistics() == NOTHING
    if when == "opening":
        assert (server.calls, worker.report) == ([], None)


async def test_a_crash_in_its_background_ends_the_worker_with_the_lifespans_own_error() -> None:
    server = FakeServer()
    crash = anyio.Event()
    ends: list[tuple[str | None, str | None]] = []

    async def background() -> None:
        await crash.wait()
        raise LookupError("the pool is gone")

    @asynccontextmanager
    async def lifespan() -> AsyncGenerator[Database]:
        async with anyio.create_task_group() as tg:
            tg.start_soon(background)
            yield Database("pg")

    @task
    async def works(ctx: TaskContext) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            ends.append((ctx.cancel_cause, ctx.cancel_reason))

    worker = Worker(server.client(), tasks=[works], lifespan=lifespan, grace=60.0)
    with anyio.fail_after(5), pytest.RaisesGroup(pytest.RaisesExc(LookupError, match="the pool is gone")):
        async with worker:
            server.offer("t1", "works")
            await server.until(lambda: worker.statistics().running_tasks == 1)
            crash.set()
            await anyio.sleep_forever()
    assert ends == [("stopping", "the worker is stopping")]
    assert (server.completed, server.failed, worker.statistics()) == ({}, {}, NOTHING)


async def test_the_workers_own_error_is_not_the_lifespans() -> None:
    server = FakeServer()
    refusal = Unauthenticated("unknown token")
    server.refuse("RegisterWorker", refusal)
    with anyio.fail_after(5), pytest.raises(Unauthenticated) as caught:
        await a_worker(server, yielding(3)).run()
    assert caught.value is refusal


async def no_manager() -> None: ...


@pytest.mark.parametrize(
    ("lifespan", "text"),
    [
        (yielding([Database("pg")]), "the lifespan yields a list; yield one resource, or several as a tuple"),
        (lambda: 3, "made 3, which is no async context manager; decorate it with @contextlib.asynccontextmanager"),
    ],
    ids=["a list", "no manager"],
)
async def test_what_is_no_lifespan(lifespan: Any, text: str) -> None:
    with anyio.fail_after(5), pytest.raises(ConfigurationError) as caught:
        await a_worker(FakeServer(), lifespan).run()
    assert caught.value.message.endswith(text)
