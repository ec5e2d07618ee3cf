"""A transport that shows a token with each call, and another one if the server does not accept it."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, TypeVar

import anyio

from flovyn.errors import Unauthenticated
from flovyn.wire.transport import NO_METADATA, Connected

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Callable, Mapping
    from types import TracebackType

    from flovyn.client.credentials import Tokens
    from flovyn.wire.transport import Method, Reply, Transport

__all__ = ["AuthorizedTransport"]

Q = TypeVar("Q")
R = TypeVar("R")


class AuthorizedTransport:
    """Carries calls over another transport, with a token.

    A call that is refused for its token had no effect, so it is made once more with the next one. Streams are not:
    what was sent of one is gone. They only see to it that whoever calls next has another token.

    Args:
        transport: What carries the calls; it shows no token of its own.
        tokens: The tokens.
    """

    __slots__ = ("_tokens", "_transport")

    def __init__(self, transport: Transport, tokens: Tokens) -> None:
        self._transport = transport
        self._tokens = tokens

    def __repr__(self) -> str:
        return f"<AuthorizedTransport over {self._transport!r}>"

    async def unary(self, method: Method[Q, R], request: Q, *, metadata: Mapping[str, str] = NO_METADATA) -> Reply[R]:
        """One message there, one back."""
        header = await self._tokens.authorization()
        try:
            return await self._transport.unary(method, request, metadata={**metadata, "authorization": header})
        except Unauthenticated:
            header = await self._tokens.renewed(header)
        return await self._transport.unary(method, request, metadata={**metadata, "authorization": header})

    def server_stream(
        self, method: Method[Q, R], request: Q, *, metadata: Mapping[str, str] = NO_METADATA
    ) -> AbstractAsyncContextManager[AsyncIterator[R]]:
        """One message there, any number back; the call is over when the block is left."""

        def begin(header: str) -> AbstractAsyncContextManager[AsyncIterator[R]]:
            return self._transport.server_stream(method, request, metadata={**metadata, "authorization": header})

        return _AuthorizedStream[R](begin, self._tokens)

    async def client_stream(
        self, method: Method[Q, R], requests: AsyncIterable[Q], *, metadata: Mapping[str, str] = NO_METADATA
    ) -> Reply[R]:
        """Any number of messages there, one back."""
        header = await self._tokens.authorization()
        try:
            return await self._transport.client_stream(method, requests, metadata={**metadata, "authorization": header})
        except Unauthenticated:
            self._tokens.forget(header)
            raise

    async def lost(self) -> None:
        """Wait until the connection that new calls take is gone; for ever, if the calls go over none."""
        if isinstance(self._transport, Connected):
            await self._transport.lost()
        else:
            await anyio.sleep_forever()

    def hang_up(self, reason: str) -> None:
        """Give the connection up, if the calls go over one."""
        if isinstance(self._transport, Connected):
            self._transport.hang_up(reason)


class _AuthorizedStream(AbstractAsyncContextManager["AsyncIterator[R]"]):
    """A stream that begins with a token."""

    def __init__(self, begin: Callable[[str], AbstractAsyncContextManager[AsyncIterator[R]]], tokens: Tokens) -> None:
        self._begin = begin
        self._tokens = tokens
        self._header = ""
        self._block: AbstractAsyncContextManager[AsyncIterator[R]] | None = None

    async def __aenter__(self) -> AsyncIterator[R]:
        self._header = await self._tokens.authorization()
        block = self._begin(self._header)
        stream = await block.__aenter__()
        self._block = block
        return stream

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        if isinstance(exc, Unauthenticated):
            self._tokens.forget(self._header)
        assert self._block is not None
        return await self._block.__aexit__(exc_type, exc, traceback)  # noqa: ASYNC102 - the block bounds its own end
