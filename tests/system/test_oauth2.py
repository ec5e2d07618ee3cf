"""Tokens from a provider, end to end: a client and its worker, over gRPC and REST, and a token that is refused."""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
import pytest
import trustme
from anyio.abc import SocketAttribute, SocketStream
from anyio.streams.tls import TLSListener, TLSStream

import flovyn
from flovyn import (
    OAuth2,
    RetryPolicy,
    ServerUnavailable,
    TaskContext,
    TokenRefused,
    Worker,
    WorkflowContext,
    task,
    workflow,
)
from flovyn.client import ConnectOptions
from flovyn.server import serve

pytestmark = pytest.mark.anyio


@task
async def double(ctx: TaskContext, number: int) -> int:
    return 2 * number


@workflow
async def doubled(ctx: WorkflowContext, number: int) -> int:
    return await ctx.schedule(double, number)


@dataclass
class Provider:
    """A token endpoint: what it gives, one after the other, and then the last one for ever."""

    tokens: list[str]
    url: str = ""
    asked: list[str] = field(default_factory=list[str])

    async def answer(self, stream: SocketStream) -> None:
        async with stream:
            request = b""
            while b"client_secret=" not in request:
                request += await stream.receive()
            self.asked.append(request.decode())
            token = self.tokens.pop(0) if len(self.tokens) > 1 else self.tokens[0]
            body = json.dumps({"access_token": token, "token_type": "bearer", "expires_in": 3600})
            head = "HTTP/1.1 200 OK" if token else "HTTP/1.1 401 Unauthorized"
            body = body if token else json.dumps({"error": "invalid_client"})
            await stream.send(f"{head}\r\nconnection: close\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode())

    @asynccontextmanager
    async def serving(self) -> AsyncGenerator[OAuth2]:
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        port = listener.extra(SocketAttribute.local_port)
        async with listener, anyio.create_task_group() as tasks:
            tasks.start_soon(listener.serve, self.answer)
            url = f"http://127.0.0.1:{port}/token"
            yield OAuth2(token_url=url, client_id="a shop", client_secret="s&cret", scopes=("x", "y"))
            tasks.cancel_scope.cancel()


async def test_a_client_and_its_worker_share_tokens() -> None:
    with anyio.fail_after(20):
        async with serve(http_port=0) as server:
            provider = Provider(["not accepted", server.token])
            async with provider.serving() as oauth2:
                options: ConnectOptions = {
                    "org_id": server.org_id,
                    "http_url": server.http_url,
                    "api_key": server.api_key,
                    "oauth2": oauth2,
                }
                async with flovyn.connect(server.url, **options) as client:
                    handle = await client.start(doubled, 21)
                    async with Worker(client, workflows=[doubled], tasks=[double], grace=1.0):
                        assert await handle.result() == 42
                    assert (await handle.describe()).output == 42
    assert len(provider.asked) == 2
    head, _, form = provider.asked[0].partition("\r\n\r\n")
    assert head.startswith("POST /token HTTP/1.1")
    assert form == "grant_type=client_credentials&client_id=a+shop&client_secret=s%26cret&scope=x+y"


async def test_tokens_serve_rest_too_without_a_key() -> None:
    with anyio.fail_after(20):
        async with serve(http_port=0) as server:
            assert server.api_key is not None
            provider = Provider(["not accepted", server.api_key])
            async with provider.serving() as oauth2:
                async with flovyn.connect(
                    server.url, oauth2=oauth2, org_id=server.org_id, http_url=server.http_url
                ) as client:
                    assert [each async for each in client.workflows()] == []
    assert len(provider.asked) == 2


async def test_a_provider_that_refuses_is_told_by_the_first_call() -> None:
    with anyio.fail_after(20):
        async with serve() as server:
            provider = Provider([""])
            async with provider.serving() as oauth2:
                async with flovyn.connect(server.url, oauth2=oauth2, org_id=server.org_id) as client:
                    with pytest.raises(TokenRefused, match="gives no token: invalid_client$"):
                        await client.start(doubled, 1)


async def test_rest_and_the_provider_may_have_certificates_of_their_own() -> None:
    authority: Any = trustme.CA()
    serving = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(serving)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)

    async def answer(stream: TLSStream) -> None:
        async with stream:
            request = (await stream.receive()).decode()
            body = '{"access_token": "t"}' if "/token" in request else '{"workflows": []}'
            await stream.send(
                f"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode()
            )

    with anyio.fail_after(20):
        plain = await anyio.create_tcp_listener(local_host="127.0.0.1")
        url = f"https://127.0.0.1:{plain.extra(SocketAttribute.local_port)}"
        listener = TLSListener(plain, serving, standard_compatible=False)
        oauth2 = OAuth2(token_url=f"{url}/token", client_id="c", client_secret="s")
        async with listener, anyio.create_task_group() as tasks:
            tasks.start_soon(listener.serve, answer)
            async with flovyn.connect(
                org_id="00000000-0000-4000-8000-000000000001", http_url=url, oauth2=oauth2, http_ssl_context=trusting
            ) as client:
                assert [each async for each in client.workflows()] == []
            once = RetryPolicy(max_attempts=1)
            async with flovyn.connect(
                org_id="00000000-0000-4000-8000-000000000001", http_url=url, api_key="k", retry=once
            ) as client:
                with pytest.raises(ServerUnavailable, match="cannot connect: .*CERTIFICATE_VERIFY_FAILED"):
                    await anext(client.workflows())
            tasks.cancel_scope.cancel()
