"""A transport that encodes the payloads of what it sends, and decodes those of what it gets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from flovyn.errors import UsageError
from flovyn.wire import methods
from flovyn.wire.messages.flovyn import v1 as pb
from flovyn.wire.payloads import decoded, decoded_members, encoded
from flovyn.wire.transport import NO_METADATA, Reply

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Awaitable, Callable, Collection, Mapping
    from types import TracebackType

    from flovyn.wire.payloads import Coder
    from flovyn.wire.transport import Method, Transport

__all__ = ["PayloadTransport"]

Q = TypeVar("Q")
R = TypeVar("R")

_WHOLE_STATE: Final = frozenset({"state", "__state"})
"""The queries that a server answers with all that a workflow has recorded, each entry as it was sent."""

_PIECE_BYTES: Final = 64 * 1024


class PayloadTransport:
    """Carries calls over another transport, with every payload encoded on the way there and decoded on the way back.

    What a method wants undecoded (``bytes`` as the type of its reply) is left as it came, and so are its payloads.

    Args:
        transport: What carries the calls.
        coder: What encodes and decodes.
        undecoded: Methods whose replies are left as they came, too: whoever calls them decodes by himself, where he
            can say what becomes of a payload that cannot be.
    """

    __slots__ = ("_coder", "_transport", "_undecoded")

    def __init__(self, transport: Transport, coder: Coder, *, undecoded: Collection[Method[Any, Any]] = ()) -> None:
        self._transport = transport
        self._coder = coder
        self._undecoded = frozenset(method.path for method in undecoded)

    def __repr__(self) -> str:
        return f"<PayloadTransport {self._coder!r} over {self._transport!r}>"

    async def unary(self, method: Method[Q, R], request: Q, *, metadata: Mapping[str, str] = NO_METADATA) -> Reply[R]:
        """One message there, one back."""
        reply = await self._transport.unary(method, await self._encoded(method, request), metadata=metadata)
        return await self._decoded(method, request, reply)

    def server_stream(
        self, method: Method[Q, R], request: Q, *, metadata: Mapping[str, str] = NO_METADATA
    ) -> AbstractAsyncContextManager[AsyncIterator[R]]:
        """One message there, any number back; the call is over when the block is left."""

        async def begin() -> AbstractAsyncContextManager[AsyncIterator[R]]:
            return self._transport.server_stream(method, await self._encoded(method, request), metadata=metadata)

        return _DecodedStream[R](begin, self._coder)

    async def client_stream(
        self, method: Method[Q, R], requests: AsyncIterable[Q], *, metadata: Mapping[str, str] = NO_METADATA
    ) -> Reply[R]:
        """Any number of messages there, one back."""
        _refuse_coded(method)
        stream: AsyncIterable[Q] = _EncodedRequests(requests, self._coder)
        if method.path == methods.SCHEDULE_AGENT_TASK.path:
            pieces = _JoinedPieces(cast("AsyncIterable[pb.ScheduleAgentTaskChunk]", requests), self._coder)
            stream = cast("AsyncIterable[Q]", pieces)
        reply = await self._transport.client_stream(method, stream, metadata=metadata)
        return await self._decoded(method, None, reply)

    async def _encoded(self, method: Method[Q, Any], request: Q) -> Q:
        _refuse_coded(method)
        return await encoded(request, self._coder)

    async def _decoded(self, method: Method[Any, R], request: object, reply: Reply[R]) -> Reply[R]:
        if method.reply is bytes or method.path in self._undecoded:
            return reply
        message = await decoded(reply.message, self._coder)
        if isinstance(request, pb.QueryWorkflowRequest) and request.query_name in _WHOLE_STATE:
            answer = cast("pb.QueryWorkflowResponse", message)
            state = await decoded_members(answer.result, self._coder)
            message = cast("R", pb.QueryWorkflowResponse(result=state, error=answer.error))
        return reply if message is reply.message else Reply(message, reply.metadata)


def _refuse_coded(method: Method[Any, Any]) -> None:
    if method.request is bytes:
        raise UsageError(f"{method.path}: a message that is coded already cannot have its payloads encoded")


# Classes, not generators, as those below them are: nothing has to be closed, whoever stops reading.


class _EncodedRequests(AsyncIterator[Q]):
    """Requests that are encoded as they are read."""

    def __init__(self, requests: AsyncIterable[Q], coder: Coder) -> None:
        self._requests = aiter(requests)
        self._coder = coder

    async def __anext__(self) -> Q:
        return await encoded(await anext(self._requests), self._coder)


class _JoinedPieces(AsyncIterator["pb.ScheduleAgentTaskChunk"]):
    """An input that comes in pieces is one payload: what is behind the header is put together, encoded and cut anew."""

    def __init__(self, chunks: AsyncIterable[pb.ScheduleAgentTaskChunk], coder: Coder) -> None:
        self._chunks = aiter(chunks)
        self._coder = coder
        self._pieces: list[bytes] = []
        self._data: bytes | None = None
        self._sent = 0

    async def __anext__(self) -> pb.ScheduleAgentTaskChunk:
        while self._data is None:
            chunk = await anext(self._chunks, None)
            if chunk is None:
                self._data = await self._coder.encode(b"".join(self._pieces))
            elif chunk.input_chunk is None:
                return chunk
            else:
                self._pieces.append(chunk.input_chunk)
        if self._sent >= len(self._data):
            raise StopAsyncIteration
        begin, self._sent = self._sent, self._sent + _PIECE_BYTES
        return pb.ScheduleAgentTaskChunk(input_chunk=self._data[begin : self._sent])


class _DecodedStream(AbstractAsyncContextManager[AsyncIterator[R]], AsyncIterator[R]):
    """Replies that are decoded as they are read."""

    def __init__(
        self, begin: Callable[[], Awaitable[AbstractAsyncContextManager[AsyncIterator[R]]]], coder: Coder
    ) -> None:
        self._begin = begin
        self._coder = coder
        self._block: AbstractAsyncContextManager[AsyncIterator[R]] | None = None
        self._stream: AsyncIterator[R] | None = None

    async def __aenter__(self) -> AsyncIterator[R]:
        block = await self._begin()
        self._stream = await block.__aenter__()
        self._block = block
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        assert self._block is not None
        return await self._block.__aexit__(exc_type, exc, traceback)  # noqa: ASYNC102 - the block bounds its own end

    async def __anext__(self) -> R:
        if self._stream is None:
            raise UsageError("read a stream inside its `async with` block")
        return await decoded(await anext(self._stream), self._coder)
