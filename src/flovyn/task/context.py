"""What a task knows about itself."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from flovyn.errors import TaskCancelled
from flovyn.task.cancellation import Cancellation

if TYPE_CHECKING:
    from collections.abc import MutableMapping

__all__ = ["TaskContext"]


class TaskContext:
    """The first argument of every `@task`.

    A task runs in the host's world: it may use AnyIO, or asyncio or Trio directly, and everything built on them. When
    it is to end early, the scope around it is cancelled, so that its next await raises the backend's own cancelled
    exception; nothing need be asked. `check_cancellation` is for stretches of code that do not await.

    Args:
        task_execution_id: The id of this task.
        kind: Its kind.
        attempt: Which attempt this is.
        queue: The queue it came from.
        workflow_execution_id: The workflow that scheduled it, if one did.
        cancellation: Where the worker says that the task is to end.

    Example:
        ```python
        @task
        async def charge(ctx: TaskContext, order: Order) -> Payment:
            ctx.logger.info("attempt %d", ctx.attempt)
            return await gateway.charge(order, idempotency_key=ctx.task_execution_id)
        ```
    """

    __slots__ = (
        "_attempt",
        "_cancellation",
        "_kind",
        "_logger",
        "_queue",
        "_task_execution_id",
        "_workflow_execution_id",
    )

    def __init__(
        self,
        *,
        task_execution_id: str,
        kind: str,
        attempt: int = 1,
        queue: str = "default",
        workflow_execution_id: str | None = None,
        cancellation: Cancellation | None = None,
    ) -> None:
        self._task_execution_id = task_execution_id
        self._kind = kind
        self._attempt = attempt
        self._queue = queue
        self._workflow_execution_id = workflow_execution_id
        self._cancellation = cancellation or Cancellation()
        self._logger: logging.LoggerAdapter[logging.Logger] | None = None

    def __repr__(self) -> str:
        return f"<TaskContext {self._kind} {self._task_execution_id} attempt={self._attempt}>"

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
    def is_cancelled(self) -> bool:
        """Whether the task is to end: cancelled, claimed by another worker, or its worker is stopping."""
        return self._cancellation.reason is not None

    @property
    def cancel_reason(self) -> str | None:
        """Why the task is to end; None as long as it is not to."""
        return self._cancellation.reason

    def check_cancellation(self) -> None:
        """Raise if the task is to end. For loops that compute: an await notices by itself.

        Raises:
            TaskCancelled: The task is to end; the message is `cancel_reason`.
        """
        reason = self._cancellation.reason
        if reason is not None:
            raise TaskCancelled(reason, task_id=self._task_execution_id, kind=self._kind)

    @property
    def logger(self) -> logging.LoggerAdapter[logging.Logger]:
        """The logger ``flovyn.task.<kind>``.

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
