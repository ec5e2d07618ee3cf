"""One entry of the route table: what serves a request, and all that the OpenAPI document says of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from flovyn.server.auth import Principal
    from flovyn.server.engine import Caller, Engine
    from flovyn.server.rest.fitting import Schemas

__all__ = ["ORG", "Answer", "Asked", "Nothing", "Refusal", "Route"]

Q = TypeVar("Q", bound=msgspec.Struct)
B = TypeVar("B", bound=msgspec.Struct)

ORG: Final = "/api/orgs/{org}"
"""Where everything of an organisation is, which goes by its slug or its UUID."""


class Nothing(msgspec.Struct, forbid_unknown_fields=True):
    """No query parameters, or no body."""


class Refusal(msgspec.Struct):
    """Why a request was refused."""

    error: str


@dataclass(frozen=True, slots=True)
class Asked(Generic[Q, B]):
    """A request that was read and may be answered.

    Attributes:
        engine: What it is asked of.
        schemas: The registered schemas, compiled.
        caller: Who asks, for the engine.
        principal: Who asks, as the key says.
        org: How the organisation is called in the address.
        path: The parameters in the address.
        query: Those behind it.
        body: What was sent.
    """

    engine: Engine
    schemas: Schemas
    caller: Caller
    principal: Principal
    org: str
    path: Mapping[str, str]
    query: Q
    body: B


@dataclass(frozen=True, slots=True)
class Answer:
    """What is answered: one of the statuses of the route, with what it has of a body."""

    body: object = None
    status: int = 200


@dataclass(frozen=True, slots=True)
class Route(Generic[Q, B]):
    """A method of an address.

    Attributes:
        method: The HTTP method.
        path: The address, with parameters in braces; one that may contain slashes ends in ``:path``.
        name: Unique; what the OpenAPI document calls the operation.
        summary: What it does.
        tag: Under what it is listed.
        handler: Takes one step of the engine.
        answers: The type of the body for each status that means success; None for none.
        refuses: Statuses of refusals that mean something particular here, and what.
        query: The query parameters.
        body: The body; one with required fields must be there.
        public: It needs no key.
        underscores: The fields of the body may be spelt with underscores too.
        content: The content type of the answer.
    """

    method: str
    path: str
    name: str
    summary: str
    tag: str
    handler: Callable[[Asked[Q, B]], Answer]
    answers: Mapping[int, Any]
    refuses: Mapping[int, str] = field(default_factory=dict[int, str])
    query: type[Q] = Nothing  # type: ignore[assignment]
    body: type[B] = Nothing  # type: ignore[assignment]
    public: bool = False
    underscores: bool = False
    content: str = "application/json"

    @property
    def is_of_org(self) -> bool:
        """Whether the address names an organisation."""
        return "{org}" in self.path
