"""One call as the server sees it: grpclib's server stream over ours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from grpclib import server
from grpclib.metadata import encode_metadata

from flovyn.errors import InvalidArgument
from flovyn.wire.call import CARDINALITY
from flovyn.wire.dispatch import NoListeners
from flovyn.wire.framing import frame, receive_frame
from flovyn.wire.http2.failure import StreamFailed

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from flovyn.server.acceptor.options import AcceptorOptions
    from flovyn.server.acceptor.routes import Call
    from flovyn.wire.codec import Codec
    from flovyn.wire.http2.stream import Headers, Stream

__all__ = ["Answer"]

_HEADERS: Final[Headers] = [(":status", "200"), ("content-type", "application/grpc+proto")]
_TRAILERS: Final[Headers] = [("grpc-status", "0")]


class Answer(server.Stream[Any, Any]):
    """grpclib's state machine of an answered call, with limits, and metadata that the handler may still set."""

    _stream: Stream

    def __init__(self, stream: Stream, call: Call, codec: Codec, options: AcceptorOptions) -> None:
        method = call.method
        super().__init__(
            stream,
            method.path,
            CARDINALITY[method.shape],
            method.request,
            method.reply,
            codec=codec,
            status_details_codec=None,
            dispatch=NoListeners(),  # type: ignore[arg-type]
        )
        self._call = call
        self._options = options

    async def recv_message(self) -> Any:
        data = await receive_frame(self._stream, self._options.max_receive_size, "max_receive_size")
        return None if data is None else self._codec.decode(data, self._recv_type)

    async def only_request(self) -> Any:
        """The request of a call that has just one."""
        message = await self.recv_message()
        if message is None:
            raise InvalidArgument("the call ended without a message")
        if self._stream.termination is not None:
            # Reset in the packet it came in. A handler would run up to its first wait before it were cancelled.
            raise StreamFailed(self._stream.termination)
        return message

    async def requests(self) -> AsyncGenerator[Any]:  # noqa: ASYNC900 - its caller closes it
        """The requests of a call that has any number."""
        while (message := await self.recv_message()) is not None:
            yield message

    async def send_message(self, message: Any) -> None:
        data = frame(self._codec.encode(message, self._send_type), self._options.max_send_size, "max_send_size")
        if not self._send_initial_metadata_done:
            metadata = self._call.reply_metadata
            await self._stream.send_headers([*_HEADERS, *encode_metadata(metadata)] if metadata else _HEADERS)
            self._send_initial_metadata_done = True
        await self._stream.send_data(data)
        self._send_message_done = True

    async def finish(self) -> None:
        """End an answer that is complete."""
        if not self._send_message_done:  # a stream that had nothing to say
            await self.send_trailing_metadata()
            return
        await self._stream.send_headers(_TRAILERS, end_stream=True)
        self._send_trailing_metadata_done = True
