"""`@task`."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, TypeAlias, TypeVar, cast, overload

from flovyn.definitions.annotations import names_of_caller
from flovyn.definitions.definition import Definition, attach, attached, identify
from flovyn.definitions.options import (
    OnCancel,
    check_key,
    check_on_cancel,
    check_text,
    duration,
    signed_duration,
)
from flovyn.definitions.task_code import TaskClass, code_of
from flovyn.errors import DefinitionError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Mapping
    from datetime import timedelta

    from flovyn.definitions.retry import RetryPolicy

__all__ = ["AnyTask", "SyncTask", "Task", "task", "task_of"]

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
C = TypeVar("C", bound="type[TaskClass[..., Any]]")

_DEFINITION = "__flovyn_task__"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Task(Definition[P, R_co]):
    """A task: a function that a worker runs, at least once, and whose result is durable.

    Attributes:
        queue: Where it is scheduled; None for the queue of the workflow that schedules it.
        schedule_to_close: The server's limit from scheduling to the end, all attempts together; None for the server's.
        start_to_close: The worker's limit for one attempt; None for no limit.
        heartbeat_timeout: The worker's limit for the time between two calls of the context's `heartbeat`.
        retry: How the worker tries again, within one claim; None leaves it to the server's default.
        cancellable: Whether a cancel ends it.
        streaming: Whether it shows anything to those who follow it live.
        version: The version of the code, as registered with the server.
        parameters: The names of what it takes after the context.
        in_thread: Whether a worker runs it in a thread.
        priority: How much older it counts when workers choose what comes first; negative for younger.
        idempotency_key: Scheduling twice with one key runs it once.
        idempotency_key_ttl: How long the key lives; None for the server's default, a day.
        on_cancel: What becomes of it when the scope that it was scheduled in is cancelled.
    """

    queue: str | None = None
    schedule_to_close: timedelta | None = None
    start_to_close: timedelta | None = None
    heartbeat_timeout: timedelta | None = None
    retry: RetryPolicy | None = None
    cancellable: bool = True
    streaming: bool = False
    version: str = "1.0.0"
    parameters: tuple[str, ...] = ()
    in_thread: bool = False
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
        if not self.cancellable and changed.on_cancel != "abandon":
            msg = f'{where}: on_cancel="{changed.on_cancel}" cannot work, as the task is not cancellable; leave it out'
            raise DefinitionError(msg)
        return changed

    def shown(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Arguments that were read from a payload, as a context shows them.

        Returns:
            None if there are none, the value if there is one parameter, all of them by name if there are several.
        """
        named = dict(zip(self.parameters, args, strict=False)) | kwargs
        return next(iter(named.values()), None) if len(self.parameters) < 2 else named


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class SyncTask(Task[P, R_co]):
    """A task that is a plain function: a worker runs it in a thread."""

    def __call__(self, ctx: Any, /, *args: P.args, **kwargs: P.kwargs) -> R_co:  # type: ignore[override] # pyright: ignore[reportIncompatibleMethodOverride]
        return cast("R_co", self.fn(ctx, *args, **kwargs))


AnyTask: TypeAlias = "Task[P, R] | type[TaskClass[P, R]]"
"""A task as users write it: a decorated function, or a decorated class."""


# A coroutine function is a function too, and a class is callable: of the overloads the first that fits counts.
class _Decorator(Protocol):
    @overload
    def __call__(self, target: C, /) -> C: ...  # type: ignore[overload-overlap] # pyright: ignore[reportOverlappingOverload]

    @overload
    def __call__(self, target: Callable[Concatenate[Any, P], Coroutine[Any, Any, R]], /) -> Task[P, R]: ...  # type: ignore[overload-overlap]

    @overload
    def __call__(self, target: Callable[Concatenate[Any, P], R], /) -> SyncTask[P, R]: ...


@overload
def task(target: C, /) -> C: ...  # type: ignore[overload-overlap] # pyright: ignore[reportOverlappingOverload]


@overload
def task(target: Callable[Concatenate[Any, P], Coroutine[Any, Any, R]], /) -> Task[P, R]: ...  # type: ignore[overload-overlap]


@overload
def task(target: Callable[Concatenate[Any, P], R], /) -> SyncTask[P, R]: ...


