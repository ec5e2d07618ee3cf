"""What becomes of REST's answers, the odd ones among them: without a network, by script."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import httpx2
import pytest

from client.rest_double import AT_ONCE, RestDouble, refusal, reply, task_shown, workflow_shown
from flovyn.client import Client
from flovyn.client.http import Http, checked_url
from flovyn.definitions import Promise, RetryPolicy, task, task_by_kind, workflow_by_kind
from flovyn.errors import (
    AlreadyExists,
    ConfigurationError,
    ConnectionLost,
    DeadlineExceeded,
    FailedPrecondition,
    FlovynError,
    InvalidArgument,
    MalformedMessage,
    NotFound,
    PayloadError,
    PermissionDenied,
    ResourceExhausted,
    ServerError,
    ServerUnavailable,
    TaskCancelled,
    TaskFailed,
    TaskTimeout,
    Unauthenticated,
    Unimplemented,
    UsageError,
)
from flovyn.serde.envelope import format_error

pytestmark = pytest.mark.anyio

PLACE = workflow_by_kind("place", result=int)
CHARGE = task_by_kind("charge", result=int)
APPROVAL = Promise[bool]("approval")


@task(retry=AT_ONCE)
async def retried(ctx: Any) -> None: ...


@asynccontextmanager
async def serving(*answers: Any, **options: Any) -> AsyncGenerator[tuple[RestDouble, Client]]:
    double = RestDouble(*answers)
    with anyio.fail_after(10):
        async with double.client(**options) as client:
            yield double, client


# --- requests -------------------------------------------------------------------------------


async def test_requests_say_what_they_should() -> None:
    async with serving(reply(workflow_shown()), reply({"workflows": []}), reply({}), org="ac/me") as (double, client):
        handle = client.handle(PLACE, "w/1")
        await handle.describe()
        assert [each async for each in client.workflows(kind="a b", status="FAILED")] == []
        await handle.cancel("too late")
    paths = [(request.method, str(request.url)) for request in double.requests]
    assert paths == [
        ("GET", "http://api/api/orgs/ac%2Fme/workflow-executions/w%2F1"),
        ("GET", "http://api/api/orgs/ac%2Fme/workflow-executions?status=FAILED&kind=a+b&limit=100&offset=0"),
        ("POST", "http://api/api/orgs/ac%2Fme/workflow-executions/w%2F1/cancel"),
    ]
    assert double.keys == ["Bearer key"] * 3
    cancel = double.requests[-1]
    assert (json.loads(cancel.content), cancel.headers["content-type"]) == ({"reason": "too late"}, "application/json")


async def test_a_task_for_later_is_submitted_over_rest() -> None:
    at = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
    async with serving(reply({"id": "t-1"}, 201)) as (double, client):
        later = client.submit_options(scheduled_at=at, metadata={"a": "b"})
        keyed = CHARGE.options(
            queue="gpu",
            schedule_to_close=timedelta(seconds=1.0005),
            idempotency_key="k",
            idempotency_key_ttl=timedelta(seconds=1.5),
        )
        assert (await later.submit(keyed, {"n": 2**70})).id == "t-1"
        assert (await later.submit(retried)).id == "t-1"
    assert [json.loads(request.content) for request in double.requests] == [
        {
            "kind": "charge",
            "input": {"n": 2**70},
            "queue": "gpu",
            "scheduledAt": "2030-01-02T03:04:05Z",
            "metadata": {"a": "b"},
            "timeoutMs": 1001,
            "idempotencyKey": "k",
            "idempotencyKeyTTL": "2s",
        },
        {
            "kind": "retried",
            "input": None,
            "queue": "default",
            "scheduledAt": "2030-01-02T03:04:05Z",
            "metadata": {"a": "b"},
            "maxRetries": 0,
        },
    ]


async def test_settling_a_promise_by_its_key() -> None:
    async with serving(reply({})) as (double, client):
        await client.resolve(APPROVAL, True, key="a/b c")
        await client.reject(APPROVAL, "no", key="k")
        await client.reject(APPROVAL, ValueError("no"), key="k")
    assert [str(request.url) for request in double.requests[:2]] == [
        "http://api/api/orgs/acme/promises/key:a%2Fb%20c/resolve",
        "http://api/api/orgs/acme/promises/key:k/reject",
    ]
    bodies = [json.loads(request.content) for request in double.requests]
    assert bodies[:2] == [{"value": True}, {"error": "no"}]
    assert bodies[2] == {"error": format_error(ValueError("no"))}


# --- answers --------------------------------------------------------------------------------


async def test_a_server_that_tells_the_least() -> None:
    bare = {"id": "wf-1", "workflowKind": "place", "status": "PENDING", "createdAt": "2026-01-02T03:04:05Z"}
    async with serving(reply(bare), reply(task_shown())) as (_, client):
        shown = await client.handle(PLACE, "wf-1").describe()
        told = await client.task_handle(CHARGE, "t-1").describe()
    assert (shown.kind, shown.queue, shown.version, shown.priority, shown.metadata) == ("place", None, None, 0, {})
    assert (shown.sequence, shown.updated_at, shown.input, shown.output) == (None, None, None, None)
    assert shown.created_at == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert (told.queue, told.attempts, told.progress, told.max_retries, told.output) == (None, 0, None, None, None)


async def test_a_server_that_tells_more_than_we_know() -> None:
    async with serving(reply(workflow_shown(status="COMPLETED", output=7, tomorrow=[1]))) as (_, client):
        shown = await client.handle(PLACE, "wf-1").describe()
        assert (shown.status, shown.output) == ("COMPLETED", 7)


async def test_an_output_that_does_not_fit_is_told_where_it_is_read() -> None:
    async with serving(reply(workflow_shown(status="COMPLETED", output="seven"))) as (_, client):
        shown = await client.handle(PLACE, "wf-1").describe()
        assert shown.status == "COMPLETED"
        with pytest.raises(PayloadError):
            _ = shown.output


async def test_progress_and_errors_are_told() -> None:
    text = format_error(ValueError("no card"), retryable=False)
    shown = task_shown(progress=0.5, progressDetails="half", error=text, status="FAILED", executionCount=2)
    async with serving(reply(shown)) as (_, client):
        told = await client.task_handle(CHARGE, "t-1").describe()
    assert (told.progress, told.progress_details, told.error) == (0.5, "half", "ValueError: no card")


@pytest.mark.parametrize(
    ("status", "text", "error"),
    [
        (400, "n is not a number", InvalidArgument),
        (401, "who are you?", Unauthenticated),
        (403, "not you", PermissionDenied),
        (404, "no such workflow", NotFound),
        (405, "not like that", Unimplemented),
        (408, "too slow", DeadlineExceeded),
        (409, "it has ended", FailedPrecondition),
        (413, "too large", ResourceExhausted),
        (415, "not in XML", InvalidArgument),
        (422, "kind is missing", InvalidArgument),
        (429, "not so fast", ServerUnavailable),
        (501, "not yet", Unimplemented),
        (503, "not now", ServerUnavailable),
    ],
)
async def test_refusals_are_flovyns_errors(status: int, text: str, error: type[FlovynError]) -> None:
    async with serving(refusal(status, text)) as (_, client):
        with pytest.raises(error) as caught:
            await client.handle(PLACE, "wf-1").cancel()
    assert type(caught.value) is error
    assert caught.value.message == f"cancelling a workflow: {text}"


async def test_refusals_without_a_name_of_their_own() -> None:
    async with serving(refusal(500, "broken"), refusal(418, "a teapot"), refusal(504, "who knows")) as (_, client):
        handle = client.handle(PLACE, "wf-1")
        with pytest.raises(ServerError, match="^cancelling a workflow: broken$") as caught:
            await handle.cancel()
        assert caught.value.status == "INTERNAL"
        with pytest.raises(ServerError, match="^cancelling a workflow: a teapot$") as caught:
            await handle.cancel()
        assert caught.value.status == "UNKNOWN"
        with pytest.raises(ConnectionLost, match="who knows; the call may have taken effect$"):
            await handle.cancel()


async def test_a_key_that_stands_for_something_else() -> None:
    async with serving(refusal(409, "the key is taken")) as (_, client):
        later = client.submit_options(scheduled_at=datetime(2030, 1, 1, tzinfo=UTC))
        with pytest.raises(AlreadyExists, match="the key is taken"):
            await later.submit(CHARGE.options(idempotency_key="k"))


@pytest.mark.parametrize(
    ("answer", "error", "text"),
    [
        (httpx2.Response(200, content=b"<html>"), MalformedMessage, "the answer of http://api/api/orgs/acme/workflow-"),
        (reply([]), MalformedMessage, "Expected `object`, got `array`"),
        (reply(workflow_shown(createdAt="yesterday")), MalformedMessage, "Invalid RFC3339 encoded datetime"),
        (httpx2.Response(200, content=b"\xff"), MalformedMessage, "cannot be read"),
        (httpx2.Response(200, content=b"[" * 100_000), MalformedMessage, "cannot be read"),
        (httpx2.Response(204), MalformedMessage, "cannot be read"),
        (reply({k: v for k, v in workflow_shown().items() if k != "kind"}), MalformedMessage, "not tell the kind"),
        (
            httpx2.Response(302, headers={"location": "https://api/login"}),
            MalformedMessage,
            "a redirection to https://api/login: http_url is to be where it leads",
        ),
        (httpx2.Response(404, content=b"nginx"), Unimplemented, "either http_url is wrong, or the server does not"),
        (httpx2.Response(403, content=b"proxy"), PermissionDenied, "answered with HTTP status 403"),
        (httpx2.RemoteProtocolError("illegal status line"), MalformedMessage, "does not speak HTTP"),
        (httpx2.DecodingError("bad gzip"), MalformedMessage, "the answer cannot be read: bad gzip"),
        (httpx2.UnsupportedProtocol("no"), ConnectionLost, "no"),
        (httpx2.InvalidURL("no such label"), ConfigurationError, "this is no address: no such label"),
    ],
)
async def test_what_is_no_answer_of_a_flovyn_server(answer: Any, error: type[FlovynError], text: str) -> None:
    retry = RetryPolicy(max_attempts=1)
    async with serving(answer, retry=retry) as (_, client):
        with pytest.raises(error, match=text.replace("[", r"\[")) as caught:
            await client.handle(PLACE, "wf-1").describe()
    assert type(caught.value) is error


# --- no answer -----------------------------------------------------------------------------

NO_CONNECTION = [httpx2.ConnectError("refused"), httpx2.ConnectTimeout(""), httpx2.ProxyError("no")]
BROKEN = [httpx2.ReadError("broke"), httpx2.WriteTimeout(""), httpx2.RemoteProtocolError("disconnected")]


async def test_no_connection_had_no_effect_and_a_broken_one_may_have_had_one() -> None:
    for failure in NO_CONNECTION:
        async with serving(failure) as (_, client):
            with pytest.raises(ServerUnavailable, match="^POST http://api/.*: cannot connect: .") as caught:
                await client.handle(PLACE, "w").cancel()
            assert caught.value.__cause__ is failure
    for failure in BROKEN:
        async with serving(failure) as (_, client):
            with pytest.raises(ConnectionLost, match="the call may have taken effect$") as caught_lost:
                await client.handle(PLACE, "w").cancel()
            assert caught_lost.value.__cause__ is failure


# --- waiting for a task ---------------------------------------------------------------------


async def test_a_result_is_waited_for_through_an_outage(caplog: pytest.LogCaptureFixture) -> None:
    answers = [
        reply(task_shown(status="PENDING")),
        httpx2.ConnectError("refused"),
        refusal(503, "restarting"),
        reply(task_shown()),
        reply(task_shown(status="COMPLETED", output=7)),
    ]
    async with serving(*answers) as (double, client):
        assert await client.task_handle(CHARGE, "t-1").result() == 7
    assert len(double.requests) == 5
    warnings = [record.message for record in caplog.records if record.name == "flovyn.client"]
    assert len(warnings) == 1
    assert warnings[0].startswith("waiting for task t-1 goes on, though the server is away: GET http://api/api/orgs/")


@pytest.mark.parametrize(
    ("shown", "error", "text"),
    [
        ({"status": "FAILED", "error": "out of stock"}, TaskFailed, "out of stock"),
        ({"status": "FAILED"}, TaskFailed, "Task failed"),
        ({"status": "FAILED", "error": "Task timed out"}, TaskTimeout, "Task timed out"),
        ({"status": "FAILED", "error": "Task cancelled"}, TaskCancelled, "Task cancelled"),
        ({"status": "CANCELLED", "error": "by hand"}, TaskCancelled, "by hand"),
        ({"status": "CANCELLED"}, TaskCancelled, "Task cancelled"),
    ],
)
async def test_how_a_task_ended(shown: dict[str, Any], error: type[FlovynError], text: str) -> None:
    async with serving(reply(task_shown(executionCount=2, **shown))) as (_, client):
        with pytest.raises(error) as caught:
            await client.task_handle(CHARGE, "t-1").result()
    assert (type(caught.value), caught.value.message) == (error, text)
    assert (getattr(caught.value, "task_id", None), getattr(caught.value, "kind", None)) == ("t-1", "charge")
    if isinstance(caught.value, TaskFailed):
        assert caught.value.attempts == 2


async def test_what_the_failing_side_told_of_a_task_is_kept() -> None:
    text = format_error(ValueError("no card"), retryable=False)
    async with serving(reply(task_shown(status="FAILED", error=text))) as (_, client):
        with pytest.raises(TaskFailed) as caught:
            await client.task_handle(CHARGE, "t-1").result()
    assert (caught.value.message, caught.value.error_type, caught.value.retryable, caught.value.attempts) == (
        "ValueError: no card",
        "ValueError",
        False,
        None,
    )
    assert repr(caught.value.__cause__) == "RemoteError('no card', type='ValueError')"


# --- lists ----------------------------------------------------------------------------------


async def test_what_moves_to_the_next_page_is_given_once() -> None:
    def page(*numbers: int) -> httpx2.Response:
        return reply({"workflows": [workflow_shown(id=f"wf-{number}") for number in numbers]})

    first, second = page(*range(100)), page(99, *range(100, 199))
    async with serving(first, second, page(199)) as (double, client):
        found = [each.id async for each in client.workflows()]
    assert found == [f"wf-{number}" for number in range(200)]
    assert [request.url.params["offset"] for request in double.requests] == ["0", "100", "200"]


async def test_nothing_is_read_that_nobody_asks_for() -> None:
    async with serving(reply({"workflows": [workflow_shown()] * 100})) as (double, client):
        entries = client.workflows()
        assert double.requests == []
        await anext(entries)
    assert len(double.requests) == 1


async def test_a_list_that_could_not_be_read_goes_on_where_it_was() -> None:
    async with serving(refusal(403, "not you"), reply({"workflows": [workflow_shown()]})) as (_, client):
        entries = client.workflows()
        with pytest.raises(PermissionDenied):
            await anext(entries)
        assert [each.id async for each in entries] == ["wf-1"]


# --- opening and closing --------------------------------------------------------------------


async def test_a_client_that_is_closed_says_so() -> None:
    async with serving(reply(workflow_shown())) as (_, client):
        handle = client.handle(PLACE, "wf-1")
        await handle.describe()
    with pytest.raises(UsageError, match="^the client is closed: call inside its `async with` block$"):
        await handle.describe()


async def test_without_http_nothing_of_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "httpx2", None)
    async with Http() as http:
        with pytest.raises(ConfigurationError, match=r"which is not installed: pip install 'flovyn\[http\]'"):
            await http.send("GET", "http://api", headers={})


async def test_a_proxy_that_makes_no_sense_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "gopher://proxy")
    async with Http() as http:
        with pytest.raises(ConfigurationError, match="^HTTP cannot be set up with this environment: .*gopher"):
            await http.send("GET", "http://api", headers={})


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("api.example.org", "http_url looks like http://host:port or https://host:port, not 'api.example.org'"),
        ("http://", "http_url looks like http://host:port or https://host:port, not 'http://'"),
        ("http://a?b=c", "http_url looks like http://host:port or https://host:port, not 'http://a?b=c'"),
        ("http://a:b", "http_url='http://a:b' is not a URL: Port could not be cast to integer value as 'b'"),
        ("http://me:secret@a", "http_url carries no user and password; pass api_key=... or oauth2=..."),
        ("http://me:secret@a:b", "http_url carries no user and password; pass api_key=... or oauth2=..."),
    ],
)
async def test_urls_that_cannot_work(url: str, text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        checked_url("http_url", url)
    assert str(caught.value) == text


async def test_a_url_may_have_a_path() -> None:
    async with serving(reply(workflow_shown()), url=checked_url("http_url", "http://api/flovyn/")) as (double, client):
        await client.handle(PLACE, "w").describe()
    assert str(double.requests[0].url) == "http://api/flovyn/api/orgs/acme/workflow-executions/w"


async def test_a_cancelled_request_is_left_at_once() -> None:
    begun = anyio.Event()

    async def never(request: httpx2.Request) -> httpx2.Response:
        begun.set()
        await anyio.sleep_forever()
        raise AssertionError("unreachable")

    with anyio.fail_after(10):
        async with Http(transport=lambda: httpx2.MockTransport(never)) as http, anyio.create_task_group() as tasks:

            async def send() -> None:
                await http.send("GET", "http://api", headers={})

            tasks.start_soon(send)
            await begun.wait()
            tasks.cancel_scope.cancel()
