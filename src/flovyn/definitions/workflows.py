"""`@workflow`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar, overload

from flovyn.definitions.annotations import names_of_caller
from flovyn.definitions.definition import Definition, identify
from flovyn.definitions.signature import Signature, site
from flovyn.errors import DefinitionError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Mapping

__all__ = ["Workflow", "workflow"]

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Workflow(Definition[P, R_co]):
    """A workflow: a function whose every step is recorded, so that it goes on wherever a worker is.

    Attributes:
        version: The version of the code, as registered with the server.
    """

    version: str = "1.0.0"


@overload
def workflow(fn: Callable[Concatenate[Any, P], Coroutine[Any, Any, R]], /) -> Workflow[P, R]: ...


@overload
def workflow(
    *,
    name: str | None = None,
    kind: str | None = None,
    description: str | None = None,
    version: str = "1.0.0",
    tags: Iterable[str] = (),
) -> Callable[[Callable[Concatenate[Any, P], Coroutine[Any, Any, R]]], Workflow[P, R]]: ...


def workflow(
    fn: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    kind: str | None = None,
    description: str | None = None,
    version: str = "1.0.0",
    tags: Iterable[str] = (),
) -> Any:
    """Make a workflow of an async function whose first parameter is its context.

    Args:
        fn: The function, where the decorator is used without arguments.
        name: What people know it by; the function's name if left out.
        kind: What the server knows it by; the name if left out.
        description: The docstring if left out.
        version: The version of the code, as registered with the server.
        tags: Words to find it by.

    Returns:
        A `Workflow`, which is still callable as the function was.

    Raises:
        DefinitionError: The function cannot be a workflow; the message says where it stands and what to change.

    Example:
        >>> @workflow(version="2.1.0")
        ... async def greet(ctx: object, name: str) -> str:
        ...     return f"Hello, {name}"
        >>> greet.kind, greet.version
        ('greet', '2.1.0')
    """

    def decorate(fn: Callable[..., Any], names: Mapping[str, Any] | None = None) -> Workflow[..., Any]:
        names = names_of_caller(1) if names is None else names
        signature = Signature("workflow", fn, names)
        identity = identify(fn, name=name, kind=kind, description=description, tags=tags)
        if not version.strip():
            msg = f"{site(fn)}: the version of {fn.__qualname__} is empty; leave it out to use 1.0.0"
            raise DefinitionError(msg)
        return Workflow(
            fn=fn,
            kind=identity.kind,
            name=identity.name,
            description=identity.description,
            tags=identity.tags,
            _signature=signature,
            version=version,
        )

    return decorate if fn is None else decorate(fn, names_of_caller(1))
