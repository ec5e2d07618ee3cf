"""What lives as long as a worker does."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from flovyn.errors import ConfigurationError
from flovyn.task import Resources
from flovyn.worker.groups import Sealed

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable

__all__ = ["Lifespan", "resources_of"]

Lifespan: TypeAlias = Callable[[], AbstractAsyncContextManager[object]]
"""Makes an async context manager that is entered before a worker begins and left when it has ended. What it yields are
the worker's resources: one object, several as a tuple, or None."""


@asynccontextmanager
async def resources_of(lifespan: Lifespan | None) -> AsyncGenerator[Resources]:
    """The resources of a lifespan, for as long as it lasts. What the lifespan itself raises comes out sealed.

    Raises:
        Sealed: An error of the lifespan's own.
        ConfigurationError: It is none, or yields a list where a tuple is meant.
    """
    if lifespan is None:
        yield Resources()
        return
    manager = lifespan()
    if not isinstance(manager, AbstractAsyncContextManager):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigurationError(
            f"lifespan={lifespan!r} made {manager!r}, which is no async context manager; decorate it with "
            "@contextlib.asynccontextmanager"
        )
    inside: BaseException | None = None
    try:
        async with manager as yielded:
            resources = Resources(*_objects(yielded))
            try:
                yield resources
            except BaseException as error:
                inside = error
                raise
    except Exception as error:
        if error is inside:
            raise
        raise Sealed(error) from None
    finally:
        del inside  # or it would hold this frame, which holds it


def _objects(yielded: object) -> tuple[Any, ...]:
    if yielded is None:
        return ()
    if type(yielded) is tuple:  # a NamedTuple is a resource like any other
        return tuple(cast("Iterable[Any]", yielded))
    if isinstance(yielded, list):
        raise ConfigurationError("the lifespan yields a list; yield one resource, or several as a tuple")
    return (yielded,)
