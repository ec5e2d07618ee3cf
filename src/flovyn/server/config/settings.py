"""The settings of a server, and the table of the keys that it knows."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, cast, get_args
from urllib.parse import urlsplit

from flovyn.server.config.access import AUTH_KEYS, read_access
from flovyn.server.config.sources import Entry, read
from flovyn.server.store import Durability

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flovyn.server.auth import Access

__all__ = ["KNOWN", "TOLERATED", "Settings", "load"]

_log = logging.getLogger("flovyn.server")

LAST_PORT: Final = 65_535


@dataclass(frozen=True, slots=True)
class Settings:
    """What a file and the environment say; None is what they leave to the defaults.

    Attributes:
        db: The SQLite file.
        host: The address to listen on.
        grpc_port: The port for gRPC.
        http_port: The port for REST.
        durability: How much a commit waits for.
        worker_timeout: Seconds of silence after which a worker loses its work.
        access: Who may call.
    """

    db: str | None = None
    host: str | None = None
    grpc_port: int | None = None
    http_port: int | None = None
    durability: Durability | None = None
    worker_timeout: float | None = None
    access: Access | None = None


KNOWN: Final[dict[str, str]] = {
    "server_port": "the port for REST; 0 picks a free one",
    "grpc_server_port": "the port for gRPC; 0 picks a free one",
    "host": "the address to listen on",
    "db": "the SQLite file",
    "database_url": "the SQLite file as `sqlite:///path`",
    "durability": "`normal` or `full`",
    "worker_timeout": "seconds of silence after which a worker loses its work",
    "orgs": "the organisations: tables of `id`, `slug`, `name`, `tier`",
    **AUTH_KEYS,
}
"""The keys that mean something here."""

TOLERATED: Final[dict[str, str]] = {
    "database_url": "this server keeps everything in its SQLite file",
    "nats": "this server needs no message broker",
    "otel": "this server exports no traces",
    "metrics": "this server exports no metrics",
}
"""The keys of the platform's own server without which its harness does not start one; each is warned of once."""


def load(file: str | None, environment: Mapping[str, str]) -> Settings:
    """Read the file and the environment, of which the latter wins.

    Args:
        file: A TOML file; without, the one that the environment variable ``CONFIG_FILE`` names, if it does.
        environment: The environment variables.

    Raises:
        ConfigurationError: Something cannot be read, is not known here, or cannot work; the message says where it
            stands.

    Example:
        >>> from flovyn.server.config import load
        >>> load(None, {"GRPC_SERVER_PORT": "9090"}).grpc_port
        9090
    """
    entries = read(file, environment)
    _complain(entries)
    given = entries.get
    return Settings(
        db=_database(entries),
        host=None if (host := given("host")) is None else host.of(str, "a text"),
        grpc_port=_port(given("grpc_server_port")),
        http_port=_port(given("server_port")),
        durability=_durability(given("durability")),
        worker_timeout=None if (wait := given("worker_timeout")) is None else _seconds(wait),
        access=read_access(entries),
    )


def _complain(entries: Mapping[str, Entry]) -> None:
    warned: set[str] = set()
    for key, entry in entries.items():
        section = key.partition(".")[0]
        if key == "database_url" and _is_sqlite(entry):
            continue
        if section in TOLERATED:
            if section not in warned:
                warned.add(section)
                _log.warning("%s: %s is not used: %s", entry.where, section, TOLERATED[section])
        elif key not in KNOWN:
            entry.refuse("is not known to this server, which ignores nothing: remove it")


def _is_sqlite(entry: Entry) -> bool:
    return isinstance(entry.value, str) and urlsplit(entry.value).scheme == "sqlite"


_POSTGRES: Final = frozenset({"postgres", "postgresql"})


def _database(entries: Mapping[str, Entry]) -> str | None:
    named, url = entries.get("db"), entries.get("database_url")
    if url is not None:
        parts = urlsplit(url.text())  # shown nowhere: it may hold a password
        if parts.scheme not in {"sqlite", *_POSTGRES}:
            url.refuse(f"has the scheme {parts.scheme!r}; give a file as sqlite:///path, or use db")
        if parts.scheme == "sqlite":
            if named is not None:
                url.refuse("stands beside db; give one of them")
            return parts.path.removeprefix("/") or ":memory:"
    return None if named is None else named.of(str, "the name of a file")


def _port(entry: Entry | None) -> int | None:
    if entry is None:
        return None
    port = entry.of(int, f"a port between 0 and {LAST_PORT}")
    if not 0 <= port <= LAST_PORT:
        entry.refuse(f"is {port}; it must be between 0 and {LAST_PORT}")
    return port


def _durability(entry: Entry | None) -> Durability | None:
    if entry is None:
        return None
    if entry.value not in get_args(Durability):
        entry.refuse(f"is {entry.value!r}; it must be 'normal' or 'full'")
    return cast("Literal['normal', 'full']", entry.value)


def _seconds(entry: Entry) -> float:
    value = entry.value
    if isinstance(value, bool) or not isinstance(value, int | float):
        entry.refuse(f"is {value!r}; it must be a number of seconds")
    return float(value)
