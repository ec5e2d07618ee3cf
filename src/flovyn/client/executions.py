"""Workflows as REST shows and stops them."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import msgspec

from flovyn.client.descriptions import WorkflowDescription, WorkflowRetry, WorkflowSummary
from flovyn.client.pages import Pages
from flovyn.client.rest import part
from flovyn.client.texts import told
from flovyn.errors import MalformedMessage

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from flovyn.client.descriptions import WorkflowStatus
    from flovyn.client.rest import Rest
    from flovyn.serde.chain import CodecChain

__all__ = ["Executions"]

R = TypeVar("R")

_NULL: Final = msgspec.Raw(b"null")
_BASE: Final = "/workflow-executions"


class _Retry(msgspec.Struct, rename="camel"):
    at: datetime
    after_sequence: int
    note: str = ""
    requested_by: str = ""


class _Workflow(msgspec.Struct, rename="camel", kw_only=True):
    # Most of it may be missing: servers differ in what they tell.
    id: str
    status: str
    created_at: datetime
    kind: str | None = None
    workflow_kind: str | None = None
    queue: str | None = None
    version: str | None = None
    priority_seconds: int = 0
    parent_workflow_execution_id: str | None = None
    child_execution_name: str | None = None
    cancellation_requested: bool = False
    cancel_reason: str | None = None
    worker_id: str | None = None
    current_sequence: int | None = None
    completed_at: datetime | None = None
    # Not in lists.
    updated_at: datetime | None = None
    input: msgspec.Raw = _NULL
    output: msgspec.Raw = _NULL
    error: str | None = None
    metadata: dict[str, str] | None = None
    retries: list[_Retry] = []


class _Page(msgspec.Struct):
    workflows: list[_Workflow]


class _Anything(msgspec.Struct):
    pass


class Executions:
    """Asks about workflows.

    Args:
        rest: What carries the requests.
        codecs: What encodes reasons and decodes payloads.
    """

    __slots__ = ("_codecs", "_rest")

    def __init__(self, rest: Rest, codecs: CodecChain) -> None:
        self._rest = rest
        self._codecs = codecs

    async def describe(self, workflow_id: str, decode: Callable[[bytes], R]) -> WorkflowDescription[R]:
        """All about one."""
        shown = await self._rest.read("describing a workflow", f"{_BASE}/{part(workflow_id)}", _Workflow)
        output = await self._codecs.decode(bytes(shown.output)) if shown.status == "COMPLETED" else None
        return WorkflowDescription(
            **await self._facts(shown),
            error=await told(shown.error, self._codecs),
            metadata=shown.metadata or {},
            retries=tuple([await self._retry(retry) for retry in shown.retries]),
            updated_at=shown.updated_at,
            input_data=await self._codecs.decode(bytes(shown.input)),
            output_data=output,
            decode=decode,
        )

    def listed(self, *, status: WorkflowStatus | None, kind: str | None, queue: str | None) -> Pages[WorkflowSummary]:
        """Those of the organisation, the newest first."""
        wanted = {"status": status, "kind": kind, "queue": queue}
        return self._pages("listing workflows", _BASE, wanted)

    def children(self, workflow_id: str) -> Pages[WorkflowSummary]:
        """The children of one, the oldest first."""
        return self._pages("listing the children of a workflow", f"{_BASE}/{part(workflow_id)}/children", {})

    async def cancel(self, workflow_id: str, reason: str) -> None:
        """Ask one to stop."""
        body = {"reason": await self._codecs.encode_text(reason)}
        await self._rest.act("cancelling a workflow", f"{_BASE}/{part(workflow_id)}/cancel", body, _Anything)

    async def retry(self, workflow_id: str, note: str) -> None:
        """Make one go on that has failed."""
        body = {"note": await self._codecs.encode_text(note)}
        await self._rest.act("retrying a workflow", f"{_BASE}/{part(workflow_id)}/retry", body, _Anything)

    async def _retry(self, shown: _Retry) -> WorkflowRetry:
        note = await self._codecs.decode_text(shown.note)
        return WorkflowRetry(at=shown.at, note=note, requested_by=shown.requested_by, after=shown.after_sequence)

    def _pages(self, what: str, path: str, wanted: dict[str, str | None]) -> Pages[WorkflowSummary]:
        def fetch(limit: int, offset: int) -> Awaitable[Sequence[WorkflowSummary]]:
            return self._page(what, path, {**wanted, "limit": limit, "offset": offset})

        return Pages(fetch, lambda workflow: workflow.id)

    async def _page(self, what: str, path: str, query: dict[str, Any]) -> list[WorkflowSummary]:
        page = await self._rest.read(what, path, _Page, query)
        return [WorkflowSummary(**await self._facts(shown)) for shown in page.workflows]

    async def _facts(self, shown: _Workflow) -> dict[str, Any]:
        kind = shown.kind or shown.workflow_kind
        if kind is None:
            raise MalformedMessage(f"the server does not tell the kind of workflow {shown.id}")
        reason = shown.cancel_reason
        return {
            "id": shown.id,
            "kind": kind,
            "status": cast("WorkflowStatus", shown.status),
            "queue": shown.queue,
            "version": shown.version,
            "priority": shown.priority_seconds,
            "parent_id": shown.parent_workflow_execution_id,
            "child_name": shown.child_execution_name,
            "cancellation_requested": shown.cancellation_requested,
            "cancel_reason": None if reason is None else await self._codecs.decode_text(reason),
            "worker": shown.worker_id,
            "sequence": shown.current_sequence,
            "created_at": shown.created_at,
            "completed_at": shown.completed_at,
        }
