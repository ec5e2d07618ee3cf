"""From the options of a server to who may call it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from flovyn.errors import ConfigurationError
from flovyn.server.auth import DEV_API_KEY, DEV_ORG_ID, DEV_ORG_SLUG, DEV_TOKEN, Access, Key, Org

if TYPE_CHECKING:
    from flovyn.server.auth import PrincipalType

__all__ = ["choose", "first_key"]

_LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})


def choose(
    *, dev: bool, host: str, token: str | None, org_id: str | None, api_key: str | None, access: Access | None
) -> Access:
    """Who may call, by the options of `flovyn.server.serve`.

    Raises:
        ConfigurationError: They are too few, or they contradict each other.
    """
    if access is not None:
        if dev or not token is org_id is api_key is None:
            other = "development mode, which brings its own" if dev else "token, org_id and api_key"
            raise ConfigurationError(f"organisations and keys are given twice: by a list of them, and by {other}")
        return access
    if dev and host not in _LOOPBACK:
        raise ConfigurationError(
            f"development mode listens only at addresses of this machine, not at {host!r}: everybody knows its keys. "
            "Turn it off, and give a token and an organisation"
        )
    if not dev and (token is None or org_id is None):
        missing = "a token (FLOVYN_WORKER_TOKEN)" if token is None else "an organisation (FLOVYN_ORG_ID)"
        raise ConfigurationError(
            f"a server needs {missing}, or a file that names organisations and keys (--config); "
            "only development mode (--dev) brings its own"
        )
    org = Org(DEV_ORG_ID, DEV_ORG_SLUG) if org_id in {None, DEV_ORG_ID} else Org(org_id or "")
    worker = Key(DEV_TOKEN if token is None else token, org.id, "Worker")
    api_key = DEV_API_KEY if api_key is None and dev else api_key
    return Access([org], [worker] if api_key is None else [worker, Key(api_key, org.id, "User", "api-key")])


def first_key(access: Access, wanted: PrincipalType) -> str | None:
    """The first key of this type that opens the first organisation."""
    org_id = access.orgs[0].id
    return next((key.token for key in access.keys if key.type == wanted and key.org_id == org_id), None)
