"""The client, for threads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from flovyn.blocking.handle import WorkflowHandle
from flovyn.blocking.start import Starter, Submitter
from flovyn.blocking.submitted import SubmittedTask

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime, timedelta

    from flovyn.blocking.portal import Portal
    from flovyn.client import Client as AsyncClient
    from flovyn.client import TaskStatus, TaskSummary, WorkflowStatus, WorkflowSummary
    from flovyn.definitions import AnyTask, AnyWorkflow, Promise

__all__ = ["Client"]

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class Client:
    """Talks to a Flovyn server on behalf of one organisation; `flovyn.blocking.connect` makes these.

    What each method does and raises is said at `flovyn.Client`. A client may be used from any number of threads at
    once.
    """

    __slots__ = ("_client", "_portal")

    def __init__(self, portal: Portal, client: AsyncClient) -> None:
        self._portal = portal
        self._client = client

    def __repr__(self) -> str:
        return f"<blocking {self._client!r}>"

    @property
    def org_id(self) -> str:
        """The organisation, a UUID as text."""
        return self._client.org_id

    @property
    def queue(self) -> str:
        """The queue that is used where none is named."""
        return self._client.queue

    def options(
        self,
        *,
        queue: str | None = None,
        priority: timedelta | float | None = None,
        version: str | None = None,
        metadata: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
        idempotency_key_ttl: timedelta | float | None = None,
    ) -> Starter:
        """Say how workflows are to be started; `start`, `execute` or `with_signal` follow on the result."""
        starter = self._client.options(
            queue=queue,
            priority=priority,
            version=version,
            metadata=metadata,
            idempotency_key=idempotency_key,
            idempotency_key_ttl=idempotency_key_ttl,
        )
        return Starter(self._portal, starter)

    def start(self, workflow: AnyWorkflow[P, R], /, *args: P.args, **kwargs: P.kwargs) -> WorkflowHandle[R]:
        """Start a workflow. It runs whether or not anybody waits for it."""
        handle = self._portal.call(lambda: self._client.start(workflow, *args, **kwargs))
        return WorkflowHandle(self._portal, handle)

    def execute(self, workflow: AnyWorkflow[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Start a workflow and wait for its result."""
        return self._portal.call(lambda: self._client.execute(workflow, *args, **kwargs))

    def handle(self, workflow: AnyWorkflow[P, R], workflow_id: str) -> WorkflowHandle[R]:
        """A handle on an execution that was started before, by its id. Nothing is sent."""
        return WorkflowHandle(self._portal, self._client.handle(workflow, workflow_id))

    def workflows(
        self, *, status: WorkflowStatus | None = None, kind: str | None = None, queue: str | None = None
    ) -> Iterator[WorkflowSummary]:
        """Go through the workflows of the organisation, the newest first; over REST."""
        return self._portal.entries(self._client.workflows(status=status, kind=kind, queue=queue))

    def resolve(
        self,
        promise: Promise[T],
        value: T,
        /,
        *,
        id: str | None = None,  # noqa: A002
        key: str | None = None,
    ) -> None:
        """Give a promise its value, by its id or by its key."""
        self._portal.call(lambda: self._client.resolve(promise, value, id=id, key=key))

    def reject(
        self,
        promise: Promise[Any],
        error: str | Exception,
        /,
        *,
        id: str | None = None,  # noqa: A002
        key: str | None = None,
    ) -> None:
        """Give a promise an error, by its id or by its key."""
        self._portal.call(lambda: self._client.reject(promise, error, id=id, key=key))

    def submit_options(
        self,
        *,
        queue: str | None = None,
        scheduled_at: datetime | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> Submitter:
        """Say how tasks are to be submitted; `submit` follows on the result."""
        submitter = self._client.submit_options(queue=queue, scheduled_at=scheduled_at, metadata=metadata)
        return Submitter(self._portal, submitter)

    def submit(self, task: AnyTask[P, R], /, *args: P.args, **kwargs: P.kwargs) -> SubmittedTask[R]:
        """Submit a task that belongs to no workflow."""
        return SubmittedTask(self._portal, self._portal.call(lambda: self._client.submit(task, *args, **kwargs)))

    def task_handle(self, task: AnyTask[P, R], task_id: str) -> SubmittedTask[R]:
        """A handle on a task that was submitted before, by its id. Nothing is sent."""
        return SubmittedTask(self._portal, self._client.task_handle(task, task_id))

    def tasks(
        self, *, status: TaskStatus | None = None, kind: str | None = None, queue: str | None = None
    ) -> Iterator[TaskSummary]:
        """Go through the tasks of the organisation that stand alone, the newest first; over REST."""
        return self._portal.entries(self._client.tasks(status=status, kind=kind, queue=queue))
