"""Appending to a run's history, waking it, and ending it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from flovyn.server.engine import events
from flovyn.server.engine.payloads import NULL
from flovyn.server.store.keys import Target
from flovyn.server.store.runs import EventRow
from flovyn.server.store.tasks import AttemptRow, TaskRow
from flovyn.wire.coding import encode
from flovyn.wire.messages.flovyn import v1 as pb

if TYPE_CHECKING:
    from collections.abc import Sequence

    import msgspec

    from flovyn.server.engine.core import Core
    from flovyn.server.engine.events import Event
    from flovyn.server.store.runs import RunRow

__all__ = [
    "ENDED",
    "Closing",
    "append",
    "cancel_task",
    "cancelled",
    "end",
    "end_task",
    "record_attempt",
    "rows",
    "tell_of_task",
    "told_to_parent",
    "wake",
]

ENDED: Final = frozenset({"COMPLETED", "FAILED", "CANCELLED"})
"""The statuses, of runs and of tasks, that nothing leaves."""


CANCELLED_TEXT: Final = "Task cancelled"
CHILD_CANCELLED_TEXT: Final = "Child workflow cancelled"


class Closing(NamedTuple):
    """How an activation ends.

    Attributes:
        status: The run's new status; WAITING stands for a suspension.
        event: The event that says so.
        output: What the run returned, if it did.
        error: Why it failed or was cancelled, if it did or was.
    """

    status: str
    event: Event
    output: msgspec.Raw = NULL
    error: str = ""


def append(core: Core, run: RunRow, news: Sequence[Event], *, external: bool) -> int:
    """Give the events the next numbers of the history; `external` ones did not come from the run's own commands.

    Returns:
        When they were written.
    """
    now = core.clock()
    core.store.runs.append(run.n, rows(news, now, after=run.sequence))
    run.sequence += len(news)
    if external:
        run.external_sequence = run.sequence
    return now


def rows(news: Sequence[Event], now: int, *, after: int = 0) -> list[EventRow]:
    """The events as a history keeps them, numbered from behind this one."""
    kept: list[EventRow] = []
    for sequence, event in enumerate(news, start=after + 1):
        message = pb.WorkflowEvent(sequence_number=sequence, event_type=event.type, event_data=event.data)
        frame = encode(pb.GetEventsResponse(events=[message]))
        kept.append(EventRow(sequence, event.type, now, frame, len(frame) - len(event.data)))
    return kept


def wake(core: Core, run: RunRow) -> None:
    """Something happened that the run may be waiting for."""
    if run.status == "WAITING":
        run.status = "PENDING"
        core.make_ready("workflow", run.org_id, run.queue, run.kind)


def end(core: Core, run: RunRow, closing: Closing) -> None:
    """Write the last event, cancel the open tasks (nobody can wait for them any more), drop the rest, tell the parent.

    No other row of the parent may be in anybody's hands meanwhile: it would overwrite what is written here.
    """
    run.completed_at = append(core, run, [closing.event], external=False)
    run.status = closing.status
    core.release(run.claim_token)
    run.claim_token = None
    run.cancel_due_at = None
    core.store.runs.save(run)
    core.tell_end(run.id)
    core.store.timers.forget_run(run.n)
    core.store.promises.close_run(run.n)
    _cancel_tasks(core, run)
    if run.status != "COMPLETED":
        core.store.keys.drop(Target("workflow", run.id))
    if run.parent is not None and run.tells_parent:
        _tell_parent(core, core.store.runs.get(run.parent), run, closing)


def _cancel_tasks(core: Core, run: RunRow) -> None:
    tasks = core.store.tasks.open_of_run(run.n)
    for task in tasks:
        end_task(core, task, "CANCELLED", reason=f"its workflow {run.id} has ended")
    for task in tasks:
        cancel_followers(core, task)


def _tell_parent(core: Core, parent: RunRow, run: RunRow, closing: Closing) -> None:
    if parent.status in ENDED:
        return
    append(core, parent, [told_to_parent(run, closing)], external=True)
    wake(core, parent)
    core.store.runs.save(parent)


def told_to_parent(run: RunRow, closing: Closing) -> Event:
    """What the parent's history says of the end of a child."""
    name = run.child_name or ""
    if closing.status == "COMPLETED":
        return events.child_completed(name, child_id=run.id, output=closing.output)
    if closing.status == "CANCELLED":
        return events.child_failed(name, child_id=run.id, error=CHILD_CANCELLED_TEXT, reason=closing.error)
    return events.child_failed(name, child_id=run.id, error=closing.error, reason=None)


def end_task(core: Core, task: TaskRow, status: str, *, reason: str = "", attempt: str | None = None) -> None:
    """End a task, and with it the attempt under way, as `attempt` (or as the task itself)."""
    if task.claim_token is not None:
        record_attempt(core, task, attempt or status, reason or None)
    core.release(task.claim_token)
    task.status = status
    task.completed_at = core.clock()
    task.end_reason = reason or None
    task.claim_token = None
    core.store.tasks.save(task)
    if task.key is not None and status != "COMPLETED":
        core.store.keys.drop(Target("task", task.id))


def tell_of_task(core: Core, task: TaskRow, told: Sequence[Event]) -> None:
    """Tell the run that waits for a task how it ended."""
    if task.run is None:
        return
    run = core.store.runs.get(task.run)
    if run.status in ENDED:
        return
    append(core, run, told, external=True)
    wake(core, run)
    core.store.runs.save(run)


def cancel_task(core: Core, task: TaskRow, *, reason: str) -> None:
    """End a task by cancelling it, and tell its run, and those that follow it."""
    end_task(core, task, "CANCELLED", reason=reason)
    tell_of_task(core, task, cancelled(task))
    cancel_followers(core, task)


def cancelled(task: TaskRow) -> list[Event]:
    """What the history of a run says of a task that was cancelled."""
    return [
        events.task_cancelled(task.id, kind=task.kind, reason=CANCELLED_TEXT),
        events.task_failed(task.id, kind=task.kind, error=CANCELLED_TEXT, retryable=False),
    ]


def cancel_followers(core: Core, task: TaskRow) -> None:
    """Cancel the tasks that wait for the end of this one to be theirs."""
    for follower in core.store.tasks.followers(task.n):
        cancel_task(core, follower, reason=f"task {task.id} of the same key was cancelled")


def record_attempt(core: Core, task: TaskRow, status: str, error: str | None) -> None:
    """Write down how the attempt under way ended."""
    core.store.tasks.record_attempt(
        AttemptRow(
            task=task.n,
            attempt=task.execution_count,
            worker=task.claim_worker or "",
            started_at=task.started_at or task.created_at,
            finished_at=core.clock(),
            status=status,
            error=error,
        )
    )
