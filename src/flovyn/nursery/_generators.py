"""Async generators that a task began and did not finish."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from flovyn.nursery._scope import Cancelled, CancelScope

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import AsyncGeneratorType

    from flovyn.nursery._task import TaskState

__all__ = ["close_generators", "unfinished"]

_logger = logging.getLogger(__name__)


def unfinished(generators: Iterable[AsyncGeneratorType[Any, Any]]) -> list[AsyncGeneratorType[Any, Any]]:
    """Those that still have code to run, in the order in which they were begun."""
    return [generator for generator in generators if generator.ag_frame is not None]


async def close_generators(task: TaskState, generators: list[AsyncGeneratorType[Any, Any]]) -> None:
    """Close what a task that has ended left unfinished, in the order in which it was begun.

    As in Trio, everything that the generators await is cancelled: code that nobody waits for any more does not reach
    the server. An error is logged, since the task to which it would belong has ended. A generator that another task is
    iterating passes to the parent.
    """
    for generator in generators:
        if generator.ag_running:
            if task.parent is not None:
                task.parent.generators.append(generator)
            continue
        with CancelScope(shield=True) as scope:
            scope.cancel("the task that began this async generator has ended")
            try:
                await generator.aclose()
            except Cancelled:
                raise
            except Exception:
                _logger.exception("closing the abandoned async generator %s failed", generator.__qualname__)
