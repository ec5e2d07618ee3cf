"""Tokens: fetched once for all, renewed in time and when they are refused, and shown nowhere."""

from __future__ import annotations

import logging
import pickle
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import anyio
import httpx2
import pytest

from client.rest_double import OAUTH2, SECRET, TOKEN_URL, RestDouble, refusal, reply, token, workflow_shown
from flovyn.client import Client, OAuth2
from flovyn.client.authorized import AuthorizedTransport
from flovyn.client.credentials import Tokens
from flovyn.definitions import RetryPolicy, workflow_by_kind
from flovyn.errors import (
    ConfigurationError,
    FlovynError,
    MalformedMessage,
    NotFound,
    ServerUnavailable,
    TokenRefused,
    Unauthenticated,
)
from flovyn.wire.channel import Channel
from flovyn.wire.messages.flovyn import v1 as pb
from flovyn.wire.transport import Connected
from worker.fakes import FakeServer

pytestmark = pytest.mark.anyio

PLACE = workflow_by_kind("place")
AT_ONCE_8 = RetryPolicy(max_attempts=8, initial_interval=0, max_interval=0)


@dataclass
class Clock:
    now: float = 1_000.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def serving(
    *tokens: Any, answers: tuple[Any, ...] = (reply(workflow_shown()),), **options: Any
) -> AsyncGenerator[tuple[RestDouble, FakeServer, Client]]:
    double, server = RestDouble(*answers, tokens=list(tokens)), FakeServer()

    async def start(_: Any) -> Any:
        return pb.StartWorkflowResponse(workflow_execution_id="wf-1")

    server.answers["StartWorkflow"] = start
    with anyio.fail_after(10):
        async with double.client(server, oauth2=OAUTH2, **options) as client:
            yield double, server, client


def shown(server: FakeServer) -> list[str]:
    """The authorization of each call over gRPC."""
    return [call.metadata["authorization"] for call in server.calls]


async def test_a_token_is_fetched_once_for_grpc_and_rest() -> None:
    async with serving(token("t1")) as (double, server, client):
        await client.start(PLACE)
        handle = await client.start(PLACE)
        await handle.describe()
    assert double.asked == [
        {
            "grant_type": ["client_credentials"],
            "client_id": ["shop"],
            "client_secret": [SECRET],
            "scope": ["flovyn admin"],
        }
    ]
    assert shown(server) == ["Bearer t1", "Bearer t1"]
    assert double.keys == ["Bearer t1"]


async def test_those_who_come_together_fetch_one_token() -> None:
    async with serving(token("t1"), token("t2")) as (double, server, client):
        async with anyio.create_task_group() as tasks:
            for _ in range(10):
                tasks.start_soon(client.start, PLACE)
    assert (len(double.asked), set(shown(server))) == (1, {"Bearer t1"})


async def test_a_token_is_renewed_before_it_expires() -> None:
    clock = Clock()
    async with serving(token("t1", 3600), token("t2", 10), token("t3", None), clock=clock) as (double, server, client):
        for at in (0, 3569, 3570, 3574, 3575, 10**9):  # 30 s before its end, or half of its life
            clock.now = 1_000.0 + at
            await client.start(PLACE)
    assert shown(server) == [f"Bearer {name}" for name in ("t1", "t1", "t2", "t2", "t3", "t3")]
    assert len(double.asked) == 3


async def test_a_token_that_is_good_for_a_while_outlives_an_outage_of_the_provider() -> None:
    clock = Clock()
    away = httpx2.ConnectError("refused")
    async with serving(token("t1", 100), *[away] * 16, token("t2", 100), clock=clock) as (double, server, client):
        await client.start(PLACE)
        clock.now += 71  # within the last 30 seconds: the provider is asked, in vain
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("flovyn.client.credentials.CALLS", AT_ONCE_8)
            await client.start(PLACE)
            asked = len(double.asked)
            await client.start(PLACE)  # not asked again at once
            assert len(double.asked) == asked == 9
            clock.now += 30
            with pytest.raises(ServerUnavailable, match=f"POST {TOKEN_URL}: cannot connect: refused"):
                await client.start(PLACE)
        await client.start(PLACE)
    assert shown(server) == ["Bearer t1", "Bearer t1", "Bearer t1", "Bearer t2"]


