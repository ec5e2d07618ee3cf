"""Workflow executions and their histories."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

__all__ = ["EventRow", "RetryRow", "RunRow", "Runs"]


@dataclass(slots=True)
class RunRow:
    """One workflow execution, without its payloads; changed in place and saved once a transaction.

    Attributes:
        n: Its number in this store.
        position: Where it stands in its queue: creation time minus priority.
        status: PENDING, RUNNING, WAITING, COMPLETED, FAILED or CANCELLED.
        sequence: Number of its last event.
        external_sequence: Number of its last event that did not come from its own commands.
        cancel_reason: Why somebody asked it to stop, if anybody did.
        claim_token: The claim that may report; kept after the lease has lapsed, until somebody else claims it.
        claim_worker: Who polled it.
        claim_process: The process that the worker said it is, when it registered on that connection.
        claim_sequence: The last event at the time of the claim: what the claimer can have seen.
        contested: The claim is not the first since the last report, so a call without a token may be a late one.
        parent: Number of the run that it is a child of.
        child_name: What the parent calls it.
        tells_parent: The parent's program started it, so its end is an event of the parent's history.
        cancel_due_at: When it is ended for good though it was asked to stop by itself.
    """

    n: int
    id: str
    org_id: str
    kind: str
    queue: str
    version: str | None
    priority_ms: int
    created_at: int
    position: int
    status: str
    sequence: int
    external_sequence: int
    cancel_reason: str | None
    completed_at: int | None
    claim_token: str | None
    claim_worker: str | None
    claim_process: str | None
    claim_sequence: int
    contested: int
    parent: int | None = None
    child_name: str | None = None
    tells_parent: int = 0
    cancel_due_at: int | None = None


@dataclass(frozen=True, slots=True)
class EventRow:
    """One event of a history.

    Attributes:
        frame: The event as one field of a GetEvents reply, ready for the wire; its data stands at the end.
        data_at: Where in the frame the data begins.
    """

    sequence: int
    type: str
    created_at: int
    frame: bytes
    data_at: int

    @property
    def data(self) -> bytes:
        """The event's data, a JSON object."""
        return self.frame[self.data_at :]


@dataclass(frozen=True, slots=True)
class RetryRow:
    """Somebody wanted a run that had failed to go on.

    Attributes:
        sequence: Number of the event by which it had ended.
        note: Why, as they said.
        requested_by: Who.
    """

    run: int
    sequence: int
    at: int
    note: str
    requested_by: str


