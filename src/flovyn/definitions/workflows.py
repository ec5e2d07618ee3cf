"""`@workflow`, on functions and on classes."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, TypeAlias, TypeVar, cast, overload

from flovyn.definitions.annotations import names_of_caller
from flovyn.definitions.classes import ClassParts, class_site, parts_of, program_of
from flovyn.definitions.definition import Definition, attach, attached, identify
from flovyn.definitions.names import checked_name
from flovyn.definitions.options import OnCancel, check_on_cancel, check_text, signed_duration
from flovyn.definitions.signature import Form, Signature, site
from flovyn.errors import DefinitionError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Mapping
    from datetime import timedelta

__all__ = ["AnyWorkflow", "Workflow", "WorkflowClass", "definition_of", "options", "workflow"]

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
C = TypeVar("C", bound="type[WorkflowClass[..., Any]]")

_DEFINITION = "__flovyn_workflow__"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Workflow(Definition[P, R_co]):
    """A workflow: code whose every step is recorded, so that it goes on wherever a worker is.

    Attributes:
        version: The version of the code, as registered with the server; empty for a workflow of another program, which
            runs in the version that its workers have.
        parts: The class and its handlers, if it is a class.
        cancellable: Whether it can be cancelled.
        queue: Where it is started; None for the queue of whoever starts it.
        priority: How much older it counts when workers choose what comes first; negative for younger.
        child_name: Its name among the children of the workflow that schedules it; None for a name by kind and number.
        on_cancel: What becomes of it, as a child, when the scope that it was scheduled in is cancelled.
    """

    version: str = "1.0.0"
    parts: ClassParts | None = None
    cancellable: bool = True
    queue: str | None = None
    priority: timedelta | None = None
    child_name: str | None = None
    on_cancel: OnCancel = "request"

    def options(
        self,
        *,
        queue: str | None = None,
        priority: timedelta | float | None = None,
        child_name: str | None = None,
        on_cancel: OnCancel | None = None,
    ) -> Workflow[P, R_co]:
        """A copy to start with other options; what is left out stays as it is.

        Args:
            queue: Where to start it.
            priority: How much older than it is it counts when workers choose what comes first, in seconds or as a
                timedelta; negative for younger.
            child_name: Its name among the children of the workflow that schedules it. A name can be used once.
            on_cancel: As a child, when the scope around it is cancelled: `request` (at first) asks it to end and goes
                on at once, `wait` asks and stays until it has ended, `abandon` leaves it alone.

        Raises:
            DefinitionError: An option cannot work; the message says which, and what to write instead.
            UsageError: The child's name is empty or begins with a dollar sign.

        Example:
            >>> @workflow
            ... async def invoice(ctx: object, month: str) -> None: ...
            >>> invoice.options(child_name="invoice-june").child_name
            'invoice-june'
        """
        where = f"{self.signature.where}: options of {self.kind}"
        check_text(where, "queue", queue)
        check_on_cancel(where, on_cancel)
        ahead = signed_duration(where, "priority", priority)
        return dataclasses.replace(
            self,
            queue=self.queue if queue is None else queue,
            priority=self.priority if ahead is None else ahead,
            child_name=self.child_name if child_name is None else checked_name("child workflow", child_name),
            on_cancel=self.on_cancel if on_cancel is None else on_cancel,
        )


class WorkflowClass(Protocol[P, R_co]):
    """What a class must have to be a workflow."""

    async def run(self, ctx: Any, /, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """The workflow's code."""
        ...


AnyWorkflow: TypeAlias = "Workflow[P, R] | type[WorkflowClass[P, R]]"
"""A workflow as users write it: a decorated function, or a decorated class."""


class _Decorator(Protocol):
    @overload
    def __call__(self, target: C, /) -> C: ...

    @overload
    def __call__(self, target: Callable[Concatenate[Any, P], Coroutine[Any, Any, R]], /) -> Workflow[P, R]: ...


@overload
def workflow(target: C, /) -> C: ...


@overload
def workflow(target: Callable[Concatenate[Any, P], Coroutine[Any, Any, R]], /) -> Workflow[P, R]: ...


@overload
def workflow(
    *,
    name: str | None = None,
    kind: str | None = None,
    description: str | None = None,
    version: str = "1.0.0",
    tags: Iterable[str] = (),
    queue: str | None = None,
    cancellable: bool = True,
) -> _Decorator: ...


