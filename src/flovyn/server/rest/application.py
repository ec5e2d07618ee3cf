"""The ASGI application."""

from __future__ import annotations

import logging
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import anyio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.routing import Route as StarletteRoute

from flovyn.server import limits
from flovyn.server.rest.answering import Endpoint, refused
from flovyn.server.rest.fitting import Schemas
from flovyn.server.rest.refusals import MEANINGS
from flovyn.server.rest.table import ROUTES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp, Receive, Scope, Send

    from flovyn.server.rest.route import Route
    from flovyn.server.shell import Shell

__all__ = ["application"]

_log = logging.getLogger("flovyn.server")


def application(shell: Shell, slugs: Mapping[str, str]) -> ASGIApp:
    """What answers HTTP.

    Args:
        shell: What is asked.
        slugs: The id of each organisation that has keys, by its slug.
    """
    schemas = Schemas(shell.engine)
    by_path: dict[str, dict[str, Route[Any, Any]]] = defaultdict(dict)
    for route in ROUTES:
        by_path[route.path][route.method] = route
    routes = [
        StarletteRoute(path, Endpoint(shell, schemas, methods, slugs).answer, methods=list(methods))
        for path, methods in by_path.items()
    ]
    starlette = Starlette(routes=routes, exception_handlers={HTTPException: _refuse})
    starlette.router.redirect_slashes = False
    return _bounded(starlette)


def _bounded(app: ASGIApp) -> ASGIApp:
    """No request lasts for ever, however slowly its client reads."""

    async def bounded(scope: Scope, receive: Receive, send: Send) -> None:
        with anyio.move_on_after(limits.HTTP_REQUEST_S + limits.HTTP_STALL_S) as bound:
            await app(scope, receive, send)
        if bound.cancelled_caught:
            _log.info("a client took too long over %s %s", scope.get("method"), scope.get("path"))

    return bounded


async def _refuse(_: Request, error: Exception) -> Response:
    """What Starlette itself refuses: an address that there is not, or a method that it has not."""
    assert isinstance(error, HTTPException)
    text = MEANINGS[405] if error.status_code == 405 else "there is nothing at this address; see /api/docs"
    return refused(error.status_code, text, error.headers)
