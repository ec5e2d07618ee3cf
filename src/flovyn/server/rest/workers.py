"""Workers, and what they have registered."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from flovyn.server.rest.fields import Windowed, json_or_none, moment
from flovyn.server.rest.route import ORG, Answer, Asked, Nothing, Route

if TYPE_CHECKING:
    from flovyn.server.engine.views import WorkerView
    from flovyn.server.store.definitions import DefinitionRow
    from flovyn.server.store.workers import Of

__all__ = ["ROUTES"]


class Worker(msgspec.Struct, rename="camel", kw_only=True):
    """A worker that has registered."""

    id: str
    org_id: str
    worker_name: str
    worker_version: str
    worker_type: str
    host_name: str
    process_id: str
    team_id: str | None
    metadata: Any
    status: Literal["ONLINE", "OFFLINE"]
    workflows: list[str]
    tasks: list[str]
    registered_at: datetime
    last_seen_at: datetime


class Workers(msgspec.Struct):
    """A page of workers."""

    workers: list[Worker]
    total: int
    limit: int
    offset: int


class Definition(msgspec.Struct, rename="camel", kw_only=True):
    """A kind, as the worker that registered it last describes it."""

    kind: str
    name: str
    description: str
    version: str
    timeout_seconds: int | None
    cancellable: bool
    tags: list[str]
    retry_policy: Any
    metadata: Any
    content_hash: str
    input_schema: Any
    output_schema: Any
    created_at: datetime
    registered_at: datetime


class Versions(Definition, rename="camel", kw_only=True):
    """The same, with every version that was ever registered, the latest first."""

    versions: list[Definition]


class Definitions(msgspec.Struct):
    """A page of kinds."""

    definitions: list[Definition]
    total: int
    limit: int
    offset: int


def _worker(view: WorkerView) -> Worker:
    row = view.worker
    return Worker(
        id=row.id,
        org_id=row.org_id,
        worker_name=row.name,
        worker_version=row.version,
        worker_type=row.type,
        host_name=row.host,
        process_id=row.process,
        team_id=row.team_id,
        metadata=json_or_none(row.metadata),
        status="ONLINE" if view.online else "OFFLINE",
        workflows=list(view.workflows),
        tasks=list(view.tasks),
        registered_at=moment(row.registered_at),
        last_seen_at=moment(view.seen_at),
    )


def _facts(row: DefinitionRow) -> dict[str, Any]:
    return {
        "kind": row.kind,
        "name": row.name,
        "description": row.description,
        "version": row.version,
        "timeout_seconds": row.timeout_seconds,
        "cancellable": bool(row.cancellable),
        "tags": msgspec.json.decode(row.tags),
        "retry_policy": json_or_none(row.retry_policy),
        "metadata": json_or_none(row.metadata),
        "content_hash": row.content_hash,
        "input_schema": json_or_none(row.input_schema),
        "output_schema": json_or_none(row.output_schema),
        "created_at": moment(row.created_at),
        "registered_at": moment(row.registered_at),
    }


def workers(asked: Asked[Windowed, Nothing]) -> Answer:
    query = asked.query
    page = asked.engine.views.workers(asked.caller, query.window)
    return Answer(Workers([_worker(view) for view in page.items], page.total, query.limit, query.offset))


def _listed(of: Of, asked: Asked[Windowed, Nothing]) -> Answer:
    query = asked.query
    page = asked.engine.views.definitions(asked.caller, of, query.window)
    shown = [Definition(**_facts(row)) for row in page.items]
    return Answer(Definitions(shown, page.total, query.limit, query.offset))


def _one(of: Of, asked: Asked[Nothing, Nothing]) -> Answer:
    versions = asked.engine.definitions.versions(asked.caller, of, asked.path["kind"])
    shown = [Definition(**_facts(row)) for row in versions]
    return Answer(Versions(**_facts(versions[0]), versions=shown))


def workflow_definitions(asked: Asked[Windowed, Nothing]) -> Answer:
    return _listed("workflow", asked)


def workflow_definition(asked: Asked[Nothing, Nothing]) -> Answer:
    return _one("workflow", asked)


def task_definitions(asked: Asked[Windowed, Nothing]) -> Answer:
    return _listed("task", asked)


def task_definition(asked: Asked[Nothing, Nothing]) -> Answer:
    return _one("task", asked)


ROUTES: Final[tuple[Route[Any, Any], ...]] = (
    Route("GET", f"{ORG}/workers", "listWorkers", "Workers.", "workers", workers, {200: Workers}, query=Windowed),
    Route(
        "GET",
        f"{ORG}/workflow-definitions",
        "listWorkflowDefinitions",
        "The kinds of workflows that workers have registered, by name.",
        "definitions",
        workflow_definitions,
        {200: Definitions},
        query=Windowed,
    ),
    Route(
        "GET",
        f"{ORG}/workflow-definitions/{{kind:path}}",
        "getWorkflowDefinition",
        "One kind of workflow, in all its versions.",
        "definitions",
        workflow_definition,
        {200: Versions},
    ),
    Route(
        "GET",
        f"{ORG}/task-definitions",
        "listTaskDefinitions",
        "The kinds of tasks that workers have registered, by name.",
        "definitions",
        task_definitions,
        {200: Definitions},
        query=Windowed,
    ),
    Route(
        "GET",
        f"{ORG}/task-definitions/{{kind:path}}",
        "getTaskDefinition",
        "One kind of task.",
        "definitions",
        task_definition,
        {200: Versions},
    ),
)