def workflow(
    target: Any = None,
    /,
    *,
    name: str | None = None,
    kind: str | None = None,
    description: str | None = None,
    version: str = "1.0.0",
    tags: Iterable[str] = (),
    queue: str | None = None,
    cancellable: bool = True,
) -> Any:
    """Make a workflow of an async function whose first parameter is its context, or of a class with such a `run`.

    Args:
        target: The function or class, where the decorator is used without arguments.
        name: What people know it by; its own name if left out.
        kind: What the server knows it by; the name if left out.
        description: The docstring if left out.
        version: The version of the code, as registered with the server.
        tags: Words to find it by.
        queue: Where it is started; the queue of whoever starts it if left out.
        cancellable: If not, a request to cancel it is refused by a server that knows that word, and ignored by the
            workflow in any case. What must not be interrupted in one place only stands in a shielded scope instead.

    Returns:
        For a function a `Workflow`, which is still callable as the function was; for a class the class itself.

    Raises:
        DefinitionError: It cannot be a workflow; the message says where it stands and what to change.

    Example:
        >>> @workflow(version="2.1.0")
        ... async def greet(ctx: object, name: str) -> str:
        ...     return f"Hello, {name}"
        >>> greet.kind, greet.version
        ('greet', '2.1.0')
    """

    def decorate(target: Any, names: Mapping[str, Any] | None = None) -> Any:
        names = names_of_caller(1) if names is None else names
        parts: ClassParts | None = None
        if isinstance(target, type):
            where = class_site(target)
            parts, signature = parts_of(target, names)
            fn = program_of(parts)
        else:
            signature, fn = Signature(Form("workflow"), target, names), target
            where = site(target)
        identity = identify(target, where, name=name, kind=kind, description=description, tags=tags)
        if not version.strip():
            msg = f"{where}: the version of {target.__qualname__} is empty; leave it out to use 1.0.0"
            raise DefinitionError(msg)
        check_text(f"{where}: options of {target.__qualname__}", "queue", queue)
        definition: Workflow[..., Any] = Workflow(
            fn=fn,
            kind=identity.kind,
            name=identity.name,
            description=identity.description,
            tags=identity.tags,
            signature=signature,
            version=version,
            parts=parts,
            cancellable=cancellable,
            queue=queue,
        )
        return attach(target, _DEFINITION, definition)

    return decorate if target is None else decorate(target, names_of_caller(1))


def definition_of(workflow: AnyWorkflow[P, R]) -> Workflow[P, R]:
    """The definition behind a workflow as users write it.

    Args:
        workflow: What `@workflow` returned: a `Workflow`, or the class that it decorated.

    Raises:
        DefinitionError: It is neither.

    Example:
        >>> @workflow(kind="cart")
        ... class Cart:
        ...     async def run(self, ctx: object) -> int: ...
        >>> definition_of(Cart).kind
        'cart'
    """
    definition = attached(workflow, _DEFINITION)
    if not isinstance(definition, Workflow):
        raise DefinitionError(f"{workflow!r} is no workflow: decorate the function or the class itself with @workflow")
    return cast("Workflow[P, R]", definition)


def options(
    workflow: AnyWorkflow[P, R],
    /,
    *,
    queue: str | None = None,
    priority: timedelta | float | None = None,
    child_name: str | None = None,
    on_cancel: OnCancel | None = None,
) -> Workflow[P, R]:
    """A workflow to start with other options, for classes and functions alike; what is left out stays as it is.

    A decorated class stays the class that it was: it has no method `options` of its own, as a decorated function has.

    Args:
        workflow: What `@workflow` returned.
        queue: Where to start it.
        priority: How much older than it is it counts when workers choose what comes first, in seconds or as a
            timedelta; negative for younger.
        child_name: Its name among the children of the workflow that schedules it. A name can be used once.
        on_cancel: As a child, when the scope around it is cancelled: `request` (at first) asks it to end and goes on at
            once, `wait` asks and stays until it has ended, `abandon` leaves it alone.

    Raises:
        DefinitionError: It is no workflow, or an option cannot work.
        UsageError: The child's name is empty or begins with a dollar sign.

    Example:
        >>> @workflow
        ... class Cart:
        ...     async def run(self, ctx: object) -> int: ...
        >>> options(Cart, queue="fast").queue
        'fast'
    """
    definition = definition_of(workflow)
    return definition.options(queue=queue, priority=priority, child_name=child_name, on_cancel=on_cancel)
