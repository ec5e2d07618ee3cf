"""What the kernel knows about one task."""

from __future__ import annotations

import traceback
import types
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Generator
    from contextvars import Context
    from types import AsyncGeneratorType

    from flovyn.nursery._scope import CancelScope
    from flovyn.nursery.kernel import Kernel

__all__ = ["PARKED", "Abort", "Done", "Outcome", "TaskState", "trap"]

Abort: TypeAlias = Callable[[], bool]
"""Asked when a cancellation wants to end a wait: True lets it, False makes the wait go on."""

PARKED = object()


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a task ended: with `value`, or with `error` if that is not None."""

    value: Any
    error: BaseException | None


Done: TypeAlias = Callable[["TaskState", Outcome], None]


class TaskState:
    """One task of a kernel.

    Attributes:
        kernel: The kernel that steps it.
        id: Its number in its kernel, counted from 1 in the order in which tasks were started.
        name: For people.
        scope: The innermost cancel scope that it is in now.
        context: Its own context variables.
        parent: The task in whose group it runs, or None for a root.
    """

    __slots__ = (
        "__weakref__",
        "abort",
        "context",
        "coro",
        "done",
        "ending",
        "error",
        "generators",
        "id",
        "inner",
        "kernel",
        "name",
        "parent",
        "parked",
        "prune_at",
        "scope",
        "value",
    )

    def __init__(  # noqa: PLR0913  # called in one place
        self,
        kernel: Kernel,
        number: int,
        coro: Coroutine[Any, Any, Any],
        name: str,
        scope: CancelScope,
        context: Context,
        done: Done,
        *,
        parent: TaskState | None = None,
        inner: Coroutine[Any, Any, Any] | None = None,
    ) -> None:
        self.kernel: Kernel = kernel
        self.id: int = number
        self.coro: Coroutine[Any, Any, Any] = coro
        self.name: str = name
        self.scope: CancelScope = scope
        self.context: Context = context
        self.done: Done = done
        self.parent: TaskState | None = parent
        # The coroutine that `coro` will await first; closed with it, so that a task that never ran leaves no warning.
        self.inner: Coroutine[Any, Any, Any] | None = inner
        self.parked: bool = False
        self.abort: Abort | None = None
        self.value: object = None
        self.error: BaseException | None = None
        self.generators: list[AsyncGeneratorType[Any, Any]] = []
        self.prune_at: int = 16
        self.ending: Outcome | None = None

    def __repr__(self) -> str:
        return f"<TaskState {self.id} {self.name!r}>"

    def stack(self) -> traceback.StackSummary:
        """Where the task stands: its suspended frames, outermost first."""
        frames: list[tuple[types.FrameType, int]] = []
        awaited: Any = self.coro
        while awaited is not None:
            frame = _attribute(awaited, "cr_frame", "gi_frame", "ag_frame")
            if frame is not None:
                frames.append((frame, frame.f_lineno))
            inner = self.inner if awaited is self.coro else None  # not awaited yet, if the task has not begun
            awaited = _attribute(awaited, "cr_await", "gi_yieldfrom", "ag_await") or inner
        return traceback.StackSummary.extract(iter(frames))


def _attribute(thing: object, *names: str) -> Any:
    for name in names:
        value = getattr(thing, name, None)
        if value is not None:
            return value
    return None


@types.coroutine
def trap(task: TaskState) -> Generator[object, Any, Any]:
    """Give the step back; the kernel goes on here, with a value, or with an error set on the task.

    The error is not thrown in by the kernel but raised here: `throw()` loses frames of the stack that it re-enters.
    """
    value = yield PARKED
    error = task.error
    if error is not None:
        task.error = None
        try:
            raise error
        finally:
            del error, task
    return value
