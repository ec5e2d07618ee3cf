"""A REST server in a few lines, without a network: it answers by script, and remembers what it was asked."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qs

import anyio
import httpx2

from flovyn.client import Client, OAuth2
from flovyn.client.authorized import AuthorizedTransport
from flovyn.client.credentials import Credential, Fixed, Tokens
from flovyn.client.http import Http
from flovyn.client.rest import Rest
from flovyn.definitions import RetryPolicy
from flovyn.wire.transport import Transport
from worker.fakes import ORG, FakeServer

AT_ONCE = RetryPolicy(max_attempts=4, initial_interval=0, max_interval=0)
"""For tests of what is repeated: as often as that, without waiting."""

TOKEN_URL = "https://id.example.org/token"
SECRET = "a secret that must not show"
OAUTH2 = OAuth2(token_url=TOKEN_URL, client_id="shop", client_secret=SECRET, scopes=("flovyn", "admin"))

Answer = httpx2.Response | Exception


class RestDouble:
    """Answers requests to the API and to the token endpoint.

    Args:
        answers: What the API answers, one after the other, and then the last one for ever.
        tokens: What the token endpoint answers, likewise.
    """

    def __init__(self, *answers: Answer, tokens: list[Answer] | None = None) -> None:
        self.requests: list[httpx2.Request] = []
        self.asked: list[dict[str, list[str]]] = []
        self._answers = list(answers)
        self._tokens = tokens or []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        if str(request.url) == TOKEN_URL:
            self.asked.append(parse_qs(request.content.decode()))
            return self._next(self._tokens)
        self.requests.append(request)
        return self._next(self._answers)

    @staticmethod
    def _next(answers: list[Answer]) -> httpx2.Response:
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Exception):
            raise answer
        # A response can be read once.
        return httpx2.Response(answer.status_code, headers=answer.headers, content=answer.content)

    @property
    def keys(self) -> list[str | None]:
        """The authorization of each request."""
        return [request.headers.get("authorization") for request in self.requests]

    @asynccontextmanager
    async def http(self) -> AsyncGenerator[Http]:
        async with Http(transport=lambda: httpx2.MockTransport(self)) as http:
            yield http

    @asynccontextmanager
    async def client(
        self,
        server: FakeServer | None = None,
        *,
        api_key: str | None = "key",
        oauth2: OAuth2 | None = None,
        url: str | None = "http://api",
        org: str = "acme",
        retry: RetryPolicy = AT_ONCE,
        clock: Callable[[], float] = anyio.current_time,
        **options: Any,
    ) -> AsyncGenerator[Client]:
        """A client of this, and of a server for gRPC."""
        transport: Transport = server or FakeServer()
        async with self.http() as http:
            credential: Credential = Fixed(api_key)
            if oauth2 is not None:
                credential = tokens = Tokens(oauth2, http, clock=clock)
                transport = AuthorizedTransport(transport, tokens)
            rest = Rest(http, url, org, credential, retry)
            yield Client(transport, org_id=ORG, rest=rest, retry=retry, **options)


def reply(body: Any, status: int = 200, **headers: str) -> httpx2.Response:
    """An answer in JSON."""
    return httpx2.Response(status, headers=headers, content=json.dumps(body).encode())


def refusal(status: int, text: str) -> httpx2.Response:
    return reply({"error": text}, status)


def token(name: str, expires_in: float | None = 3600, **fields: Any) -> httpx2.Response:
    life = {} if expires_in is None else {"expires_in": expires_in}
    return reply({"access_token": name, "token_type": "Bearer", **life, **fields})


def workflow_shown(**fields: Any) -> dict[str, Any]:
    """A workflow as the platform's API shows it."""
    return {"id": "wf-1", "kind": "place", "status": "RUNNING", "createdAt": "2026-01-02T03:04:05Z", **fields}


def task_shown(**fields: Any) -> dict[str, Any]:
    """A task as the platform's API shows it."""
    return {"id": "t-1", "kind": "charge", "status": "RUNNING", "createdAt": "2026-01-02T03:04:05Z", **fields}
