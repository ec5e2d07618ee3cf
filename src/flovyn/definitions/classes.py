"""Workflows as classes: `run`, handlers of signals, and queries."""

from __future__ import annotations

import inspect
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar, overload

from flovyn.definitions.names import Query, Signal, checked_name
from flovyn.definitions.signature import QUERY, RUN, SIGNAL, Form, Signature
from flovyn.errors import DefinitionError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

__all__ = [
    "ClassHost",
    "ClassParts",
    "Handler",
    "class_site",
    "marked_name",
    "parts_of",
    "program_of",
    "query",
    "signal",
]

F = TypeVar("F", bound="Callable[..., Any]")

_MARK = "__flovyn_handler__"


@dataclass(frozen=True, slots=True)
class _Mark:
    sort: Literal["signal", "query"]
    name: str


@dataclass(frozen=True, slots=True)
class Handler:
    """A method that answers a signal or a query.

    Attributes:
        name: What the outside world calls it by.
        method: The name of the method.
        signature: How its payloads are read and written.
    """

    name: str
    method: str
    signature: Signature


@dataclass(frozen=True, slots=True)
class ClassParts:
    """What a class that is a workflow is made of.

    Attributes:
        cls: The class; each execution makes an instance of it, inside its first step.
        signals: The handlers of signals, by name.
        queries: The methods that answer queries, by name.
    """

    cls: type[Any]
    signals: Mapping[str, Handler]
    queries: Mapping[str, Handler]


class ClassHost(Protocol):
    """What a context must offer for a class to be run with it."""

    async def run_class(self, parts: ClassParts, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Make an instance, start the handlers of signals as these arrive, and run it."""
        ...


# --- the decorators -------------------------------------------------------------------------


@overload
def signal(method: F, /) -> F: ...


@overload
def signal(*, name: str | Signal[Any] | None = None) -> Callable[[F], F]: ...


def signal(method: Any = None, /, *, name: str | Signal[Any] | None = None) -> Any:
    """Make an async method of a workflow's class the handler of a signal.

    It takes the context and the signal's value, and runs in the nursery of the workflow: a task of its own for each
    signal, started in the order in which the signals arrived. The workflow has ended when `run` and all of them have.

    Args:
        method: The method, where the decorator is used without arguments.
        name: The signal, as text or as a `Signal`; the method's name if left out.

    Example:
        ```python
        @workflow
        class Cart:
            def __init__(self) -> None:
                self.items: list[str] = []

            @signal
            async def add(self, ctx: WorkflowContext, item: str) -> None:
                self.items.append(item)

            async def run(self, ctx: WorkflowContext, size: int) -> list[str]:
                await ctx.wait_condition(lambda: len(self.items) == size)
                return self.items
        ```
    """
    return _marking("signal", method, name)


@overload
def query(method: F, /) -> F: ...


@overload
def query(*, name: str | Query[Any] | None = None) -> Callable[[F], F]: ...


def query(method: Any = None, /, *, name: str | Query[Any] | None = None) -> Any:
    """Make a method of a workflow's class the answer to a query.

    It is a plain method without a context: it looks at the instance and changes nothing.

    Args:
        method: The method, where the decorator is used without arguments.
        name: The query, as text or as a `Query`; the method's name if left out.

    Example:
        ```python
        @workflow
        class Import:
            def __init__(self) -> None:
                self.done = 0

            @query
            def progress(self) -> int:
                return self.done

            async def run(self, ctx: WorkflowContext, files: list[str]) -> None:
                for file in files:
                    await ctx.schedule(import_file, file)
                    self.done += 1
        ```
    """
    return _marking("query", method, name)


def _marking(sort: Literal["signal", "query"], method: Any, name: str | Signal[Any] | Query[Any] | None) -> Any:
    text = name.name if isinstance(name, Signal | Query) else name

    def mark(method: Any) -> Any:
        if not inspect.isfunction(method):
            msg = f"@{sort} decorates a method of a workflow's class, not {method!r}"
            raise DefinitionError(msg)
        setattr(method, _MARK, _Mark(sort, checked_name(sort, method.__name__ if text is None else text)))
        return method

    return mark if method is None else mark(method)


def marked_name(sort: Literal["signal", "query"], method: object) -> str | None:
    """What the outside world calls a method by; None if it is no signal, or query, at all.

    Example:
        >>> class Cart:
        ...     @query(name="size")
        ...     def how_many(self) -> int: ...
        >>> marked_name("query", Cart.how_many)
        'size'
    """
    mark = getattr(getattr(method, "__func__", method), _MARK, None)
    return mark.name if isinstance(mark, _Mark) and mark.sort == sort else None


# --- reading a class ------------------------------------------------------------------------


def class_site(cls: type[Any]) -> str:
    """Where a class stands, as ``file:line``."""
    try:
        return f"{inspect.getsourcefile(cls)}:{inspect.findsource(cls)[1] + 1}"
    except (OSError, TypeError):
        return str(getattr(sys.modules.get(cls.__module__), "__file__", cls.__module__))


def parts_of(cls: type[Any], names: Mapping[str, Any]) -> tuple[ClassParts, Signature]:
    """Read the handlers of a class, and the signature of its `run`.

    Raises:
        DefinitionError: The class cannot be a workflow; the message says where it stands and what to change.
    """
    run = inspect.getattr_static(cls, "run", None)
    if run is None:
        where = f"{class_site(cls)}: the class {cls.__qualname__}"
        msg = f"{where} has no `async def run(self, ctx, ...)`, as @workflow needs"
        raise DefinitionError(msg)
    signature = Signature(RUN, run, names)
    try:
        inspect.signature(cls).bind()
    except TypeError as error:
        msg = (
            f"{class_site(cls)}: {cls.__qualname__} has to be made without arguments, as each execution makes its own: "
            f"{error}. Give `__init__` none; the input of the workflow goes to `run`"
        )
        raise DefinitionError(msg) from None
    handlers: dict[tuple[str, str], Handler] = {}
    for attribute in dict.fromkeys(name for base in reversed(cls.__mro__) for name in vars(base)):
        method = inspect.getattr_static(cls, attribute)
        mark = getattr(getattr(method, "__func__", method), _MARK, None)
        if isinstance(mark, _Mark):
            if not inspect.isfunction(method):
                msg = (
                    f"{class_site(cls)}: {cls.__qualname__}.{attribute} is a {type(method).__name__}; "
                    f"a @{mark.sort} is a method with `self`"
                )
                raise DefinitionError(msg)
            form: Form = SIGNAL if mark.sort == "signal" else QUERY
            handler = Handler(mark.name, attribute, Signature(form, method, names))
            other = handlers.setdefault((mark.sort, mark.name), handler)
            if other is not handler:
                msg = (
                    f"{handler.signature.where}: {cls.__qualname__} has two handlers of the {mark.sort} {mark.name!r}, "
                    f"`{other.method}` and `{attribute}`; give one of them another name=..."
                )
                raise DefinitionError(msg)
    signals = {name: handler for (sort, name), handler in handlers.items() if sort == "signal"}
    queries = {name: handler for (sort, name), handler in handlers.items() if sort == "query"}
    return ClassParts(cls, signals, queries), signature


def program_of(parts: ClassParts) -> Callable[..., Coroutine[Any, Any, Any]]:
    """The function that a workflow runs whose code is a class."""

    async def program(ctx: ClassHost, *args: Any, **kwargs: Any) -> Any:
        return await ctx.run_class(parts, args, kwargs)

    return program
