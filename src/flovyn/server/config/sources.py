"""Where settings come from: a TOML file, and the environment over it. Each remembers its place, for complaints."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar, cast

from flovyn.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Entry", "read"]

T = TypeVar("T")

_VARIABLES: Final = {
    "SERVER_PORT": "server_port",
    "GRPC_SERVER_PORT": "grpc_server_port",
    "DATABASE_URL": "database_url",
}
_SECTIONS: Final = frozenset({"auth", "metrics", "nats", "otel"})
"""The tables of which an environment variable can set a key, as in ``NATS__ENABLED``."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One setting.

    Attributes:
        key: Its full name, such as ``auth.static_api_key.keys``.
        value: As TOML has it. Never shown unless it is known to be no secret.
        where: The file, or the environment variable.
    """

    key: str
    value: Any
    where: str

    def refuse(self, why: str) -> NoReturn:
        """Complain of it.

        Raises:
            ConfigurationError: Always.
        """
        raise ConfigurationError(f"{self.where}: {self.key} {why}")

    def of(self, wanted: type[T], what: str) -> T:
        """Its value, which is no secret.

        Raises:
            ConfigurationError: It is of another type.
        """
        if not isinstance(self.value, wanted) or (isinstance(self.value, bool) and wanted is not bool):
            self.refuse(f"is {self.value!r}; it must be {what}")
        return self.value

    def text(self) -> str:
        """Its value, which may be a secret.

        Raises:
            ConfigurationError: It is no text.
        """
        if not isinstance(self.value, str):
            self.refuse(f"is a {type(self.value).__name__}; it must be a text")
        return self.value

    def texts(self) -> list[str]:
        """Its value, a list of texts that are no secrets.

        Raises:
            ConfigurationError: It is something else.
        """
        values = cast("list[object]", self.of(list, "a list of texts"))
        texts = [value for value in values if isinstance(value, str)]
        if len(texts) < len(values):
            self.refuse(f"is {self.value!r}; it must be a list of texts")
        return texts

    def tables(self) -> list[dict[str, Entry]]:
        """Its value, a list of tables, each with entries of its own.

        Raises:
            ConfigurationError: It is something else.
        """
        value: Any = self.value
        if not isinstance(value, list):
            self.refuse("must be a list of tables")
        tables: list[dict[str, Entry]] = []
        for index, table in enumerate(cast("list[object]", value)):
            if not isinstance(table, dict):
                self.refuse(f"must be a list of tables, which item {index} is not")
            items = cast("dict[str, Any]", table).items()
            tables.append({name: Entry(f"{self.key}[{index}].{name}", value, self.where) for name, value in items})
        return tables


def read(file: str | None, environment: Mapping[str, str]) -> dict[str, Entry]:
    """Everything that is set, by its full name.

    Args:
        file: The TOML file, if there is one; else the one that ``CONFIG_FILE`` names, if it does.
        environment: The environment variables.

    Raises:
        ConfigurationError: The file cannot be read, or is no TOML.
    """
    named = file or environment.get("CONFIG_FILE")
    entries = _of_file(named) if named else {}
    for variable, text in environment.items():
        key = _VARIABLES.get(variable) or _nested(variable)
        if key is not None:
            entries[key] = Entry(key, _value(text), f"environment variable {variable}")
    return entries


def _of_file(name: str) -> dict[str, Entry]:
    try:
        data = tomllib.loads(Path(name).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"cannot read the config file {name!r}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"the config file {name!r} is not UTF-8: {error.reason}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"the config file {name!r} is not TOML: {error}") from error
    return {key: Entry(key, value, name) for key, value in _flat(data, "")}


def _flat(table: Mapping[str, Any], prefix: str) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, value in table.items():
        inner = cast("dict[str, Any]", value) if isinstance(value, dict) else {}
        found += _flat(inner, f"{prefix}{name}.") if inner else [(f"{prefix}{name}", value)]
    return found


def _nested(variable: str) -> str | None:
    parts = variable.lower().split("__")
    return ".".join(parts) if len(parts) > 1 and parts[0] in _SECTIONS and all(parts) else None


def _value(text: str) -> Any:
    """What a variable says: a value as TOML writes it, or else the text itself."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
