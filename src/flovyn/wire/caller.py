"""What the three ways of calling have in common: headers, framing, and what to do when an attempt fails."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import anyio
import grpclib
from grpclib.metadata import encode_metadata

from flovyn.errors import ConfigurationError, ConnectionLost, MalformedMessage, ServerUnavailable, UsageError
from flovyn.wire.call import Call
from flovyn.wire.codec import Codec
from flovyn.wire.framing import frame, sendable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flovyn.wire.dialer import Dialer
    from flovyn.wire.endpoint import Endpoint
    from flovyn.wire.http2.failure import StreamFailed
    from flovyn.wire.http2.stream import Headers
    from flovyn.wire.options import ChannelOptions
    from flovyn.wire.tally import Tally
    from flovyn.wire.transport import Method

__all__ = ["Caller", "bearer"]

Q = TypeVar("Q")
R = TypeVar("R")

_ATTEMPTS = 12
_PAUSE, _LONGEST_PAUSE = 0.001, 0.1
_USER_AGENT = f"flovyn-python grpclib/{grpclib.__version__}"


def bearer(token: str) -> str:
    """The value of the ``authorization`` header.

    Raises:
        ConfigurationError: The token cannot stand in a header. The message does not show it.
    """
    if not token or not token.isascii() or not token.isprintable() or token != token.strip():
        raise ConfigurationError("the token is empty or has characters that cannot be sent in a header")
    return f"Bearer {token}"


class Caller:
    """Makes attempts at calls, and decides which may be made again.

    Args:
        endpoint: The server.
        options: The limits.
        authorization: The value of the header, if there is one.
        tally: Where repeated attempts are counted.
    """

    def __init__(self, endpoint: Endpoint, options: ChannelOptions, authorization: str | None, tally: Tally) -> None:
        self._endpoint = endpoint
        self._options = options
        self._authorization = authorization
        self._tally = tally
        self._codec = Codec()
        self._headers: dict[str, Headers] = {}
        self.dialer: Dialer | None = None

    def message(self, method: Method[Q, Any], request: Q) -> bytes:
        """The request as bytes.

        Raises:
            PayloadTooLarge: It is over the limit.
        """
        return sendable(self._codec.encode(request, method.request), self._options.max_send_size, "max_send_size")

    def frame(self, method: Method[Q, Any], request: Q) -> bytes:
        """The request as it goes into the stream.

        Raises:
            PayloadTooLarge: It is over the limit.
        """
        return frame(self._codec.encode(request, method.request), self._options.max_send_size, "max_send_size")

    def headers(self, method: Method[Any, Any], metadata: Mapping[str, str]) -> Headers:
        """The request headers, which are made once for each method.

        Raises:
            UsageError: `metadata` has a name or a value that cannot be sent.
        """
        headers = self._headers.get(method.path)
        if headers is None:
            headers = self._headers[method.path] = self._prepare(method.path)
        if not metadata:
            return headers
        if self._authorization is not None and "authorization" in metadata:
            raise UsageError("the channel has a token, so metadata cannot have an authorization")
        try:
            return [*headers, *encode_metadata(metadata)]
        except (ValueError, TypeError) as error:
            raise UsageError(f"metadata cannot be sent: {error}") from None

    async def begin(self, method: Method[Q, R], headers: Headers) -> Call[Q, R]:
        """An attempt, on a connection that takes it; ``async with`` opens its stream.

        Raises:
            UsageError: The channel is not open.
            ServerUnavailable: The server cannot be reached.
            MalformedMessage: What listens there does not speak HTTP/2.
        """
        if self.dialer is None:
            raise UsageError("the channel is not open: call inside its `async with` block")
        return Call(await self.dialer.session(), method, headers, self._codec, self._options)

    async def consider(
        self, error: StreamFailed, method: Method[Any, Any], attempt: int, *, repeatable: bool = True
    ) -> None:
        """Returns, after a pause, if the call may be made again.

        Raises:
            ServerUnavailable: It may, but has been often enough, or its messages are gone.
            ConnectionLost: It may have taken effect.
            MalformedMessage: Likewise, because of a server that broke the protocol.
        """
        try:
            await self._consider(error, method, attempt, repeatable=repeatable)
        finally:
            if error.give_back is not None:
                error.give_back()

    async def _consider(self, error: StreamFailed, method: Method[Any, Any], attempt: int, *, repeatable: bool) -> None:
        end = error.termination
        where = f"{method.path} at {self._endpoint.url}"
        if end.malformed:
            raise MalformedMessage(f"{where}: {end.reason}; the call may have taken effect") from error
        if not end.unprocessed:
            raise ConnectionLost(f"{where}: {end.reason}; the call may have taken effect") from error
        if not repeatable or attempt >= _ATTEMPTS:
            raise ServerUnavailable(f"{where}: {end.reason}; the call had no effect") from error
        self._tally.repeated += 1
        if end.refused or attempt > 1:
            await anyio.sleep(min(_PAUSE * 2 ** (attempt - 1), _LONGEST_PAUSE))

    def _prepare(self, path: str) -> Headers:
        headers = [
            (":method", "POST"),
            (":scheme", self._endpoint.scheme),
            (":path", path),
            (":authority", self._endpoint.authority),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
            ("user-agent", _USER_AGENT),
        ]
        if self._authorization is not None:
            headers.append(("authorization", self._authorization))
        return headers
