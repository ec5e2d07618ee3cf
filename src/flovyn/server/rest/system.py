"""What is open to everybody: whether the server is up, and its documentation."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any, Final, Literal

import msgspec

from flovyn.server.rest.route import Answer, Asked, Nothing, Route

__all__ = ["ROUTES"]


class Health(msgspec.Struct):
    """The server is up."""

    status: Literal["UP"]
    version: str


def health(_: Asked[Nothing, Nothing]) -> Answer:
    return Answer(Health("UP", version("flovyn")))


def openapi(_: Asked[Nothing, Nothing]) -> Answer:
    from flovyn.server.rest.document import document  # which describes this very module's routes, too

    return Answer(document())


def docs(_: Asked[Nothing, Nothing]) -> Answer:
    from flovyn.server.rest.document import page

    return Answer(page())


ROUTES: Final[tuple[Route[Any, Any], ...]] = (
    Route("GET", "/_/health", "getHealth", "Whether the server is up.", "system", health, {200: Health}, public=True),
    Route(
        "GET",
        "/api/docs/openapi.json",
        "getOpenApi",
        "This document.",
        "system",
        openapi,
        {200: dict[str, Any]},
        public=True,
    ),
    Route(
        "GET",
        "/api/docs",
        "getDocs",
        "This document for people.",
        "system",
        docs,
        {200: str},
        public=True,
        content="text/html",
    ),
)
