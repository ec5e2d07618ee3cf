"""HTTP itself: what is no JSON, too much, too slow, cut off, or no HTTP at all; and the end of the server."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio
import anyio.abc
import httpx2
import pytest

from flovyn.errors import ConfigurationError
from flovyn.server import Server, limits, serve
from flovyn.wire import methods
from flovyn.wire.channel import Channel
from flovyn.wire.messages.flovyn import v1 as pb
from rest.rest_world import Rest, rest

pytestmark = pytest.mark.anyio

WHERE = "/api/orgs/acme/workflow-executions"


@asynccontextmanager
async def raw(served: Rest) -> AsyncGenerator[anyio.abc.SocketStream]:
    assert served.server.http_port is not None
    async with await anyio.connect_tcp("127.0.0.1", served.server.http_port) as stream:
        yield stream


async def everything(stream: anyio.abc.SocketStream) -> bytes:
    data = b""
    try:
        while True:
            data += await stream.receive()
    except (anyio.EndOfStream, anyio.BrokenResourceError):
        return data


def head(method: str = "POST", path: str = WHERE, **headers: str) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "host: x", "authorization: Bearer user-key"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


@pytest.mark.parametrize(
    ("content", "content_type", "status", "text"),
    [
        (b"{", None, 400, "body: Input data was truncated"),
        (b"nonsense", "application/json", 400, "body: JSON is malformed: invalid character"),
        (b'{"kind":"\xff"}', "application/json", 400, "body: 'utf-8' codec can't decode byte 0xff"),
        (b'{"kind":"a","input":"\xff"}', None, 400, "input is not JSON: 'utf-8' codec can't decode byte 0xff"),
        (b'{"kind":"a","input":"\\ud800"}', None, 400, ""),
        (b'{"kind":"a","input":' + b"[" * 100_000 + b"]" * 100_000 + b"}", None, 400, "body: it is nested too deeply"),
        (b'{"kind":"a"}', "text/plain; charset=utf-8", 415, "the body is text/plain; send application/json"),
        (b"kind=a", "application/x-www-form-urlencoded", 415, "the body is application/x-www-form-urlencoded; send"),
        (b'{"kind":"a"}', "application/vnd.flovyn+json", 201, ""),
        (b'{"kind":"a"}', None, 201, ""),
    ],
)
async def test_bodies_are_json(content: bytes, content_type: str | None, status: int, text: str) -> None:
    async with rest() as served:
        headers = {} if content_type is None else {"content-type": content_type}
        reply = await served.http.post(WHERE, content=content, headers=headers)
        assert reply.status_code == status, reply.text
        assert reply.json().get("error", "").startswith(text)


async def test_a_body_where_none_is_wanted_is_refused() -> None:
    async with rest() as served:
        reply = await served.http.request("GET", WHERE, content=b"{}")
        assert (reply.status_code, reply.json()) == (
            400,
            {"error": "the request has a body, but there is nothing to be said here"},
        )


async def test_numbers_and_texts_come_through_as_they_are() -> None:
    text = '{"big":123456789012345678901234567890,"small":1e-7,"text":"\\u0000\\u00fc\\ud83d\\ude00","list":[[],{}]}'
    async with rest() as served:
        reply = await served.http.post(WHERE, content=f'{{"kind":"a","input":{text}}}')
        run = reply.json()["workflowExecutionId"]
        shown = await served.http.get(f"{WHERE}/{run}")
        assert f'"input":{text}' in shown.text


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_over_the_limit_is_refused_and_the_client_hears_of_it(
    monkeypatch: pytest.MonkeyPatch, chunked: bool
) -> None:
    monkeypatch.setattr(limits, "HTTP_BODY_SIZE", 100_000)
    async with rest() as served:
        for size, status in ((99_000, 201), (3_000_000, 413)):
            content = b'{"kind":"a","input":"' + b"x" * size + b'"}'

            async def parts(content: bytes = content) -> AsyncGenerator[bytes]:
                yield content

            reply = await served.http.post(WHERE, content=parts() if chunked else content)
            assert reply.status_code == status
        assert reply.json()["error"] == f"the body has {len(content)} bytes; at most 100000 are allowed"
        assert (await served.get("/workflow-executions"))["total"] == 1


async def test_a_body_that_does_not_arrive_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HTTP_REQUEST_S", 0.2)
    async with rest() as served, raw(served) as stream:
        await stream.send(head(content_length="100") + b'{"kind"')
        assert (await everything(stream)).startswith(b"HTTP/1.1 408 \r\n")


async def test_an_idle_connection_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HTTP_IDLE_S", 0.2)
    async with rest() as served, raw(served) as silent, raw(served) as slow, raw(served) as served_once:
        await slow.send(b"GET /_/health HT")
        await served_once.send(head("GET", "/_/health"))
        assert await everything(silent) == b""
        assert await everything(slow) == b""
        assert (await everything(served_once)).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET /_/health HTTP/1.1\r\n\r\n", b"400"),
        (b"GET /_/health HTTP/1.1\r\nhost: x\r\nx: " + b"y" * 300_000 + b"\r\n\r\n", b"431"),
        (b"GET /_/he\xfflth HTTP/1.1\r\nhost: x\r\n\r\n", b"400"),
        (b"GET /%ff%00 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", b"404"),
        (b"BREW /_/health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", b"405"),
        (b"GET /_/health HTTP/1.0\r\n\r\n", b"200"),
        (b"GET /_/health HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
         b"sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", b"403"),
        (head(content_length="-1"), b"400"),
        (head(content_length="5", transfer_encoding="chunked") + b"0\r\n\r\n", b"400"),
    ],
)  # fmt: skip
async def test_what_is_no_proper_request_gets_an_answer_and_harms_nobody(
    sent: bytes, status: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with rest() as served, raw(served) as stream:
        with caplog.at_level(logging.ERROR), anyio.fail_after(5):
            await stream.send(sent)
            assert (await stream.receive()).split()[1] == status
        assert caplog.messages == []
        assert (await served.http.get("/_/health")).status_code == 200


async def test_requests_on_one_connection_are_answered_in_turn() -> None:
    async with rest() as served, raw(served) as stream:
        await stream.send(
            head("GET", "/_/health") + head("GET", "/nope") + head("GET", "/_/health", connection="close")
        )
        answers = await everything(stream)
        assert [part.split()[0] for part in answers.split(b"HTTP/1.1 ")[1:]] == [b"200", b"404", b"200"]


@pytest.mark.parametrize("size", [0, 3, 30_000_000])
async def test_a_client_that_goes_in_the_middle_of_its_body_leaves_nothing(
    size: int, caplog: pytest.LogCaptureFixture
) -> None:
    async with rest() as served:
        with caplog.at_level(logging.ERROR):
            async with raw(served) as stream:
                with anyio.move_on_after(0.2):
                    await stream.send(head(content_length="50000000") + b"x" * size)
            while served.server.statistics().http_connections:
                await anyio.sleep(0.001)
        assert (await served.get("/workflow-executions"))["total"] == 0
        assert caplog.messages == []


async def test_a_client_that_does_not_read_its_answer_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HTTP_STALL_S", 0.2)
    async with rest() as served:
        run = await served.start(input="x" * 20_000_000)
        async with raw(served) as stream:
            await stream.send(head("GET", f"{WHERE}/{run}"))
            with anyio.fail_after(10):
                while served.server.statistics().http_requests or served.server.statistics().http_connections != 1:
                    await anyio.sleep(0.001)


async def test_an_accident_is_logged_and_told_without_its_text(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with rest() as served:

        def broken(*_: object) -> None:
            raise RuntimeError("secret")

        monkeypatch.setattr(served.server.engine.views, "runs", broken)
        reply = await served.ask("GET", "/workflow-executions")
        assert (reply.status_code, reply.json()) == (500, {"error": "Internal server error"})
        assert "secret" in caplog.text


async def test_nothing_is_answered_before_it_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    async with rest() as served:
        store = served.server.engine.core.store
        commit, events = store.commit, list[str]()

        def noted() -> None:
            events.append("written")
            commit()

        monkeypatch.setattr(store, "commit", noted)
        await served.start()
        events.append("answered")
        assert events[0] == "written"
        assert events.index("answered") == len(events) - 1


async def test_a_disk_that_is_full_is_said_and_loses_nothing(tmp_path_factory: pytest.TempPathFactory) -> None:
    async with rest(db=str(tmp_path_factory.mktemp("db") / "small.db")) as served:
        connection = served.server.engine.core.store.database.connection
        await served.start()
        connection.execute("PRAGMA max_page_count = 1")  # SQLite allows no less than it has
        reply = await served.ask("POST", "/workflow-executions", {"kind": "a", "input": "x" * 200_000})
        assert (reply.status_code, reply.headers["retry-after"]) == (503, "1")
        assert "cannot use its database at the moment" in reply.json()["error"]
        connection.execute("PRAGMA max_page_count = 100000")
        assert (await served.get("/workflow-executions"))["total"] == 1


async def test_over_http_2_it_is_the_same() -> None:
    async with rest() as served, raw(served) as stream:
        await stream.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5))
        with anyio.fail_after(5):
            settings = await stream.receive()
        assert settings[3:5] == b"\x04\x00"


# --- beginning and end ----------------------------------------------------------------------


async def test_a_port_that_is_taken_is_named() -> None:
    async with rest() as served:
        taken = served.server.http_port
        with pytest.raises(ConfigurationError, match=f"cannot listen at 127.0.0.1:{taken}: "):
            async with serve(http_port=taken):
                pass


async def test_without_a_port_there_is_no_http() -> None:
    with anyio.fail_after(5):
        async with serve() as server:
            assert (server.http_url, server.http_port, server.api_key) == (None, None, "flovyn_sk_dev")


async def test_requests_that_are_under_way_at_the_end_are_answered_and_idle_connections_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    replies: list[httpx2.Response] = []
    asked = anyio.Event()
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            async with serve(http_port=0) as server:
                assert server.http_url is not None
                headers = {"authorization": f"Bearer {server.api_key}"}
                http = httpx2.AsyncClient(base_url=server.http_url, headers=headers, trust_env=False)
                assert (await http.get("/_/health")).status_code == 200

                async def slowly() -> AsyncGenerator[bytes]:
                    yield b'{"kind":'
                    asked.set()
                    while server.statistics().http_connections != 1 or not ending:
                        await anyio.sleep(0.001)
                    yield b'"order"}'

                async def ask() -> None:
                    replies.append(await http.post("/api/orgs/dev/workflow-executions", content=slowly()))

                ending = False
                tasks.start_soon(ask)
                await asked.wait()
                ending = True
            assert [reply.status_code for reply in replies] == [201]
            await http.aclose()
    assert (server.statistics().http_connections, server.statistics().http_requests) == (0, 0)


async def test_a_request_that_never_ends_does_not_keep_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "DRAIN_S", 0.2)
    with anyio.fail_after(5):
        async with serve(http_port=0) as server:
            assert server.http_port is not None
            stream = await anyio.connect_tcp("127.0.0.1", server.http_port)
            key = b"authorization: Bearer flovyn_sk_dev\r\n"
            await stream.send(
                b"POST /api/orgs/dev/task-executions HTTP/1.1\r\nhost: x\r\n" + key + b"content-length: 9\r\n\r\n"
            )
            while not server.statistics().http_requests:
                await anyio.sleep(0.001)
        await stream.aclose()
    assert (server.statistics().http_connections, server.statistics().http_requests) == (0, 0)


async def test_long_polls_and_notifications_end_by_themselves_at_the_end() -> None:
    polled: list[pb.PollResponse] = []
    heard: list[pb.WorkAvailableEvent] = []
    enough = anyio.Event()

    async def run(*, task_status: anyio.abc.TaskStatus[Server]) -> None:
        async with serve() as server:
            task_status.started(server)
            await enough.wait()

    with anyio.fail_after(10):
        async with anyio.create_task_group() as servers:
            server: Server = await servers.start(run)
            async with Channel(server.url, token=server.token) as channel, anyio.create_task_group() as tasks:

                async def poll() -> None:
                    request = pb.PollRequest(worker_id="w", org_id=server.org_id, timeout_seconds=30)
                    polled.append((await channel.unary(methods.POLL_WORKFLOW, request)).message)

                async def listen() -> None:
                    request = pb.SubscriptionRequest(worker_id="w", org_id=server.org_id)
                    async with channel.server_stream(methods.SUBSCRIBE_TO_NOTIFICATIONS, request) as events:
                        heard.extend([event async for event in events])

                tasks.start_soon(poll)
                tasks.start_soon(listen)
                while (server.statistics().waiting_polls, server.statistics().listeners) != (1, 1):
                    await anyio.sleep(0.001)
                began = anyio.current_time()
                enough.set()
            assert anyio.current_time() - began < 3
    assert (polled, heard) == ([pb.PollResponse()], [])
    assert server.statistics().connections == 0


def test_nothing_of_http_is_imported_unless_it_is_served() -> None:
    names = ["starlette", "hypercorn", "jsonschema", "h11", "flovyn.server.rest", "flovyn.server.http"]
    code = (
        "import sys, anyio, flovyn.server, flovyn.server.engine\n"
        "async def main():\n"
        "    async with flovyn.server.serve(): pass\n"
        "anyio.run(main)\n"
        f"print([name for name in {names} if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert run.stdout.strip() == "[]"


def test_a_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "starlette", None)

    async def main() -> None:
        async with serve(http_port=0):
            pass

    with pytest.raises(
        ConfigurationError, match=r"HTTP needs starlette: pip install 'flovyn\[server\]', or turn HTTP off"
    ):
        anyio.run(main)
