"""WorkerLifecycle."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flovyn.server.engine import Described
from flovyn.wire import methods
from flovyn.wire.messages.flovyn import v1 as pb
from flovyn.wire.methods import Empty

if TYPE_CHECKING:
    from flovyn.server.acceptor import Call, Routes
    from flovyn.server.shell import Shell

__all__ = ["add"]


class _Workers:
    def __init__(self, shell: Shell) -> None:
        self._shell = shell
        self._engine = shell.engine

    async def register(self, call: Call, request: pb.WorkerRegistrationRequest) -> pb.WorkerRegistrationResponse:
        caller = self._shell.caller(call, org_id=request.org_id)
        worker_id = self._engine.workers.register(
            caller,
            name=request.worker_name,
            version=request.worker_version,
            worker_type=request.worker_type,
            host=request.host_name,
            process=request.process_id,
            workflows={capability.kind: capability.metadata for capability in request.workflows},
            tasks={capability.kind: capability.metadata for capability in request.tasks},
            definitions=[*map(_workflow, request.workflows), *map(_task, request.tasks)],
            team_id=request.team_id,
            metadata=request.metadata,
        )
        return pb.WorkerRegistrationResponse(worker_id=worker_id, success=True)

    async def heartbeat(self, call: Call, request: pb.WorkerHeartbeatRequest) -> Empty:
        caller = self._shell.caller(call)
        self._engine.workers.heartbeat(caller, request.worker_id)
        return Empty()


def _workflow(capability: pb.WorkflowCapability) -> Described:
    return Described(
        of="workflow",
        kind=capability.kind,
        version=capability.version,
        name=capability.name,
        description=capability.description,
        timeout_seconds=capability.timeout_seconds,
        cancellable=capability.cancellable,
        tags=capability.tags,
        retry_policy=capability.retry_policy,
        metadata=capability.metadata,
        content_hash=capability.content_hash,
        input_schema=capability.input_schema,
        output_schema=capability.output_schema,
    )


def _task(capability: pb.TaskCapability) -> Described:
    return Described(
        of="task",
        kind=capability.kind,
        name=capability.name,
        description=capability.description,
        timeout_seconds=capability.timeout_seconds,
        cancellable=capability.cancellable,
        tags=capability.tags,
        retry_policy=capability.retry_policy,
        metadata=capability.metadata,
        input_schema=capability.input_schema,
        output_schema=capability.output_schema,
    )


def add(routes: Routes, shell: Shell) -> None:
    """Answer the service's RPCs."""
    service = _Workers(shell)
    routes.unary(methods.REGISTER_WORKER, shell.answering(service.register))
    routes.unary(methods.SEND_HEARTBEAT, shell.answering(service.heartbeat))
