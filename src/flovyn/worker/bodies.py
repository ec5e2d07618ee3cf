"""One run of a task's function, and what came of it."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

import anyio

from flovyn.definitions import is_final
from flovyn.errors import DefinitionError, TaskCancelled
from flovyn.serde.envelope import format_error
from flovyn.task import SyncTaskContext, TaskContext
from flovyn.worker.groups import holds_cancellation, leaves
from flovyn.worker.thread_bridge import run_in_thread

if TYPE_CHECKING:
    from flovyn.definitions import Task
    from flovyn.task import Bridge, Desk
    from flovyn.task.facts import Facts
    from flovyn.worker.attempt import Attempt

__all__ = ["Failure", "Outcome", "Value", "late_failure", "run_body"]

_SHUTDOWN_SECONDS: Final = 0.1


@dataclass(frozen=True, slots=True)
class Value:
    """The body returned.

    Args:
        output: What it returned, as a payload.
    """

    output: bytes


@dataclass(frozen=True, slots=True)
class Failure:
    """The body failed, or what it returned is no payload.

    Args:
        text: The error as the wire's text.
        final: Whether no further attempt can help.
    """

    text: str
    final: bool


Outcome: TypeAlias = Value | Failure | None
"""None for an attempt that was cut short."""


class ContextKit(Protocol):
    """What the contexts of an attempt are made of."""

    def desk(self, attempt: Attempt) -> Desk:
        """Where everything goes that is for the server."""
        ...

    def facts(self, attempt: Attempt, arguments: Any) -> Facts:
        """What is known of the task."""
        ...

    @property
    def task_id(self) -> str: ...


async def run_body(
    definition: Task[..., Any], data: bytes, attempt: Attempt, kit: ContextKit, threads: anyio.CapacityLimiter
) -> Outcome:
    """Run a task's function once.

    Args:
        definition: The task.
        data: The payload of its arguments.
        attempt: Cancelling it ends the body.
        kit: What its context is made of.
        threads: Who may run in a thread.

    Returns:
        Its outcome. A value counts even if it comes late; of an error that comes late, the limit counts.
    """
    try:
        args, kwargs = definition.decode_input(data)
    except Exception as fault:  # noqa: BLE001 - a PayloadError, or whatever the type's own code raises
        # No later attempt reads the same bytes differently.
        return _failed(fault, attempt, final=True)
    value: Any = None
    failure: BaseException | None = None
    returned = False
    try:
        with attempt.scope:
            value = await _call(definition, args, kwargs, attempt, kit, threads)
            returned = not attempt.abandoned
    except BaseException as error:  # noqa: ASYNC103, ASYNC104, BLE001 - it is raised again below
        failure = error
    if failure is not None:
        try:
            if not await _is_own(failure, attempt):
                raise failure
            if not _is_of_the_cancellation(failure, attempt):
                return _failed(failure, attempt, final=is_final(failure, _hopeless(definition)))
        finally:
            del failure  # or it would hold this frame, which holds it
    if returned:
        return _written(definition, value, attempt)
    return None if attempt.late is None else late_failure(definition, attempt)


def late_failure(definition: Task[..., Any], attempt: Attempt) -> Failure:
    """What is reported of an attempt that was over one of its limits."""
    assert attempt.late is not None
    late = TimeoutError(f"Task execution timed out: {attempt.limit_text()}")
    final = is_final(late, _hopeless(definition))
    return Failure(format_error(late, retryable=not final, reason=attempt.late, attempts=attempt.number), final)


async def _call(
    definition: Task[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    attempt: Attempt,
    kit: ContextKit,
    threads: anyio.CapacityLimiter,
) -> Any:
    desk, facts = kit.desk(attempt), kit.facts(attempt, definition.shown(args, kwargs))
    if not definition.in_thread:
        context = TaskContext(task_execution_id=kit.task_id, kind=definition.kind, desk=desk, **facts)
        return await definition.fn(context, *args, **kwargs)

    def make_context(bridge: Bridge) -> SyncTaskContext:
        return SyncTaskContext(task_execution_id=kit.task_id, kind=definition.kind, desk=desk, bridge=bridge, **facts)

    def body(context: SyncTaskContext) -> Any:
        value = definition.fn(context, *args, **kwargs)
        if inspect.iscoroutine(value):
            value.close()
            raise DefinitionError(
                f"{definition!r} is a plain function, so it ran in a thread, but it returned a coroutine; "
                "decorate the `async def` function itself, or make what wraps it an `async def`"
            )
        return value

    return await run_in_thread(attempt, threads, make_context, body)


async def _is_own(error: BaseException, attempt: Attempt) -> bool:
    """Whether a body that ended with an error did so by itself or by its cancellation, which costs nothing but itself.

    It did not if Ctrl-C ended it, or an event loop that shuts down. A cancelled exception alone says nothing: on
    asyncio, awaiting a future that somebody has cancelled raises the same one.
    """
    if any(isinstance(leaf, KeyboardInterrupt | GeneratorExit) for leaf in leaves(error)):
        return False
    if not holds_cancellation(error) or attempt.scope.cancel_called:
        return True
    # An asyncio loop that shuts down cancels every task by itself; the worker then ends all attempts a moment later.
    await anyio.sleep(_SHUTDOWN_SECONDS)
    return not attempt.scope.cancel_called


def _is_of_the_cancellation(error: BaseException, attempt: Attempt) -> bool:
    """Whether an error says no more than that the attempt was cancelled."""
    if not attempt.scope.cancel_called:
        return False
    return holds_cancellation(error) or all(isinstance(leaf, TaskCancelled) for leaf in leaves(error))


def _hopeless(definition: Task[..., Any]) -> tuple[type[BaseException], ...]:
    return () if definition.retry is None else definition.retry.non_retryable


def _written(definition: Task[..., Any], value: Any, attempt: Attempt) -> Value | Failure:
    try:
        return Value(definition.encode_output(value))
    except Exception as fault:  # noqa: BLE001 - a PayloadError, or whatever the value's own code raises
        return _failed(fault, attempt, final=True)


def _failed(error: BaseException, attempt: Attempt, *, final: bool) -> Failure:
    return Failure(format_error(error, retryable=not final, attempts=attempt.number), final)
