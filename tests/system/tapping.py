"""A client and a worker whose every byte is listened to, on gRPC and on REST."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import unquote_to_bytes

import httpx2

from flovyn import Client, RetryPolicy, Worker
from flovyn.client.credentials import Fixed
from flovyn.client.http import Http
from flovyn.client.rest import Rest
from flovyn.serde.codecs import PayloadCodec
from flovyn.server import Server
from flovyn.wire import coding
from flovyn.wire.channel import Channel
from flovyn.wire.transport import NO_METADATA, Method, Reply, Transport

Q = TypeVar("Q")
R = TypeVar("R")

CANARY = "canary-7f3a"
FORMS = [CANARY.encode(), *(b64encode(b" " * shift + CANARY.encode())[4:-4] for shift in range(3))]
KEYS = {"old": bytes(32), "new": bytes(range(32))}


@dataclass
class Tap:
    """Notes every byte of every message, both ways."""

    transport: Transport
    heard: list[tuple[str, bytes]] = field(default_factory=list[tuple[str, bytes]])

    async def unary(self, method: Method[Q, R], request: Q, *, metadata: Mapping[str, str] = NO_METADATA) -> Reply[R]:
        self.note(method, request)
        reply = await self.transport.unary(method, request, metadata=metadata)
        self.note(method, reply.message)
        return reply

    def note(self, method: Method[Any, Any], message: Any) -> None:
        data = message if isinstance(message, bytes) else coding.encode(message)
        self.heard.append((method.path.rpartition("/")[2], data))

    def server_stream(
        self, method: Method[Q, R], request: Q, *, metadata: Mapping[str, str] = NO_METADATA
    ) -> AbstractAsyncContextManager[AsyncIterator[R]]:
        raise NotImplementedError

    async def client_stream(
        self, method: Method[Q, R], requests: AsyncIterable[Q], *, metadata: Mapping[str, str] = NO_METADATA
    ) -> Reply[R]:
        raise NotImplementedError


class TappedHttp(httpx2.AsyncHTTPTransport):
    """Notes every byte of every request and of its answer."""

    def __init__(self, tap: Tap) -> None:
        super().__init__()
        self._tap = tap

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        response = await super().handle_async_request(request)
        body = await response.aread()
        name = f"{request.method} {request.url.path.split('/', 4)[-1]}"
        said = [unquote_to_bytes(str(request.url)), request.content, body]
        for headers in (request.headers, response.headers):
            said += [part for pair in headers.raw for part in pair]
        self._tap.heard.append((name, b"\n".join(said)))
        return httpx2.Response(response.status_code, headers=response.headers, content=body)


@asynccontextmanager
async def tapped(server: Server, codecs: list[PayloadCodec], **worker: Any) -> AsyncGenerator[tuple[Client, Tap]]:
    """A client and a worker on one connection that somebody listens to, and another one for REST."""
    async with Channel(server.url, token=server.token) as channel:
        tap = Tap(channel)
        async with Http(transport=lambda: TappedHttp(tap)) as http:
            rest = Rest(http, server.http_url, server.org_id, Fixed(server.api_key), RetryPolicy())
            client = Client(tap, org_id=server.org_id, codecs=codecs, rest=rest)
            async with Worker(client, grace=1.0, **worker):
                yield client, tap