class Runs:
    """The tables of runs, their inputs and their events."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._execute = connection.execute
        self._executemany = connection.executemany

    def insert(self, run: RunRow, payload: bytes) -> None:
        """Store a new run with its input and give it its number."""
        cursor = self._execute(
            "INSERT INTO run VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                run.id,
                run.org_id,
                run.kind,
                run.queue,
                run.version,
                run.priority_ms,
                run.created_at,
                run.position,
                run.status,
                run.sequence,
                run.external_sequence,
                run.cancel_reason,
                run.completed_at,
                run.claim_token,
                run.claim_worker,
                run.claim_process,
                run.claim_sequence,
                run.contested,
                run.parent,
                run.child_name,
                run.tells_parent,
                run.cancel_due_at,
            ),
        )
        run.n = cursor.lastrowid or 0
        self._execute("INSERT INTO run_input VALUES (?, ?)", (run.n, payload))

    def save(self, run: RunRow) -> None:
        """Store what can change of a run."""
        self._execute(
            "UPDATE run SET status = ?, sequence = ?, external_sequence = ?, cancel_reason = ?, completed_at = ?, "
            "claim_token = ?, claim_worker = ?, claim_process = ?, claim_sequence = ?, contested = ?, "
            "cancel_due_at = ? WHERE n = ?",
            (
                run.status,
                run.sequence,
                run.external_sequence,
                run.cancel_reason,
                run.completed_at,
                run.claim_token,
                run.claim_worker,
                run.claim_process,
                run.claim_sequence,
                run.contested,
                run.cancel_due_at,
                run.n,
            ),
        )

    def find(self, run_id: str) -> RunRow | None:
        """The run of that id."""
        return _run(self._execute("SELECT * FROM run WHERE id = ?", (run_id,)).fetchone())

    def get(self, n: int) -> RunRow:
        """The run of that number, which must exist."""
        return RunRow(*self._execute("SELECT * FROM run WHERE n = ?", (n,)).fetchone())

    def input(self, n: int) -> bytes:
        """The input as it came."""
        row: tuple[bytes] = self._execute("SELECT input FROM run_input WHERE n = ?", (n,)).fetchone()
        return row[0]

    def first_pending(self, org_id: str, queue: str, kinds: Sequence[str]) -> RunRow | None:
        """The pending run of these kinds that stands first in the queue."""
        found: list[RunRow] = []
        for kind in kinds:
            row = self._execute(
                "SELECT * FROM run WHERE org_id = ? AND queue = ? AND kind = ? AND status = 'PENDING' "
                "ORDER BY position, n LIMIT 1",
                (org_id, queue, kind),
            ).fetchone()
            if row is not None:
                found.append(RunRow(*row))
        return min(found, key=lambda run: (run.position, run.n), default=None)

    def pending_kinds(self, org_id: str, queue: str) -> list[str]:
        """The kinds that wait in a queue, by one index look-up for each."""
        kinds: list[str] = []
        last = ""
        while True:
            row = self._execute(
                "SELECT MIN(kind) FROM run WHERE org_id = ? AND queue = ? AND kind > ? AND status = 'PENDING'",
                (org_id, queue, last),
            ).fetchone()
            if row[0] is None:
                return kinds
            last = row[0]
            kinds.append(last)

    def child(self, parent: int, name: str) -> RunRow | None:
        """The latest child of that name."""
        query = "SELECT * FROM run WHERE parent = ? AND child_name = ? ORDER BY n DESC LIMIT 1"
        return _run(self._execute(query, (parent, name)).fetchone())

    def open_children(self, parent: int) -> list[int]:
        """Numbers of the children that have not ended."""
        rows = self._execute(
            "SELECT n FROM run WHERE parent = ? AND status IN ('PENDING', 'RUNNING', 'WAITING') ORDER BY n", (parent,)
        )
        return [row[0] for row in rows]

    def cancel_overdue(self, now: int, limit: int) -> list[int]:
        """Numbers of the runs that had their time to stop by themselves, the earliest first."""
        rows = self._execute(
            "SELECT n FROM run WHERE cancel_due_at IS NOT NULL AND cancel_due_at <= ? ORDER BY cancel_due_at LIMIT ?",
            (now, limit),
        )
        return [row[0] for row in rows]

    def next_cancel_due(self) -> int | None:
        """When the next run has had its time to stop by itself."""
        query = "SELECT MIN(cancel_due_at) FROM run WHERE cancel_due_at IS NOT NULL"
        return self._execute(query).fetchone()[0]  # type: ignore[no-any-return]

    def claimed(self) -> list[RunRow]:
        """Every run that somebody has claimed."""
        return [RunRow(*row) for row in self._execute("SELECT * FROM run WHERE status = 'RUNNING'")]

    def all(self) -> list[RunRow]:
        """Every run."""
        return [RunRow(*row) for row in self._execute("SELECT * FROM run ORDER BY n")]

    def append(self, n: int, events: Sequence[EventRow]) -> None:
        """Add events to a history; their numbers are new, or this fails."""
        self._executemany(
            "INSERT INTO event VALUES (?, ?, ?, ?, ?, ?)",
            [(n, event.sequence, event.type, event.created_at, event.frame, event.data_at) for event in events],
        )

    def frames(self, n: int, *, after: int = 0) -> bytes:
        """The history behind an event as the bytes of a GetEvents reply; all of it if left out."""
        query = "SELECT frame FROM event WHERE run = ? AND sequence > ? ORDER BY sequence"
        rows = self._execute(query, (n, after)).fetchall()
        return b"".join([row[0] for row in rows])

    def event(self, n: int, sequence: int) -> EventRow:
        """One event, which must exist."""
        query = "SELECT sequence, type, created_at, frame, data_at FROM event WHERE run = ? AND sequence = ?"
        return EventRow(*self._execute(query, (n, sequence)).fetchone())

    def events_after(self, n: int, sequence: int, limit: int) -> list[EventRow]:
        """So many events behind the one of this number."""
        rows = self._execute(
            "SELECT sequence, type, created_at, frame, data_at FROM event WHERE run = ? AND sequence > ? "
            "ORDER BY sequence LIMIT ?",
            (n, sequence, limit),
        )
        return [EventRow(*row) for row in rows]

    def put_retry(self, retry: RetryRow) -> None:
        """Remember that an end was not the last word."""
        self._execute(
            "INSERT INTO retry VALUES (?, ?, ?, ?, ?)",
            (retry.run, retry.sequence, retry.at, retry.note, retry.requested_by),
        )

    def retries(self, n: int) -> list[RetryRow]:
        """The retries of a run, in order."""
        return [RetryRow(*row) for row in self._execute("SELECT * FROM retry WHERE run = ? ORDER BY sequence", (n,))]

    def events(self, n: int, *types: str) -> list[EventRow]:
        """The whole history, or those of its events that are of these types."""
        rows = self._execute(
            "SELECT sequence, type, created_at, frame, data_at FROM event WHERE run = ? ORDER BY sequence", (n,)
        )
        return [EventRow(*row) for row in rows if not types or row[1] in types]


def _run(row: tuple[object, ...] | None) -> RunRow | None:
    return None if row is None else RunRow(*row)  # type: ignore[arg-type]
