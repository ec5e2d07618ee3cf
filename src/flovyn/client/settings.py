"""Where a client connects to, and as whom: from arguments, from the environment, from a profile in a file."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from flovyn.client.oauth2 import OAuth2
from flovyn.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["PROFILE_VARIABLES", "Settings", "settled"]

T = TypeVar("T")

_DEFAULT_URL: Final = "http://localhost:9090"
_DEFAULT_QUEUE: Final = "default"
_DEFAULT_PROFILE: Final = "default"

_VARIABLES: Final = {
    "url": "FLOVYN_SERVER_URL",
    "http_url": "FLOVYN_HTTP_URL",
    "org_id": "FLOVYN_ORG_ID",
    "org_slug": "FLOVYN_ORG_SLUG",
    "token": "FLOVYN_WORKER_TOKEN",
    "api_key": "FLOVYN_API_KEY",
    "queue": "FLOVYN_QUEUE",
}
_OAUTH2_VARIABLES: Final = {
    "token_url": "FLOVYN_OAUTH2_TOKEN_URL",
    "client_id": "FLOVYN_OAUTH2_CLIENT_ID",
    "client_secret": "FLOVYN_OAUTH2_CLIENT_SECRET",
    "scopes": "FLOVYN_OAUTH2_SCOPES",
}
_PROFILE_VARIABLE: Final = "FLOVYN_PROFILE"
_FILE_VARIABLE: Final = "FLOVYN_CONFIG_FILE"

PROFILE_VARIABLES: Final = (_PROFILE_VARIABLE, _FILE_VARIABLE)
"""With one of them set, a profile is read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What one source says; None for what it does not say.

    Attributes:
        url: Where the server answers gRPC.
        http_url: Where it answers REST.
        org_id: The organisation, a UUID.
        org_slug: Its short name.
        token: The key for gRPC.
        api_key: The key for REST.
        oauth2: How to get tokens for both.
        queue: The queue that is used where none is named.
    """

    url: str | None = None
    http_url: str | None = None
    org_id: str | None = None
    org_slug: str | None = None
    token: str | None = field(default=None, repr=False)
    api_key: str | None = field(default=None, repr=False)
    oauth2: OAuth2 | None = None
    queue: str | None = None

    def over(self, other: Settings) -> Settings:
        """What this one says, and of what it leaves open, what the other one says.

        Who says how to get tokens, or what the token is, has said so of gRPC; the other one is not asked for that.
        """
        merged = {
            each.name: getattr(self, each.name) if getattr(self, each.name) is not None else getattr(other, each.name)
            for each in fields(self)
        }
        if self.token is not None:
            merged["oauth2"] = None
        elif self.oauth2 is not None:
            merged["token"] = None
        return Settings(**merged)


def settled(
    given: Settings,
    *,
    profile: str | None = None,
    config_file: str | os.PathLike[str] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Settings:
    """Everything that is known: arguments before the environment, the environment before a profile.

    Args:
        given: The arguments.
        profile: The name of a profile; that of the environment if left out.
        config_file: The file that it is in; likewise.
        environ: The environment; that of the process if left out.

    Raises:
        ConfigurationError: There is no such file or profile, something in it makes no sense, nobody says which
            organisation, or one source gives two ways to authenticate.

    Example:
        >>> settled(Settings(token="a"), environ={"FLOVYN_ORG_ID": "6ba7b810-9dad-41d1-80b4-00c04fd430c8"}).url
        'http://localhost:9090'
    """
    environ = os.environ if environ is None else environ
    _one_way("the arguments", given)
    found = given.over(_from_environment(environ))
    profile = profile or environ.get(_PROFILE_VARIABLE) or None
    file = config_file or environ.get(_FILE_VARIABLE) or None
    if profile is not None or file is not None:
        found = found.over(_from_file(_default_file(environ) if file is None else Path(file), profile))
    found = found.over(Settings(url=_DEFAULT_URL, queue=_DEFAULT_QUEUE))
    if found.org_id is None:
        raise ConfigurationError("org_id is missing: pass org_id=... to connect, set FLOVYN_ORG_ID, or name a profile")
    return found


def _one_way(source: str, said: Settings) -> None:
    if said.token is not None and said.oauth2 is not None:
        raise ConfigurationError(f"{source} have both a token and oauth2; which of them is gRPC to use?")


# --- the environment ------------------------------------------------------------------------


def _from_environment(environ: Mapping[str, str]) -> Settings:
    # An empty variable is one that was taken away.
    said: dict[str, Any] = {name: environ[key] for name, key in _VARIABLES.items() if environ.get(key)}
    oauth2 = {name: environ[key] for name, key in _OAUTH2_VARIABLES.items() if environ.get(key)}
    if oauth2:
        missing = [
            _OAUTH2_VARIABLES[name] for name in ("token_url", "client_id", "client_secret") if name not in oauth2
        ]
        if missing:
            raise ConfigurationError(f"of the variables FLOVYN_OAUTH2_... some are set, but not {', '.join(missing)}")
        scopes = tuple(oauth2.pop("scopes", "").split())
        said["oauth2"] = OAuth2(**oauth2, scopes=scopes)
    settings = Settings(**said)
    _one_way("the environment variables", settings)
    return settings


# --- a file ---------------------------------------------------------------------------------


class _OAuth2Table(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    token_url: str
    client_id: str
    client_secret: str
    scopes: tuple[str, ...] = ()


class _Profile(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    url: str | None = None
    http_url: str | None = None
    org_id: str | None = None
    org_slug: str | None = None
    token: str | None = None
    api_key: str | None = None
    queue: str | None = None
    oauth2: _OAuth2Table | None = None


class _File(msgspec.Struct, forbid_unknown_fields=True):
    profiles: dict[str, dict[str, Any]]


def _default_file(environ: Mapping[str, str]) -> Path:
    home = environ.get("XDG_CONFIG_HOME")
    return (Path(home) if home else Path.home() / ".config") / "flovyn" / "config.toml"


def _from_file(path: Path, profile: str | None) -> Settings:
    profiles = _converted(_tables(path), _File, f"the configuration file {path}").profiles
    name = _DEFAULT_PROFILE if profile is None else profile
    if name not in profiles:
        known = ", ".join(profiles) or "none"
        raise ConfigurationError(f"there is no profile {name!r} in {path}; there are: {known}")
    where = f"profile {name!r} of {path}"
    said = _converted(profiles[name], _Profile, where)
    table = said.oauth2
    oauth2 = None
    if table is not None:
        oauth2 = OAuth2(
            token_url=table.token_url,
            client_id=table.client_id,
            client_secret=table.client_secret,
            scopes=table.scopes,
        )
    settings = Settings(**{key: getattr(said, key) for key in _VARIABLES}, oauth2=oauth2)
    _one_way(f"the keys of {where}", settings)
    return settings


def _tables(path: Path) -> dict[str, Any]:
    import tomllib

    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"the configuration file {path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        # Without the cause, which carries the whole file.
        raise ConfigurationError(f"the configuration file {path} is not TOML: {error}") from None


def _converted(value: object, type_: type[T], where: str) -> T:
    try:
        return msgspec.convert(value, type=type_)
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"{where}: {error}") from None
