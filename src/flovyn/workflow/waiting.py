"""The ways into everything durable, and how the program waits for what it has begun."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flovyn.errors import ChildWorkflowCancelled, TaskCancelled, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from flovyn.errors import ExecutionError
    from flovyn.nursery.kernel import TaskState
    from flovyn.replay import Event, Execution
    from flovyn.replay.settlements import Settlement

__all__ = ["begin", "enter", "is_open", "seen_off", "settled"]


def begin(execution: Execution, what: str) -> None:
    """The way into a synchronous operation: nothing begins in a cancelled scope.

    Args:
        execution: The run; on one that was evicted this does nothing.
        what: The operation, as it goes on after "cannot".

    Raises:
        Cancelled: The scope around the call is cancelled.
        UsageError: The run is read-only, or the call comes from outside the workflow.
    """
    if not execution.read_only.denied(what):
        _inside(execution, what)
        execution.kernel.check()


async def enter(execution: Execution, what: str) -> None:
    """The way into an operation that waits: likewise, but a run that was evicted never comes out of it."""
    kernel = execution.kernel
    if not execution.read_only.denied(what):
        _inside(execution, what)
        await kernel.checkpoint_if_cancelled()
    else:
        await kernel.park(_never)


def is_open(execution: Execution) -> bool:
    """Whether `enter` would let the caller pass at once, which is what it does nearly always."""
    kernel = execution.kernel
    task = kernel.current
    return not (task is None or task.scope.effectively_cancelled or kernel.dead or execution.read_only)


def _inside(execution: Execution, what: str) -> TaskState:
    task = execution.kernel.current
    if task is None:
        raise UsageError(
            f"cannot {what} here: a workflow's context works in the code of the workflow only, "
            "not in what `ctx.run` or a task runs"
        )
    return task


async def settled(execution: Execution, settlement: Settlement, text: str, abort: Callable[[], bool]) -> Event:
    """Wait until something has ended.

    Args:
        execution: The run.
        settlement: How it ends.
        text: What is waited for, in the platform's words.
        abort: Asked when the wait is cancelled: whether it ends now, with the cancelled exception.

    Returns:
        The event that ended it.

    Raises:
        Cancelled: The wait was cancelled. (Being cancelled at its begin is no reason not to wait.)
    """
    if settlement.event is None:
        kernel = execution.kernel
        task = _inside(execution, "wait")
        settlement.waiters.append(task)

        def stop() -> bool:
            if not abort():
                return False
            settlement.waiters.remove(task)
            return True

        execution.waits[task] = text
        try:
            await kernel.wait_woken(stop)
        finally:
            del execution.waits[task]
    event = settlement.event
    assert event is not None
    return event


async def seen_off(execution: Execution, error: ExecutionError, *, stays: bool) -> ExecutionError:
    """The error to raise for work that did not end well.

    Args:
        execution: The run.
        error: How it ended.
        stays: Whether the wait went on although it was cancelled.

    Raises:
        Cancelled: The work was cancelled as it was to be, so the cancellation goes on.
    """
    if stays and isinstance(error, TaskCancelled | ChildWorkflowCancelled):
        await execution.kernel.checkpoint_if_cancelled()
    return error


def _never() -> bool:
    return False