async def test_a_token_that_grpc_refuses_is_replaced_once() -> None:
    async with serving(token("t1"), token("t2"), token("t3")) as (double, server, client):
        server.refuse("StartWorkflow", Unauthenticated("revoked"))
        await client.start(PLACE)
        assert shown(server) == ["Bearer t1", "Bearer t2"]
        server.refuse("StartWorkflow", Unauthenticated("revoked"), Unauthenticated("not you"))
        with pytest.raises(Unauthenticated, match="^not you$"):
            await client.start(PLACE)
    assert shown(server)[2:] == ["Bearer t2", "Bearer t3"]
    assert len(double.asked) == 3


async def test_a_token_that_rest_refuses_is_replaced_once() -> None:
    answers = (refusal(401, "expired"), reply(workflow_shown()), refusal(401, "expired"), refusal(401, "not you"))
    async with serving(token("t1"), token("t2"), token("t3"), answers=answers) as (double, _, client):
        handle = client.handle(PLACE, "wf-1")
        await handle.describe()
        with pytest.raises(Unauthenticated, match="not you$"):
            await handle.describe()
    assert double.keys == ["Bearer t1", "Bearer t2", "Bearer t2", "Bearer t3"]


async def test_of_many_whose_token_is_refused_one_fetches_another() -> None:
    async with serving(token("t1"), token("t2"), token("t3")) as (double, server, client):
        await client.start(PLACE)
        server.calls.clear()
        server.refuse("StartWorkflow", *[Unauthenticated("revoked")] * 5)
        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(client.start, PLACE)
    assert len(double.asked) == 2
    assert sorted(shown(server)) == ["Bearer t1"] * 5 + ["Bearer t2"] * 5


async def test_a_stream_that_is_refused_lets_the_next_have_another_token() -> None:
    class Refusing(FakeServer):
        refused: list[str]

        def server_stream(self, method: Any, request: Any, *, metadata: Any = None) -> Any:
            self.refused = [*getattr(self, "refused", []), metadata["authorization"]]
            return _refused()

        async def client_stream(self, method: Any, requests: Any, *, metadata: Any = None) -> Any:
            self.refused.append(metadata["authorization"])
            raise Unauthenticated("revoked")

    server, double = Refusing(), RestDouble(tokens=[token("t1"), token("t2"), token("t3")])
    async with double.http() as http:
        transport: Any = AuthorizedTransport(server, Tokens(OAUTH2, http))
        with pytest.raises(Unauthenticated):
            async with transport.server_stream(None, None) as stream:
                await anext(stream)
        with pytest.raises(Unauthenticated):
            await transport.client_stream(None, stream)
        with pytest.raises(Unauthenticated):
            async with transport.server_stream(None, None):
                raise Unauthenticated("revoked")
    assert server.refused == ["Bearer t1", "Bearer t2", "Bearer t3"]


@asynccontextmanager
async def _refused() -> AsyncGenerator[AsyncGenerator[Any]]:
    async def events() -> AsyncGenerator[Any]:
        raise Unauthenticated("revoked")
        yield

    yield events()


async def test_the_connection_below_is_the_one_that_is_lost() -> None:
    class Connection(FakeServer):
        hung_up: str = ""

        async def lost(self) -> None:
            await anyio.lowlevel.checkpoint()

        def hang_up(self, reason: str) -> None:
            self.hung_up = reason

    async with RestDouble(tokens=[token("t1")]).http() as http:
        server = Connection()
        transport = AuthorizedTransport(server, Tokens(OAUTH2, http))
        assert isinstance(transport, Connected)
        with anyio.fail_after(5):
            await transport.lost()
        transport.hang_up("silent")
        assert server.hung_up == "silent"
        nowhere = AuthorizedTransport(FakeServer(), Tokens(OAUTH2, http))
        nowhere.hang_up("nothing happens")
        with anyio.move_on_after(0.01) as scope:
            await nowhere.lost()
        assert scope.cancelled_caught


