"""Payloads that nobody on the way can read, over REST: with all that a client can ask there, and all it is told."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import anyio
import pytest

from flovyn import (
    Client,
    CodecError,
    NonRetryableError,
    Promise,
    TaskContext,
    TaskFailed,
    WorkflowCancelled,
    WorkflowContext,
    WorkflowFailed,
    task,
    workflow,
)
from flovyn.client import ConnectOptions, connect
from flovyn.definitions import AnyWorkflow
from flovyn.serde.codecs import AesGcmCodec, PayloadCodec, ZlibCodec
from flovyn.server import serve
from system.tapping import CANARY, FORMS, KEYS, tapped

pytestmark = pytest.mark.anyio

APPROVAL = Promise[str]("approval")
WORDS = f"{CANARY} and more words"


class Declined(NonRetryableError): ...


@task
async def works(ctx: TaskContext, secret: str) -> str:
    ctx.log("INFO", f"read {secret}")
    ctx.report_progress(0.5, f"half of {secret}")
    return secret


@task
async def refuses(ctx: TaskContext, secret: str) -> None:
    raise Declined(secret) from LookupError(secret)


@workflow
async def family(ctx: WorkflowContext, secret: str) -> str:
    return await ctx.schedule_workflow(child, secret)


@workflow
async def child(ctx: WorkflowContext, secret: str) -> str:
    return secret


@workflow
async def asks(ctx: WorkflowContext, key: str) -> str:
    return await ctx.create_promise(APPROVAL, idempotency_key=key)


BROKEN = [True]


@workflow
async def fails(ctx: WorkflowContext, secret: str) -> str:
    if BROKEN[0]:
        raise ValueError(secret)
    return secret


WORKFLOWS: list[AnyWorkflow[..., Any]] = [family, child, asks, fails]


async def say_everything(client: Client) -> None:
    """Everything that goes over REST, with a secret wherever there is room for one."""
    handle = await client.start(family, WORDS)
    assert await handle.result() == WORDS
    shown = await handle.describe()
    assert (shown.input, shown.output) == (WORDS, WORDS)
    assert [each.kind async for each in handle.children()] == ["child"]

    BROKEN[:] = [True]
    failing = await client.start(fails, WORDS)
    with pytest.raises(WorkflowFailed, match=CANARY):
        await failing.result()
    described = await failing.describe()
    assert described.error == f"ValueError: {WORDS}"
    BROKEN[:] = [False]
    assert await (await failing.retry(f"mended {WORDS}")).result() == WORDS
    described = await failing.describe()
    assert [retry.note for retry in described.retries] == [f"mended {WORDS}"]

    for settle in ("resolve", "reject", "cancel"):
        key = str(uuid4())
        asking = await client.start(asks, key)
        async for event in asking.follow():
            if event.type == "PROMISE_CREATED":
                break
        if settle == "resolve":
            await client.resolve(APPROVAL, WORDS, key=key)
            assert await asking.result() == WORDS
        elif settle == "reject":
            await client.reject(APPROVAL, LookupError(WORDS), key=key)
            with pytest.raises(WorkflowFailed, match=CANARY):
                await asking.result()
        else:
            await asking.cancel(WORDS)
            with pytest.raises(WorkflowCancelled, match=CANARY):
                await asking.result()
            assert (await asking.describe()).cancel_reason == WORDS
    reasons = [each.cancel_reason async for each in client.workflows(status="CANCELLED")]
    assert reasons == [WORDS]
    await say_everything_of_tasks(client)


async def say_everything_of_tasks(client: Client) -> None:
    submitted = await client.submit(works, WORDS)
    later = await client.submit_options(scheduled_at=datetime.now(UTC)).submit(works, WORDS)
    for one in (submitted, later):
        assert await one.result() == WORDS
        shown = await one.describe()
        assert (shown.input, shown.output) == (WORDS, WORDS)
        with anyio.fail_after(5):
            while not [line async for line in one.logs()] or (await one.describe()).progress_details is None:
                await anyio.sleep(0.005)
        assert [line.message async for line in one.logs()] == [f"read {WORDS}"]
        assert (await one.describe()).progress_details == f"half of {WORDS}"
    refused = await client.submit(refuses, WORDS)
    with pytest.raises(TaskFailed, match=CANARY) as caught:
        await refused.result()
    assert caught.value.__cause__ is not None
    assert repr(caught.value.__cause__.__cause__) == f"RemoteError({WORDS!r}, type='LookupError')"
    assert [attempt.error async for attempt in refused.attempts()] == [f"Declined: {WORDS}"]
    assert (await refused.describe()).error == f"Declined: {WORDS}"
    assert [each.error async for each in client.tasks(status="FAILED")] == [f"Declined: {WORDS}"]


def spoken(heard: list[tuple[str, bytes]]) -> dict[str, bool]:
    """What was asked over REST, without ids; and whether the secret showed, in whatever form."""
    found: dict[str, bool] = {}
    for name, data in heard:
        if " " in name:
            parts = name.split("/")
            what = "/".join(part for part in parts if "-" not in part or part.endswith("executions"))
            found[what] = found.get(what, False) or any(form in data for form in FORMS)
    return found


REQUESTS = {
    "GET workflow-executions",
    "GET workflow-executions/children",
    "GET task-executions",
    "GET task-executions/attempts",
    "GET task-executions/logs",
    "POST task-executions",
    "POST workflow-executions/cancel",
    "POST workflow-executions/retry",
    "POST promises/resolve",
    "POST promises/reject",
}


async def test_no_plaintext_goes_over_rest_or_stays_in_the_servers_file(tmp_path: Path) -> None:
    codecs: list[PayloadCodec] = [ZlibCodec(), AesGcmCodec(KEYS, current="new")]
    with anyio.fail_after(20):
        async with serve(db=str(tmp_path / "flovyn.db"), http_port=0) as server:
            async with tapped(server, codecs, workflows=WORKFLOWS, tasks=[works, refuses]) as (client, tap):
                await say_everything(client)
    assert spoken(tap.heard) == dict.fromkeys(REQUESTS, False)
    assert {name for name, data in tap.heard if any(form in data for form in FORMS)} == set()
    assert stored_forms(tmp_path) == []


def stored_forms(directory: Path) -> list[bytes]:
    """In which forms the secret stands in the files of a server."""
    data = b"".join(file.read_bytes() for file in directory.iterdir())
    assert b"WORKFLOW_STARTED" in data
    return [form for form in FORMS if form in data]


async def test_the_same_without_codecs_does_show() -> None:
    """That the test above can fail."""
    with anyio.fail_after(20):
        async with serve(http_port=0) as server:
            async with tapped(server, [], workflows=WORKFLOWS, tasks=[works, refuses]) as (client, tap):
                await say_everything(client)
    shown = spoken(tap.heard)
    # Children are listed without payloads, and none of theirs was cancelled.
    assert shown == {name: name != "GET workflow-executions/children" for name in REQUESTS}


async def test_who_has_no_codec_is_told_so() -> None:
    codecs: list[PayloadCodec] = [AesGcmCodec(KEYS, current="new")]
    with anyio.fail_after(20):
        async with serve(http_port=0) as server:
            options: ConnectOptions = {
                "org_id": server.org_id,
                "token": server.token,
                "http_url": server.http_url,
                "api_key": server.api_key,
            }
            async with (
                tapped(server, codecs, workflows=WORKFLOWS, tasks=[works, refuses]) as (client, _),
                connect(server.url, **options) as stranger,
            ):
                submitted = await client.submit(works, WORDS)
                await submitted.result()
                handle = await client.start(child, WORDS)
                await handle.result()
                calls: list[Callable[[], Awaitable[Any]]] = [
                    stranger.task_handle(works, submitted.id).result,
                    stranger.task_handle(works, submitted.id).describe,
                    stranger.handle(child, handle.id).describe,
                ]
                for call in calls:
                    with pytest.raises(CodecError, match="by the codec 'aes-gcm', key 'new', which is not here"):
                        await call()
