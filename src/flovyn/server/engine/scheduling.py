"""Bringing a task into being, whoever wants it; and how tasks of one idempotency key share one execution.

The first task of a key is executed. A later one follows it: nobody executes it, and it ends as the first one does. A
key counts until it expires, or until its task fails or is cancelled.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from flovyn.errors import InvalidArgument
from flovyn.server import limits
from flovyn.server.engine import events, keys, payloads, validation
from flovyn.server.store.keys import Target
from flovyn.server.store.tasks import TaskRow

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flovyn.server.engine.core import Core
    from flovyn.server.engine.events import Event

__all__ = ["PreparedTask", "TaskWanted", "create", "insert", "prepare"]


@dataclass(frozen=True, slots=True)
class TaskWanted:
    """What somebody wants to have executed.

    Attributes:
        kind: The task's kind; nobody need have registered it yet.
        task_id: Its id.
        payload: Its input as JSON; nothing at all means null.
        queue: Where it waits for a worker; empty means the default queue.
        run: Number of the run that schedules it; None if it stands alone.
        max_retries: How often it is tried again; None means the server's default.
        timeout_ms: How long from now until it fails for good; None means for ever.
        priority_seconds: By how much it stands earlier in the queue than its age says.
        scheduled_at: Nobody gets it before this moment, in epoch milliseconds.
        metadata: What whoever submits it wants to remember of it.
        key: An idempotency key.
        key_ttl_seconds: How long the key counts.
    """

    kind: str
    task_id: str
    payload: bytes = b""
    queue: str = ""
    run: int | None = None
    max_retries: int | None = None
    timeout_ms: int | None = None
    priority_seconds: int = 0
    scheduled_at: int | None = None
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])
    key: str | None = None
    key_ttl_seconds: int | None = None


@dataclass(frozen=True, slots=True)
class PreparedTask:
    """A checked task, of which nothing is stored yet."""

    task: TaskRow
    payload: bytes
    scheduled: Event
    key_expires_at: int


def prepare(core: Core, org_id: str, wanted: TaskWanted, *, at: str = "") -> PreparedTask:
    """Check what is wanted.

    Args:
        core: The engine's surroundings.
        org_id: The organisation it is for.
        wanted: What is wanted.
        at: What stands before the name of a field in a refusal.

    Raises:
        InvalidArgument: A value makes no sense; the message names it.
    """
    now = core.clock()
    key, retries, deadline = wanted.key, wanted.max_retries, None
    if retries is not None:
        validation.within(retries, f"{at}max_retries", 0, limits.MAX_TASK_RETRIES)
    if wanted.timeout_ms is not None:
        deadline = now + validation.within(wanted.timeout_ms, f"{at}timeout_ms", 0, limits.MAX_DURATION_MS)
    if wanted.scheduled_at is not None:
        validation.within(wanted.scheduled_at, f"{at}scheduled_at", 0, now + limits.MAX_DURATION_MS)
    task = TaskRow(
        n=0,
        id=validation.uuid(wanted.task_id, f"{at}task_execution_id"),
        org_id=org_id,
        kind=validation.name(wanted.kind, f"{at}kind"),
        queue=validation.queue_name(wanted.queue, f"{at}queue"),
        run=wanted.run,
        created_at=now,
        position=now - wanted.priority_seconds * 1000,
        deadline_at=deadline,
        max_retries=limits.DEFAULT_MAX_RETRIES if retries is None else retries,
        key=key,
        same_as=None,
        metadata=msgspec.json.encode(wanted.metadata) if wanted.metadata else None,
        status="PENDING" if wanted.scheduled_at is None or wanted.scheduled_at <= now else "SCHEDULED",
        execution_count=0,
        started_at=None,
        completed_at=None,
        end_reason=None,
        claim_token=None,
        claim_worker=None,
        claim_process=None,
        contested=0,
        scheduled_at=wanted.scheduled_at,
    )
    scheduled = events.task_scheduled(
        task.id,
        kind=task.kind,
        payload=payloads.checked(wanted.payload, f"{at}input"),
        queue=task.queue,
        max_retries=retries,
        timeout_ms=wanted.timeout_ms,
    )
    lasts = 0 if key is None else keys.lifetime_ms(key, wanted.key_ttl_seconds, f"{at}idempotency_key")
    return PreparedTask(task, wanted.payload, scheduled, now + lasts)


def create(core: Core, prepared: PreparedTask) -> list[Event]:
    """Store a task that its run has scheduled, unless it exists. Part of the caller's transaction.

    Returns:
        What the run is to be told at once: the end of the task, if one of the same key has completed.

    Raises:
        InvalidArgument: The id is taken by a task of another workflow.
        AlreadyExists: The key stands for something that is no task.
    """
    task = prepared.task
    taken = core.store.tasks.find(task.id)
    if taken is not None:
        if taken.run != task.run:
            # Its end would be told to that workflow, and this one would wait for it for ever.
            raise InvalidArgument(f"the task execution id {task.id} is taken by a task of another workflow")
        return []
    first_id = None if task.key is None else keys.find(core, task.org_id, task.key, "task")
    first = None if first_id is None else core.store.tasks.find(first_id)
    if first is None:
        insert(core, prepared)
        return []
    task.key = None
    task.same_as = first.n
    output = core.store.tasks.output(first.n)
    if output is None:
        task.status = "FOLLOWING"
        _store(core, prepared)
        return []
    task.status = "COMPLETED"
    task.completed_at = core.clock()
    _store(core, prepared)
    return [events.task_completed(task.id, kind=task.kind, output=payloads.checked(output, "output"))]


def insert(core: Core, prepared: PreparedTask) -> None:
    """Store a new task that will be executed. Part of the caller's transaction."""
    task = prepared.task
    _store(core, prepared)
    if task.key is not None:
        core.store.keys.put(task.org_id, task.key, Target("task", task.id), prepared.key_expires_at)
    if task.status == "SCHEDULED" and task.scheduled_at is not None:
        core.due(task.scheduled_at)
    else:
        core.make_ready("task", task.org_id, task.queue, task.kind)


def _store(core: Core, prepared: PreparedTask) -> None:
    core.store.tasks.insert(prepared.task, prepared.payload)
    if prepared.task.deadline_at is not None:
        core.due(prepared.task.deadline_at)
