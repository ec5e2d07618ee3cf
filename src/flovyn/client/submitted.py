"""A handle on a task that stands alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from flovyn.client.descriptions import TaskAttempt, TaskDescription, TaskLogLine
    from flovyn.client.gateway import Gateway
    from flovyn.definitions import Task

__all__ = ["SubmittedTask"]

R = TypeVar("R")


class SubmittedTask(Generic[R]):
    """A task that no workflow has scheduled, as its client sees it.

    `Client.submit` and `Client.task_handle` make these. It holds no connection and no state of the task: it may be
    kept, made again from the id, and used from several tasks. What it tells comes over REST.
    """

    __slots__ = ("_gateway", "_id", "_task")

    def __init__(self, gateway: Gateway, task_id: str, task: Task[..., R]) -> None:
        self._gateway = gateway
        self._id = task_id
        self._task = task

    def __repr__(self) -> str:
        return f"<SubmittedTask {self.kind} {self._id}>"

    @property
    def id(self) -> str:
        """The id of the task, a UUID as text."""
        return self._id

    @property
    def kind(self) -> str:
        """The kind of the task."""
        return self._task.kind

    async def result(self) -> R:
        """Wait for the task to end.

        Waiting only reads: a scope that is cancelled around it leaves the task alone, and a server that goes away
        meanwhile is waited for. Limit the wait with `anyio.fail_after` or `anyio.move_on_after`.

        Returns:
            What the task returned.

        Raises:
            TaskFailed: It ended with an error, after all its attempts; what was raised is its cause.
            TaskTimeout: It was over a time limit.
            TaskCancelled: It was cancelled.
            PayloadError: What it returned does not fit its declared type.
            CodecError: What it returned cannot be decoded with the codecs of this client.
            ConfigurationError: The client has no `http_url`.
            NotFound: The server knows no such task, or it belongs to a workflow.
        """
        return await self._gateway.tasks.result(self._id, self.kind, self._task.decode_output)

    async def describe(self) -> TaskDescription[R]:
        """Ask where the task stands.

        Raises:
            ConfigurationError: The client has no `http_url`.
            NotFound: The server knows no such task, or it belongs to a workflow.
            CodecError: Something of it cannot be decoded with the codecs of this client.
            ServerUnavailable: The server cannot be reached.
        """
        return await self._gateway.tasks.describe(self._id, self._task.decode_output)

    async def cancel(self) -> None:
        """End the task, also while it runs. Cancelling one that was cancelled changes nothing.

        Raises:
            FailedPrecondition: It has completed or failed.
            NotFound: The server knows no such task.
            ServerUnavailable: The server cannot be reached.
        """
        await self._gateway.tasks.cancel(self._id)

    def attempts(self) -> AsyncIterator[TaskAttempt]:
        """Go through the attempts that have ended, the first one first.

        Raises:
            ConfigurationError: The client has no `http_url`.
            NotFound: The server knows no such task, or it belongs to a workflow.
            ServerUnavailable: The server cannot be reached.
        """
        return self._gateway.tasks.attempts(self._id)

    def logs(self) -> AsyncIterator[TaskLogLine]:
        """Go through what the task has logged, as far as the server keeps it, the oldest line first.

        Raises:
            ConfigurationError: The client has no `http_url`.
            CodecError: A line cannot be decoded with the codecs of this client.
            NotFound: The server knows no such task, or it belongs to a workflow.
            ServerUnavailable: The server cannot be reached.
        """
        return self._gateway.tasks.logs(self._id)
