"""Who may call: static keys, each bound to one organisation."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING, Final

from flovyn.errors import ConfigurationError, Unauthenticated

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["DEV_ORG_ID", "DEV_ORG_SLUG", "DEV_TOKEN", "Keys"]

DEV_ORG_ID: Final = "00000000-0000-4000-8000-00000000f10b"
"""The organisation of development mode: the same everywhere, so that examples can name it."""

DEV_ORG_SLUG: Final = "dev"

DEV_TOKEN: Final = "flovyn_wk_dev"  # noqa: S105 - not a secret: it opens a server that only this machine reaches
"""The key of development mode."""

_SCHEME: Final = "bearer "


class Keys:
    """The keys that this server accepts.

    Args:
        keys: The organisation of each key.

    Raises:
        ConfigurationError: There is none, or one that nobody could send: such a server would be open or useless.
    """

    def __init__(self, keys: Mapping[str, str]) -> None:
        if not keys or not all(map(_fits_a_header, keys)):
            raise ConfigurationError(
                "a server needs at least one key, and none may be empty or have characters that no header carries"
            )
        self._keys = [(key.encode(), org_id) for key, org_id in keys.items()]

    def __repr__(self) -> str:
        return f"<Keys {len(self._keys)}>"

    def organisation(self, authorization: str | None) -> str:
        """The organisation of a call, by its authorization header.

        Raises:
            Unauthenticated: There is no such header, or no such key.
        """
        if authorization is None:
            raise Unauthenticated("the call carries no authorization metadata; send `authorization: Bearer <token>`")
        if authorization[: len(_SCHEME)].lower() != _SCHEME:
            raise Unauthenticated("the authorization metadata is not of the form `Bearer <token>`")
        shown = authorization[len(_SCHEME) :].strip().encode()
        found = None
        for key, org_id in self._keys:  # all of them, so that the time taken tells nothing
            if hmac.compare_digest(key, shown):
                found = org_id
        if found is None:
            raise Unauthenticated("the token is not known to this server")
        return found


def _fits_a_header(key: str) -> bool:
    return bool(key) and key.isascii() and key.isprintable() and key == key.strip()
