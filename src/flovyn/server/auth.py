"""Who may call: static keys, each bound to one organisation and to one sort of caller."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, get_args
from uuid import UUID

from flovyn.errors import ConfigurationError, Unauthenticated
from flovyn.wire import methods

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = [
    "DEV_API_KEY",
    "DEV_ORG_ID",
    "DEV_ORG_SLUG",
    "DEV_TOKEN",
    "USER_METHODS",
    "Access",
    "Key",
    "Keys",
    "Org",
    "Principal",
    "PrincipalType",
]

DEV_ORG_ID: Final = "00000000-0000-4000-8000-00000000f10b"
"""The organisation of development mode: the same everywhere, so that examples can name it."""

DEV_ORG_SLUG: Final = "dev"

DEV_TOKEN: Final = "flovyn_wk_dev"  # noqa: S105 - not a secret: it opens a server that only this machine reaches
"""The worker key of development mode."""

DEV_API_KEY: Final = "flovyn_sk_dev"
"""The user key of development mode."""

PrincipalType = Literal["User", "Worker"]

USER_METHODS: Final = frozenset(
    method.path
    for method in (
        methods.START_WORKFLOW,
        methods.START_CHILD_WORKFLOW,
        methods.SIGNAL_WORKFLOW,
        methods.SIGNAL_WITH_START_WORKFLOW,
        methods.RESOLVE_PROMISE,
        methods.REJECT_PROMISE,
        methods.GET_EVENTS,
        methods.GET_VISUAL_WORKFLOW_DEFINITION_BY_ID,
        methods.QUERY_WORKFLOW,
        methods.SUBMIT_TASK,
        methods.CANCEL_TASK,
        methods.GET_STATE,
        methods.SET_STATE,
        methods.CLEAR_STATE,
        methods.CLEAR_ALL_STATE,
        methods.GET_STATE_KEYS,
    )
)
"""The RPCs that a client makes: a user key may make these and no others, a worker key all there are."""

_SCHEME: Final = "bearer "
_SLUG: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class Org:
    """An organisation: a world of its own, of which no other sees anything.

    Args:
        id: Its UUID.
        slug: Its short name in addresses: lower-case letters, digits and hyphens; made from the id if there is none.
        name: Its name, for people.
        tier: What the platform's configuration calls its plan; decides nothing here.
    """

    id: str
    slug: str = ""
    name: str = ""
    tier: str = "FREE"


@dataclass(frozen=True, slots=True)
class Key:
    """A secret that opens the server for one organisation.

    Args:
        token: The secret.
        org_id: The UUID of the organisation.
        type: ``Worker`` for gRPC, ``User`` for REST and for what a client does over gRPC. A key that is to open both
            is listed twice.
        principal_id: Who uses it, for people: it stands as the one who asked for a cancellation or a retry.
    """

    token: str = field(repr=False)
    org_id: str
    type: PrincipalType
    principal_id: str = ""


@dataclass(frozen=True, slots=True)
class Principal:
    """Who makes a call.

    Attributes:
        org_id: The organisation that the key belongs to.
        types: What the key opens.
        id: Who uses it.
    """

    org_id: str
    types: frozenset[PrincipalType]
    id: str


@dataclass(frozen=True, slots=True)
class Access:
    """Everybody who may call, checked.

    Args:
        orgs: The organisations, at least one.
        keys: Their keys, at least one: a server without would be useless, and none is ever open to all.

    Raises:
        ConfigurationError: One of them cannot work, or they contradict each other.

    Example:
        >>> from flovyn.server import Access, Key, Org
        >>> org = Org("6ba7b810-9dad-41d1-80b4-00c04fd430c8", "acme")
        >>> Access([org], [Key("secret", org.id, "Worker")])
        Access(1 organisation, 1 key)
    """

    orgs: Sequence[Org]
    keys: Sequence[Key]

    def __post_init__(self) -> None:
        if not self.orgs:
            raise ConfigurationError("a server needs at least one organisation")
        orgs = tuple(_checked_org(org) for org in self.orgs)
        for what in ("id", "slug"):
            counts = Counter(getattr(org, what) for org in orgs)
            twice = next((value for value, count in counts.items() if count > 1), None)
            if twice is not None:
                raise ConfigurationError(f"two organisations have the {what} {twice!r}; give each its own")
        keys = tuple(_checked_key(key, {org.id for org in orgs}) for key in self.keys)
        object.__setattr__(self, "orgs", orgs)
        object.__setattr__(self, "keys", keys)
        Keys(keys)

    def __repr__(self) -> str:
        orgs, keys = len(self.orgs), len(self.keys)
        return f"Access({orgs} organisation{'s'[: orgs != 1]}, {keys} key{'s'[: keys != 1]})"


class Keys:
    """The keys that this server accepts; it remembers their hashes only.

    Args:
        keys: The keys.

    Raises:
        ConfigurationError: There is none, one that nobody could send, or one of two organisations: such a server would
            be open, useless or both.
    """

    def __init__(self, keys: Iterable[Key]) -> None:
        principals: dict[bytes, Principal] = {}
        for key in keys:
            if not _fits_a_header(key.token):
                raise ConfigurationError(
                    "a server needs at least one key, and none may be empty or have characters that no header carries"
                )
            shown = _hash(key.token)
            known = principals.get(shown, Principal(key.org_id, frozenset(), key.principal_id))
            if known.org_id != key.org_id:
                raise ConfigurationError(
                    f"one key is listed for the organisations {known.org_id} and {key.org_id}; give each its own"
                )
            of_this = frozenset[PrincipalType]([key.type])
            principals[shown] = Principal(key.org_id, known.types | of_this, known.id or key.principal_id)
        if not principals:
            raise ConfigurationError("a server needs at least one key")
        self._principals = tuple(principals.items())

    def __repr__(self) -> str:
        return f"<Keys {len(self._principals)}>"

    def principal(self, authorization: str | None) -> Principal:
        """Who makes a call, by its authorization header.

        Raises:
            Unauthenticated: There is no such header, or no such key.
        """
        if authorization is None:
            raise Unauthenticated("the call carries no authorization metadata; send `authorization: Bearer <token>`")
        if authorization[: len(_SCHEME)].lower() != _SCHEME:
            raise Unauthenticated("the authorization metadata is not of the form `Bearer <token>`")
        shown = _hash(authorization[len(_SCHEME) :].strip())
        found = None
        for known, principal in self._principals:  # all of them, so that the time taken tells nothing
            if hmac.compare_digest(known, shown):
                found = principal
        if found is None:
            raise Unauthenticated("the token is not known to this server")
        return found


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode(errors="surrogateescape")).digest()


def _fits_a_header(key: str) -> bool:
    return bool(key) and key.isascii() and key.isprintable() and key == key.strip()


def _checked_org(org: Org) -> Org:
    org_id = _uuid(org.id)
    slug = org.slug or f"org-{org_id[:8]}"
    if not _SLUG.fullmatch(slug):
        raise ConfigurationError(
            f"the slug {org.slug!r} of organisation {org_id} cannot stand in an address: "
            "use lower-case letters, digits and hyphens, at most 63"
        )
    return Org(org_id, slug, org.name or slug, org.tier)


def _checked_key(key: Key, orgs: set[str]) -> Key:
    if key.type not in get_args(PrincipalType):
        raise ConfigurationError(f"a key of the type {key.type!r}: it must be 'User' or 'Worker'")
    org_id = _uuid(key.org_id)
    if org_id not in orgs:
        raise ConfigurationError(
            f"a key is of the organisation {org_id}, which is not listed; list it, or drop the key"
        )
    return Key(key.token, org_id, key.type, key.principal_id)


def _uuid(org_id: str) -> str:
    try:
        return str(UUID(org_id))
    except ValueError:
        raise ConfigurationError(f"the organisation {org_id!r} is not a UUID") from None
