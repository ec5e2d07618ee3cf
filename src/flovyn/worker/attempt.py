"""One attempt at a task: what can end it early, and how."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, TypeAlias

import anyio

from flovyn.task import Cancellation
from flovyn.wire.http2.flag import Flag

if TYPE_CHECKING:
    from datetime import timedelta

    from flovyn.definitions import Task
    from flovyn.task import CancelCause

__all__ = ["Attempt", "LimitName"]

LimitName: TypeAlias = Literal["start_to_close", "heartbeat_timeout"]
"""The limits that the worker sets an attempt."""


class Attempt:
    """A run of a task's function.

    Args:
        number: Which one it is, counted from 1.
        definition: The task.

    Attributes:
        cancellation: What its context knows of its end.
        scope: What is around the body. A body in a thread is shielded from it: only its context tells it.
        over: Up when nobody waits for the body any more.
        late: The limit that it was over, if it was over one.
        abandoned: Whether its body went on for too long after it was cancelled.
        thread_running: Whether a thread of this attempt runs; written by that thread.
    """

    __slots__ = (
        "_beat_at",
        "_began",
        "_definition",
        "abandoned",
        "cancellation",
        "late",
        "number",
        "over",
        "scope",
        "thread_running",
        "waiting_for_thread",
    )

    def __init__(self, number: int, definition: Task[..., object]) -> None:
        self.number: int = number
        self.cancellation: Cancellation = Cancellation()
        self.scope: anyio.CancelScope = anyio.CancelScope()
        self.over: Flag = Flag()
        self.late: LimitName | None = None
        self.abandoned: bool = False
        self.thread_running: bool = False
        self.waiting_for_thread: anyio.CancelScope | None = None
        self._definition = definition
        self._began = self._beat_at = anyio.current_time()

    @property
    def is_running(self) -> bool:
        """Whether the body runs still, with or without anybody who waits for it."""
        return self.thread_running or not self.over.is_set()

    @property
    def has_limits(self) -> bool:
        return self._definition.start_to_close is not None or self._definition.heartbeat_timeout is not None

    def beat(self) -> None:
        """The body has said that it gets on."""
        self._beat_at = anyio.current_time()

    def due(self) -> tuple[float, LimitName]:
        """When the next of its limits is reached, on the clock of the event loop, and which one that is."""
        end = self._began + _seconds(self._definition.start_to_close)
        beat = self._beat_at + _seconds(self._definition.heartbeat_timeout)
        return (beat, "heartbeat_timeout") if beat < end else (end, "start_to_close")

    def limit_text(self) -> str:
        """What is said of an attempt that was over a limit."""
        if self.late == "heartbeat_timeout":
            return f"no heartbeat within its heartbeat_timeout of {_seconds(self._definition.heartbeat_timeout):g} s"
        return f"no end within its start_to_close of {_seconds(self._definition.start_to_close):g} s"

    def cancel(self, reason: str, cause: CancelCause) -> None:
        """Ask the body to end."""
        self.cancellation.request(reason, cause=cause)
        self.scope.cancel(reason)

    def abandon(self) -> bool:
        """Wait for the body no longer; returns whether that is possible, as it is for a thread only."""
        self.abandoned = True
        if self.waiting_for_thread is None:
            return False
        self.waiting_for_thread.cancel("the body was abandoned")
        return True


def _seconds(limit: timedelta | None) -> float:
    return math.inf if limit is None else limit.total_seconds()
