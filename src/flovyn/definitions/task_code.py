"""What `@task` can be put on: an async function, a plain one, or a class."""

from __future__ import annotations

import inspect
import types
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar

from flovyn.definitions.classes import class_site
from flovyn.definitions.signature import Form, Signature, site
from flovyn.errors import DefinitionError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["TaskClass", "TaskCode", "code_of"]

P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)


class TaskClass(Protocol[P, R_co]):
    """What a class must have to be a task."""

    async def run(self, ctx: Any, /, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """The task's code."""
        ...


@dataclass(frozen=True, slots=True)
class TaskCode:
    """The code of a task.

    Attributes:
        fn: A function whose first parameter is the context.
        signature: How its payloads are read and written.
        where: Where it stands, as ``file:line``.
        parameters: The names of its own parameters, in order.
        in_thread: Whether it is a plain function, which runs in a thread.
    """

    fn: Callable[..., Any]
    signature: Signature
    where: str
    parameters: tuple[str, ...]
    in_thread: bool


def code_of(target: Any, names: Mapping[str, Any]) -> TaskCode:
    """Read what was decorated.

    Args:
        target: A function or a class.
        names: The names that are known where the decorator stands, beyond the module's own.

    Raises:
        DefinitionError: It cannot be a task; the message says where it stands and what to change.
    """
    if isinstance(target, type):
        return _of_class(target, names)
    if not isinstance(target, types.FunctionType):
        msg = f"@task decorates a function or a class, not a {type(target).__qualname__}: {target!r}"
        raise DefinitionError(msg)
    if inspect.isgeneratorfunction(target) or inspect.isasyncgenfunction(target):
        msg = f"{site(target)}: {target.__qualname__} is a generator; write it without `yield`, and return"
        raise DefinitionError(msg)
    asynchronous = inspect.iscoroutinefunction(target)
    signature = Signature(Form("task", asynchronous=asynchronous), target, names)
    return TaskCode(target, signature, site(target), _parameters(target, skip=1), in_thread=not asynchronous)


def _of_class(cls: type[Any], names: Mapping[str, Any]) -> TaskCode:
    where = class_site(cls)
    run = inspect.getattr_static(cls, "run", None)
    if not inspect.iscoroutinefunction(run):
        msg = f"{where}: the class {cls.__qualname__} has no `async def run(self, ctx, ...)`, as @task needs"
        if inspect.isfunction(run):
            msg += "; a body that is to run in a thread is a plain function of its own"
        raise DefinitionError(msg)
    signature = Signature(Form("task", method=True), run, names)
    try:
        inspect.signature(cls).bind()
    except TypeError as error:
        msg = (
            f"{where}: {cls.__qualname__} has to be made without arguments, as each attempt makes its own: {error}. "
            "Give `__init__` none; what attempts share is a resource, from the lifespan of the worker"
        )
        raise DefinitionError(msg) from None

    async def body(ctx: Any, /, *args: Any, **kwargs: Any) -> Any:
        return await cls().run(ctx, *args, **kwargs)

    return TaskCode(body, signature, where, _parameters(run, skip=2), in_thread=False)


def _parameters(fn: Callable[..., Any], *, skip: int) -> tuple[str, ...]:
    return tuple(inspect.signature(fn, follow_wrapped=False).parameters)[skip:]
