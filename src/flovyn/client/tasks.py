"""Tasks that stand alone, as a server takes and shows them."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar, cast

import msgspec

from flovyn.client.descriptions import TaskAttempt, TaskDescription, TaskLogLine, TaskSummary
from flovyn.client.pages import Pages
from flovyn.client.pauses import Outage
from flovyn.client.rest import part
from flovyn.client.retries import passes
from flovyn.client.texts import told
from flovyn.definitions.durations import whole_milliseconds, whole_seconds
from flovyn.errors import AlreadyExists, TaskCancelled
from flovyn.wire import methods
from flovyn.wire.messages.flovyn import v1 as pb
from flovyn.workflow.failures import failed_task

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from flovyn.client.calls import Calls
    from flovyn.client.descriptions import TaskStatus
    from flovyn.client.options import SubmitOptions
    from flovyn.client.rest import Rest
    from flovyn.client.watch import Watch
    from flovyn.definitions import Task
    from flovyn.serde.chain import CodecChain

__all__ = ["Tasks"]

R = TypeVar("R")

_NULL: Final = msgspec.Raw(b"null")
_BASE: Final = "/task-executions"

_RETRIES: Final = 3
"""The platform's own default, which gRPC has no way to ask for."""


class _Task(msgspec.Struct, rename="camel", kw_only=True):
    # Most of it may be missing: servers differ in what they tell.
    id: str
    kind: str
    status: str
    created_at: datetime
    queue: str | None = None
    max_retries: int | None = None
    execution_count: int = 0
    worker_id: str | None = None
    error: str | None = None
    metadata: dict[str, str] | None = None
    scheduled_at: datetime | None = None
    deadline_at: datetime | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None
    # Not in lists.
    input: msgspec.Raw = _NULL
    output: msgspec.Raw = _NULL
    progress: float | None = None
    progress_details: str | None = None


class _Submitted(msgspec.Struct):
    id: str


class _TaskPage(msgspec.Struct):
    tasks: list[_Task]


class _Attempt(msgspec.Struct, rename="camel"):
    attempt: int
    status: str
    started_at: datetime
    finished_at: datetime
    worker_id: str = ""
    error: str | None = None


class _AttemptPage(msgspec.Struct):
    attempts: list[_Attempt]


class _Line(msgspec.Struct):
    timestamp: datetime
    level: str
    message: str
    number: int = 0


class _LinePage(msgspec.Struct):
    logs: list[_Line]


