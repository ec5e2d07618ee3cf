"""What the server is shown with each call: a key that stays the same, or a token that is renewed."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import urlencode

import anyio
import msgspec

from flovyn.client.retries import CALLS, repeat
from flovyn.errors import ConnectionLost, MalformedMessage, ServerUnavailable, TokenRefused, TransportError
from flovyn.wire.caller import bearer

if TYPE_CHECKING:
    from collections.abc import Callable

    from flovyn.client.http import Http
    from flovyn.client.oauth2 import OAuth2
    from flovyn.errors import FlovynError

__all__ = ["Credential", "Fixed", "Tokens"]

_MARGIN: Final = 30.0
"""Seconds before its end at which a token is renewed; half of its life, if that is less."""

_TRY_AGAIN: Final = 5.0
"""Seconds until a provider is asked again that is away, as long as the token is good."""


class Credential(Protocol):
    """What the ``authorization`` header says."""

    async def authorization(self) -> str | None:
        """The value of the header; None for none."""
        ...

    async def renewed(self, refused: str) -> str | None:
        """The value after the server has refused one; the same, if there is no other."""
        ...

    def forget(self, refused: str) -> None:
        """The server has refused this value: the next one has to be another."""
        ...


class Fixed:
    """The same key for each call, or none.

    Args:
        key: The key.

    Raises:
        ConfigurationError: It cannot stand in a header. The message does not show it.
    """

    __slots__ = ("_header",)

    def __init__(self, key: str | None) -> None:
        self._header = None if key is None else bearer(key)

    async def authorization(self) -> str | None:
        """The value of the header; None for none."""
        return self._header

    async def renewed(self, refused: str) -> str | None:
        """The same: there is no other."""
        return refused

    def forget(self, refused: str) -> None:
        """Nothing to be done: there is no other."""


class _Granted(msgspec.Struct):
    access_token: str
    token_type: str = "Bearer"  # noqa: S105 - no secret
    expires_in: float | None = None


class _Refused(msgspec.Struct):
    error: str
    error_description: str | None = None


class Tokens:
    """Tokens for one client and its workers. Whoever needs one first fetches it, and the others wait for that.

    Args:
        oauth2: How to get them.
        http: What asks.
        clock: The time, in seconds.
    """

    __slots__ = ("_asking", "_clock", "_expires_at", "_header", "_http", "_oauth2", "_renew_at")

    def __init__(self, oauth2: OAuth2, http: Http, *, clock: Callable[[], float] = anyio.current_time) -> None:
        self._clock = clock
        self._oauth2 = oauth2
        self._http = http
        self._asking = anyio.Lock()
        self._header: str | None = None
        self._renew_at = self._expires_at = -math.inf

    def __repr__(self) -> str:
        return f"<Tokens {self._oauth2!r}>"

    async def authorization(self) -> str:
        """The value of the header, with a token that is good for a while.

        Raises:
            TokenRefused: The provider gives none.
            ServerUnavailable: The provider cannot be reached, or the connection to it broke.
            MalformedMessage: It does not answer as a token endpoint does.
        """
        now = self._clock()
        if self._header is not None and (now < self._renew_at or (now < self._expires_at and self._asking.locked())):
            return self._header
        async with self._asking:
            if self._header is None or self._clock() >= self._renew_at:
                await self._renew()
            return self._known()

    async def renewed(self, refused: str) -> str:
        """The value after the server has refused one. Of many that were refused the same, one asks the provider.

        Raises:
            TokenRefused: The provider gives no other.
            ServerUnavailable: The provider cannot be reached, or the connection to it broke.
            MalformedMessage: It does not answer as a token endpoint does.
        """
        self.forget(refused)
        return await self.authorization()

    def forget(self, refused: str) -> None:
        """The server has refused this value."""
        if self._header == refused:
            self._header = None

    def _known(self) -> str:
        assert self._header is not None
        return self._header

    async def _renew(self) -> None:
        try:
            granted = await repeat(self._ask, CALLS)
        except TransportError as error:
            now = self._clock()
            if self._header is None or now >= self._expires_at:
                if isinstance(error, ConnectionLost):
                    # The call that needs the token was not made; nobody must take it for one that may have been.
                    raise ServerUnavailable(f"no token could be fetched: {error}") from error
                raise
            self._renew_at = now + _TRY_AGAIN  # what there is will do for a while
            return
        self._header = bearer(granted.access_token)
        life = math.inf if granted.expires_in is None else granted.expires_in
        self._expires_at = self._clock() + life
        self._renew_at = self._expires_at - min(_MARGIN, life / 2)

    async def _ask(self) -> _Granted:
        oauth2 = self._oauth2
        form = {
            "grant_type": "client_credentials",
            "client_id": oauth2.client_id,
            "client_secret": oauth2.client_secret,
        }
        if oauth2.scopes:
            form["scope"] = " ".join(oauth2.scopes)
        headers = {"accept": "application/json", "content-type": "application/x-www-form-urlencoded"}
        answer = await self._http.send("POST", oauth2.token_url, headers=headers, content=urlencode(form).encode())
        where = f"the token endpoint {oauth2.token_url}"
        if answer.status != 200:
            raise _refusal(where, answer.status, answer.body)
        try:
            granted = msgspec.json.decode(answer.body, type=_Granted, strict=False)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise MalformedMessage(f"{where} answers with what is no token: {error}") from None
        if granted.token_type.lower() != "bearer":
            raise MalformedMessage(f"{where} gives a token of type {granted.token_type!r}; only Bearer can be used")
        return granted


def _refusal(where: str, status: int, body: bytes) -> FlovynError:
    if status == 429 or status >= 500:
        return ServerUnavailable(f"{where} answers with HTTP status {status}")
    try:
        said = msgspec.json.decode(body, type=_Refused)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        said = _Refused(f"HTTP status {status}")
    text = said.error if said.error_description is None else f"{said.error}: {said.error_description}"
    return TokenRefused(f"{where} gives no token: {text}", error=said.error, description=said.error_description)
