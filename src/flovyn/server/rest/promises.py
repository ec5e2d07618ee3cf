"""Promises, by their id and by the idempotency key that they were created with."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from flovyn.server.rest.fields import null
from flovyn.server.rest.route import ORG, Answer, Asked, Nothing, Route

__all__ = ["ROUTES"]

BASE: Final = f"{ORG}/promises"


class Resolve(msgspec.Struct, forbid_unknown_fields=True):
    """What the promise is to get."""

    value: msgspec.Raw = msgspec.field(default_factory=null)


class Reject(msgspec.Struct, forbid_unknown_fields=True):
    """Why it gets nothing."""

    error: Annotated[str, Meta(min_length=1)]


class Settled(msgspec.Struct, rename="camel"):
    """Whether this request settled the promise; if another did so before, nothing has changed."""

    promise_id: str
    resolved: bool
    already_resolved: bool


def _id(asked: Asked[Any, Any]) -> str:
    key = asked.path.get("key")
    return asked.path["id"] if key is None else asked.engine.promises.of_key(asked.caller, key)


def resolve(asked: Asked[Nothing, Resolve]) -> Answer:
    promise_id = _id(asked)
    settled = asked.engine.promises.resolve(asked.caller, promise_id, bytes(asked.body.value))
    return Answer(Settled(promise_id, settled, not settled))


def reject(asked: Asked[Nothing, Reject]) -> Answer:
    promise_id = _id(asked)
    settled = asked.engine.promises.reject(asked.caller, promise_id, asked.body.error)
    return Answer(Settled(promise_id, settled, not settled))


_ENDED: Final = {409: "Its workflow has ended without it."}


def _routes(where: str, by: str, name: str) -> tuple[Route[Any, Any], ...]:
    return (
        Route(
            "POST",
            f"{BASE}/{where}/resolve",
            f"resolvePromise{name}",
            f"Give a promise its value, by {by}.",
            "promises",
            resolve,
            {200: Settled},
            _ENDED,
            body=Resolve,
        ),
        Route(
            "POST",
            f"{BASE}/{where}/reject",
            f"rejectPromise{name}",
            f"Give a promise an error, by {by}.",
            "promises",
            reject,
            {200: Settled},
            _ENDED,
            body=Reject,
        ),
    )


ROUTES: Final = (
    *_routes("id:{id}", "its id", "ById"),
    *_routes("key:{key:path}", "the idempotency key that it was created with", "ByKey"),
)
