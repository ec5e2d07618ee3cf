"""Who may call, as the platform's configuration says it: `[[orgs]]` and `[auth]`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from flovyn.errors import ConfigurationError
from flovyn.server.auth import Access, Key, Org

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flovyn.server.auth import PrincipalType
    from flovyn.server.config.sources import Entry

__all__ = ["AUTH_KEYS", "read_access"]

_KEYS: Final = "auth.static_api_key.keys"

AUTH_KEYS: Final[dict[str, str]] = {
    "auth.enabled": "must be true: this server is never open to all",
    _KEYS: "the keys: tables of `key`, `org_id`, `principal_type`, `principal_id`, `role`",
    "auth.endpoints.http.authenticators": '`["static_api_key"]`, the only one there is',
    "auth.endpoints.http.authorizer": "`cedar`, whose rules for organisations and principal types hold here too",
    "auth.endpoints.http.exclude_paths": "paths without authentication: of those that need none here",
    "auth.endpoints.grpc.authenticators": '`["static_api_key"]`, the only one there is',
    "auth.endpoints.grpc.authorizer": "`cedar`",
    "auth.endpoints.grpc.exclude_paths": "must be empty: every RPC needs a key",
}
"""The keys of `[auth]` that mean something here."""

PUBLIC_PREFIXES: Final = ("/_/", "/api/docs")
"""What needs no authentication begins with one of these."""

_ROLES: Final = frozenset({"OWNER", "ADMIN"})


def read_access(entries: Mapping[str, Entry]) -> Access | None:
    """The organisations and keys, or None if none are named.

    Raises:
        ConfigurationError: What is said cannot be honoured here; the message says where it stands.
    """
    _check_auth(entries)
    orgs, keys = entries.get("orgs"), entries.get(_KEYS)
    if orgs is None and keys is None:
        return None
    if orgs is None or keys is None:
        missing, there = ("orgs", keys) if orgs is None else (_KEYS, orgs)
        raise ConfigurationError(f"{there.where if there else ''}: {missing} is missing; name organisations and keys")
    try:
        return Access(
            [_org(orgs, table) for table in orgs.tables()],
            [_key(keys, table) for table in keys.tables()],
        )
    except ConfigurationError as error:
        if error.message.startswith((orgs.where, keys.where)):
            raise
        raise ConfigurationError(f"{keys.where}: {error.message}") from error


def _check_auth(entries: Mapping[str, Entry]) -> None:
    enabled = entries.get("auth.enabled")
    if enabled is not None and enabled.of(bool, "true") is not True:
        enabled.refuse("is false: this server is never open to all; for a laptop there is --dev, which brings a key")
    for endpoint in ("http", "grpc"):
        authenticators = entries.get(f"auth.endpoints.{endpoint}.authenticators")
        if authenticators is not None and authenticators.texts() != ["static_api_key"]:
            authenticators.refuse(f"is {authenticators.value!r}; this server knows 'static_api_key' only")
        authorizer = entries.get(f"auth.endpoints.{endpoint}.authorizer")
        if authorizer is not None and authorizer.of(str, "'cedar'") != "cedar":
            authorizer.refuse(f"is {authorizer.value!r}; this server knows the rules of 'cedar' only")
        excluded = entries.get(f"auth.endpoints.{endpoint}.exclude_paths")
        for path in [] if excluded is None else excluded.texts():
            if excluded is not None and (endpoint == "grpc" or not path.startswith(PUBLIC_PREFIXES)):
                open_here = "no RPC is" if endpoint == "grpc" else "only what begins with /_/ or /api/docs is"
                excluded.refuse(f"names {path!r}, but {open_here} open to callers without a key; remove it")


def _org(orgs: Entry, table: dict[str, Entry]) -> Org:
    _only(table, "id", "name", "slug", "tier")
    texts = {name: entry.text() for name, entry in table.items()}
    if "id" not in texts:
        orgs.refuse("has a table without an id")
    return Org(**texts)


def _key(keys: Entry, table: dict[str, Entry]) -> Key:
    _only(table, "key", "org_id", "principal_id", "principal_type", "role")
    texts = {name: entry.text() for name, entry in table.items()}
    for name in ("key", "org_id", "principal_type"):
        if name not in texts:
            keys.refuse(f"has a table without {name}")
    principal_type, role = texts["principal_type"], texts.get("role")
    if principal_type not in {"User", "Worker"}:
        table["principal_type"].refuse(f"is {principal_type!r}; it must be 'User' or 'Worker'")
    if role is not None and role not in _ROLES:
        table["role"].refuse(f"is {role!r}; keys are not restricted here, so only OWNER and ADMIN tell the truth")
    return Key(texts["key"], texts["org_id"], cast("PrincipalType", principal_type), texts.get("principal_id", ""))


def _only(table: dict[str, Entry], *names: str) -> None:
    for name, entry in table.items():
        if name not in names:
            entry.refuse(f"is not known to this server; a table has {', '.join(names)}")
