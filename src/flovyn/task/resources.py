"""What the worker's lifespan has brought, found by type."""

from __future__ import annotations

from typing import Any, TypeGuard, TypeVar

from flovyn.errors import ConfigurationError, UsageError

__all__ = ["Resources"]

T = TypeVar("T")


class Resources:
    """Objects that all tasks of a worker share.

    Args:
        objects: What there is.

    Example:
        >>> Resources("a text", 3).find(int)
        3
    """

    __slots__ = ("_objects",)

    def __init__(self, *objects: object) -> None:
        self._objects = objects

    def find(self, type_: type[T]) -> T:
        """The only object of a type, or of a subclass of it.

        Raises:
            ConfigurationError: There is none, or more than one.
            UsageError: `type_` is nothing that an object can be an instance of.
        """
        found: list[T] = [one for one in self._objects if _is_instance(one, type_)]
        if len(found) == 1:
            return found[0]
        wanted = _name(type_)
        if found:
            raise ConfigurationError(
                f"{len(found)} resources of this worker are {wanted}: {_types(found)}; ask for a type that only one has"
            )
        raise ConfigurationError(
            f"this worker has no resource of type {wanted}; its lifespan yields "
            f"{_types(self._objects) if self._objects else 'none (see Worker(lifespan=...))'}"
        )


def _is_instance(one: object, type_: type[T]) -> TypeGuard[T]:
    try:
        return isinstance(one, type_)
    except TypeError:
        raise UsageError(
            f"resources cannot be found by {type_!r}: give a class, or a Protocol that is @runtime_checkable"
        ) from None


def _types(objects: Any) -> str:
    return ", ".join(_name(type(one)) for one in objects)


def _name(type_: Any) -> str:
    return getattr(type_, "__qualname__", None) or repr(type_)
