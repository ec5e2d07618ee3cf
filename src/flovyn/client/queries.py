"""Queries: answered here, by re-enacting the history of a workflow with its own code, or by the server."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

import anyio
import msgspec

from flovyn.errors import DefinitionError, MalformedMessage, QueryFailed, UsageError
from flovyn.replay import RunInfo, read_event
from flovyn.replay.events import STARTED
from flovyn.wire import methods
from flovyn.wire.messages.flovyn import v1 as pb
from flovyn.workflow.queries import Revived

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flovyn.client.calls import Calls
    from flovyn.client.watch import Watch
    from flovyn.definitions import Workflow

__all__ = ["Queries"]

_SLICE_SECONDS: Final = 0.003
_PIECE_EVENTS: Final = 100


class _Started(msgspec.Struct):
    kind: str | None = None
    input: msgspec.Raw = msgspec.Raw(b"null")


_decode: Final = msgspec.json.Decoder(_Started).decode


class Queries:
    """Asks workflows.

    Args:
        org_id: The organisation.
        queue: The queue that a workflow is taken to have been started on, as its history does not say.
        calls: What asks the server.
        watch: What reads histories.
    """

    __slots__ = ("_calls", "_org_id", "_queue", "_watch")

    def __init__(self, org_id: str, queue: str, calls: Calls, watch: Watch) -> None:
        self._org_id = org_id
        self._queue = queue
        self._calls = calls
        self._watch = watch

    async def ask(self, workflow: Workflow[..., Any], workflow_id: str, name: str, args: bytes) -> bytes:
        """Re-enact what the activations of a workflow have seen, and have it answer from there."""
        if not workflow.has_code:
            raise DefinitionError(
                f"{workflow!r} has no code here that could answer a query: make the handle with the @workflow itself, "
                "or ask the server by `query_server`"
            )
        events = await self._watch.events(workflow_id)
        revived = Revived(workflow, self._info(workflow, workflow_id, events))
        try:
            await _load(revived, events)
            for _ in revived.slices():
                await anyio.lowlevel.checkpoint()
            return revived.answer(name, args)
        finally:
            revived.close()

    async def ask_server(self, workflow_id: str, name: str, args: bytes) -> bytes:
        """Have the server answer."""
        request = pb.QueryWorkflowRequest(workflow_execution_id=workflow_id, query_name=name, params=args)
        reply = await self._calls.repeatedly(methods.QUERY_WORKFLOW, request)
        if reply.error is not None:
            raise QueryFailed(f"Query failed: {reply.error}", workflow_id=workflow_id, name=name)
        return reply.result

    def _info(self, workflow: Workflow[..., Any], workflow_id: str, events: Sequence[pb.WorkflowEvent]) -> RunInfo:
        if not events or events[0].event_type != STARTED:
            raise MalformedMessage(f"the history of workflow {workflow_id} does not begin with {STARTED}")
        try:
            started = _decode(events[0].event_data or b"{}")
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise MalformedMessage(f"event 1 ({STARTED}) of the history cannot be read: {error}") from error
        if started.kind is not None and started.kind != workflow.kind:
            raise UsageError(
                f"workflow {workflow_id} is of kind {started.kind!r}, and its handle was made with {workflow!r}"
            )
        return RunInfo(workflow_id, self._org_id, workflow.kind, self._queue, bytes(started.input))


async def _load(revived: Revived, events: Sequence[pb.WorkflowEvent]) -> None:
    since = time.perf_counter()
    for begin in range(0, len(events), _PIECE_EVENTS):
        revived.load(
            read_event(event.sequence_number, event.event_type, event.event_data)
            for event in events[begin : begin + _PIECE_EVENTS]
        )
        if time.perf_counter() - since > _SLICE_SECONDS:
            await anyio.lowlevel.checkpoint()
            since = time.perf_counter()
