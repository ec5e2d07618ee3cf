"""Cancelling tasks: no command of a submission does it, so the worker calls for each (rule 8)."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import anyio

from flovyn.errors import (
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ServerError,
    TransportError,
    Unimplemented,
)
from flovyn.wire import methods
from flovyn.wire.messages.flovyn import v1 as pb

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from flovyn.wire.transport import Transport

__all__ = ["send_cancels"]

logger: logging.Logger = logging.getLogger("flovyn.worker")

_AT_ONCE: Final = 16
"""How many calls are under way at once: a fan-out of thousands that is given up must not take the whole connection."""

# The task has ended, is unknown, or this server cancels no task for us: there is nothing that a later call could do.
_REFUSALS: Final = (FailedPrecondition, NotFound, InvalidArgument, PermissionDenied, Unimplemented)


async def send_cancels(
    transport: Transport, task_ids: Sequence[str], *, cancel_here: Callable[[str, str], None]
) -> list[str]:
    """Tell the server, and this very worker, of tasks that their workflow has given up.

    Args:
        transport: Carries the calls.
        task_ids: The tasks.
        cancel_here: Ends a task's body at once if it runs in this worker; gets its id and the reason.

    Returns:
        The tasks that the server has answered for, in whatever way. For any other a cancel is owed still: the server
        could not be reached, or failed by itself.
    """
    for task_id in task_ids:
        cancel_here(task_id, "cancelled by its workflow")
    answered: list[str] = []
    left = iter(task_ids)
    async with anyio.create_task_group() as senders:
        for _ in range(min(_AT_ONCE, len(task_ids))):
            senders.start_soon(_send, transport, left, answered)
    return answered


async def _send(transport: Transport, task_ids: Iterator[str], answered: list[str]) -> None:
    for task_id in task_ids:
        try:
            await transport.unary(methods.CANCEL_TASK, pb.CancelTaskRequest(task_execution_id=task_id))
        except _REFUSALS as refusal:
            logger.debug("CancelTask %s was refused: %s", task_id, refusal)
        except (ServerError, TransportError) as error:
            logger.warning("task %s could not be cancelled, which is tried again: %s", task_id, error)
            continue
        answered.append(task_id)
