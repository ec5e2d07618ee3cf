"""Requests over HTTP, through one pool of connections for each client, with Flovyn's errors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self
from urllib.parse import urlsplit

import anyio

from flovyn.errors import ConfigurationError, ConnectionLost, MalformedMessage, ServerUnavailable, UsageError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping
    from types import TracebackType

    import httpx2

__all__ = ["Http", "Response", "checked_url"]

_SILENT_FOR: Final = 60.0
"""Seconds in which no byte comes, or can be sent, after which a connection is taken for lost."""

_CLOSING_FOR: Final = 1.0


class Response(NamedTuple):
    """An answer.

    Attributes:
        status: The status.
        location: Where the server redirects to, if it does.
        body: The body.
    """

    status: int
    location: str | None
    body: bytes


def checked_url(option: str, url: str) -> str:
    """A URL to which something can be added.

    Raises:
        ConfigurationError: It is none.
    """
    if "@" in url:
        raise ConfigurationError(f"{option} carries no user and password; pass api_key=... or oauth2=...")
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise ConfigurationError(f"{option}={url!r} is not a URL: {error}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ConfigurationError(f"{option} looks like http://host:port or https://host:port, not {url!r}")
    return url.rstrip("/")


class Http:
    """A pool of connections, inside its `async with` block. The first request makes it.

    Args:
        ssl_context: How HTTPS is spoken, instead of the system's defaults.
        connect_within: For how long a connection may take, in seconds.
        transport: Makes what carries the requests, instead of the network.
    """

    __slots__ = ("_client", "_connect_within", "_open", "_ssl_context", "_transport")

    def __init__(
        self,
        *,
        ssl_context: ssl.SSLContext | None = None,
        connect_within: float = 20.0,
        transport: Callable[[], httpx2.AsyncBaseTransport] | None = None,
    ) -> None:
        self._ssl_context = ssl_context
        self._transport = transport
        self._connect_within = connect_within
        self._client: httpx2.AsyncClient | None = None
        self._open = False

    async def __aenter__(self) -> Self:
        self._open = True
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._open = False
        client, self._client = self._client, None
        if client is not None:
            with anyio.move_on_after(_CLOSING_FOR, shield=True):
                await client.aclose()

    async def send(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        query: Mapping[str, Any] | None = None,
        content: bytes | None = None,
    ) -> Response:
        """Send a request and read the answer, whatever its status.

        Raises:
            ServerUnavailable: Nobody listens there; the request had no effect.
            ConnectionLost: The connection broke while the request was under way; it may have had an effect.
            MalformedMessage: The answer is not HTTP.
            ConfigurationError: The package that is needed for this is not installed.
            UsageError: The client is closed.
        """
        if not self._open:
            raise UsageError("the client is closed: call inside its `async with` block")
        httpx = _httpx()
        if self._client is None:
            self._client = self._make(httpx)
        where = f"{method} {url}"
        try:
            reply = await self._client.request(
                method, url, headers=dict(headers), params=query, content=content, follow_redirects=False
            )
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError) as error:
            raise ServerUnavailable(f"{where}: cannot connect: {_said(error)}") from error
        except httpx.RemoteProtocolError as error:
            if "disconnected" not in str(error):
                raise MalformedMessage(f"{where}: what listens there does not speak HTTP: {error}") from error
            raise ConnectionLost(f"{where}: {error}; the call may have taken effect") from error
        except httpx.InvalidURL as error:
            raise ConfigurationError(f"{where}: this is no address: {error}") from error
        except httpx.DecodingError as error:
            raise MalformedMessage(f"{where}: the answer cannot be read: {error}") from error
        except httpx.RequestError as error:
            raise ConnectionLost(f"{where}: {_said(error)}; the call may have taken effect") from error
        return Response(reply.status_code, reply.headers.get("location"), reply.content)

    def _make(self, httpx: Any) -> httpx2.AsyncClient:
        times = httpx.Timeout(_SILENT_FOR, connect=self._connect_within, pool=None)
        verify = True if self._ssl_context is None else self._ssl_context
        transport = None if self._transport is None else self._transport()
        try:
            made: httpx2.AsyncClient = httpx.AsyncClient(verify=verify, timeout=times, transport=transport)
        except (ValueError, OSError, httpx.InvalidURL) as error:
            # Proxies and certificates of the environment are read here.
            raise ConfigurationError(f"HTTP cannot be set up with this environment: {error}") from error
        return made


def _httpx() -> Any:
    try:
        import httpx2
    except ImportError as error:
        raise ConfigurationError(
            "REST and OAuth2 need the package httpx2, which is not installed: pip install 'flovyn[http]'"
        ) from error
    return httpx2


def _said(error: BaseException) -> str:
    """What an error says, or the one behind it: on trio only the last of them has words for it."""
    behind: BaseException | None = error
    while behind is not None:
        if str(behind):
            return str(behind)
        behind = behind.__cause__ or behind.__context__
    return type(error).__name__
