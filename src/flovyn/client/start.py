"""Starting workflows, with the options that a start can have."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from flovyn.client.handle import WorkflowHandle
from flovyn.definitions import definition_of
from flovyn.errors import UsageError
from flovyn.wire import methods
from flovyn.wire.messages.flovyn import v1 as pb

if TYPE_CHECKING:
    from flovyn.client.options import StartOptions
    from flovyn.client.watch import Watch
    from flovyn.definitions import AnyWorkflow
    from flovyn.wire.transport import Transport

__all__ = ["Starter"]

P = ParamSpec("P")
R = TypeVar("R")


class Starter:
    """Starts workflows with some options; `Client.options` makes these."""

    __slots__ = ("_options", "_org_id", "_transport", "_watch")

    def __init__(self, transport: Transport, watch: Watch, org_id: str, options: StartOptions) -> None:
        self._transport = transport
        self._watch = watch
        self._org_id = org_id
        self._options = options

    async def start(self, workflow: AnyWorkflow[P, R], /, *args: P.args, **kwargs: P.kwargs) -> WorkflowHandle[R]:
        """Start a workflow; see `Client.start`."""
        definition = definition_of(workflow)
        if definition.child_name is not None or definition.on_cancel != "request":
            raise UsageError(
                f"workflow {definition.kind!r} has child_name or on_cancel among its options, which are for a child of "
                "another workflow: leave them out where a client starts it"
            )
        options = self._options
        request = pb.StartWorkflowRequest(
            org_id=self._org_id,
            workflow_kind=definition.kind,
            input=definition.encode_input(args, kwargs),
            queue=options.queue if definition.queue is None else definition.queue,
            priority_seconds=_whole_seconds(definition.priority) or 0,
            workflow_version=definition.version or None,
            idempotency_key=options.idempotency_key,
            idempotency_key_ttl_seconds=_whole_seconds(options.idempotency_ttl),
        )
        reply = await self._transport.unary(methods.START_WORKFLOW, request)
        workflow_id = reply.message.workflow_execution_id
        return WorkflowHandle(self._watch, workflow_id, kind=definition.kind, decode=definition.decode_output)


def _whole_seconds(time: timedelta | None) -> int | None:
    """Rounded up: a key must not die before its time."""
    return None if time is None else -(-time // timedelta(seconds=1))
