"""Waiting for something that the workflow's own code brings about."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

from flovyn.errors import UsageError
from flovyn.workflow.waiting import enter

if TYPE_CHECKING:
    from collections.abc import Callable

    from flovyn.replay import Execution

__all__ = ["wait_condition"]


async def wait_condition(execution: Execution, predicate: Callable[[], bool]) -> None:
    """Wait until a predicate holds, which is asked in a run that is read-only."""
    if inspect.iscoroutinefunction(predicate) or not callable(predicate):
        raise UsageError(f"{predicate!r} cannot be a condition: give a plain function that returns True or False")
    await enter(execution, "wait for a condition")

    def holds() -> bool:
        with execution.read_only:
            answer: object = predicate()
        if inspect.isawaitable(answer):
            if inspect.iscoroutine(answer):
                answer.close()
            raise UsageError(f"the condition {predicate!r} waits for something: it may only look")
        return bool(answer)

    await execution.kernel.wait_until(holds)
