"""Tasks that stand alone, and the tasks of a workflow in a list. What a workflow's task returned is in its history."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from flovyn.server import limits
from flovyn.server.engine import TaskWanted
from flovyn.server.rest.fields import (
    Key,
    Metadata,
    Name,
    Queue,
    Ttl,
    Windowed,
    json_or_none,
    moment,
    null,
    ttl_seconds,
)
from flovyn.server.rest.route import ORG, Answer, Asked, Nothing, Route
from flovyn.server.store.listing import Wish

if TYPE_CHECKING:
    from flovyn.server.engine.views import TaskView
    from flovyn.server.store.tasks import AttemptRow, TaskRow

__all__ = ["ROUTES"]

BASE: Final = f"{ORG}/task-executions"

Status = Literal["PENDING", "RUNNING", "COMPLETED", "FAILED", "CANCELLED"]

_SHOWN: Final = {"SCHEDULED": "PENDING", "FOLLOWING": "PENDING"}
"""Statuses that only this server tells apart: nobody has begun these either."""

_STORED: Final = {"PENDING": ("PENDING", "SCHEDULED", "FOLLOWING")}


class SubmitTask(msgspec.Struct, rename="camel", forbid_unknown_fields=True, kw_only=True):
    """What is to be executed."""

    kind: Name
    input: msgspec.Raw = msgspec.field(default_factory=null)
    queue: Queue = ""
    max_retries: (
        Annotated[
            int,
            Meta(
                ge=-(2**31),
                le=2**31 - 1,
                description=f"How often it is tried again: {limits.DEFAULT_MAX_RETRIES} times if not given. "
                f"What is under 0 or over {limits.REST_MAX_RETRIES} is cut to that.",
            ),
        ]
        | None
    ) = None
    scheduled_at: Annotated[datetime, Meta(tz=True, description="Nobody gets it before this moment.")] | None = None
    timeout_ms: (
        Annotated[int, Meta(ge=0, le=limits.MAX_DURATION_MS, description="How long from now until it fails for good.")]
        | None
    ) = None
    metadata: Metadata = {}
    idempotency_key: Key | None = None
    idempotency_key_ttl: Ttl | None = msgspec.field(default=None, name="idempotencyKeyTTL")


class TaskSummary(msgspec.Struct, rename="camel", kw_only=True):
    """A task in a list, without its payloads."""

    id: str
    org_id: str
    kind: str
    status: Status
    queue: str
    workflow_execution_id: str | None
    max_retries: int
    execution_count: int
    worker_id: str | None
    error: str | None
    metadata: dict[str, str]
    created_at: datetime
    scheduled_at: datetime | None
    deadline_at: datetime | None
    started_at: datetime | None
    completed_at: datetime | None


class Task(TaskSummary, rename="camel", kw_only=True):
    """A task."""

    input: Any
    output: Any
    progress: float | None
    progress_details: str | None


class Tasks(msgspec.Struct):
    """A page of tasks."""

    tasks: list[TaskSummary]
    total: int
    limit: int
    offset: int


class TaskFilter(Windowed, forbid_unknown_fields=True, kw_only=True):
    """Which tasks are wanted."""

    status: Status | None = None
    kind: Name | None = None
    queue: Queue | None = None


class Attempt(msgspec.Struct, rename="camel"):
    """An attempt that has ended."""

    attempt: int
    status: Literal["COMPLETED", "FAILED", "TIMEOUT", "CANCELLED"]
    worker_id: str
    started_at: datetime
    finished_at: datetime
    output: Any
    error: str | None


class Attempts(msgspec.Struct):
    """A page of attempts."""

    attempts: list[Attempt]
    total: int
    limit: int
    offset: int


class LogLine(msgspec.Struct, rename="camel"):
    """What a task said."""

    number: int
    timestamp: datetime
    level: str
    message: str


class Logs(msgspec.Struct):
    """A page of a log."""

    logs: list[LogLine]
    total: int
    limit: int
    offset: int


def _facts(task: TaskRow, run_id: str | None) -> dict[str, Any]:
    return {
        "id": task.id,
        "org_id": task.org_id,
        "kind": task.kind,
        "status": _SHOWN.get(task.status, task.status),
        "queue": task.queue,
        "workflow_execution_id": run_id,
        "max_retries": task.max_retries,
        "execution_count": task.execution_count,
        "worker_id": task.claim_worker if task.status == "RUNNING" else None,
        "error": task.end_reason,
        "metadata": json_or_none(task.metadata) or {},
        "created_at": moment(task.created_at),
        "scheduled_at": _moment(task.scheduled_at),
        "deadline_at": _moment(task.deadline_at),
        "started_at": _moment(task.started_at),
        "completed_at": _moment(task.completed_at),
    }


def _moment(at_ms: int | None) -> datetime | None:
    return None if at_ms is None else moment(at_ms)


def _task(view: TaskView) -> Task:
    progress = view.progress
    return Task(
        **_facts(view.task, None),
        input=msgspec.Raw(view.payload or b"null"),
        output=None if view.output is None else msgspec.Raw(view.output),
        progress=None if progress is None else progress.progress,
        progress_details=None if progress is None else progress.details,
    )


def submit(asked: Asked[Nothing, SubmitTask]) -> Answer:
    """201 if the task is new, 200 if it was found by its key."""
    body, engine = asked.body, asked.engine
    payload, at = bytes(body.input), body.scheduled_at
    asked.schemas.check(asked.caller, "task", body.kind, payload)
    retries = body.max_retries
    wanted = TaskWanted(
        kind=body.kind,
        task_id=engine.core.new_id(),
        payload=payload,
        queue=body.queue,
        max_retries=None if retries is None else min(max(retries, 0), limits.REST_MAX_RETRIES),
        timeout_ms=body.timeout_ms,
        scheduled_at=None if at is None else max(0, round(at.timestamp() * 1000)),
        metadata=body.metadata,
        key=body.idempotency_key,
        key_ttl_seconds=ttl_seconds(body.idempotency_key_ttl),
    )
    submitted = engine.tasks.submit(asked.caller, wanted)
    view = engine.views.task(asked.caller, submitted.task_id)
    return Answer(_task(view), 200 if submitted.key_used else 201)


def get(asked: Asked[Nothing, Nothing]) -> Answer:
    return Answer(_task(asked.engine.views.task(asked.caller, asked.path["id"])))


def listed(asked: Asked[TaskFilter, Nothing]) -> Answer:
    query = asked.query
    statuses = _STORED.get(query.status, (query.status,)) if query.status else ()
    wish = Wish(kind=query.kind, statuses=statuses, queue=limits.DEFAULT_QUEUE if query.queue == "" else query.queue)
    page = asked.engine.views.tasks(asked.caller, wish, query.window)
    return Answer(
        Tasks([TaskSummary(**_facts(task, None)) for task in page.items], page.total, query.limit, query.offset)
    )


def of_workflow(asked: Asked[Windowed, Nothing]) -> Answer:
    query, run_id = asked.query, asked.path["id"]
    page = asked.engine.views.tasks_of(asked.caller, run_id, query.window)
    shown = [TaskSummary(**_facts(task, run_id)) for task in page.items]
    return Answer(Tasks(shown, page.total, query.limit, query.offset))


def withdraw(asked: Asked[Nothing, Nothing]) -> Answer:
    asked.engine.tasks.withdraw(asked.caller, asked.path["id"])
    return Answer(status=204)


def attempts(asked: Asked[Windowed, Nothing]) -> Answer:
    query, views, task_id = asked.query, asked.engine.views, asked.path["id"]
    page = views.attempts(asked.caller, task_id, query.window)
    output = views.task(asked.caller, task_id).output
    shown = [_attempt(attempt, output) for attempt in page.items]
    return Answer(Attempts(shown, page.total, query.limit, query.offset))


def _attempt(row: AttemptRow, output: bytes | None) -> Attempt:
    return Attempt(
        attempt=row.attempt,
        status=row.status,  # type: ignore[arg-type] # the store knows no others
        worker_id=row.worker,
        started_at=moment(row.started_at),
        finished_at=moment(row.finished_at),
        output=msgspec.Raw(output) if row.status == "COMPLETED" and output is not None else None,
        error=row.error,
    )


def logs(asked: Asked[Windowed, Nothing]) -> Answer:
    query = asked.query
    page = asked.engine.views.log_lines(asked.caller, asked.path["id"], query.window)
    shown = [LogLine(line.number, moment(line.at), line.level, line.message) for line in page.items]
    return Answer(Logs(shown, page.total, query.limit, query.offset))


ROUTES: Final[tuple[Route[Any, Any], ...]] = (
    Route(
        "POST",
        BASE,
        "submitTask",
        "Submit a task that stands alone. 201 if it is new, 200 if the key found one.",
        "tasks",
        submit,
        {201: Task, 200: Task},
        {409: "The key stands for something that is no such task."},
        body=SubmitTask,
    ),
    Route(
        "GET",
        BASE,
        "listTasks",
        "Tasks that stand alone, newest first.",
        "tasks",
        listed,
        {200: Tasks},
        query=TaskFilter,
    ),
    Route("GET", f"{BASE}/{{id}}", "getTask", "One task that stands alone.", "tasks", get, {200: Task}),
    Route(
        "DELETE",
        f"{BASE}/{{id}}",
        "withdrawTask",
        "Cancel a task that nobody has begun; 400 if somebody has.",
        "tasks",
        withdraw,
        {204: None},
    ),
    Route(
        "GET",
        f"{BASE}/{{id}}/attempts",
        "listAttempts",
        "Its attempts that have ended, the oldest first.",
        "tasks",
        attempts,
        {200: Attempts},
        query=Windowed,
    ),
    Route(
        "GET",
        f"{BASE}/{{id}}/logs",
        "listLogs",
        f"What it logged, the oldest line first; the last {limits.LOG_LINES} lines are kept.",
        "tasks",
        logs,
        {200: Logs},
        query=Windowed,
    ),
    Route(
        "GET",
        f"{ORG}/workflow-executions/{{id}}/tasks",
        "listTasksOfWorkflow",
        "The tasks of an execution, the oldest first.",
        "workflows",
        of_workflow,
        {200: Tasks},
        query=Windowed,
    ),
)
