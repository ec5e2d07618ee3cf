"""The server's REST interface: requests of an organisation, their answers as types, its refusals as Flovyn's errors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import quote

import msgspec

from flovyn.client.retries import repeat
from flovyn.errors import (
    ConfigurationError,
    ConnectionLost,
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    MalformedMessage,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    ServerError,
    ServerUnavailable,
    Unauthenticated,
    Unimplemented,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flovyn.client.credentials import Credential
    from flovyn.client.http import Http, Response
    from flovyn.definitions import RetryPolicy
    from flovyn.errors import FlovynError

__all__ = ["Rest", "part"]

T = TypeVar("T")

_REFUSALS: Final[dict[int, type[ServerError]]] = {
    400: InvalidArgument,
    401: Unauthenticated,
    403: PermissionDenied,
    404: NotFound,
    405: Unimplemented,
    408: DeadlineExceeded,
    409: FailedPrecondition,
    413: ResourceExhausted,
    415: InvalidArgument,
    422: InvalidArgument,
    501: Unimplemented,
}


class _Refusal(msgspec.Struct):
    error: str


_decode_refusal: Final = msgspec.json.Decoder(_Refusal).decode


def part(text: str) -> str:
    """One part of a path, whatever characters are in it."""
    return quote(text, safe="")


class Rest:
    """Makes requests of one organisation.

    Args:
        http: What sends them.
        url: The server; None if nobody has said where it is.
        org: The organisation's slug or its UUID.
        credential: What the server is shown.
        policy: How often a request is made that may be made again.
    """

    __slots__ = ("_base", "_credential", "_http", "_policy")

    def __init__(self, http: Http, url: str | None, org: str, credential: Credential, policy: RetryPolicy) -> None:
        self._http = http
        self._base = None if url is None else f"{url}/api/orgs/{part(org)}"
        self._credential = credential
        self._policy = policy

    async def read(self, what: str, path: str, reply: type[T], query: Mapping[str, Any] | None = None) -> T:
        """Look at something, as often as it takes.

        Args:
            what: What it is, for messages: "describing a workflow".
            path: What stands behind the organisation.
            reply: What the answer is.
            query: The query parameters; those that are None are left out.
        """

        async def call() -> T:
            return await self.look(what, path, reply, query)

        return await repeat(call, self._policy)

    async def look(self, what: str, path: str, reply: type[T], query: Mapping[str, Any] | None = None) -> T:
        """The same, once: for those who go on asking by themselves."""
        return await self._call(what, "GET", path, reply, query=query)

    async def act(
        self,
        what: str,
        path: str,
        body: object,
        reply: type[T],
        *,
        conflict: type[ServerError] = FailedPrecondition,
        repeatable: bool = False,
    ) -> T:
        """Change something.

        Args:
            what: What it is, for messages: "cancelling a workflow".
            path: What stands behind the organisation.
            body: What is sent, as JSON.
            reply: What the answer is.
            conflict: What a status of 409 means here.
            repeatable: Whether it acts once however often it is done.
        """

        async def call() -> T:
            return await self._call(what, "POST", path, reply, body=msgspec.json.encode(body), conflict=conflict)

        return await repeat(call, self._policy) if repeatable else await call()

    async def _call(
        self,
        what: str,
        method: str,
        path: str,
        reply: type[T],
        *,
        query: Mapping[str, Any] | None = None,
        body: bytes | None = None,
        conflict: type[ServerError] = FailedPrecondition,
    ) -> T:
        if self._base is None:
            raise ConfigurationError(
                f"{what} goes over REST, and this client does not know where that is: pass http_url=... to connect, "
                "or set FLOVYN_HTTP_URL"
            )
        url, given = f"{self._base}{path}", {key: value for key, value in (query or {}).items() if value is not None}
        header = await self._credential.authorization()
        answer = await self._send(method, url, given, body, header)
        if answer.status == 401 and header is not None and (other := await self._credential.renewed(header)) != header:
            answer = await self._send(method, url, given, body, other)
        if not 200 <= answer.status < 300:
            raise _refusal(what, url, answer, conflict, anonymous=header is None)
        try:
            return msgspec.json.decode(answer.body, type=reply)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise MalformedMessage(f"{what}: the answer of {url} cannot be read: {error}") from error

    async def _send(
        self, method: str, url: str, query: Mapping[str, Any], body: bytes | None, header: str | None
    ) -> Response:
        headers = {"accept": "application/json"}
        if header is not None:
            headers["authorization"] = header
        if body is not None:
            headers["content-type"] = "application/json"
        return await self._http.send(method, url, headers=headers, query=query, content=body)


def _refusal(what: str, url: str, answer: Response, conflict: type[ServerError], *, anonymous: bool) -> FlovynError:
    status = answer.status
    try:
        text = f"{what}: {_decode_refusal(answer.body).error}"
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        # Not the server's own words: a proxy, or another server altogether.
        text = f"{what}: {url} answered with HTTP status {status}"
        if answer.location is not None:
            return MalformedMessage(f"{text}, a redirection to {answer.location}: http_url is to be where it leads")
        if status == 404:
            return Unimplemented(f"{text}: either http_url is wrong, or the server does not offer this")
    if status == 401 and anonymous:
        text += " (this client has no api_key: pass api_key=... to connect, or set FLOVYN_API_KEY)"
    if status in (429, 503):
        return ServerUnavailable(text)
    if status in (502, 504):
        return ConnectionLost(f"{text}; the call may have taken effect")
    if status == 409:
        return conflict(text)
    if status in _REFUSALS:
        return _REFUSALS[status](text)
    return ServerError(text, status="INTERNAL" if status >= 500 else "UNKNOWN")
