"""What a server tells of workflows and tasks, as values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeAlias, TypeVar

from flovyn import serde

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

__all__ = [
    "TaskAttempt",
    "TaskDescription",
    "TaskLogLine",
    "TaskStatus",
    "TaskSummary",
    "WorkflowDescription",
    "WorkflowRetry",
    "WorkflowStatus",
    "WorkflowSummary",
]

R_co = TypeVar("R_co", covariant=True)

WorkflowStatus: TypeAlias = Literal["PENDING", "RUNNING", "WAITING", "CANCELLING", "COMPLETED", "FAILED", "CANCELLED"]
"""Where a workflow stands: in its queue, with a worker, waiting for something, or at its end. Not every server tells
apart those of a workflow that was asked to stop (CANCELLING)."""

TaskStatus: TypeAlias = Literal["PENDING", "RUNNING", "COMPLETED", "FAILED", "CANCELLED"]
"""Where a task stands: in its queue, with a worker, or at its end."""


@dataclass(frozen=True, kw_only=True)
class Described(Generic[R_co]):
    """What goes into work and comes out of it, read when it is asked for."""

    input_data: bytes = field(repr=False)
    output_data: bytes | None = field(repr=False)
    decode: Callable[[bytes], R_co] = field(repr=False, compare=False)

    @property
    def input(self) -> Any:
        """What it was begun with, as plain JSON data."""
        return serde.decode(self.input_data, Any)

    @property
    def output(self) -> R_co | None:
        """What it returned; None unless it has completed.

        Raises:
            PayloadError: It does not fit the work's declared type.
        """
        return None if self.output_data is None else self.decode(self.output_data)


@dataclass(frozen=True, kw_only=True)
class WorkflowSummary:
    """A workflow as lists show it, without its payloads.

    Attributes:
        id: Its execution id; `Client.handle` makes a handle of it.
        kind: Its kind.
        status: Where it stands.
        queue: The queue that it was started on; None if the server does not tell, as of everything that may be None.
        version: The version of the code that was asked for.
        priority: By how many seconds it counts as older than it is.
        parent_id: The workflow whose child it is.
        child_name: Its name among the children of that one.
        cancellation_requested: Whether somebody has asked it to stop.
        cancel_reason: Why.
        worker: The worker that has it in its hands.
        sequence: The number of the last event of its history.
        created_at: When it was started.
        completed_at: When it ended.
    """

    id: str
    kind: str
    status: WorkflowStatus
    queue: str | None
    version: str | None
    priority: int
    parent_id: str | None
    child_name: str | None
    cancellation_requested: bool
    cancel_reason: str | None
    worker: str | None
    sequence: int | None
    created_at: datetime
    completed_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class WorkflowRetry:
    """A workflow had failed, and somebody made it go on.

    Attributes:
        at: When.
        note: Why.
        requested_by: Who.
        after: The number of the event that had ended it.
    """

    at: datetime
    note: str
    requested_by: str
    after: int


@dataclass(frozen=True, kw_only=True)
class WorkflowDescription(WorkflowSummary, Described[R_co]):
    """All that the server tells of a workflow.

    Attributes:
        error: Why it failed or was cancelled, if it did or was, in words.
        metadata: What whoever started it wants to remember of it.
        retries: How often it was made to go on after a failure.
        updated_at: When its last event was written.
    """

    error: str | None
    metadata: dict[str, str]
    retries: tuple[WorkflowRetry, ...]
    updated_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class TaskSummary:
    """A task that stands alone, as lists show it, without its payloads.

    Attributes:
        id: Its execution id; `Client.task_handle` makes a handle of it.
        kind: Its kind.
        status: Where it stands.
        queue: The queue that it was submitted to.
        max_retries: How often the server lets it be tried again.
        attempts: How many attempts have begun.
        worker: The worker that has it in its hands.
        error: Why it failed or was cancelled, if it did or was, in words.
        metadata: What whoever submitted it wants to remember of it.
        created_at: When it was submitted.
        scheduled_at: Before when nobody gets it.
        deadline_at: When it fails for good if it has not ended.
        started_at: When its last attempt began.
        completed_at: When it ended.
    """

    id: str
    kind: str
    status: TaskStatus
    queue: str | None
    max_retries: int | None
    attempts: int
    worker: str | None
    error: str | None
    metadata: dict[str, str]
    created_at: datetime
    scheduled_at: datetime | None
    deadline_at: datetime | None
    started_at: datetime | None
    completed_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class TaskDescription(TaskSummary, Described[R_co]):
    """All that the server tells of a task that stands alone.

    Attributes:
        progress: How far it says to have got, from 0 to 1.
        progress_details: What it says about that.
    """

    progress: float | None
    progress_details: str | None


@dataclass(frozen=True, kw_only=True)
class TaskAttempt:
    """An attempt at a task that has ended.

    Attributes:
        number: Which one, counted from 1.
        status: How it ended.
        worker: Who made it.
        started_at: When it began.
        finished_at: When it ended.
        error: Why it failed, if it did, in words.
    """

    number: int
    status: Literal["COMPLETED", "FAILED", "TIMEOUT", "CANCELLED"]
    worker: str
    started_at: datetime
    finished_at: datetime
    error: str | None


@dataclass(frozen=True, kw_only=True)
class TaskLogLine:
    """Something that a task said.

    Attributes:
        number: Which line, counted from 1.
        at: When.
        level: How serious it is: DEBUG, INFO, WARN or ERROR.
        message: What it said.
    """

    number: int
    at: datetime
    level: str
    message: str
