"""Every constant of the server in one table.

Times are in milliseconds, sizes in bytes or characters. What an option of `flovyn.server.serve` changes says so.
"""

from __future__ import annotations

from typing import Final

__all__ = [
    "CANCEL_GRACE_MS",
    "CLAIM_WITHOUT_REPORT_MS",
    "CLOCK_CHECK_S",
    "DEFAULT_MAX_RETRIES",
    "DEFAULT_QUEUE",
    "DEV_WORKER_TIMEOUT_MS",
    "DISCONNECT_GRACE_MS",
    "DRAIN_S",
    "EXPIRED_KEYS_PURGE_MS",
    "HTTP_BODY_SIZE",
    "HTTP_HEADER_SIZE",
    "HTTP_IDLE_S",
    "HTTP_REQUEST_S",
    "HTTP_STALL_S",
    "IDEMPOTENCY_TTL_DEFAULT_S",
    "IDEMPOTENCY_TTL_MAX_S",
    "IDEMPOTENCY_TTL_MIN_S",
    "LOCKED_FILE_WAIT_S",
    "LOG_LINES",
    "LOG_LINE_LENGTH",
    "MAX_DURATION_MS",
    "MAX_TASK_RETRIES",
    "NAME_LENGTH",
    "PAGE_DEFAULT",
    "PAGE_MAX",
    "POLL_CAP_S",
    "QUEUE_LENGTH",
    "REST_MAX_RETRIES",
    "SCHEMAS_KEPT",
    "SHOWN_HISTORIES",
    "TASK_STATE_KEYS",
    "TASK_UNCONFIRMED_MS",
    "TICK_BATCH",
    "WORKER_TIMEOUT_MS",
]

# --- leases ---------------------------------------------------------------------------------

WORKER_TIMEOUT_MS: Final = 60_000
"""A worker that neither polls, nor heartbeats, nor calls for this long loses its claims (option `worker_timeout`)."""

DEV_WORKER_TIMEOUT_MS: Final = 5_000
"""The same in development mode, for workers that echo fencing tokens; others keep the time above."""

DISCONNECT_GRACE_MS: Final = 1_000
"""Work that was claimed over a connection which closed is freed after this long."""

CLAIM_WITHOUT_REPORT_MS: Final = 600_000
"""A run whose worker lives but never submits is freed after this long: it may have been handed a kind it cannot run."""

TASK_UNCONFIRMED_MS: Final = 60_000
"""A task is freed if a worker that echoes fencing tokens did not do so for this long after it was handed the task: the
answer to its poll got lost. As long as the default lease of our worker, which heartbeats far more often."""

# --- cancellation ---------------------------------------------------------------------------

CANCEL_GRACE_MS: Final = 86_400_000
"""How long a workflow that ends itself when it is cancelled may take for that, compensation and all; a second request
ends it at once."""

# --- polls ----------------------------------------------------------------------------------

POLL_CAP_S: Final = 60
"""The longest that a long poll is held open, whatever the caller asks for."""

# --- names and keys -------------------------------------------------------------------------

DEFAULT_QUEUE: Final = "default"
"""What an empty queue name means."""

QUEUE_LENGTH: Final = 100
"""The longest name of a queue."""

NAME_LENGTH: Final = 255
"""The longest kind, timer id, operation name, state key, idempotency key, worker name and version."""

IDEMPOTENCY_TTL_DEFAULT_S: Final = 86_400
"""How long an idempotency key counts that says nothing of it."""

IDEMPOTENCY_TTL_MIN_S: Final = 1
"""The shortest time that a key can ask to count for."""

IDEMPOTENCY_TTL_MAX_S: Final = 2_592_000
"""The longest."""

EXPIRED_KEYS_PURGE_MS: Final = 300_000
"""How often expired idempotency keys are swept away; an expired key counts for nothing before that too."""

# --- tasks and timers -----------------------------------------------------------------------

DEFAULT_MAX_RETRIES: Final = 3
"""Retries (so attempts minus one) of a task that does not say."""

MAX_TASK_RETRIES: Final = 1_000_000
"""More retries than this are a mistake in the request."""

MAX_DURATION_MS: Final = 100 * 365 * 86_400_000
"""The longest timer and the longest task deadline: a century; more does not fit every reader's clock."""

TASK_STATE_KEYS: Final = 1_000
"""The most keys that a task can keep state under."""

LOG_LINES: Final = 1_000
"""How many log lines of a task are kept; the oldest go first."""

LOG_LINE_LENGTH: Final = 16_384
"""The longest log line and the longest details of a task's progress; the rest of a longer one is cut off."""

CLOCK_CHECK_S: Final = 5.0
"""The longest that the server sleeps without a look at the clock, which may have been set, or the machine suspended."""

TICK_BATCH: Final = 200
"""How many due timers or deadlines one transaction handles, so that a flood of them leaves room for calls."""

# --- REST -----------------------------------------------------------------------------------

HTTP_HEADER_SIZE: Final = 65_536
"""The longest head of an HTTP request."""

HTTP_BODY_SIZE: Final = 64 * 1024 * 1024
"""The largest body of an HTTP request: as large as a message over gRPC."""

HTTP_REQUEST_S: Final = 60.0
"""How long an HTTP request may take from its head to the last byte of its answer, slow clients and all."""

HTTP_IDLE_S: Final = 60.0
"""How long an HTTP connection may stay silent between two requests, and before its first."""

HTTP_STALL_S: Final = 20.0
"""How long an HTTP client may leave the next 256 KiB of its answer unread."""

PAGE_DEFAULT: Final = 100
"""Entries of a page of a list that says nothing of its length."""

PAGE_MAX: Final = 1_000
"""The most entries of a page."""

REST_MAX_RETRIES: Final = 10
"""More retries of a task than these are cut down to them, as the platform's REST does; gRPC allows more."""

SCHEMAS_KEPT: Final = 256
"""How many registered schemas are kept compiled, to check inputs against them."""

SHOWN_HISTORIES: Final = 10_000
"""Of how many runs it is known for each connection how much of their history was sent over it."""

# --- the end --------------------------------------------------------------------------------

DRAIN_S: Final = 5.0
"""How long calls that are under way when the server is told to end may take to be answered; long polls end at once."""

# --- store ----------------------------------------------------------------------------------

LOCKED_FILE_WAIT_S: Final = 1.0
"""How long opening a file waits for another process to let go of it (a server that is just ending)."""
