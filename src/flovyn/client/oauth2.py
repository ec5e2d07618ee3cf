"""How to get tokens from an OAuth2 provider."""

from __future__ import annotations

from dataclasses import dataclass, field

from flovyn.errors import ConfigurationError

__all__ = ["OAuth2"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OAuth2:
    """Client credentials, for which a provider gives tokens that expire.

    A token is fetched by the first call, and renewed by one shortly before it expires, or when the server refuses it.

    Args:
        token_url: The provider's token endpoint.
        client_id: Who asks.
        client_secret: The proof. It is shown to the token endpoint only, and stands in no message and no log.
        scopes: What the token is to be good for.

    Raises:
        ConfigurationError: One of them cannot be sent.

    Example:
        >>> OAuth2(token_url="https://id.example.org/token", client_id="shop", client_secret="s3cr3t")
        OAuth2(token_url='https://id.example.org/token', client_id='shop', scopes=())
    """

    token_url: str
    client_id: str
    client_secret: str = field(repr=False)
    scopes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_url(self.token_url)
        for name, value in (("client_id", self.client_id), ("client_secret", self.client_secret)):
            if not value:
                raise ConfigurationError(f"{name} is empty")
        if isinstance(self.scopes, str):
            raise ConfigurationError(f"scopes={self.scopes!r} is one string; write scopes=({self.scopes!r},)")
        for scope in self.scopes:
            if not scope or any(character.isspace() for character in scope):
                raise ConfigurationError(f"a scope is one word, not {scope!r}")


def _check_url(url: str) -> None:
    from urllib.parse import urlsplit  # most programs import this module, and few of them check a URL

    if "@" in url:
        raise ConfigurationError("token_url carries no user and password; pass client_id=... and client_secret=...")
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ConfigurationError(f"token_url looks like https://host/path, not {url!r}")
