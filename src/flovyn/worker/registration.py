"""How a worker introduces itself."""

from __future__ import annotations

import hashlib
import os
import socket
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

from flovyn import serde
from flovyn.wire.messages.flovyn import v1 as pb

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flovyn.definitions import Task, Workflow

__all__ = ["registration_request"]

# Tells the server that our workflows end themselves when they are asked to, so that it waits for them to do so; or
# that they are not to be asked.
_COOPERATES: Final = b'{"cancellation":"scopes"}'
_REFUSES: Final = b'{"cancellation":"never"}'


def registration_request(
    *, name: str, org_id: str, workflows: Sequence[Workflow[..., Any]], tasks: Sequence[Task[..., Any]]
) -> pb.WorkerRegistrationRequest:
    """All that a worker can do, and where it runs."""
    return pb.WorkerRegistrationRequest(
        worker_name=name,
        worker_version=version("flovyn"),
        worker_type="UNIFIED" if workflows and tasks else "WORKFLOW" if workflows else "TASK",
        org_id=org_id,
        host_name=socket.gethostname() or "unknown",
        process_id=str(os.getpid()),
        workflows=[_workflow(workflow) for workflow in workflows],
        tasks=[_task(task) for task in tasks],
    )


def _workflow(workflow: Workflow[..., Any]) -> pb.WorkflowCapability:
    return pb.WorkflowCapability(
        kind=workflow.kind,
        name=workflow.name,
        description=workflow.description,
        cancellable=workflow.cancellable,
        tags=list(workflow.tags),
        metadata=_COOPERATES if workflow.cancellable else _REFUSES,
        version=workflow.version,
        content_hash=hashlib.sha256(f"{workflow.kind}:{workflow.version}".encode()).hexdigest(),
        input_schema=workflow.input_schema,
        output_schema=workflow.output_schema,
    )


def _task(task: Task[..., Any]) -> pb.TaskCapability:
    return pb.TaskCapability(
        kind=task.kind,
        name=task.name,
        description=task.description,
        cancellable=task.cancellable,
        tags=list(task.tags),
        input_schema=task.input_schema,
        output_schema=task.output_schema,
        metadata=serde.encode({"version": task.version, "streaming": task.streaming}),
    )
