"""The tables, as a list of migrations: entry N turns a file of schema N into one of schema N + 1.

Payloads stand in tables of their own, so that the rows that change with every step stay small. Partial indexes hold
only what can still move, so finished work costs nothing but disk.
"""

from __future__ import annotations

from typing import Final

__all__ = ["APPLICATION_ID", "MIGRATIONS"]

APPLICATION_ID: Final = 0x464C4F56
"""Marks a SQLite file as ours ("FLOV"), so that nobody else's file is ever migrated."""

_FIRST: Final = """
CREATE TABLE run (
    n INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    org_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    queue TEXT NOT NULL,
    version TEXT,
    priority_ms INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    position INTEGER NOT NULL,
    status TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    external_sequence INTEGER NOT NULL,
    cancel_reason TEXT,
    completed_at INTEGER,
    claim_token TEXT,
    claim_worker TEXT,
    claim_process TEXT,
    claim_sequence INTEGER NOT NULL,
    contested INTEGER NOT NULL
);
CREATE INDEX run_pending ON run (org_id, queue, kind, position) WHERE status = 'PENDING';
CREATE INDEX run_claimed ON run (status) WHERE status = 'RUNNING';

CREATE TABLE run_input (n INTEGER PRIMARY KEY, input BLOB NOT NULL);

CREATE TABLE event (
    run INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    type TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    frame BLOB NOT NULL,
    data_at INTEGER NOT NULL,
    PRIMARY KEY (run, sequence)
) WITHOUT ROWID;

CREATE TABLE task (
    n INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    org_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    queue TEXT NOT NULL,
    run INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    deadline_at INTEGER,
    max_retries INTEGER NOT NULL,
    status TEXT NOT NULL,
    execution_count INTEGER NOT NULL,
    started_at INTEGER,
    completed_at INTEGER,
    end_reason TEXT,
    claim_token TEXT,
    claim_worker TEXT,
    claim_process TEXT,
    contested INTEGER NOT NULL
);
CREATE INDEX task_pending ON task (org_id, queue, kind) WHERE status = 'PENDING';
CREATE INDEX task_claimed ON task (status) WHERE status = 'RUNNING';
CREATE INDEX task_open ON task (run) WHERE status IN ('PENDING', 'RUNNING');
CREATE INDEX task_deadline ON task (deadline_at) WHERE deadline_at IS NOT NULL AND status IN ('PENDING', 'RUNNING');

CREATE TABLE task_input (n INTEGER PRIMARY KEY, input BLOB NOT NULL);

CREATE TABLE attempt (
    task INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    worker TEXT NOT NULL,
    started_at INTEGER NOT NULL,
    finished_at INTEGER NOT NULL,
    status TEXT NOT NULL,
    error TEXT,
    PRIMARY KEY (task, attempt)
) WITHOUT ROWID;

CREATE TABLE timer (
    run INTEGER NOT NULL,
    timer_id TEXT NOT NULL,
    fire_at INTEGER,
    PRIMARY KEY (run, timer_id)
) WITHOUT ROWID;
CREATE INDEX timer_due ON timer (fire_at) WHERE fire_at IS NOT NULL;

CREATE TABLE worker (
    id TEXT PRIMARY KEY,
    org_id TEXT NOT NULL,
    name TEXT NOT NULL,
    version TEXT NOT NULL,
    type TEXT NOT NULL,
    host TEXT NOT NULL,
    process TEXT NOT NULL,
    registered_at INTEGER NOT NULL,
    seen_at INTEGER NOT NULL,
    UNIQUE (org_id, name)
) WITHOUT ROWID;

CREATE TABLE capability (
    worker_id TEXT NOT NULL,
    of TEXT NOT NULL,
    kind TEXT NOT NULL,
    metadata BLOB NOT NULL,
    PRIMARY KEY (worker_id, of, kind)
) WITHOUT ROWID;
CREATE INDEX capability_kind ON capability (kind, of);

CREATE TABLE idempotency_key (
    org_id TEXT NOT NULL,
    key TEXT NOT NULL,
    run_id TEXT NOT NULL,
    expires_at INTEGER NOT NULL,
    PRIMARY KEY (org_id, key)
) WITHOUT ROWID;
CREATE INDEX idempotency_key_run ON idempotency_key (run_id);
CREATE INDEX idempotency_key_expiry ON idempotency_key (expires_at);
"""

