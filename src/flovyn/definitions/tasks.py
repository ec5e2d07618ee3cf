"""`@task`."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar, overload

from flovyn.definitions.annotations import names_of_caller
from flovyn.definitions.definition import Definition, identify
from flovyn.definitions.options import (
    OnCancel,
    check_key,
    check_on_cancel,
    check_text,
    duration,
    signed_duration,
)
from flovyn.definitions.signature import Form, Signature, site

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Mapping
    from datetime import timedelta

    from flovyn.definitions.retry import RetryPolicy

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
        retry: How the worker tries again, within one claim; None leaves it to the server's default.
        priority: How much older it counts when workers choose what comes first; negative for younger.
        idempotency_key: Scheduling twice with one key runs it once.
        idempotency_key_ttl: How long the key lives; None for the server's default, a day.
        on_cancel: What becomes of it when the scope that it was scheduled in is cancelled.
    """

    queue: str | None = None
    schedule_to_close: timedelta | None = None
    start_to_close: timedelta | None = None
    retry: RetryPolicy | None = None
    priority: timedelta | None = None
    idempotency_key: str | None = None
    idempotency_key_ttl: timedelta | None = None
    on_cancel: OnCancel = "request"

    def options(
        self,
        *,
        queue: str | None = None,
        schedule_to_close: timedelta | float | None = None,
        priority: timedelta | float | None = None,
        idempotency_key: str | None = None,
        idempotency_key_ttl: timedelta | float | None = None,
        on_cancel: OnCancel | None = None,
    ) -> Task[P, R_co]:
        """A copy to schedule with other options; what is left out stays as it is.

        Args:
            queue: Where to schedule it.
            schedule_to_close: The server's limit from scheduling to the end, in seconds or as a timedelta.
            priority: How much older than it is it counts when workers choose what comes first, in seconds or as a
                timedelta; negative for younger.
            idempotency_key: Scheduling twice with one key runs it once. At most 255 characters.
            idempotency_key_ttl: How long the key lives, between a second and 30 days, in seconds or as a timedelta.
            on_cancel: When the scope around it is cancelled: `request` (at first) asks it to end and goes on at once,
                `wait` asks and stays until it has ended, `abandon` leaves it alone.

        Raises:
            DefinitionError: An option cannot work; the message says which, and what to write instead.

        Example:
            >>> @task
            ... async def render(ctx: object, page: int) -> str: ...
            >>> render.options(queue="gpu", on_cancel="wait").queue
            'gpu'
        """
        where = f"{self.signature.where}: options of {self.kind}"
        check_text(where, "queue", queue)
        check_on_cancel(where, on_cancel)
        limit = duration(where, "schedule_to_close", schedule_to_close)
        ahead = signed_duration(where, "priority", priority)
        ttl = duration(where, "idempotency_key_ttl", idempotency_key_ttl)
        changed = dataclasses.replace(
            self,
            queue=self.queue if queue is None else queue,
            schedule_to_close=self.schedule_to_close if limit is None else limit,
            priority=self.priority if ahead is None else ahead,
            idempotency_key=self.idempotency_key if idempotency_key is None else idempotency_key,
            idempotency_key_ttl=self.idempotency_key_ttl if ttl is None else ttl,
            on_cancel=self.on_cancel if on_cancel is None else on_cancel,
        )
        check_key(where, changed.idempotency_key, changed.idempotency_key_ttl)
        return changed


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
    retry: RetryPolicy | None = None,
) -> Callable[[Callable[Concatenate[Any, P], Coroutine[Any, Any, R]]], Task[P, R]]: ...


def task(  # noqa: PLR0913 - options by keyword, each with a default
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
    retry: RetryPolicy | None = None,
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
        retry: How the worker tries again after a failure; the server's default applies if left out.

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
        signature = Signature(Form("task"), fn, names)
        where = f"{site(fn)}: options of {fn.__qualname__}"
        check_text(where, "queue", queue)
        identity = identify(fn, site(fn), name=name, kind=kind, description=description, tags=tags)
        return Task(
            fn=fn,
            kind=identity.kind,
            name=identity.name,
            description=identity.description,
            tags=identity.tags,
            signature=signature,
            queue=queue,
            schedule_to_close=duration(where, "schedule_to_close", schedule_to_close),
            start_to_close=duration(where, "start_to_close", start_to_close),
            retry=retry,
        )

    return decorate if fn is None else decorate(fn, names_of_caller(1))
