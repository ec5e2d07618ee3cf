"""From a request to the engine and back: who asks, what exactly, one step, and the answer once it is kept."""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, Any, Final

import anyio
import msgspec
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from flovyn.errors import InvalidArgument, PermissionDenied
from flovyn.server import limits
from flovyn.server.auth import Principal
from flovyn.server.engine import Caller, validation
from flovyn.server.rest.refusals import HEADERS, MEANINGS, Refused, refusal
from flovyn.server.rest.route import Asked, Nothing, Refusal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request

    from flovyn.server.rest.fitting import Schemas
    from flovyn.server.rest.route import Answer, Route
    from flovyn.server.shell import Shell

__all__ = ["Endpoint", "refused"]

_NO_CONNECTION: Final = 0  # a claim belongs to a connection, and REST claims nothing
_NOBODY: Final = Principal("", frozenset(), "")
_JSON: Final = ("application/json", "text/json")

_UNDERSCORED: Final = re.compile(r"_([a-z])")

_encode: Final = msgspec.json.Encoder().encode
_decode_object: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class Endpoint:
    """All methods of one address.

    Args:
        shell: What is asked.
        schemas: The registered schemas, compiled.
        routes: The methods.
        slugs: The id of each organisation that has keys, by its slug.
    """

    def __init__(
        self, shell: Shell, schemas: Schemas, routes: Mapping[str, Route[Any, Any]], slugs: Mapping[str, str]
    ) -> None:
        self._shell = shell
        self._schemas = schemas
        self._routes = routes
        self._slugs = slugs
        self._step = shell.answering(_step)

    async def answer(self, request: Request) -> Response:
        """Answer a request, whatever comes of it."""
        route = self._routes["GET" if request.method == "HEAD" else request.method]
        with anyio.move_on_after(limits.HTTP_REQUEST_S):  # noqa: ASYNC912 - whatever comes, a body was read or refused
            try:
                asked = await self._ask(route, request)
                answer = await self._step(route, asked)
            except ClientDisconnect:
                return refused(400, "the client has gone")  # and nobody will read this
            except Exception as error:  # noqa: BLE001 - whatever is raised becomes a status
                return refused(*refusal(error))
            return _response(route, answer)
        return refused(408, MEANINGS[408])

    async def _ask(self, route: Route[Any, Any], request: Request) -> Asked[Any, Any]:
        principal = _NOBODY if route.public else self._admit(route, request)
        content = await _read(request)
        return Asked(
            engine=self._shell.engine,
            schemas=self._schemas,
            caller=Caller(principal.org_id, _NO_CONNECTION),
            principal=principal,
            org=request.path_params.get("org", ""),
            path=request.path_params,
            query=_query(route, request),
            body=_body(route, content),
        )

    def _admit(self, route: Route[Any, Any], request: Request) -> Principal:
        principal = self._shell.principal(request.headers.get("authorization"))
        if "User" not in principal.types:
            raise PermissionDenied("a worker key opens gRPC only; REST needs a user key")
        if route.is_of_org:
            named = request.path_params["org"]
            if principal.org_id not in {self._slugs.get(named), named.lower()}:
                # The same for one that exists and one that does not.
                raise PermissionDenied(f"the key does not belong to organisation {validation.shown(named)}")
        return principal


async def _step(route: Route[Any, Any], asked: Asked[Any, Any]) -> Answer:
    return route.handler(asked)


async def _read(request: Request) -> bytes:
    """The body; one that is too large is read to its end all the same, or the client would not hear of it."""
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > limits.HTTP_BODY_SIZE:
            parts.clear()
        else:
            parts.append(part)
    if size > limits.HTTP_BODY_SIZE:
        raise Refused(413, f"the body has {size} bytes; at most {limits.HTTP_BODY_SIZE} are allowed")
    if size:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind and kind not in _JSON and not kind.endswith("+json"):
            raise Refused(415, f"the body is {kind}; send application/json")
    return b"".join(parts)


def _query(route: Route[Any, Any], request: Request) -> Any:
    given: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name in given:
            raise InvalidArgument(f"the query parameter {validation.shown(name)} is given twice")
        given[name] = value
    try:
        return msgspec.convert(given, route.query, strict=False)
    except msgspec.ValidationError as error:
        raise InvalidArgument(f"query: {error}") from None


def _body(route: Route[Any, Any], content: bytes) -> Any:
    if route.body is Nothing and content:
        raise InvalidArgument("the request has a body, but there is nothing to be said here")
    try:
        content = _one_spelling(content) if route.underscores else content
        return _decoder(route.body).decode(content or b"{}")  # type: ignore[arg-type] # a class can be hashed
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"body: {error}") from None
    except RecursionError:
        raise InvalidArgument("body: it is nested too deeply") from None


def _one_spelling(content: bytes) -> bytes:
    fields: dict[str, msgspec.Raw] = {}
    for name, value in _decode_object(content or b"{}").items():
        spelt = _UNDERSCORED.sub(lambda found: found[1].upper(), name)
        if spelt in fields:
            raise InvalidArgument(f"body: {validation.shown(spelt)} is given in two spellings")
        fields[spelt] = value
    return _encode(fields)


@functools.cache
def _decoder(body: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(body)


def _response(route: Route[Any, Any], answer: Answer) -> Response:
    if answer.body is None:
        return Response(status_code=answer.status)
    content = answer.body if isinstance(answer.body, bytes) else _encode(answer.body)
    return Response(content, status_code=answer.status, media_type=route.content)


def refused(status: int, text: str, headers: Mapping[str, str] | None = None) -> Response:
    """The answer to a request that is refused."""
    return Response(
        _encode(Refusal(text)),
        status_code=status,
        headers={**HEADERS.get(status, {}), **(headers or {})},
        media_type="application/json",
    )
