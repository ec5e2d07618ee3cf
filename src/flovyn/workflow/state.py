"""The state of a workflow: entries that stand in its history for the platform's tools to see."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flovyn.definitions import StateKey
from flovyn.errors import PayloadError

if TYPE_CHECKING:
    from flovyn.replay import Execution

__all__ = ["clear", "get", "write"]


def get(execution: Execution, key: StateKey[Any] | str, default: Any) -> Any:
    """What the code has written under a key, or the default."""
    typed = _typed(key)
    data = execution.state.get(typed.name)
    if data is None:
        return default
    try:
        return typed.codec.decode(data)
    except PayloadError as error:
        raise PayloadError(f"state {typed.name!r}: {error.message}", path=error.path) from None


def write(execution: Execution, key: StateKey[Any] | str, value: Any) -> None:
    """Write a value under a key."""
    typed = _typed(key)
    execution.state.set(typed.name, typed.codec.encode(value))


def clear(execution: Execution, key: StateKey[Any] | str) -> None:
    """Drop a key."""
    execution.state.clear(_typed(key).name)


def _typed(key: StateKey[Any] | str) -> StateKey[Any]:
    return StateKey(key) if isinstance(key, str) else key