@overload
def task(
    *,
    name: str | None = None,
    kind: str | None = None,
    description: str | None = None,
    version: str = "1.0.0",
    tags: Iterable[str] = (),
    queue: str | None = None,
    schedule_to_close: timedelta | float | None = None,
    start_to_close: timedelta | float | None = None,
    heartbeat_timeout: timedelta | float | None = None,
    retry: RetryPolicy | None = None,
    cancellable: bool = True,
    streaming: bool = False,
) -> _Decorator: ...


def task(  # noqa: PLR0913 - options by keyword, each with a default
    target: Any = None,
    /,
    *,
    name: str | None = None,
    kind: str | None = None,
    description: str | None = None,
    version: str = "1.0.0",
    tags: Iterable[str] = (),
    queue: str | None = None,
    schedule_to_close: timedelta | float | None = None,
    start_to_close: timedelta | float | None = None,
    heartbeat_timeout: timedelta | float | None = None,
    retry: RetryPolicy | None = None,
    cancellable: bool = True,
    streaming: bool = False,
) -> Any:
    """Make a task of a function whose first parameter is its context, or of a class with such an `async def run`.

    An `async def` runs in the worker's event loop and is given a `TaskContext`. A plain function runs in a thread and
    is given a `SyncTaskContext`. Of a class each attempt makes an instance of its own; what attempts are to share is a
    resource (see `Worker`).

    Args:
        target: The function or class, where the decorator is used without arguments.
        name: What people know it by; its own name if left out.
        kind: What the server knows it by; the name if left out.
        description: The docstring if left out.
        version: The version of the code, as registered with the server.
        tags: Words to find it by.
        queue: Where it is scheduled; the queue of the workflow if left out.
        schedule_to_close: The server's limit from scheduling to the end, in seconds or as a timedelta.
        start_to_close: The worker's limit for one attempt, in seconds or as a timedelta.
        heartbeat_timeout: The worker's limit for the time between two calls of the context's `heartbeat`, in seconds or
            as a timedelta. The attempt that keeps still for longer is cancelled.
        retry: How the worker tries again after a failure; the server's default applies if left out.
        cancellable: False for what must not be stopped half-way: a workflow whose scope is cancelled leaves it alone
            (as with ``on_cancel="abandon"``), and a cancel from elsewhere does not interrupt its body.
        streaming: Whether it uses the `stream_...` methods of its context; registered with the server, for tools.

    Returns:
        For a function a `Task`, which is still callable as the function was; for a class the class itself.

    Raises:
        DefinitionError: It cannot be a task; the message says where it stands and what to change.

    Example:
        >>> @task(start_to_close=30)
        ... async def add(ctx: object, a: int, b: int = 1) -> int:
        ...     return a + b
        >>> add.encode_input((2,), {})
        b'{"a":2,"b":1}'
    """

    def decorate(target: Any, names: Mapping[str, Any] | None = None) -> Any:
        code = code_of(target, names_of_caller(1) if names is None else names)
        where = f"{code.where}: options of {target.__qualname__}"
        check_text(where, "queue", queue)
        check_text(where, "version", version)
        identity = identify(target, code.where, name=name, kind=kind, description=description, tags=tags)
        make = cast("type[Task[..., Any]]", SyncTask if code.in_thread else Task)
        definition = make(
            fn=code.fn,
            kind=identity.kind,
            name=identity.name,
            description=identity.description,
            tags=identity.tags,
            signature=code.signature,
            queue=queue,
            schedule_to_close=duration(where, "schedule_to_close", schedule_to_close),
            start_to_close=duration(where, "start_to_close", start_to_close),
            heartbeat_timeout=duration(where, "heartbeat_timeout", heartbeat_timeout),
            retry=retry,
            cancellable=cancellable,
            on_cancel="request" if cancellable else "abandon",
            streaming=streaming,
            version=version,
            parameters=code.parameters,
            in_thread=code.in_thread,
        )
        return attach(target, _DEFINITION, definition)

    return decorate if target is None else decorate(target, names_of_caller(1))


def task_of(task: AnyTask[P, R]) -> Task[P, R]:
    """The definition behind a task as users write it.

    Args:
        task: What `@task` returned: a `Task`, or the class that it decorated.

    Raises:
        DefinitionError: It is neither.

    Example:
        >>> @task(kind="resize")
        ... class Resize:
        ...     async def run(self, ctx: object, path: str) -> int: ...
        >>> task_of(Resize).options(queue="gpu").queue
        'gpu'
    """
    definition = attached(task, _DEFINITION)
    if not isinstance(definition, Task):
        raise DefinitionError(f"{task!r} is no task: decorate the function or the class itself with @task")
    return cast("Task[P, R]", definition)
