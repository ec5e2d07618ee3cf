"""A server's URL, taken apart, and the byte stream to it."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

import anyio
from anyio.streams.tls import TLSAttribute

from flovyn.errors import ConfigurationError, MalformedMessage, ServerUnavailable

if TYPE_CHECKING:
    from anyio.abc import ByteStream

__all__ = ["Endpoint"]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a server listens.

    Args:
        url: As the user wrote it, for messages.
        host: Name or address, an IPv6 address without brackets.
        port: TCP port.
        ssl_context: How TLS is spoken; None for plain HTTP/2.
    """

    url: str
    host: str
    port: int
    ssl_context: ssl.SSLContext | None = field(repr=False)

    @classmethod
    def parse(cls, url: str, ssl_context: ssl.SSLContext | None) -> Endpoint:
        """Takes `url` apart: ``http://`` for plain HTTP/2, ``https://`` for TLS.

        Raises:
            ConfigurationError: It is no URL of a gRPC server, or contradicts `ssl_context`.
        """
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise ConfigurationError(f"{url!r} is not a URL: {error}") from None
        if "@" in parts.netloc:
            raise ConfigurationError("a server URL carries no user and password; pass token=...")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigurationError(f"a server URL looks like http://host:port or https://host:port, not {url!r}")
        if parts.path not in ("", "/") or parts.query or parts.fragment:
            raise ConfigurationError(f"a server URL ends after the port: {url!r}")
        if port == 0:
            raise ConfigurationError(f"nobody listens on port 0: {url!r}")
        secure = parts.scheme == "https"
        if ssl_context is not None and not secure:
            raise ConfigurationError(f"an SSL context needs an https:// URL, not {url!r}")
        if secure:
            ssl_context = ssl_context or ssl.create_default_context()
            ssl_context.set_alpn_protocols(["h2"])
        return cls(url, _ascii(parts.hostname, url), (443 if secure else 80) if port is None else port, ssl_context)

    @property
    def authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def scheme(self) -> str:
        return "http" if self.ssl_context is None else "https"

    async def connect(self) -> ByteStream:
        """Connects, with TLS if the URL says so.

        Raises:
            ServerUnavailable: Nobody listens there, or TLS cannot be agreed on.
            MalformedMessage: TLS is there, but no HTTP/2 behind it.
        """
        try:
            if self.ssl_context is None:
                return await anyio.connect_tcp(self.host, self.port)
            stream = await anyio.connect_tcp(
                self.host, self.port, ssl_context=self.ssl_context, tls_standard_compatible=False
            )
        except (OSError, anyio.BrokenResourceError, anyio.EndOfStream) as error:
            raise ServerUnavailable(f"cannot connect to {self.url}: {_reason(error)}") from error
        if (protocol := stream.extra(TLSAttribute.alpn_protocol)) != "h2":
            with anyio.CancelScope(shield=True), anyio.move_on_after(1):
                await anyio.aclose_forcefully(stream)
            raise MalformedMessage(f"{self.url} does not offer HTTP/2 over TLS (ALPN says {protocol})")
        return stream


def _ascii(host: str, url: str) -> str:
    """The name as it stands in DNS, and in the headers of a call."""
    try:
        name = host if host.isascii() else host.encode("idna").decode("ascii")
    except UnicodeError as error:
        raise ConfigurationError(f"{url!r} has a host that no name server can be asked for: {error}") from None
    if not name.isprintable() or " " in name:
        raise ConfigurationError(f"{url!r} has a host with characters that no host has")
    return name


def _reason(error: BaseException) -> str:
    """The innermost text that says something: AnyIO wraps, and groups the failures of several addresses."""
    while error.__cause__ is not None and not isinstance(error, ssl.SSLError):
        error = error.__cause__
    if isinstance(error, BaseExceptionGroup):
        inner = cast("BaseExceptionGroup[BaseException]", error).exceptions
        return "; ".join(dict.fromkeys(_reason(each) for each in inner))
    return str(error) or type(error).__name__
