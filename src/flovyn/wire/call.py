"""One attempt at a call: grpclib's client stream over ours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

from grpclib import client
from grpclib.const import Cardinality, Status
from h2.errors import ErrorCodes

from flovyn.errors import MalformedMessage
from flovyn.wire.dispatch import NoListeners
from flovyn.wire.framing import receive_frame
from flovyn.wire.http2.failure import StreamFailed
from flovyn.wire.metadata import readable_metadata
from flovyn.wire.status import error_for_http_status, error_for_status, status_message
from flovyn.wire.transport import Reply, Shape

if TYPE_CHECKING:
    from types import TracebackType

    from flovyn.wire.codec import Codec
    from flovyn.wire.http2.session import Session
    from flovyn.wire.http2.stream import Headers, Stream
    from flovyn.wire.options import ChannelOptions
    from flovyn.wire.transport import Method

__all__ = ["CARDINALITY", "Call"]

Q = TypeVar("Q")
R = TypeVar("R")

CARDINALITY = {
    Shape.UNARY: Cardinality.UNARY_UNARY,
    Shape.SERVER_STREAM: Cardinality.UNARY_STREAM,
    Shape.CLIENT_STREAM: Cardinality.STREAM_UNARY,
}
_CONTENT_TYPES = ("application/grpc", "application/grpc+proto")


class Call(client.Stream[Q, R], Generic[Q, R]):
    """grpclib's state machine of a call, on one connection, with Flovyn's errors.

    Raises `StreamFailed` where the stream or the connection ended; the channel knows what to make of it.
    """

    _stream: Stream  # pyright: ignore[reportIncompatibleVariableOverride]

    def __init__(
        self, session: Session, method: Method[Q, R], headers: Headers, codec: Codec, options: ChannelOptions
    ) -> None:
        super().__init__(
            None,  # type: ignore[arg-type]  # only the methods that are overridden here ask for the channel
            method.path,
            None,  # type: ignore[arg-type]  # the metadata is in `headers`
            CARDINALITY[method.shape],
            method.request,
            method.reply,
            codec=codec,
            status_details_codec=None,
            dispatch=NoListeners(),  # type: ignore[arg-type]
        )
        self._session = session
        self._headers = headers
        self._options = options
        self._wrapper: Any = self

    def __enter__(self) -> None:
        """grpclib wraps each wait to end it with the stream; here the waits end by themselves."""

    def __exit__(self, *_: object) -> None: ...

    async def send_request(self, *, end: bool = False) -> None:  # noqa: ARG002 - nobody calls without a message
        stream = self._session.connection.create_stream()
        self._release_stream = await stream.open(self._headers, self._session.processor)
        self._stream: Stream = stream  # pyright: ignore[reportIncompatibleVariableOverride]
        self._send_request_done = True

    @property
    def answered(self) -> bool:
        """The server has said all it will say."""
        return self._stream.ended

    async def end(self) -> None:
        await self._stream.end()
        self._end_done = True

    async def send_frame(self, data: bytes, *, end: bool) -> None:
        """Sends a message that is framed already."""
        await self._stream.send_data(data, end_stream=end)
        self._send_message_done = True
        self._end_done = end

    async def recv_initial_metadata(self) -> None:
        try:
            await super().recv_initial_metadata()
        except ValueError as error:  # grpclib decodes names that end in -bin
            raise MalformedMessage(f"the server sent metadata that cannot be read ({error})") from error

    async def recv_trailing_metadata(self) -> None:
        try:
            await super().recv_trailing_metadata()
        except ValueError as error:
            raise MalformedMessage(f"the server sent metadata that cannot be read ({error})") from error

    async def recv_message(self) -> R | None:
        if not self._recv_initial_metadata_done:
            await self.recv_initial_metadata()
        try:
            data = await receive_frame(self._stream, self._options.max_receive_size, "max_receive_size")
        except MalformedMessage:
            self.explain()  # a message may break off because the server gave up, and then it says why
            raise
        if data is None:
            return None
        message: R = self._codec.decode(data, self._recv_type)
        return message

    async def finish(self) -> None:
        """Waits for the status and raises what it says."""
        if not self._recv_initial_metadata_done:
            await self.recv_initial_metadata()
        # grpclib wants our side ended first; a server may well answer before it has heard everything.
        self._end_done = True
        await self.recv_trailing_metadata()
        if len(self._stream.buffer):
            raise MalformedMessage("the server sent more than the one message of the answer")

    async def only_reply(self) -> Reply[R]:
        """The answer of a call that is answered once."""
        message = await self.recv_message()
        await self.finish()
        if message is None:
            raise MalformedMessage("the server answered OK without a message")
        return Reply(message, readable_metadata(self._stream.headers or ()))

    def close(self, failure: StreamFailed | None = None) -> None:
        """Frees the stream. Synchronous: a call that is left early puts RST_STREAM into the queue at once.

        Args:
            failure: Why it is closed. The slot of a refused stream is withheld until the failure gives it back.
        """
        if failure is not None and failure.termination.refused:
            slots = self._session.processor.slots
            slots.withhold()
            failure.give_back = slots.release
        self._stream.reset_nowait(ErrorCodes.CANCEL)
        self._release_stream()

    def explain(self) -> None:
        """Raises what the server said before the stream ended, if it said why."""
        self._maybe_raise()

    async def __aenter__(self) -> Call[Q, R]:
        await self.send_request()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        failure = exc if isinstance(exc, StreamFailed) else None
        try:
            if failure is not None:
                self.explain()
        except BaseException:
            self.close()
            raise
        self.close(failure)

    def _raise_for_status(self, headers_map: dict[str, str]) -> None:
        status = headers_map.get(":status", "none")
        if status != "200":
            raise error_for_http_status(status)

    def _raise_for_content_type(self, headers_map: dict[str, str]) -> None:
        content_type = headers_map.get("content-type", "none")
        if content_type.partition(";")[0].strip() not in _CONTENT_TYPES:
            raise MalformedMessage(f"the server does not speak gRPC: it answered with content-type {content_type!r}")

    def _process_grpc_status(self, headers_map: dict[str, str]) -> tuple[Any, str | None, Any]:
        header = headers_map.get("grpc-status")
        if header is None:
            raise MalformedMessage("the server ended the call without a grpc-status")
        if not header.isdecimal():
            raise MalformedMessage(f"the server ended the call with grpc-status {header!r}")
        if code := int(header):
            raise error_for_status(code, status_message(headers_map.get("grpc-message")))
        return _OK


_OK = (Status.OK, None, None)
