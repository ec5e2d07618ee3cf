"""Organisations: everybody sees their own."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

import msgspec

from flovyn.errors import NotFound
from flovyn.server.rest.fields import moment
from flovyn.server.rest.route import ORG, Answer, Asked, Nothing, Route

__all__ = ["ROUTES"]


class Org(msgspec.Struct, rename="camel"):
    """An organisation."""

    id: str
    slug: str
    name: str
    tier: str
    created_at: datetime


class Orgs(msgspec.Struct):
    """The organisations that the key opens: one."""

    orgs: list[Org]
    total: int


def _own(asked: Asked[Any, Any]) -> Org:
    org = asked.engine.views.org(asked.caller)
    if org is None:
        raise NotFound("the organisation of this key is unknown")
    return Org(org.id, org.slug, org.name, org.tier, moment(org.created_at))


def listed(asked: Asked[Nothing, Nothing]) -> Answer:
    return Answer(Orgs([_own(asked)], 1))


def get(asked: Asked[Nothing, Nothing]) -> Answer:
    return Answer(_own(asked))


ROUTES: Final[tuple[Route[Any, Any], ...]] = (
    Route("GET", "/api/orgs", "listOrgs", "The organisations that the key opens.", "orgs", listed, {200: Orgs}),
    Route("GET", ORG, "getOrg", "The organisation.", "orgs", get, {200: Org}),
)