_SECOND: Final = """
ALTER TABLE run ADD COLUMN parent INTEGER;
ALTER TABLE run ADD COLUMN child_name TEXT;
ALTER TABLE run ADD COLUMN tells_parent INTEGER NOT NULL DEFAULT 0;
ALTER TABLE run ADD COLUMN cancel_due_at INTEGER;
CREATE INDEX run_child ON run (parent, child_name) WHERE parent IS NOT NULL;
CREATE INDEX run_cancel_due ON run (cancel_due_at) WHERE cancel_due_at IS NOT NULL;

CREATE TABLE promise (
    n INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    org_id TEXT NOT NULL,
    run INTEGER NOT NULL,
    name TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    deadline_at INTEGER,
    status TEXT NOT NULL,
    UNIQUE (run, name)
);
CREATE INDEX promise_deadline ON promise (deadline_at) WHERE deadline_at IS NOT NULL AND status = 'PENDING';

ALTER TABLE task RENAME TO task_of_first_schema;
CREATE TABLE task (
    n INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    org_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    queue TEXT NOT NULL,
    run INTEGER,
    created_at INTEGER NOT NULL,
    position INTEGER NOT NULL,
    deadline_at INTEGER,
    max_retries INTEGER NOT NULL,
    key TEXT,
    same_as INTEGER,
    metadata BLOB,
    status TEXT NOT NULL,
    execution_count INTEGER NOT NULL,
    started_at INTEGER,
    completed_at INTEGER,
    end_reason TEXT,
    claim_token TEXT,
    claim_worker TEXT,
    claim_process TEXT,
    contested INTEGER NOT NULL
);
INSERT INTO task SELECT n, id, org_id, kind, queue, run, created_at, created_at, deadline_at, max_retries, NULL, NULL,
    NULL, status, execution_count, started_at, completed_at, end_reason, claim_token, claim_worker, claim_process,
    contested FROM task_of_first_schema;
DROP TABLE task_of_first_schema;
CREATE INDEX task_pending ON task (org_id, queue, kind, position) WHERE status = 'PENDING';
CREATE INDEX task_claimed ON task (status) WHERE status = 'RUNNING';
CREATE INDEX task_open ON task (run) WHERE status IN ('PENDING', 'RUNNING', 'FOLLOWING');
CREATE INDEX task_deadline ON task (deadline_at)
    WHERE deadline_at IS NOT NULL AND status IN ('PENDING', 'RUNNING', 'FOLLOWING');
CREATE INDEX task_following ON task (same_as) WHERE status = 'FOLLOWING';

CREATE TABLE task_state (
    task INTEGER NOT NULL,
    key TEXT NOT NULL,
    value BLOB NOT NULL,
    PRIMARY KEY (task, key)
) WITHOUT ROWID;

CREATE TABLE task_progress (
    task INTEGER PRIMARY KEY,
    progress REAL NOT NULL,
    details TEXT NOT NULL,
    at INTEGER NOT NULL
);

CREATE TABLE task_log (
    task INTEGER NOT NULL,
    number INTEGER NOT NULL,
    at INTEGER NOT NULL,
    level TEXT NOT NULL,
    message TEXT NOT NULL,
    PRIMARY KEY (task, number)
) WITHOUT ROWID;

CREATE TABLE task_output (n INTEGER PRIMARY KEY, output BLOB NOT NULL);

ALTER TABLE idempotency_key RENAME COLUMN run_id TO target_id;
ALTER TABLE idempotency_key ADD COLUMN of TEXT NOT NULL DEFAULT 'workflow';
"""

_THIRD: Final = """
CREATE INDEX run_listed ON run (org_id, n, kind, status, queue);
ALTER TABLE task ADD COLUMN scheduled_at INTEGER;
CREATE INDEX task_listed ON task (org_id, n, kind, status, queue, run) WHERE run IS NULL;
CREATE INDEX task_of_run ON task (run) WHERE run IS NOT NULL;
CREATE INDEX task_scheduled ON task (scheduled_at) WHERE status = 'SCHEDULED';
DROP INDEX task_deadline;
CREATE INDEX task_deadline ON task (deadline_at)
    WHERE deadline_at IS NOT NULL AND status IN ('PENDING', 'RUNNING', 'FOLLOWING', 'SCHEDULED');

CREATE TABLE retry (
    run INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    at INTEGER NOT NULL,
    note TEXT NOT NULL,
    requested_by TEXT NOT NULL,
    PRIMARY KEY (run, sequence)
) WITHOUT ROWID;

CREATE TABLE org (
    id TEXT PRIMARY KEY,
    slug TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    tier TEXT NOT NULL,
    created_at INTEGER NOT NULL
) WITHOUT ROWID;

ALTER TABLE worker ADD COLUMN team_id TEXT;
ALTER TABLE worker ADD COLUMN metadata BLOB;

CREATE TABLE definition (
    org_id TEXT NOT NULL,
    of TEXT NOT NULL,
    kind TEXT NOT NULL,
    version TEXT NOT NULL,
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    timeout_seconds INTEGER,
    cancellable INTEGER NOT NULL,
    tags BLOB NOT NULL,
    retry_policy BLOB,
    metadata BLOB,
    content_hash TEXT NOT NULL,
    input_schema BLOB,
    output_schema BLOB,
    created_at INTEGER NOT NULL,
    registered_at INTEGER NOT NULL,
    PRIMARY KEY (org_id, of, kind, version)
) WITHOUT ROWID;
"""

MIGRATIONS: Final[tuple[str, ...]] = (_FIRST, _SECOND, _THIRD)
