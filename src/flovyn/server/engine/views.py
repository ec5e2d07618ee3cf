"""What can be looked at, one by one and in pages: executions, tasks, workers, definitions. Nothing changes by it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic, TypeVar

import msgspec

from flovyn.server.engine import history
from flovyn.server.engine.payloads import NULL

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flovyn.server.engine.core import Caller, Core
    from flovyn.server.engine.tasks import Tasks
    from flovyn.server.engine.workflows import Workflows
    from flovyn.server.store.definitions import DefinitionRow
    from flovyn.server.store.listing import Window, Wish
    from flovyn.server.store.notes import LogLine, Progress
    from flovyn.server.store.orgs import OrgRow
    from flovyn.server.store.runs import EventRow, RetryRow, RunRow
    from flovyn.server.store.tasks import AttemptRow, TaskRow
    from flovyn.server.store.workers import Of, WorkerRow

__all__ = ["Page", "RunView", "TaskView", "Views", "WorkerView"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """A part of a list, and how long the whole is."""

    items: Sequence[T]
    total: int


_ABSENT: Final = msgspec.Raw()


class _Started(msgspec.Struct):
    input: msgspec.Raw = NULL
    metadata: dict[str, str] = {}


class _Ended(msgspec.Struct):
    output: msgspec.Raw = _ABSENT
    error: str | None = None
    reason: str | None = None


_decode_started: Final = msgspec.json.Decoder(_Started).decode
_decode_ended: Final = msgspec.json.Decoder(_Ended).decode


@dataclass(frozen=True, slots=True)
class RunView:
    """All about one workflow execution.

    Attributes:
        payload: Its input as JSON.
        metadata: What whoever started it wants to remember of it.
        parent_id: The execution that it is a child of.
        output: What it returned, as JSON, if it did.
        error: Why it failed, or was cancelled, if it did or was.
        updated_at: When its last event was written.
        retries: How often it was made to go on after a failure.
    """

    run: RunRow
    payload: msgspec.Raw
    metadata: dict[str, str]
    parent_id: str | None
    output: msgspec.Raw | None
    error: str | None
    updated_at: int
    retries: Sequence[RetryRow]


@dataclass(frozen=True, slots=True)
class TaskView:
    """All about one task.

    Attributes:
        payload: Its input as JSON.
        output: What it returned, as JSON, if it did.
    """

    task: TaskRow
    payload: bytes
    output: bytes | None
    progress: Progress | None


@dataclass(frozen=True, slots=True)
class WorkerView:
    """A worker and what it can do.

    Attributes:
        online: It is connected, and was heard of lately.
        seen_at: When it was heard of last, in epoch milliseconds.
    """

    worker: WorkerRow
    online: bool
    seen_at: int
    workflows: Sequence[str]
    tasks: Sequence[str]


class Views:
    """Reads for people and for their programs."""

    def __init__(self, core: Core, workflows: Workflows, tasks: Tasks) -> None:
        self._core = core
        self._store = core.store
        self._list = core.store.listing
        self._workflows = workflows
        self._tasks = tasks

    def org(self, caller: Caller) -> OrgRow | None:
        """The caller's organisation."""
        return self._store.orgs.find(caller.org_id)

    # --- workflows --------------------------------------------------------------------------

    def run(self, caller: Caller, run_id: str) -> RunView:
        """One execution.

        Raises:
            NotFound: There is none of that id in the caller's organisation.
        """
        run = self._workflows.find(caller, run_id)
        last = self._store.runs.event(run.n, run.sequence)
        started = _decode_started(self._store.runs.event(run.n, 1).data)
        ended = _decode_ended(last.data) if run.status in history.ENDED else _Ended()
        return RunView(
            run=run,
            payload=started.input,
            metadata=started.metadata,
            parent_id=self.parent_id(run),
            output=ended.output if bytes(ended.output) else None,
            error=ended.reason if ended.error is None else ended.error,
            updated_at=last.created_at,
            retries=self._store.runs.retries(run.n),
        )

    def parent_id(self, run: RunRow) -> str | None:
        """The execution that this one is a child of."""
        return None if run.parent is None else self._store.runs.get(run.parent).id

    def runs(self, caller: Caller, wish: Wish, window: Window) -> Page[RunRow]:
        """A page of the organisation's executions, the newest first."""
        org_id = caller.org_id
        return Page(self._list.runs(org_id, wish, window), self._list.run_count(org_id, wish))

    def events(self, caller: Caller, run_id: str, *, after: int, limit: int) -> Sequence[EventRow]:
        """The history of an execution behind the event of this number.

        Raises:
            NotFound: There is no such execution in the caller's organisation.
        """
        return self._store.runs.events_after(self._workflows.find(caller, run_id).n, after, limit)

    def children(self, caller: Caller, run_id: str, window: Window) -> Page[RunRow]:
        """A page of an execution's children, the oldest first.

        Raises:
            NotFound: There is no such execution in the caller's organisation.
        """
        n = self._workflows.find(caller, run_id).n
        return Page(self._list.children(n, window), self._list.child_count(n))

    def tasks_of(self, caller: Caller, run_id: str, window: Window) -> Page[TaskRow]:
        """A page of an execution's tasks, the oldest first.

        Raises:
            NotFound: There is no such execution in the caller's organisation.
        """
        n = self._workflows.find(caller, run_id).n
        return Page(self._list.tasks_of_run(n, window), self._list.task_of_run_count(n))

    # --- tasks that stand alone -------------------------------------------------------------

    def task(self, caller: Caller, task_id: str) -> TaskView:
        """One task.

        Raises:
            NotFound: There is none of that id in the caller's organisation, or it belongs to a workflow.
        """
        task = self._tasks.alone(caller, task_id)
        tasks = self._store.tasks
        return TaskView(task, tasks.input(task.n), tasks.output(task.n), self._store.notes.progress(task.n))

    def tasks(self, caller: Caller, wish: Wish, window: Window) -> Page[TaskRow]:
        """A page of the organisation's tasks that stand alone, the newest first."""
        org_id = caller.org_id
        return Page(self._list.tasks(org_id, wish, window), self._list.task_count(org_id, wish))

    def attempts(self, caller: Caller, task_id: str, window: Window) -> Page[AttemptRow]:
        """A page of a task's finished attempts, the oldest first.

        Raises:
            NotFound: There is no such task in the caller's organisation, or it belongs to a workflow.
        """
        n = self._tasks.alone(caller, task_id).n
        return Page(self._list.attempts(n, window), self._list.attempt_count(n))

    def log_lines(self, caller: Caller, task_id: str, window: Window) -> Page[LogLine]:
        """A page of what a task logged, the oldest line first.

        Raises:
            NotFound: There is no such task in the caller's organisation, or it belongs to a workflow.
        """
        n = self._tasks.alone(caller, task_id).n
        return Page(self._list.log_lines(n, window), self._list.log_line_count(n))

    # --- workers and definitions ------------------------------------------------------------

    def workers(self, caller: Caller, window: Window) -> Page[WorkerView]:
        """A page of the organisation's workers, by name."""
        workers = self._store.workers
        return Page([self._worker(row) for row in workers.page(caller.org_id, window)], workers.count(caller.org_id))

    def _worker(self, row: WorkerRow) -> WorkerView:
        leases = self._core.leases
        heard = leases.last_heard((row.org_id, row.name))
        return WorkerView(
            worker=row,
            online=heard is not None and heard + leases.worker_timeout_ms > self._core.clock(),
            seen_at=max(row.seen_at, heard or 0),
            workflows=self._store.workers.kinds(row.id, "workflow"),
            tasks=self._store.workers.kinds(row.id, "task"),
        )

    def definitions(self, caller: Caller, of: Of, window: Window) -> Page[DefinitionRow]:
        """A page of the kinds that workers have registered, each in its latest version, in alphabetical order."""
        store, org_id = self._store.definitions, caller.org_id
        latest = [store.versions(org_id, of, kind)[0] for kind in store.kinds(org_id, of, window)]
        return Page(latest, store.kind_count(org_id, of))
