"""One run of a task's function, and what came of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anyio

from flovyn.definitions import is_final
from flovyn.serde.envelope import format_error
from flovyn.worker.groups import is_own_failure

if TYPE_CHECKING:
    from flovyn.definitions import Task
    from flovyn.task import TaskContext

__all__ = ["Failure", "Value", "run_body"]


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


async def run_body(
    task: Task[..., Any],
    context: TaskContext,
    data: bytes,
    scope: anyio.CancelScope,
) -> Value | Failure | None:
    """Run a task's function inside a scope, no longer than the task's `start_to_close`.

    Args:
        task: The definition.
        context: The function's first argument.
        data: The payload of the others.
        scope: What ends the body when it is cancelled.

    Returns:
        Its outcome; None if the scope was cancelled and the body ended by that.
    """
    try:
        body = task.invoke(context, data)
    except Exception as fault:  # noqa: BLE001 - a PayloadError, or whatever the type's own code raises
        # No later attempt reads the same bytes differently.
        return _failed(fault, final=True)
    hopeless = () if task.retry is None else task.retry.non_retryable
    value, returned = None, False
    failure: BaseException | None = None
    limit = task.start_to_close
    deadline = math.inf if limit is None else anyio.current_time() + limit.total_seconds()
    attempt = anyio.CancelScope(deadline=deadline)
    try:
        with scope, attempt:
            value = await body
            returned = True
    except BaseException as error:  # noqa: ASYNC103, ASYNC104, BLE001 - it is raised again below
        failure = error
    if failure is not None:
        try:
            if not await is_own_failure(failure):
                raise failure
            return _failed(failure, final=is_final(failure, hopeless))
        finally:
            del failure  # or it would hold this frame, which holds it
    if returned:
        try:
            return Value(task.encode_output(value))
        except Exception as fault:  # noqa: BLE001 - a PayloadError, or whatever the value's own code raises
            return _failed(fault, final=True)
    if attempt.cancelled_caught:
        late = TimeoutError("Task execution timed out")
        return _failed(late, final=is_final(late, hopeless))
    return None


def _failed(error: BaseException, *, final: bool) -> Failure:
    return Failure(format_error(error, retryable=not final), final)
