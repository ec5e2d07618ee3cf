"""What the context of a task knows without asking anybody; the same in the event loop and in a thread."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar, Unpack

from flovyn.errors import TaskCancelled
from flovyn.task.cancellation import Cancellation
from flovyn.task.resources import Resources

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from flovyn.task.cancellation import CancelCause

__all__ = ["Facts", "TaskFacts"]

T = TypeVar("T")


class Facts(TypedDict, total=False):
    """What may be known of a task beside its id and kind.

    Attributes:
        attempt: Which attempt this is; 1 if left out.
        queue: The queue it came from; ``default`` if left out.
        workflow_execution_id: The workflow that scheduled it, if one did.
        arguments: What it was given, as `TaskContext.input` shows it.
        cancellation: Where the worker says that the task is to end.
        resources: What the worker's lifespan has brought.
    """

    attempt: int
    queue: str
    workflow_execution_id: str | None
    arguments: Any
    cancellation: Cancellation
    resources: Resources


class TaskFacts:
    """What both contexts of tasks have.

    Args:
        task_execution_id: The id of this task.
        kind: Its kind.
        facts: What else is known.
    """

    __slots__ = (
        "_arguments",
        "_attempt",
        "_cancellation",
        "_kind",
        "_logger",
        "_queue",
        "_resources",
        "_task_execution_id",
        "_workflow_execution_id",
    )

    def __init__(self, *, task_execution_id: str, kind: str, **facts: Unpack[Facts]) -> None:
        self._task_execution_id = task_execution_id
        self._kind = kind
        self._attempt = facts.get("attempt", 1)
        self._queue = facts.get("queue", "default")
        self._workflow_execution_id = facts.get("workflow_execution_id")
        self._arguments = facts.get("arguments")
        self._cancellation = facts.get("cancellation") or Cancellation()
        self._resources = facts.get("resources") or Resources()
        self._logger: logging.LoggerAdapter[logging.Logger] | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._kind} {self._task_execution_id} attempt={self._attempt}>"

    @property
    def task_execution_id(self) -> str:
        """The id of this task: the same for all its attempts, so a good idempotency key for what it calls."""
        return self._task_execution_id

    @property
    def kind(self) -> str:
        """The task's kind."""
        return self._kind

    @property
    def attempt(self) -> int:
        """Which attempt this is, counted from 1."""
        return self._attempt

    @property
    def queue(self) -> str:
        """The queue the task came from."""
        return self._queue

    @property
    def workflow_execution_id(self) -> str | None:
        """The workflow that scheduled the task; None for a task that stands alone."""
        return self._workflow_execution_id

    @property
    def input(self) -> Any:
        """What the task was given, read as the declared types: None, the one argument, or all of them by name."""
        return self._arguments

    @property
    def is_cancelled(self) -> bool:
        """Whether the task is to end early."""
        return self._cancellation.reason is not None

    @property
    def cancel_reason(self) -> str | None:
        """Why the task is to end early; None as long as it is not to."""
        return self._cancellation.reason

    @property
    def cancel_cause(self) -> CancelCause | None:
        """What sort of reason that is: `cancelled`, `timeout`, `lost` or `stopping`."""
        return self._cancellation.cause

    def check_cancellation(self) -> None:
        """Raise if the task is to end early. For loops that compute.

        Raises:
            TaskCancelled: The task is to end; the message is `cancel_reason`.
        """
        reason = self._cancellation.reason
        if reason is not None:
            raise TaskCancelled(reason, task_id=self._task_execution_id, kind=self._kind)

    def resource(self, type_: type[T]) -> T:
        """What the worker's `lifespan` has yielded that is of a type, or of a subclass of it.

        Args:
            type_: A class, or a Protocol that is `@runtime_checkable`.

        Raises:
            ConfigurationError: The worker has no such resource, or more than one; the message says what it has.

        Example:
            ```python
            @task
            async def charge(ctx: TaskContext, order: Order) -> Payment:
                return await ctx.resource(Gateway).charge(order)
            ```
        """
        return self._resources.find(type_)

    @property
    def logger(self) -> logging.LoggerAdapter[logging.Logger]:
        """The logger ``flovyn.task.<kind>`` of the logging module, in this process; `log` is what the server keeps.

        Each record carries ``task_execution_id``, ``workflow_execution_id`` and ``attempt`` beside what `extra` adds.
        """
        if self._logger is None:
            # One logger for each kind, not for each task: the logging module never forgets a logger.
            self._logger = _TaskLogger(
                logging.getLogger(f"flovyn.task.{self._kind}"),
                {
                    "task_execution_id": self._task_execution_id,
                    "workflow_execution_id": self._workflow_execution_id,
                    "attempt": self._attempt,
                },
            )
        return self._logger


class _TaskLogger(logging.LoggerAdapter[logging.Logger]):
    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """Join the extras: what the standard adapter does drops those of the call (before Python 3.13)."""
        kwargs["extra"] = {**(self.extra or {}), **(kwargs.get("extra") or {})}
        return msg, kwargs
