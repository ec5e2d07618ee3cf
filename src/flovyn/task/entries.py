"""What a body writes down under a name: how it is called on the wire, and how it is read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from flovyn import serde
from flovyn.definitions import StateKey
from flovyn.errors import PayloadError, UsageError
from flovyn.task.desk import LOG_LEVELS

if TYPE_CHECKING:
    from flovyn.task.desk import LogLevel

__all__ = ["HEARTBEAT_KEY", "checked_level", "key_name", "own_keys", "read", "read_details", "written"]

HEARTBEAT_KEY: Final = "$flovyn.heartbeat"
"""The key of the task's state that keeps what its last heartbeat said; users' keys cannot begin with a dollar sign."""


def key_name(key: StateKey[Any] | str) -> str:
    """The name of a key; raises `UsageError` for one that cannot be used."""
    return _typed(key).name


def written(key: StateKey[Any] | str, value: object) -> bytes:
    """A value as the key's type writes it; raises `PayloadError`."""
    return _typed(key).codec.encode(value)


def read(key: StateKey[Any] | str, data: bytes | None, default: Any) -> Any:
    """What stands under a key, or the default.

    Raises:
        PayloadError: It does not fit the key's type.
    """
    if data is None:
        return default
    typed = _typed(key)
    try:
        return typed.codec.decode(data)
    except PayloadError as error:
        raise PayloadError(f"state {typed.name!r}: {error.message}", path=error.path) from None


def read_details(data: bytes | None, type_: Any) -> Any:
    """What a heartbeat said, or None.

    Raises:
        PayloadError: It does not fit the type.
    """
    return None if data is None else serde.decode(data, type_)


def own_keys(keys: list[str]) -> list[str]:
    """The keys that are the body's, in alphabetical order."""
    return sorted(key for key in keys if not key.startswith("$"))


def checked_level(level: LogLevel) -> LogLevel:
    """A level that the platform knows; raises `UsageError` for any other."""
    if level not in LOG_LEVELS:
        raise UsageError(f"the level of a log line is {', '.join(LOG_LEVELS)}, not {level!r}")
    return level


def _typed(key: StateKey[Any] | str) -> StateKey[Any]:
    return StateKey(key) if isinstance(key, str) else key
