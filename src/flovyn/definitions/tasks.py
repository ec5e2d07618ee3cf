"""`@task`."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar, overload

from flovyn.definitions.annotations import names_of_caller
from flovyn.definitions.definition import Definition, identify
from flovyn.definitions.signature import Signature, site
from flovyn.errors import DefinitionError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Mapping

__all__ = ["Task", "task"]

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Task(Definition[P, R_co]):
    """A task: a function that a worker runs, at least once, and whose result is durable.

    Attributes:
        queue: Where it is scheduled; None for the queue of the workflow that schedules it.
        schedule_to_close: The server's limit from scheduling to the end, all attempts together; None for the server's.
        start_to_close: The worker's limit for one attempt; None for no limit.
    """

    queue: str | None = None
    schedule_to_close: timedelta | None = None
    start_to_close: timedelta | None = None

    def options(self, *, queue: str | None = None, schedule_to_close: timedelta | float | None = None) -> Task[P, R_co]:
        """A copy to schedule with other options; what is left out stays as it is.

        Args:
            queue: Where to schedule it.
            schedule_to_close: The server's limit from scheduling to the end, in seconds or as a timedelta.

        Raises:
            DefinitionError: The limit is not a positive, finite time.

        Example:
            >>> @task
            ... async def render(ctx: object, page: int) -> str: ...
            >>> render.options(queue="gpu").queue
            'gpu'
        """
        limit = _limit(self.fn, "schedule_to_close", schedule_to_close)
        return dataclasses.replace(
            self,
            queue=self.queue if queue is None else queue,
            schedule_to_close=self.schedule_to_close if limit is None else limit,
        )


@overload
def task(fn: Callable[Concatenate[Any, P], Coroutine[Any, Any, R]], /) -> Task[P, R]: ...


@overload
def task(
    *,
    name: str | None = None,
    kind: str | None = None,
    description: str | None = None,
    tags: Iterable[str] = (),
    queue: str | None = None,
    schedule_to_close: timedelta | float | None = None,
    start_to_close: timedelta | float | None = None,
) -> Callable[[Callable[Concatenate[Any, P], Coroutine[Any, Any, R]]], Task[P, R]]: ...


def task(
    fn: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    kind: str | None = None,
    description: str | None = None,
    tags: Iterable[str] = (),
    queue: str | None = None,
    schedule_to_close: timedelta | float | None = None,
    start_to_close: timedelta | float | None = None,
) -> Any:
    """Make a task of an async function whose first parameter is its context.

    Args:
        fn: The function, where the decorator is used without arguments.
        name: What people know it by; the function's name if left out.
        kind: What the server knows it by; the name if left out.
        description: The docstring if left out.
        tags: Words to find it by.
        queue: Where it is scheduled; the queue of the workflow if left out.
        schedule_to_close: The server's limit from scheduling to the end, in seconds or as a timedelta.
        start_to_close: The worker's limit for one attempt, in seconds or as a timedelta.

    Returns:
        A `Task`, which is still callable as the function was.

    Raises:
        DefinitionError: The function cannot be a task; the message says where it stands and what to change.

    Example:
        >>> @task(start_to_close=30)
        ... async def add(ctx: object, a: int, b: int = 1) -> int:
        ...     return a + b
        >>> add.encode_input((2,), {})
        b'{"a":2,"b":1}'
    """

    def decorate(fn: Callable[..., Any], names: Mapping[str, Any] | None = None) -> Task[..., Any]:
        names = names_of_caller(1) if names is None else names
        signature = Signature("task", fn, names)
        identity = identify(fn, name=name, kind=kind, description=description, tags=tags)
        return Task(
            fn=fn,
            kind=identity.kind,
            name=identity.name,
            description=identity.description,
            tags=identity.tags,
            _signature=signature,
            queue=queue,
            schedule_to_close=_limit(fn, "schedule_to_close", schedule_to_close),
            start_to_close=_limit(fn, "start_to_close", start_to_close),
        )

    return decorate if fn is None else decorate(fn, names_of_caller(1))


def _limit(fn: Callable[..., Any], option: str, value: timedelta | float | None) -> timedelta | None:
    if value is None:
        return None
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if not (seconds > 0 and math.isfinite(seconds)):
        msg = f"{site(fn)}: {option}={value!r} of {fn.__qualname__} has to be a positive time; None is no limit"
        raise DefinitionError(msg)
    return timedelta(seconds=seconds)
