"""One call between its two ends."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import anyio
from grpclib.const import Status
from grpclib.metadata import encode_metadata

from flovyn.errors import ConnectionLost, InvalidArgument, MalformedMessage
from flovyn.server.acceptor.handling import handle, no_route, refusal, tell_undelivered
from flovyn.server.acceptor.routes import Call
from flovyn.wire.codec import Codec
from flovyn.wire.framing import receivable, sendable
from flovyn.wire.http2.failure import StreamFailed, Termination
from flovyn.wire.metadata import readable_metadata
from flovyn.wire.status import error_for_status
from flovyn.wire.transport import Reply

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping

    from flovyn.server.acceptor.options import AcceptorOptions
    from flovyn.server.acceptor.routes import Peer, Routes
    from flovyn.wire.transport import Method

__all__ = ["MemoryCall", "Terms"]

Q = TypeVar("Q")
R = TypeVar("R")

logger: logging.Logger = logging.getLogger(__name__)

_codec = Codec()
_AHEAD = 1
"""How many messages may be on their way in each direction."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What the server's end knows beside the call itself.

    Attributes:
        routes: What can be called.
        options: The server's limits.
        peer: The connection.
        ended: Told when the handler has ended.
    """

    routes: Routes
    options: AcceptorOptions
    peer: Peer
    ended: Callable[[MemoryCall[Any, Any]], None]


class MemoryCall(Generic[Q, R]):
    """One call: `serve` is run by the server, all else is called by the client.

    Args:
        method: What is called.
        metadata: The client's metadata.
        max_receive_size: The largest message that the client accepts.
    """

    def __init__(self, method: Method[Q, R], metadata: Mapping[str, str], max_receive_size: int) -> None:
        self._method = method
        self._metadata = metadata
        self._max_receive_size = max_receive_size
        self._handler = anyio.CancelScope()
        self._outbox, self._inbox = anyio.create_memory_object_stream[bytes](_AHEAD)
        self._replies_in, self._replies = anyio.create_memory_object_stream[bytes](_AHEAD)
        self._reply_metadata: Mapping[str, str] = {}
        self._status: tuple[Status, str] | None = None
        self._lost: str | None = None
        self._complete = False
        self._answering: Call | None = None
        self._taken = False

    # --- the client's end -------------------------------------------------------------------

    @property
    def answered(self) -> bool:
        """The server has said all it will say."""
        return self._status is not None or self._lost is not None

    def send_nowait(self, message: bytes) -> None:
        """Send the only message of a call that has just one."""
        self._outbox.send_nowait(message)
        self._complete = True
        self._outbox.close()

    async def send_frame(self, data: bytes, *, end: bool) -> None:
        """Send one of many messages, as soon as the server has taken those before it."""
        try:
            await self._outbox.send(data)
        except anyio.BrokenResourceError:
            raise StreamFailed(Termination("the server has ended the call")) from None
        if end:
            await self.end()

    async def end(self) -> None:
        """There are no more messages."""
        self._complete = True
        self._outbox.close()

    async def next_reply(self) -> R | None:
        """The next message of the answer; None after the last one.

        Raises:
            FlovynError: The server refused the call, or it ended before its time.
        """
        try:
            data = await self._replies.receive()
        except anyio.EndOfStream:
            self._raise_for_end()
            return None
        receivable(len(data), self._max_receive_size, "max_receive_size")
        message: R = _codec.decode(data, self._method.reply)
        self._taken = True
        return message

    async def only_reply(self) -> Reply[R]:
        """The answer to a call that is answered once.

        Raises:
            FlovynError: The server refused the call, or it ended before its time.
        """
        message = await self.next_reply()
        if message is None or await self.next_reply() is not None:
            raise MalformedMessage(f"{self._method.path}: the server answered OK, but not with one message")
        return Reply(message, self._reply_metadata)

    def lose(self, reason: str) -> None:
        """The connection is gone: the client is told at once, and the handler is cancelled."""
        if not self.answered:
            self._lost = reason
            self._replies_in.close()
        self._handler.cancel()

    def close(self) -> None:
        """The client takes no more of it; a handler that still runs is cancelled."""
        self._handler.cancel()
        self._outbox.close()
        self._replies.close()
        if self._status is not None and not self._taken and self._answering is not None:
            tell_undelivered(self._answering)

    def _raise_for_end(self) -> None:
        if self._status is None:
            reason = self._lost or "the server ended the call without a status"
            raise ConnectionLost(f"{self._method.path} in memory: {reason}; the call may have taken effect")
        status, text = self._status
        if status is not Status.OK:
            raise error_for_status(status.value, text)

    # --- the server's end -------------------------------------------------------------------

    async def serve(self, terms: Terms) -> None:
        """Answer it. Raises nothing but cancellation."""
        try:
            with self._handler:
                status = await self._outcome(terms)
                if self._lost is None:
                    self._status = status
        except StreamFailed:
            pass  # the client has gone while it was being answered
        except Exception:
            logger.exception("answering a call failed")
        finally:
            if not self.answered:
                self._lost = "the server is ending"
            self._replies_in.close()
            self._inbox.close()
            terms.ended(self)

    async def _outcome(self, terms: Terms) -> tuple[Status, str]:
        path = self._method.path
        try:
            route = terms.routes.find(path)
            if route is None:
                raise no_route(path)
            call = self._answering = Call(terms.peer, route.method, self._metadata)
            await handle(route, call, _Exchange(self, call, terms.options))
        except StreamFailed:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a handler raises becomes a status
            return refusal(error, path)
        return Status.OK, ""

    async def received(self) -> bytes | None:
        """The next request, at the server's end; None after the last one."""
        try:
            return await self._inbox.receive()
        except anyio.EndOfStream:
            if self._complete:
                return None
            raise StreamFailed(Termination("the client has gone")) from None

    async def reply(self, message: bytes, metadata: Mapping[str, str]) -> None:
        """A message of the answer, from the server's end."""
        if metadata and not self._reply_metadata:
            self._reply_metadata = readable_metadata(encode_metadata(metadata))
        await self._replies_in.send(message)


class _Exchange:
    """The messages of a call as a route's handler has them."""

    def __init__(self, memory: MemoryCall[Any, Any], call: Call, options: AcceptorOptions) -> None:
        self._memory = memory
        self._call = call
        self._options = options

    async def only_request(self) -> Any:
        data = await self._memory.received()
        if data is None:
            raise InvalidArgument("the call ended without a message")
        return self._decoded(data)

    async def requests(self) -> AsyncGenerator[Any]:  # noqa: ASYNC900 - its caller closes it
        while (data := await self._memory.received()) is not None:
            yield self._decoded(data)

    async def send_message(self, message: Any) -> None:
        data = _codec.encode(message, self._call.method.reply)
        sendable(data, self._options.max_send_size, "max_send_size")
        await self._memory.reply(data, self._call.reply_metadata)

    def _decoded(self, data: bytes) -> Any:
        receivable(len(data), self._options.max_receive_size, "max_receive_size")
        return _codec.decode(data, self._call.method.request)