class Tasks:
    """Submits tasks, and asks about them.

    Args:
        org_id: The organisation.
        calls: What carries what gRPC has a call for.
        rest: What carries everything else.
        codecs: What encodes and decodes the payloads of the latter.
        watch: What knows how long to wait.
    """

    __slots__ = ("_calls", "_codecs", "_org_id", "_rest", "_watch")

    def __init__(self, org_id: str, calls: Calls, rest: Rest, codecs: CodecChain, watch: Watch) -> None:
        self._watch = watch
        self._org_id = org_id
        self._calls = calls
        self._rest = rest
        self._codecs = codecs

    # --- submitting -------------------------------------------------------------------------

    async def submit(self, task: Task[..., Any], data: bytes, options: SubmitOptions) -> str:
        """Submit a task; returns its id."""
        if options.scheduled_at is None:
            return await self._submit_now(task, data, options)
        body: dict[str, Any] = {
            "kind": task.kind,
            "input": msgspec.Raw(await self._codecs.encode(data)),
            "queue": options.queue if task.queue is None else task.queue,
            "scheduledAt": options.scheduled_at,
            "metadata": dict(options.metadata),
        }
        if task.retry is not None:
            body["maxRetries"] = 0
        if task.schedule_to_close is not None:
            body["timeoutMs"] = whole_milliseconds(task.schedule_to_close)
        if task.idempotency_key is not None:
            body["idempotencyKey"] = task.idempotency_key
        if task.idempotency_key_ttl is not None:
            body["idempotencyKeyTTL"] = f"{whole_seconds(task.idempotency_key_ttl)}s"
        repeatable = task.idempotency_key is not None
        what = "submitting a task for later"
        made = await self._rest.act(what, _BASE, body, _Submitted, conflict=AlreadyExists, repeatable=repeatable)
        return made.id

    async def _submit_now(self, task: Task[..., Any], data: bytes, options: SubmitOptions) -> str:
        request = pb.SubmitTaskRequest(
            org_id=self._org_id,
            kind=task.kind,
            input=data,
            queue=options.queue if task.queue is None else task.queue,
            metadata=dict(options.metadata),
            max_retries=_RETRIES if task.retry is None else 0,
            timeout_ms=whole_milliseconds(task.schedule_to_close) or 0,
            idempotency_key=task.idempotency_key,
            idempotency_key_ttl_seconds=whole_seconds(task.idempotency_key_ttl),
        )
        call = self._calls.once if task.idempotency_key is None else self._calls.repeatedly
        return (await call(methods.SUBMIT_TASK, request)).task_execution_id

    async def cancel(self, task_id: str) -> None:
        """End a task."""
        await self._calls.repeatedly(methods.CANCEL_TASK, pb.CancelTaskRequest(task_execution_id=task_id))

    # --- asking -----------------------------------------------------------------------------

    async def result(self, task_id: str, kind: str, decode: Callable[[bytes], R]) -> R:
        """Wait for a task to end."""
        pauses, outage = self._watch.pauses(), Outage(f"task {task_id}")
        while True:
            pauses.asks()
            try:
                shown = await self._rest.look("waiting for a task", f"{_BASE}/{part(task_id)}", _Task)
            except Exception as error:
                if not passes(error):
                    raise
                await outage.wait(error)
                continue
            outage.over()
            if shown.status == "COMPLETED":
                return decode(await self._codecs.decode(bytes(shown.output)))
            if shown.status in ("FAILED", "CANCELLED"):
                raise await self._failure(shown, kind)
            # The input comes along each time.
            pauses.answered(len(bytes(shown.input)))
            await pauses.wait()

    async def _failure(self, shown: _Task, kind: str) -> Exception:
        text = "" if shown.error is None else await self._codecs.decode_text(shown.error)
        if shown.status == "CANCELLED":
            return TaskCancelled(text or "Task cancelled", task_id=shown.id, kind=kind)
        return failed_task(text, task_id=shown.id, kind=kind, attempts=shown.execution_count or None)

    async def describe(self, task_id: str, decode: Callable[[bytes], R]) -> TaskDescription[R]:
        """All about one."""
        shown = await self._rest.read("describing a task", f"{_BASE}/{part(task_id)}", _Task)
        details, output = shown.progress_details, None
        if shown.status == "COMPLETED":
            output = await self._codecs.decode(bytes(shown.output))
        return TaskDescription(
            **await self._facts(shown),
            progress=shown.progress,
            progress_details=None if details is None else await self._codecs.decode_text(details),
            input_data=await self._codecs.decode(bytes(shown.input)),
            output_data=output,
            decode=decode,
        )

    def listed(self, *, status: TaskStatus | None, kind: str | None, queue: str | None) -> Pages[TaskSummary]:
        """Those of the organisation, the newest first."""

        async def fetch(limit: int, offset: int) -> Sequence[TaskSummary]:
            query = {"status": status, "kind": kind, "queue": queue, "limit": limit, "offset": offset}
            page = await self._rest.read("listing tasks", _BASE, _TaskPage, query)
            return [TaskSummary(**await self._facts(shown)) for shown in page.tasks]

        return Pages(fetch, lambda task: task.id)

    def attempts(self, task_id: str) -> Pages[TaskAttempt]:
        """The attempts at one that have ended, the first one first."""

        async def fetch(limit: int, offset: int) -> Sequence[TaskAttempt]:
            path, query = f"{_BASE}/{part(task_id)}/attempts", {"limit": limit, "offset": offset}
            page = await self._rest.read("listing the attempts at a task", path, _AttemptPage, query)
            return [await self._attempt(shown) for shown in page.attempts]

        return Pages(fetch, lambda attempt: attempt.number)

    async def _attempt(self, shown: _Attempt) -> TaskAttempt:
        return TaskAttempt(
            number=shown.attempt,
            status=cast("Literal['COMPLETED', 'FAILED', 'TIMEOUT', 'CANCELLED']", shown.status),
            worker=shown.worker_id,
            started_at=shown.started_at,
            finished_at=shown.finished_at,
            error=await told(shown.error, self._codecs),
        )

    def logs(self, task_id: str) -> Pages[TaskLogLine]:
        """What one has logged, the oldest line first."""

        async def fetch(limit: int, offset: int) -> Sequence[TaskLogLine]:
            path, query = f"{_BASE}/{part(task_id)}/logs", {"limit": limit, "offset": offset}
            page = await self._rest.read("reading the log of a task", path, _LinePage, query)
            return [
                TaskLogLine(
                    number=line.number or offset + index,
                    at=line.timestamp,
                    level=line.level,
                    message=await self._codecs.decode_text(line.message),
                )
                for index, line in enumerate(page.logs, 1)
            ]

        return Pages(fetch, lambda line: line.number)

    async def _facts(self, shown: _Task) -> dict[str, Any]:
        return {
            "id": shown.id,
            "kind": shown.kind,
            "status": cast("TaskStatus", shown.status),
            "queue": shown.queue,
            "max_retries": shown.max_retries,
            "attempts": shown.execution_count,
            "worker": shown.worker_id,
            "error": await told(shown.error, self._codecs),
            "metadata": shown.metadata or {},
            "created_at": shown.created_at,
            "scheduled_at": shown.scheduled_at,
            "deadline_at": shown.deadline_at,
            "started_at": shown.started_at,
            "completed_at": shown.completed_at,
        }
