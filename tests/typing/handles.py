"""Handles, signals, queries, promises and submitted tasks, and what type checkers make of them; see test_typing.py."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, assert_type

from definitions import Cart, Order, Page, Simple, charge, nothing, place
from tasks import Resize, shrink

import flovyn
import flovyn.blocking
from flovyn import (
    Client,
    HistoryEvent,
    OAuth2,
    Promise,
    Query,
    SignalledStart,
    Signal,
    SubmittedTask,
    TaskAttempt,
    TaskDescription,
    TaskLogLine,
    TaskSummary,
    WorkflowDescription,
    WorkflowHandle,
    WorkflowSummary,
    task_by_kind,
)

APPROVAL = Promise[bool | None]("approval")
NOTE = Signal[list[str]]("note")
COUNT = Query[int]("count")


async def looking(client: Client, handle: WorkflowHandle[list[str]]) -> None:
    assert_type(await handle.result(), list[str])
    assert_type(await handle.describe(), WorkflowDescription[list[str]])
    assert_type((await handle.describe()).output, list[str] | None)
    assert_type((await handle.describe()).status == "COMPLETED", bool)
    assert_type(await handle.history(), list[HistoryEvent])
    assert_type(handle.follow(after=3), AsyncIterator[HistoryEvent])
    assert_type(handle.children(), AsyncIterator[WorkflowSummary])
    assert_type(client.workflows(status="FAILED", kind=place.kind), AsyncIterator[WorkflowSummary])
    assert_type(await handle.retry("mended"), WorkflowHandle[list[str]])
    await handle.result(timeout=3)  # E: mypy[call-arg] pyright[reportCallIssue]
    client.workflows(status="DONE")  # E: mypy[arg-type] pyright[reportArgumentType]
    narrow: WorkflowHandle[str] = handle  # E: mypy[assignment] pyright[reportAssignmentType]
    print(narrow)


async def executing(client: Client, order: Order) -> None:
    assert_type(await client.execute(place, order), list[Page[Order]])
    assert_type(await client.options(queue="q", priority=3, version="2").execute(Cart, 3, fast=True), list[str])
    assert_type(await client.options(idempotency_key="k", idempotency_key_ttl=60).execute(Simple), None)
    await client.execute(place)  # E: mypy[call-arg] pyright[reportCallIssue]
    client.options(idempotency_key=3)  # E: mypy[arg-type] pyright[reportArgumentType]
    client.options(metadata={"a": 1})  # E: mypy[dict-item] pyright[reportArgumentType]


async def signalling(client: Client, handle: WorkflowHandle[Any]) -> None:
    assert_type(await handle.signal(NOTE, ["a"]), int)
    assert_type(await handle.signal(Cart.add, "tea"), int)
    assert_type(await handle.signal(Cart.add, item="tea"), int)
    assert_type(await handle.signal("note", {"any": "thing"}), int)
    await handle.signal("note")
    await handle.signal(NOTE, "a")  # E: mypy[misc] pyright[reportArgumentType,reportCallIssue]
    await handle.signal(Cart.add, 3)  # E: mypy[call-overload] pyright[reportArgumentType,reportCallIssue]
    await handle.signal(Cart.add)  # E: mypy[call-overload] pyright[reportCallIssue]
    await handle.signal(Cart.count)  # E: mypy[call-overload] pyright[reportArgumentType,reportCallIssue]
    keyed = client.options(idempotency_key="k")
    started = await keyed.with_signal(Cart.add, "tea").start(Cart, 3)
    assert_type(started, SignalledStart[list[str]])
    assert_type(started.handle, WorkflowHandle[list[str]])
    assert_type(started.created, bool)
    await keyed.with_signal(NOTE, ["a"]).start(Simple)
    keyed.with_signal(NOTE, 3)  # E: mypy[misc] pyright[reportArgumentType,reportCallIssue]
    await keyed.with_signal("note", 3).start(Cart)  # E: mypy[call-arg] pyright[reportCallIssue]


async def asking(handle: WorkflowHandle[Any]) -> None:
    assert_type(await handle.query(COUNT), int)
    assert_type(await handle.query(Cart.count), int)
    assert_type(await handle.query("count", 3, by="name"), Any)
    assert_type(await handle.query_server(COUNT), int)
    await handle.query(Cart.count, 3)  # E: mypy[call-overload] pyright[reportCallIssue]
    await handle.query(3)  # E: mypy[call-overload] pyright[reportArgumentType,reportCallIssue]


async def settling(client: Client, handle: WorkflowHandle[Any]) -> None:
    await handle.resolve(APPROVAL, True)
    await handle.resolve(APPROVAL, None)
    await handle.resolve("approval", {"any": "thing"})
    await handle.reject(APPROVAL, ValueError("no"))
    await handle.reject("approval", "no")
    await client.resolve(APPROVAL, True, key="k")
    await client.resolve(Promise[int]("n"), 3, id="i")
    await client.reject(APPROVAL, "no", id="i")
    await handle.resolve(APPROVAL, "yes")  # E: mypy[misc] pyright[reportArgumentType,reportCallIssue]
    await handle.resolve(APPROVAL)  # E: mypy[call-overload] pyright[reportArgumentType]
    await client.resolve(APPROVAL, "yes", key="k")  # E: mypy[misc] pyright[reportArgumentType]
    await client.resolve("approval", True, key="k")  # E: mypy[arg-type] pyright[reportArgumentType]
    await handle.reject(APPROVAL, 3)  # E: mypy[arg-type] pyright[reportArgumentType]
    await handle.resolve(NOTE, ["a"])  # E: mypy[call-overload] pyright[reportArgumentType,reportCallIssue]


async def submitting(client: Client, order: Order) -> None:
    submitted = await client.submit(charge, order, currency="USD")
    assert_type(submitted, SubmittedTask[Page[dict[str, Order]]])
    assert_type(await submitted.result(), Page[dict[str, Order]])
    assert_type(await submitted.describe(), TaskDescription[Page[dict[str, Order]]])
    assert_type(submitted.attempts(), AsyncIterator[TaskAttempt])
    assert_type(submitted.logs(), AsyncIterator[TaskLogLine])
    assert_type(client.tasks(status="FAILED"), AsyncIterator[TaskSummary])
    assert_type(await client.submit(shrink, order), SubmittedTask[Page[Order]])
    assert_type(await client.submit(Resize, order, width=3), SubmittedTask[Page[Order]])
    assert_type(await client.submit(task_by_kind("k", result=int), 3), SubmittedTask[int])
    assert_type(client.task_handle(nothing, "id"), SubmittedTask[None])
    later = client.submit_options(scheduled_at=datetime.now(UTC) + timedelta(days=1), queue="q")
    assert_type(await later.submit(nothing), SubmittedTask[None])
    await client.submit(charge)  # E: mypy[call-arg] pyright[reportCallIssue]
    await client.submit(charge, "o")  # E: mypy[arg-type] pyright[reportArgumentType]
    await client.submit(place, order)  # E: mypy[arg-type] pyright[reportArgumentType,reportCallIssue]
    client.submit_options(scheduled_at="now")  # E: mypy[arg-type] pyright[reportArgumentType]


async def connecting() -> None:
    oauth2 = OAuth2(token_url="https://id/token", client_id="c", client_secret="s", scopes=("a",))
    async with flovyn.connect(oauth2=oauth2, http_url="http://api", profile="staging") as client:
        assert_type(client, Client)
    flovyn.connect(oauth2="secret")  # E: mypy[arg-type] pyright[reportArgumentType]
    OAuth2("https://id/token", "c", "s")  # E: mypy[call-arg] pyright[reportCallIssue]


def blocking(order: Order) -> None:
    """The same for threads."""
    with flovyn.blocking.connect("http://localhost", org_id="o", backend="trio") as client:
        assert_type(client, flovyn.blocking.Client)
        handle = client.start(place, order)
        assert_type(handle, flovyn.blocking.WorkflowHandle[list[Page[Order]]])
        assert_type(handle.result(), list[Page[Order]])
        assert_type(handle.describe(), WorkflowDescription[list[Page[Order]]])
        assert_type(handle.follow(), Iterator[HistoryEvent])
        assert_type(handle.signal(Cart.add, "tea"), int)
        assert_type(handle.query(Cart.count), int)
        assert_type(client.execute(Cart, 3), list[str])
        assert_type(client.submit(charge, order), flovyn.blocking.SubmittedTask[Page[dict[str, Order]]])
        assert_type(client.submit(charge, order).result(), Page[dict[str, Order]])
        started = client.options(idempotency_key="k").with_signal(NOTE, ["a"]).start(Cart, 3)
        assert_type(started.handle, flovyn.blocking.WorkflowHandle[list[str]])
        handle.resolve(APPROVAL, True)
        client.resolve(APPROVAL, None, key="k")
        client.start(place)  # E: mypy[call-arg] pyright[reportCallIssue]
        handle.signal(Cart.add, 3)  # E: mypy[call-overload] pyright[reportArgumentType,reportCallIssue]
        handle.resolve(APPROVAL, "yes")  # E: mypy[misc] pyright[reportArgumentType,reportCallIssue]
    flovyn.blocking.connect(org="o")  # E: mypy[call-arg] pyright[reportCallIssue]
    flovyn.blocking.connect(backend="curio")  # E: mypy[arg-type] pyright[reportArgumentType]
