"""What workers say about the kinds that they can do, for people and for whoever starts them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from flovyn.errors import InvalidArgument, NotFound
from flovyn.server.engine import payloads, validation
from flovyn.server.store.definitions import DefinitionRow

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flovyn.server.engine.core import Caller, Core
    from flovyn.server.store.workers import Of

__all__ = ["Definitions", "Described", "rows"]


@dataclass(frozen=True, slots=True)
class Described:
    """A kind as a worker describes it when it registers.

    Attributes:
        version: Of a workflow; tasks have none.
        retry_policy: JSON; empty if the worker says nothing.
        metadata: What else the worker says, mostly JSON.
        input_schema: A JSON Schema of its input; empty if the worker has none.
        output_schema: Likewise of its output.
    """

    of: Of
    kind: str
    version: str = ""
    name: str = ""
    description: str = ""
    timeout_seconds: int | None = None
    cancellable: bool = False
    tags: Sequence[str] = ()
    retry_policy: bytes = b""
    metadata: bytes = b""
    content_hash: str = ""
    input_schema: bytes = b""
    output_schema: bytes = b""


def rows(core: Core, org_id: str, described: Sequence[Described]) -> list[DefinitionRow]:
    """What the store keeps of it.

    Raises:
        InvalidArgument: A text is too long, or a schema is no JSON; the message names it.
    """
    now = core.clock()
    return [_row(one, f"{one.of}s[{one.kind!r}]", org_id, now) for one in described]


def _row(one: Described, at: str, org_id: str, now: int) -> DefinitionRow:
    return DefinitionRow(
        org_id=org_id,
        of=one.of,
        kind=validation.name(one.kind, f"{one.of}s.kind"),
        version=validation.text(one.version, f"{at}.version"),
        name=validation.text(one.name, f"{at}.name"),
        description=one.description,
        timeout_seconds=one.timeout_seconds,
        cancellable=int(one.cancellable),
        tags=msgspec.json.encode(list(one.tags)),
        retry_policy=one.retry_policy or None,
        metadata=one.metadata or None,
        content_hash=validation.text(one.content_hash, f"{at}.content_hash"),
        input_schema=_schema(one.input_schema, f"{at}.input_schema"),
        output_schema=_schema(one.output_schema, f"{at}.output_schema"),
        created_at=now,
        registered_at=now,
    )


def _schema(data: bytes, field: str) -> bytes | None:
    if not data:
        return None
    try:
        return bytes(payloads.checked(data, field))
    except InvalidArgument as error:
        raise InvalidArgument(f"{error.message}; a schema is a JSON Schema, or empty") from None


class Definitions:
    """What was registered, whether or not a worker of it is there now."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def versions(self, caller: Caller, of: Of, kind: str) -> list[DefinitionRow]:
        """Every version of a kind, the latest registration first.

        Raises:
            NotFound: Nobody registered it in the caller's organisation.
        """
        found = self._core.store.definitions.versions(caller.org_id, of, kind)
        if not found:
            raise NotFound(f"{of} definition {validation.shown(kind)} is unknown: no worker has registered it")
        return found

    def input_schema(self, caller: Caller, of: Of, kind: str, version: str | None) -> bytes | None:
        """The schema that an input must fit, if there is one: that version's, or the one registered last."""
        found = self._core.store.definitions.versions(caller.org_id, of, kind)
        chosen = [one for one in found if version is None or one.version == version]
        return chosen[0].input_schema if chosen else None
