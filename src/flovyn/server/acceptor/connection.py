"""The calls of one client connection, each in a task of its own."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import anyio
from grpclib.metadata import decode_timeout
from grpclib.protocol import AbstractHandler
from h2.errors import ErrorCodes

from flovyn.errors import DeadlineExceeded, InvalidArgument
from flovyn.server.acceptor.answer import Answer
from flovyn.server.acceptor.handling import handle, no_route, refusal, tell_undelivered
from flovyn.server.acceptor.routes import Call
from flovyn.wire.http2.failure import StreamFailed
from flovyn.wire.metadata import readable_metadata
from flovyn.wire.transport import Method, Shape

if TYPE_CHECKING:
    from collections.abc import Callable

    from anyio.abc import TaskGroup

    from flovyn.server.acceptor.drain import Drain
    from flovyn.server.acceptor.options import AcceptorOptions
    from flovyn.server.acceptor.routes import Peer, Routes
    from flovyn.wire.codec import Codec
    from flovyn.wire.http2.stream import Headers, Stream

__all__ = ["ServerConnection"]

logger: logging.Logger = logging.getLogger(__name__)

_REMEMBERED = 256
"""So many of the answers that were sent last, and that somebody wants to know of if they did not arrive."""


class ServerConnection(AbstractHandler):
    """Begins a task for each call and cancels it when the client does.

    Args:
        peer: Who calls.
        routes: What can be called.
        codec: Reads and writes messages.
        options: The limits.
        tasks: Where handlers run.
        drain: Hears of the calls.
    """

    def __init__(
        self, peer: Peer, routes: Routes, codec: Codec, options: AcceptorOptions, tasks: TaskGroup, drain: Drain
    ) -> None:
        self._drain = drain
        self._peer = peer
        self._routes = routes
        self._codec = codec
        self._options = options
        self._tasks = tasks
        self._calls: dict[Any, anyio.TaskHandle[None, Any]] = {}
        self._sent: dict[int, Call] = {}

    def accept(self, stream: Any, headers: Any, release_stream: Callable[[], None]) -> None:
        if len(self._calls) >= self._options.max_streams:
            stream.reset_nowait(ErrorCodes.REFUSED_STREAM)
            release_stream()
            return
        self._calls[stream] = self._tasks.create_task(self._answer(stream, headers, release_stream))

    def cancel(self, stream: Any) -> None:
        call = self._calls.get(stream)
        if call is not None:  # it may not have begun: the reset may be in the same packet
            call.cancel()

    def reset_late(self, stream_id: int) -> None:
        """The client gave up a call whose answer was on its way: it has not got it."""
        call = self._sent.pop(stream_id, None)
        if call is not None:
            tell_undelivered(call)

    def close(self) -> None:
        for call in list(self._calls.values()):
            call.cancel()

    async def _answer(self, stream: Stream, headers: Headers, release: Callable[[], None]) -> None:
        try:
            with self._drain.call():
                await self._serve(stream, headers)
        except StreamFailed:
            pass  # the client has gone while it was being answered
        except Exception:
            logger.exception("answering a call failed")
        finally:
            del self._calls[stream]
            stream.reset_nowait(ErrorCodes.INTERNAL_ERROR)  # unless it has been answered in full
            release()

    async def _serve(self, stream: Stream, headers: Headers) -> None:
        named = dict(headers)
        path = named.get(":path", "")
        route = self._routes.find(path)
        call = Call(self._peer, route.method if route else _unknown(path), readable_metadata(headers))
        answer = Answer(stream, call, self._codec, self._options)
        try:
            _require_grpc(named)
            if route is None:
                raise no_route(path)
            self._drain.admit()
            limit = named.get("grpc-timeout")
            if limit is None:
                await handle(route, call, answer)
            else:
                with anyio.move_on_after(_seconds(limit)) as deadline:
                    await handle(route, call, answer)
                if deadline.cancelled_caught:
                    raise DeadlineExceeded("the deadline of the call has passed")
        except StreamFailed:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a handler raises becomes a status
            status, text = refusal(error, path)
            await answer.send_trailing_metadata(status=status, status_message=text)
        else:
            await answer.finish()
            if call.undelivered is not None:
                self._remember(stream, call)

    def _remember(self, stream: Stream, call: Call) -> None:
        if len(self._sent) >= _REMEMBERED:
            del self._sent[next(iter(self._sent))]
        self._sent[stream.id or 0] = call


def _require_grpc(headers: dict[str, str]) -> None:
    content_type = headers.get("content-type", "")
    if headers.get(":method") != "POST" or not content_type.startswith("application/grpc"):
        raise InvalidArgument("this is a gRPC server: calls are POST with content-type application/grpc")
    if content_type.partition(";")[0].strip() not in ("application/grpc", "application/grpc+proto"):
        raise InvalidArgument(f"messages are protobuf, not {content_type}")


def _seconds(header: str) -> float:
    try:
        return float(decode_timeout(header))
    except ValueError:
        raise InvalidArgument(f"grpc-timeout {header!r} cannot be read") from None


def _unknown(path: str) -> Method[Any, Any]:
    return Method(path, bytes, bytes, Shape.UNARY)