# --- what a provider may say ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "error", "text"),
    [
        (
            reply({"error": "invalid_client", "error_description": "no such shop"}, 401),
            TokenRefused,
            f"the token endpoint {TOKEN_URL} gives no token: invalid_client: no such shop",
        ),
        (reply({"error": "invalid_scope"}, 400), TokenRefused, "gives no token: invalid_scope"),
        (httpx2.Response(403, content=b"<html>"), TokenRefused, "gives no token: HTTP status 403"),
        (httpx2.Response(302, headers={"location": "/login"}), TokenRefused, "gives no token: HTTP status 302"),
        (httpx2.Response(200, content=b"<html>"), MalformedMessage, "answers with what is no token"),
        (reply({"token": "t"}), MalformedMessage, "answers with what is no token"),
        (token("t", token_type="mac"), MalformedMessage, "a token of type 'mac'; only Bearer can be used"),
        (token(""), ConfigurationError, "the token is empty or has characters that cannot be sent"),
        (token("a\nb"), ConfigurationError, "the token is empty or has characters that cannot be sent"),
    ],
)
async def test_a_provider_that_gives_no_token(answer: Any, error: type[FlovynError], text: str) -> None:
    async with serving(answer) as (double, server, client):
        with pytest.raises(error) as caught:
            await client.start(PLACE)
    assert type(caught.value) is error
    assert text in caught.value.message
    assert SECRET not in str(caught.value)
    assert (len(double.asked), server.calls) == (1, [])


async def test_a_refusal_has_its_parts() -> None:
    async with serving(reply({"error": "invalid_client", "error_description": "no"}, 401)) as (_, _server, client):
        with pytest.raises(TokenRefused) as caught:
            await client.start(PLACE)
    assert (caught.value.error, caught.value.description, caught.value.status) == (
        "invalid_client",
        "no",
        "UNAUTHENTICATED",
    )
    assert isinstance(caught.value, Unauthenticated)


@pytest.mark.parametrize(
    "failure", [httpx2.ConnectError("refused"), httpx2.ReadError("broke"), refusal(503, "later"), refusal(429, "later")]
)
async def test_a_provider_that_is_away_for_a_moment(failure: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flovyn.client.credentials.CALLS", AT_ONCE_8)
    async with serving(failure, failure, token("t1")) as (double, server, client):
        await client.start(PLACE)
    assert (len(double.asked), shown(server)) == (3, ["Bearer t1"])


async def test_a_call_without_a_token_had_no_effect(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flovyn.client.credentials.CALLS", AT_ONCE_8)
    async with serving(httpx2.ReadError("broke")) as (double, server, client):
        with pytest.raises(ServerUnavailable, match=f"^no token could be fetched: POST {TOKEN_URL}: broke"):
            await client.start(PLACE)
    assert (len(double.asked), server.calls) == (8, [])


async def test_expires_in_may_be_a_text() -> None:
    clock = Clock()
    async with serving(reply({"access_token": "t1", "expires_in": "60"}), token("t2"), clock=clock) as (
        _,
        server,
        client,
    ):
        await client.start(PLACE)
        clock.now += 30
        await client.start(PLACE)
    assert shown(server) == ["Bearer t1", "Bearer t2"]


async def test_nothing_secret_is_shown_or_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    tokens = [token(f"the-token-{number}") for number in range(5)]
    async with serving(*tokens, answers=(refusal(401, "no"), refusal(404, "none"))) as (double, server, client):
        server.refuse("StartWorkflow", Unauthenticated("revoked"))
        handle = await client.start(PLACE)
        with pytest.raises(NotFound) as caught:
            await handle.describe()
        async with double.http() as http:
            held = Tokens(OAUTH2, http)
            await held.authorization()
            transport = AuthorizedTransport(Channel("http://localhost:1"), held)
            shown = [repr(each) for each in (client, handle, held, transport, OAUTH2, http)]
    everything = "\n".join([*shown, caplog.text, repr(caught.value), str(pickle.dumps(caught.value))])
    assert SECRET not in everything
    assert "the-token" not in everything


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (
            {"token_url": "id.example.org"},
            "token_url looks like https://host/path, not 'id.example.org'",
        ),
        ({"token_url": "https://me:pw@id/token"}, "token_url carries no user and password"),
        ({"client_id": ""}, "client_id is empty"),
        ({"client_secret": ""}, "client_secret is empty"),
        ({"scopes": "admin"}, "scopes='admin' is one string; write scopes=('admin',)"),
        ({"scopes": ("a b",)}, "a scope is one word, not 'a b'"),
        ({"scopes": ("",)}, "a scope is one word, not ''"),
    ],
)
async def test_credentials_that_cannot_work(options: dict[str, Any], text: str) -> None:
    good: dict[str, Any] = {"token_url": TOKEN_URL, "client_id": "shop", "client_secret": SECRET}
    with pytest.raises(ConfigurationError) as caught:
        OAuth2(**good | options)
    assert str(caught.value).startswith(text)
    assert SECRET not in str(caught.value)
    assert "pw" not in str(caught.value)
