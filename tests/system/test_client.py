"""All that a client can ask for, end to end: against the embedded server, over gRPC and over REST."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar, cast
from uuid import uuid4

import anyio
import pytest

import flovyn
from flovyn import (
    Client,
    ConfigurationError,
    DefinitionError,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    Promise,
    PromiseRejected,
    Query,
    QueryFailed,
    RemoteError,
    RetryPolicy,
    Signal,
    StateKey,
    SubmittedTask,
    TaskCancelled,
    TaskContext,
    TaskFailed,
    TaskTimeout,
    UsageError,
    Worker,
    Workflow,
    WorkflowCancelled,
    WorkflowContext,
    WorkflowFailed,
    WorkflowHandle,
    query,
    signal,
    task,
    task_by_kind,
    workflow,
    workflow_by_kind,
)
from flovyn.server import Server, serve
from flovyn.wire import methods
from flovyn.wire.messages.flovyn import v1 as pb

pytestmark = pytest.mark.anyio

T = TypeVar("T")

APPROVAL = Promise[bool | None]("approval")
NOTE = Signal[str]("note")
SEEN = StateKey[list[str]]("seen")
SIZE = Query[int]("size")


@dataclass
class Receipt:
    order: str
    total: int


@task
async def price(ctx: TaskContext, order: str) -> Receipt:
    return Receipt(order, len(order))


@task(retry=RetryPolicy(max_attempts=2, initial_interval=0.001))
async def flaky(ctx: TaskContext, text: str) -> str:
    raise ValueError(text) from KeyError("root")


@task
async def endless(ctx: TaskContext) -> None:
    await anyio.sleep_forever()


@workflow
async def place(ctx: WorkflowContext, order: str) -> Receipt:
    return await ctx.schedule(price, order)


@workflow
async def approve(ctx: WorkflowContext, who: str, *, keyed: str | None = None) -> str:
    promise = ctx.create_promise(APPROVAL, idempotency_key=keyed)
    try:
        return f"{who}: {await promise}"
    except PromiseRejected as error:
        return f"{type(error).__name__} {error.error_type} {error}"


@workflow
async def listens(ctx: WorkflowContext, count: int) -> list[str]:
    seen: list[str] = []
    for _ in range(count):
        seen.append(await ctx.wait_for_signal(NOTE))
        ctx.set(SEEN, seen)
    return seen


@workflow
class Cart:
    def __init__(self) -> None:
        self.items: list[str] = []
        self.closed = False

    async def run(self, ctx: WorkflowContext, limit: int = 10) -> list[str]:
        await ctx.wait_condition(lambda: self.closed or len(self.items) >= limit)
        return self.items

    @signal
    async def add(self, ctx: WorkflowContext, item: str, count: int = 1) -> None:
        self.items += [item] * count

    @signal(name="check-out")
    async def leave(self, ctx: WorkflowContext) -> None:
        self.closed = True

    @query
    def size(self) -> int:
        return len(self.items)

    @query(name="find")
    def look(self, prefix: str, most: int = 10) -> list[str]:
        return [item for item in self.items if item.startswith(prefix)][:most]

    @query
    def breaks(self) -> int:
        raise LookupError("no such thing")


class Refused(Exception): ...


BROKEN = [True]


@workflow
async def fails(ctx: WorkflowContext, text: str) -> str:
    if BROKEN[0]:
        raise Refused(text) from KeyError("root")
    return text


@workflow
async def cleans_up(ctx: WorkflowContext) -> str:
    try:
        await anyio.sleep_forever()
    finally:
        with anyio.CancelScope(shield=True):
            await ctx.schedule(price, ctx.cancel_reason or "nothing")
    raise AssertionError("unreachable")


@workflow
async def parent(ctx: WorkflowContext, count: int) -> int:
    for number in range(count):
        await ctx.schedule_workflow(place.options(child_name=f"child {number}"), "x" * number)
    return count


@dataclass
class World:
    server: Server
    client: Client


@pytest.fixture(scope="module")
async def world(anyio_backend: Any) -> AsyncGenerator[World]:
    """One server and one worker for all tests that do not break anything."""
    async with serve(http_port=0) as server, connected(server) as client:
        async with Worker(
            client,
            workflows=[place, approve, listens, Cart, fails, cleans_up, parent],
            tasks=[price, flaky, endless],
            grace=1.0,
            task_heartbeat_interval=0.05,
        ):
            yield World(server, client)


@pytest.fixture
def client(world: World) -> Client:
    BROKEN[:] = [True]
    return world.client


@contextlib.asynccontextmanager
async def connected(server: Server, **options: Any) -> AsyncGenerator[Client]:
    settings: dict[str, Any] = {
        "org_id": server.org_id,
        "token": server.token,
        "http_url": server.http_url,
        "api_key": server.api_key,
    }
    with anyio.fail_after(60):
        async with flovyn.connect(server.url, **settings | options) as client:
            yield client


async def listed(entries: AsyncIterable[T]) -> list[T]:
    return [entry async for entry in entries]


async def reached(handle: WorkflowHandle[Any], event: str) -> None:
    """Wait until something has happened, by following what happens."""
    with anyio.fail_after(10):
        async for found in handle.follow():
            if found.type == event:
                return


# --- starting and waiting -------------------------------------------------------------------


async def test_execute_starts_and_waits(client: Client) -> None:
    assert await client.execute(place, "tea") == Receipt("tea", 3)
    assert await client.options(queue="default").execute(place, "tea") == Receipt("tea", 3)


async def test_every_option_of_a_start_arrives(client: Client) -> None:
    key = str(uuid4())
    starter = client.options(
        queue="nobody",
        priority=timedelta(minutes=1),
        version="7.1",
        metadata={"shop": "north"},
        idempotency_key=key,
        idempotency_key_ttl=60,
    )
    handle = await starter.start(place, "tea")
    assert (await starter.start(place, "other")).id == handle.id
    shown = await handle.describe()
    assert (shown.id, shown.kind, shown.status, shown.queue) == (handle.id, "place", "PENDING", "nobody")
    assert (shown.version, shown.priority, shown.metadata) == ("7.1", 60, {"shop": "north"})
    assert (shown.input, shown.output, shown.error, shown.retries) == ("tea", None, None, ())
    assert (shown.parent_id, shown.child_name, shown.worker, shown.completed_at) == (None, None, None, None)
    assert (shown.cancellation_requested, shown.cancel_reason, shown.sequence) == (False, None, 1)
    assert abs(datetime.now(UTC) - shown.created_at) < timedelta(minutes=1)


async def test_cancelling_a_wait_touches_nothing(client: Client) -> None:
    handle = await client.start(listens, 1)
    with anyio.move_on_after(0.05) as scope:
        await handle.result()
    assert scope.cancelled_caught
    assert [event.type for event in await handle.history() if "CANCEL" in event.type] == []
    await handle.signal(NOTE, "go")
    assert await handle.result() == ["go"]


async def test_a_result_that_failed_has_its_cause(client: Client) -> None:
    handle = await client.start(fails, "no tea")
    with pytest.raises(WorkflowFailed, match="^Refused: no tea$") as caught:
        await handle.result()
    failed, cause = caught.value, caught.value.__cause__
    assert (failed.workflow_id, failed.kind, failed.error_type) == (handle.id, "fails", "Refused")
    assert isinstance(cause, RemoteError)
    assert (cause.type, cause.message) == ("Refused", "no tea")
    assert repr(cause.__cause__) == "RemoteError(\"'root'\", type='KeyError')"
    assert failed.traceback is not None
    assert "in fails" in failed.traceback
    shown = await handle.describe()
    assert (shown.status, shown.error, shown.output) == ("FAILED", "Refused: no tea", None)


async def test_what_is_unknown_is_not_found(client: Client) -> None:
    handle = client.handle(place, str(uuid4()))
    calls: list[Callable[[], Awaitable[Any]]] = [
        handle.result,
        handle.describe,
        handle.history,
        handle.cancel,
        handle.retry,
        lambda: handle.signal(NOTE, "x"),
        lambda: handle.resolve(APPROVAL, True),
    ]
    for call in calls:
        with pytest.raises(NotFound):
            await call()
    for entries in (handle.follow(), handle.children()):
        with pytest.raises(NotFound):
            await anext(entries)


# --- looking --------------------------------------------------------------------------------


async def test_describe_has_what_a_workflow_returned(client: Client) -> None:
    handle = await client.start(place, "tea")
    await handle.result()
    shown = await handle.describe()
    assert (shown.status, shown.output, shown.input) == ("COMPLETED", Receipt("tea", 3), "tea")
    assert shown.completed_at is not None
    assert shown.completed_at >= shown.created_at
    assert "tea" not in repr(shown)  # payloads are not for logs


async def test_lists_are_read_page_by_page(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flovyn.client.pages._PAGE", 2)
    queue = f"nobody-{uuid4()}"
    starter = client.options(queue=queue)
    kinds: list[Workflow[[str], Any]] = [cast("Any", approve), place]
    started = [(await starter.start(kinds[number % 2], "x")).id for number in range(5)]
    everything = await listed(client.workflows(queue=queue))
    assert [found.id for found in everything] == started[::-1]
    assert {found.kind for found in everything} == {"place", "approve"}
    assert [found.id for found in await listed(client.workflows(queue=queue, kind="place"))] == [started[3], started[1]]
    assert await listed(client.workflows(queue=queue, status="RUNNING")) == []
    first = await anext(client.workflows(queue=queue))
    assert (first.id, first.status, first.queue) == (started[-1], "PENDING", queue)


async def test_children_are_those_of_one_workflow(client: Client) -> None:
    handle = await client.start(parent, 3)
    assert await handle.result() == 3
    children = await listed(handle.children())
    assert [child.child_name for child in children] == ["child 0", "child 1", "child 2"]
    assert {child.parent_id for child in children} == {handle.id}
    assert await client.handle(place, children[2].id).result() == Receipt("xx", 2)


async def test_a_history_is_followed_while_it_is_written(client: Client) -> None:
    handle = await client.start(listens, 2)
    seen: list[str] = []
    with anyio.fail_after(10):
        async for event in handle.follow():
            seen.append(event.type)
            if event.type == "WORKFLOW_SUSPENDED" and seen.count("SIGNAL_RECEIVED") < 2:
                await handle.signal(NOTE, "x")
            assert event.sequence == len(seen)
    assert seen[0] == "WORKFLOW_STARTED"
    assert seen[-1] == "WORKFLOW_COMPLETED"
    assert seen == [event.type for event in await handle.history()]
    rest = [event.sequence async for event in handle.follow(after=len(seen) - 2)]
    assert rest == [len(seen) - 1, len(seen)]


# --- signals and queries --------------------------------------------------------------------


async def test_signals_by_type_by_name_and_by_method(client: Client) -> None:
    handle = await client.start(listens, 2)
    first = await handle.signal(NOTE, "a")
    assert await handle.signal("note", "b") > first
    assert await handle.result() == ["a", "b"]
    with pytest.raises(FailedPrecondition):
        await handle.signal(NOTE, "late")
    cart = await client.start(Cart)
    await cart.signal(Cart.add, "tea", count=2)
    await cart.signal(Cart.add, item="milk")
    await cart.signal("add", {"item": "jam", "count": 1})
    await cart.signal(Cart.leave)
    assert await cart.result() == ["tea", "tea", "milk", "jam"]


async def test_a_signal_with_a_start_starts_once(client: Client) -> None:
    key = str(uuid4())
    keyed = client.options(idempotency_key=key, idempotency_key_ttl=timedelta(hours=1), metadata={"a": "b"})
    first = await keyed.with_signal(Cart.add, "tea").start(Cart, limit=3)
    second = await keyed.with_signal(Cart.add, "milk", count=2).start(Cart, limit=100)
    assert (first.created, second.created) == (True, False)
    assert first.handle.id == second.handle.id
    assert second.sequence > first.sequence
    assert await second.handle.result() == ["tea", "milk", "milk"]
    third = await keyed.with_signal("add", {"item": "jam", "count": 5}).start(Cart, limit=5)
    assert (third.created, await third.handle.result()) == (True, ["jam"] * 5)
    with pytest.raises(ConfigurationError, match="goes to the workflow of an idempotency key"):
        client.options(queue="q").with_signal(NOTE, "x")


async def test_queries_are_answered_here_wherever_the_workflow_stands(client: Client) -> None:
    cart = await client.start(Cart, 4)
    await cart.signal(Cart.add, "tea", count=2)
    await reached(cart, "WORKFLOW_SUSPENDED")
    with anyio.fail_after(10):
        while await cart.query(Cart.size) < 2:
            await anyio.sleep(0.005)
    assert await cart.query(SIZE) == 2
    assert await cart.query("size") == 2
    assert await cart.query(Cart.look, "te", most=1) == ["tea"]
    assert await cart.query("find", "x") == []
    await cart.signal(Cart.add, "milk", count=2)
    await cart.result()
    assert await client.handle(Cart, cart.id).query(SIZE) == 4
    with pytest.raises(LookupError, match="^no such thing$"):
        await cart.query(Cart.breaks)
    with pytest.raises(UsageError, match="has no query 'nothing'; it answers size, find, breaks"):
        await cart.query("nothing")
    with pytest.raises(UsageError, match=r"is no query: give the name of one, as text or typed, or a @query"):
        await cart.query(cast("Any", Cart.add))
    with pytest.raises(DefinitionError, match="has no code here that could answer a query"):
        await client.handle(workflow_by_kind("Cart"), cart.id).query("size")
    with pytest.raises(UsageError, match=r"is of kind 'Cart', and its handle was made with <workflow 'place'"):
        await client.handle(place, cart.id).query("size")


async def test_a_query_of_what_has_not_begun_fails(client: Client) -> None:
    cart = await client.options(queue="nobody").start(Cart)
    with pytest.raises(QueryFailed, match="it has not begun") as caught:
        await cart.query(Cart.size)
    assert (caught.value.workflow_id, caught.value.name) == (cart.id, "size")


async def test_the_server_answers_from_recorded_state(client: Client) -> None:
    handle = await client.start(listens, 2)
    await handle.signal(NOTE, "a")
    await reached(handle, "STATE_SET")
    assert await handle.query_server(Query[list[str]]("seen")) == ["a"]
    assert await handle.query_server("state") == {"seen": ["a"]}
    with pytest.raises(QueryFailed) as caught:
        await handle.query_server("other")
    assert (caught.value.workflow_id, caught.value.name) == (handle.id, "other")


# --- promises -------------------------------------------------------------------------------


async def test_promises_are_settled_by_name_id_and_key(client: Client) -> None:
    by_name = await client.start(approve, "name")
    await by_name.resolve(APPROVAL, True)
    assert await by_name.result() == "name: True"
    by_text = await client.start(approve, "text")
    await by_text.resolve("approval", False)
    assert await by_text.result() == "text: False"
    key = f"a key/with ünicode {uuid4()}"
    by_key = await client.start(approve, "key", keyed=key)
    await reached(by_key, "PROMISE_CREATED")
    await client.resolve(APPROVAL, None, key=key)
    await client.resolve(APPROVAL, True, key=key)  # the first one counts
    assert await by_key.result() == "key: None"
    by_id = await client.start(approve, "id")
    await reached(by_id, "PROMISE_CREATED")
    created = next(event.data for event in await by_id.history() if event.type == "PROMISE_CREATED")
    await client.resolve(APPROVAL, True, id=created["promiseId"])
    assert await by_id.result() == "id: True"


async def test_promises_are_rejected_with_texts_and_with_exceptions(client: Client) -> None:
    by_name = await client.start(approve, "x")
    await by_name.reject(APPROVAL, Refused("not today"))
    assert await by_name.result() == "PromiseRejected Refused Refused: not today"
    key = str(uuid4())
    by_key = await client.start(approve, "x", keyed=key)
    await reached(by_key, "PROMISE_CREATED")
    await client.reject(APPROVAL, "no", key=key)
    assert await by_key.result() == "PromiseRejected None no"
    by_id = await client.start(approve, "x")
    await reached(by_id, "PROMISE_CREATED")
    created = next(event.data for event in await by_id.history() if event.type == "PROMISE_CREATED")
    await client.reject(APPROVAL, Refused("never"), id=created["promiseId"])
    assert await by_id.result() == "PromiseRejected Refused Refused: never"


async def test_a_promise_that_was_never_made_is_not_found(client: Client) -> None:
    handle = await client.start(place, "tea")
    with anyio.fail_after(10), pytest.raises(NotFound, match="has ended, and has made no promise 'approval'"):
        await handle.resolve(APPROVAL, True)
    with pytest.raises(NotFound):
        await client.resolve(APPROVAL, True, key=str(uuid4()))
    with pytest.raises(NotFound):
        await client.reject(APPROVAL, "no", id=str(uuid4()))
    with pytest.raises(UsageError, match="by its id or by its key, and neither is given"):
        await client.resolve(APPROVAL, True)
    with pytest.raises(UsageError, match="by its id or by its key, and both are given"):
        await client.reject(APPROVAL, "no", id="i", key="k")


# --- cancelling and retrying ----------------------------------------------------------------


async def test_cancel_tells_the_reason_and_lets_it_clean_up(client: Client) -> None:
    handle = await client.start(cleans_up)
    await reached(handle, "WORKFLOW_SUSPENDED")
    await handle.cancel("too late")
    with pytest.raises(WorkflowCancelled) as caught:
        await handle.result()
    assert (caught.value.reason, caught.value.workflow_id) == ("too late", handle.id)
    shown = await handle.describe()
    assert (shown.status, shown.cancel_reason, shown.cancellation_requested) == ("CANCELLED", "too late", True)
    outputs = [event.data["output"] for event in await handle.history() if event.type == "TASK_COMPLETED"]
    assert outputs == [{"order": "too late", "total": 8}]
    with pytest.raises(FailedPrecondition):
        await handle.cancel()


async def test_retry_goes_on_from_the_failure(client: Client) -> None:
    handle = await client.start(fails, "tea")
    with pytest.raises(WorkflowFailed):
        await handle.result()
    BROKEN[:] = [False]
    retried = await handle.retry("mended")
    with anyio.fail_after(10):
        assert await retried.result() == "tea"
        assert await handle.result() == "tea"
        assert [event.type async for event in retried.follow()][-1] == "WORKFLOW_COMPLETED"
    shown = await retried.describe()
    assert [(retry.note, retry.after) for retry in shown.retries] == [
        ("mended", next(e.sequence for e in await handle.history() if e.type == "WORKFLOW_EXECUTION_FAILED"))
    ]
    with pytest.raises(FailedPrecondition):
        await retried.retry()


# --- tasks that stand alone -----------------------------------------------------------------


async def ended(submitted: SubmittedTask[Any]) -> str:
    with anyio.fail_after(10):
        while (shown := await submitted.describe()).status in ("PENDING", "RUNNING"):
            await anyio.sleep(0.005)
        return shown.status


async def test_a_task_is_submitted_and_its_result_is_typed(client: Client) -> None:
    submitted = await client.submit(price, "tea")
    assert await submitted.result() == Receipt("tea", 3)
    assert (submitted.kind, repr(submitted)) == ("price", f"<SubmittedTask price {submitted.id}>")
    assert await client.task_handle(price, submitted.id).result() == Receipt("tea", 3)
    shown = await submitted.describe()
    assert (shown.id, shown.status, shown.input, shown.output) == (submitted.id, "COMPLETED", "tea", Receipt("tea", 3))
    assert (shown.queue, shown.max_retries, shown.attempts, shown.error) == ("default", 3, 1, None)
    (attempt,) = await listed(submitted.attempts())
    assert (attempt.number, attempt.status, attempt.error) == (1, "COMPLETED", None)
    assert attempt.finished_at >= attempt.started_at
    foreign = await client.submit(task_by_kind("price", result=Receipt), "milk")
    assert await foreign.result() == Receipt("milk", 4)


async def test_a_task_that_fails_keeps_its_cause(client: Client) -> None:
    submitted = await client.submit(flaky, "no tea")
    with pytest.raises(TaskFailed, match="^ValueError: no tea$") as caught:
        await submitted.result()
    failed, cause = caught.value, caught.value.__cause__
    assert (failed.task_id, failed.kind, failed.error_type) == (submitted.id, "flaky", "ValueError")
    assert failed.attempts == 2
    assert isinstance(cause, RemoteError)
    assert repr(cause.__cause__) == "RemoteError(\"'root'\", type='KeyError')"
    assert failed.traceback is not None
    shown = await submitted.describe()
    assert (shown.status, shown.error, shown.output) == ("FAILED", "ValueError: no tea", None)
    assert [attempt.error for attempt in await listed(submitted.attempts())] == ["ValueError: no tea"]


async def test_a_task_is_cancelled_also_while_it_runs(client: Client) -> None:
    waiting = await client.submit(endless.options(queue="nobody"))
    running = await client.submit(endless)
    with anyio.fail_after(10):
        while (await running.describe()).status != "RUNNING":
            await anyio.sleep(0.005)
    for submitted in (waiting, running):
        await submitted.cancel()
        await submitted.cancel()
        with pytest.raises(TaskCancelled) as caught:
            await submitted.result()
        assert (caught.value.task_id, caught.value.kind) == (submitted.id, "endless")
    done = await client.submit(price, "tea")
    await done.result()
    with pytest.raises(FailedPrecondition):
        await done.cancel()


async def test_a_task_that_is_too_late_has_timed_out(client: Client) -> None:
    submitted = await client.submit(endless.options(queue="nobody", schedule_to_close=0.05))
    with anyio.fail_after(10), pytest.raises(TaskTimeout) as caught:
        await submitted.result()
    assert caught.value.task_id == submitted.id


async def test_every_option_of_a_submission_arrives(client: Client) -> None:
    at = datetime.now(UTC).replace(microsecond=0) + timedelta(days=2)
    key = str(uuid4())
    later = client.submit_options(queue="nobody", scheduled_at=at, metadata={"a": "b"})
    keyed = price.options(idempotency_key=key, idempotency_key_ttl=60, schedule_to_close=timedelta(days=3))
    submitted = await later.submit(keyed, "tea")
    shown = await submitted.describe()
    assert (shown.queue, shown.scheduled_at, shown.metadata, shown.status) == ("nobody", at, {"a": "b"}, "PENDING")
    assert shown.deadline_at is not None
    assert shown.deadline_at - shown.created_at == timedelta(days=3)
    assert (await later.submit(keyed, "tea")).id == submitted.id
    now = client.submit_options(queue="nobody", metadata={"c": "d"})
    key = str(uuid4())
    keyed = price.options(idempotency_key=key, idempotency_key_ttl=60, schedule_to_close=60)
    submitted = await now.submit(keyed, "tea")
    assert (await now.submit(keyed, "milk")).id == submitted.id
    shown = await submitted.describe()
    assert (shown.queue, shown.metadata, shown.input) == ("nobody", {"c": "d"}, "tea")
    own = await now.submit(flaky.options(queue="somewhere"), "x")
    shown_own = await own.describe()
    assert (shown_own.queue, shown_own.max_retries) == ("somewhere", 0)


async def test_tasks_are_listed_and_their_logs_read(client: Client) -> None:
    submitted = await client.submit(price, "tea")
    await submitted.result()
    found = [each async for each in client.tasks(kind="price", status="COMPLETED", queue="default")]
    assert found[0].id == submitted.id
    for number in range(3):
        log = pb.LogMessageRequest(submitted.id, "INFO", f"line {number}")
        await client.transport.unary(methods.LOG_MESSAGE, log)
    lines = await listed(submitted.logs())
    assert [(line.number, line.level, line.message) for line in lines] == [
        (1, "INFO", "line 0"),
        (2, "INFO", "line 1"),
        (3, "INFO", "line 2"),
    ]


async def test_options_that_mean_nothing_outside_a_workflow_are_refused(client: Client) -> None:
    for options in (price.options(priority=1), price.options(on_cancel="wait")):
        with pytest.raises(UsageError, match="^task 'price' has priority or on_cancel among its options"):
            await client.submit(options, "tea")
    with pytest.raises(ConfigurationError, match="has no time zone"):
        client.submit_options(scheduled_at=datetime(2030, 1, 1))
    with pytest.raises(ConfigurationError, match="metadata is a mapping of texts to texts; 'a': 1 is not"):
        client.submit_options(metadata={"a": 1})  # type: ignore[dict-item]  # pyright: ignore[reportArgumentType]


# --- who may --------------------------------------------------------------------------------


async def test_without_a_url_for_rest_what_needs_it_says_so(world: World) -> None:
    async with connected(world.server, http_url=None) as client:
        handle = await client.start(place, "tea")
        assert await handle.result() == Receipt("tea", 3)
        for what, call in (
            ("describing a workflow", handle.describe),
            ("cancelling a workflow", handle.cancel),
            ("listing workflows", lambda: anext(client.workflows())),
            ("waiting for a task", client.task_handle(price, "id").result),
            ("resolving promise 'approval' by its key", lambda: client.resolve(APPROVAL, True, key="k")),
        ):
            with pytest.raises(ConfigurationError) as caught:
                await call()
            assert str(caught.value) == (
                f"{what} goes over REST, and this client does not know where that is: pass http_url=... to connect, "
                "or set FLOVYN_HTTP_URL"
            )


async def test_a_key_that_is_not_good_for_rest(world: World) -> None:
    async with connected(world.server, api_key=None) as client:
        with pytest.raises(flovyn.Unauthenticated, match="this client has no api_key: pass api_key=... to connect"):
            await anext(client.workflows())
    async with connected(world.server, api_key=world.server.token) as client:
        with pytest.raises(PermissionDenied):
            await anext(client.workflows())
    async with connected(world.server, api_key="wrong") as client:
        with pytest.raises(flovyn.Unauthenticated):
            await anext(client.workflows())
    async with connected(world.server, org_slug="other") as client:
        with pytest.raises(PermissionDenied):
            await anext(client.workflows())
    async with connected(world.server, org_slug=world.server.org_slug) as client:
        assert [each async for each in client.workflows(queue="no such queue")] == []
        with pytest.raises(InvalidArgument):
            await anext(client.workflows(status="STRANGE"))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
