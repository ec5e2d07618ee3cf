"""Tasks and the record of their attempts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

__all__ = ["AttemptRow", "TaskRow", "Tasks"]


@dataclass(slots=True)
class TaskRow:
    """One task, without its payloads; changed in place and saved once a transaction.

    Attributes:
        n: Its number in this store.
        run: Number of the run that scheduled it; None if it stands alone.
        position: Where it stands in its queue: creation time minus priority.
        deadline_at: When it fails for good, in epoch milliseconds, if ever.
        key: The idempotency key that it was created with.
        same_as: Number of the task, of the same key, whose end will be its own.
        metadata: What whoever submitted it wants to remember of it, as JSON.
        status: PENDING, RUNNING, FOLLOWING (another one of the same key does its work), SCHEDULED (its time has not
            come), COMPLETED, FAILED or CANCELLED.
        execution_count: How many attempts have begun.
        end_reason: Why it failed or was cancelled.
        claim_token: The claim that may report; kept after the lease has lapsed, until somebody else claims it.
        contested: The claim is not the first, so a call without a token may be a late one.
        scheduled_at: Before this moment nobody gets it, in epoch milliseconds.
    """

    n: int
    id: str
    org_id: str
    kind: str
    queue: str
    run: int | None
    created_at: int
    position: int
    deadline_at: int | None
    max_retries: int
    key: str | None
    same_as: int | None
    metadata: bytes | None
    status: str
    execution_count: int
    started_at: int | None
    completed_at: int | None
    end_reason: str | None
    claim_token: str | None
    claim_worker: str | None
    claim_process: str | None
    contested: int
    scheduled_at: int | None = None


@dataclass(frozen=True, slots=True)
class AttemptRow:
    """One finished attempt: COMPLETED, FAILED, CANCELLED, or TIMEOUT (its deadline came, or its worker fell silent)."""

    task: int
    attempt: int
    worker: str
    started_at: int
    finished_at: int
    status: str
    error: str | None


class Tasks:
    """The tables of tasks, their inputs and their attempts."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._execute = connection.execute

    def insert(self, task: TaskRow, payload: bytes) -> None:
        """Store a new task with its input and give it its number."""
        cursor = self._execute(
            "INSERT INTO task VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                task.id,
                task.org_id,
                task.kind,
                task.queue,
                task.run,
                task.created_at,
                task.position,
                task.deadline_at,
                task.max_retries,
                task.key,
                task.same_as,
                task.metadata,
                task.status,
                task.execution_count,
                task.started_at,
                task.completed_at,
                task.end_reason,
                task.claim_token,
                task.claim_worker,
                task.claim_process,
                task.contested,
                task.scheduled_at,
            ),
        )
        task.n = cursor.lastrowid or 0
        self._execute("INSERT INTO task_input VALUES (?, ?)", (task.n, payload))

    def save(self, task: TaskRow) -> None:
        """Store what can change of a task."""
        self._execute(
            "UPDATE task SET status = ?, execution_count = ?, started_at = ?, completed_at = ?, end_reason = ?, "
            "claim_token = ?, claim_worker = ?, claim_process = ?, contested = ? WHERE n = ?",
            (
                task.status,
                task.execution_count,
                task.started_at,
                task.completed_at,
                task.end_reason,
                task.claim_token,
                task.claim_worker,
                task.claim_process,
                task.contested,
                task.n,
            ),
        )

    def find(self, task_id: str) -> TaskRow | None:
        """The task of that id."""
        row = self._execute("SELECT * FROM task WHERE id = ?", (task_id,)).fetchone()
        return None if row is None else TaskRow(*row)

    def get(self, n: int) -> TaskRow:
        """The task of that number, which must exist."""
        return TaskRow(*self._execute("SELECT * FROM task WHERE n = ?", (n,)).fetchone())

    def input(self, n: int) -> bytes:
        """The input as it came."""
        row: tuple[bytes] = self._execute("SELECT input FROM task_input WHERE n = ?", (n,)).fetchone()
        return row[0]

    def put_output(self, n: int, output: bytes) -> None:
        """Keep what a task returned, for those who ask for it later."""
        self._execute("INSERT INTO task_output VALUES (?, ?)", (n, output))

    def output(self, n: int) -> bytes | None:
        """What a task returned, if that was kept."""
        row = self._execute("SELECT output FROM task_output WHERE n = ?", (n,)).fetchone()
        return None if row is None else row[0]

    def first_pending(self, org_id: str, queue: str, kinds: Sequence[str]) -> TaskRow | None:
        """The pending task of these kinds that stands first in the queue."""
        found: list[TaskRow] = []
        for kind in kinds:
            row = self._execute(
                "SELECT * FROM task WHERE org_id = ? AND queue = ? AND kind = ? AND status = 'PENDING' "
                "ORDER BY position, n LIMIT 1",
                (org_id, queue, kind),
            ).fetchone()
            if row is not None:
                found.append(TaskRow(*row))
        return min(found, key=lambda task: (task.position, task.n), default=None)

    def pending_kinds(self, org_id: str, queue: str) -> list[str]:
        """The kinds that wait in a queue, by one index look-up for each."""
        kinds: list[str] = []
        last = ""
        while True:
            row = self._execute(
                "SELECT MIN(kind) FROM task WHERE org_id = ? AND queue = ? AND kind > ? AND status = 'PENDING'",
                (org_id, queue, last),
            ).fetchone()
            if row[0] is None:
                return kinds
            last = row[0]
            kinds.append(last)

    def claimed(self) -> list[TaskRow]:
        """Every task that somebody has claimed."""
        return [TaskRow(*row) for row in self._execute("SELECT * FROM task WHERE status = 'RUNNING'")]

    def open_of_run(self, run: int) -> list[TaskRow]:
        """The tasks of a run that have not ended."""
        rows = self._execute(
            "SELECT * FROM task WHERE run = ? AND status IN ('PENDING', 'RUNNING', 'FOLLOWING') ORDER BY n", (run,)
        )
        return [TaskRow(*row) for row in rows]

    def followers(self, n: int) -> list[TaskRow]:
        """The tasks that wait for this one's end to be theirs."""
        rows = self._execute("SELECT * FROM task WHERE same_as = ? AND status = 'FOLLOWING' ORDER BY n", (n,))
        return [TaskRow(*row) for row in rows]

    def overdue(self, now: int, limit: int) -> list[int]:
        """Numbers of the unfinished tasks whose deadline has come, the earliest first."""
        rows = self._execute(
            "SELECT n FROM task WHERE deadline_at IS NOT NULL "
            "AND status IN ('PENDING', 'RUNNING', 'FOLLOWING', 'SCHEDULED') AND deadline_at <= ? "
            "ORDER BY deadline_at LIMIT ?",
            (now, limit),
        )
        return [row[0] for row in rows]

    def next_deadline(self) -> int | None:
        """When the next unfinished task reaches its deadline."""
        row: tuple[int | None] = self._execute(
            "SELECT MIN(deadline_at) FROM task WHERE deadline_at IS NOT NULL "
            "AND status IN ('PENDING', 'RUNNING', 'FOLLOWING', 'SCHEDULED')"
        ).fetchone()
        return row[0]

    def scheduled(self, now: int, limit: int) -> list[int]:
        """Numbers of the tasks whose time has come, the earliest first."""
        query = "SELECT n FROM task WHERE status = 'SCHEDULED' AND scheduled_at <= ? ORDER BY scheduled_at LIMIT ?"
        return [row[0] for row in self._execute(query, (now, limit))]

    def next_scheduled(self) -> int | None:
        """When the time of the next scheduled task comes."""
        query = "SELECT MIN(scheduled_at) FROM task WHERE status = 'SCHEDULED'"
        return self._execute(query).fetchone()[0]  # type: ignore[no-any-return]

    def all(self) -> list[TaskRow]:
        """Every task."""
        return [TaskRow(*row) for row in self._execute("SELECT * FROM task ORDER BY n")]

    def record_attempt(self, attempt: AttemptRow) -> None:
        """Add an attempt that has finished."""
        self._execute(
            "INSERT INTO attempt VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                attempt.task,
                attempt.attempt,
                attempt.worker,
                attempt.started_at,
                attempt.finished_at,
                attempt.status,
                attempt.error,
            ),
        )

    def attempts(self, n: int) -> list[AttemptRow]:
        """The finished attempts of a task, in order."""
        return [
            AttemptRow(*row) for row in self._execute("SELECT * FROM attempt WHERE task = ? ORDER BY attempt", (n,))
        ]
