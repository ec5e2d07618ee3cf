"""Workflow executions: starting them and looking at them."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from flovyn.errors import InvalidArgument
from flovyn.server import limits
from flovyn.server.engine import Start
from flovyn.server.rest.fields import (
    Key,
    Metadata,
    Name,
    Offset,
    Priority,
    Queue,
    Ttl,
    Version,
    Windowed,
    moment,
    null,
    ttl_seconds,
)
from flovyn.server.rest.route import ORG, Answer, Asked, Nothing, Route
from flovyn.server.store.listing import Wish

if TYPE_CHECKING:
    from flovyn.server.engine.views import RunView
    from flovyn.server.store.runs import EventRow, RunRow

__all__ = ["ROUTES", "Status"]

BASE: Final = f"{ORG}/workflow-executions"
_ALL_EVENTS: Final = 2**31 - 1

Status = Literal["PENDING", "RUNNING", "WAITING", "COMPLETED", "FAILED", "CANCELLED"]


class StartWorkflow(msgspec.Struct, rename="camel", forbid_unknown_fields=True, kw_only=True):
    """What is to be started."""

    kind: Name
    input: msgspec.Raw = msgspec.field(default_factory=null)
    queue: Queue = ""
    version: Version | None = None
    priority_seconds: Priority = 0
    metadata: Metadata = {}
    labels: Metadata = {}
    idempotency_key: Key | None = None
    idempotency_key_ttl: Ttl | None = msgspec.field(default=None, name="idempotencyKeyTTL")


class Links(msgspec.Struct):
    """Where more is to be had."""

    self: str
    events: str


class StartedWorkflow(msgspec.Struct, rename="camel"):
    """What was started, or found by its key."""

    workflow_execution_id: str
    status: Status
    kind: str
    created_at: datetime
    links: Links
    idempotency_key_used: bool
    idempotency_key_new: bool


class WorkflowSummary(msgspec.Struct, rename="camel", kw_only=True):
    """An execution in a list, without its payloads."""

    id: str
    org_id: str
    kind: str
    workflow_kind: str
    status: Status
    queue: str
    version: str | None
    priority_seconds: int
    parent_workflow_execution_id: str | None
    child_execution_name: str | None
    cancellation_requested: bool
    cancel_reason: str | None
    worker_id: str | None
    current_sequence: int
    created_at: datetime
    completed_at: datetime | None


class Retry(msgspec.Struct, rename="camel"):
    """The execution had failed, and somebody made it go on."""

    at: datetime
    note: str
    requested_by: str
    after_sequence: int


class Workflow(WorkflowSummary, rename="camel", kw_only=True):
    """An execution."""

    input: Any
    output: Any
    error: str | None
    metadata: dict[str, str]
    updated_at: datetime
    retries: list[Retry]


class Workflows(msgspec.Struct):
    """A page of executions."""

    workflows: list[WorkflowSummary]
    total: int
    limit: int
    offset: int


class WorkflowFilter(Windowed, forbid_unknown_fields=True, kw_only=True):
    """Which executions are wanted."""

    status: Status | None = None
    kind: Name | None = None
    queue: Queue | None = None


class Event(msgspec.Struct, rename="camel"):
    """An event of a history."""

    sequence_number: int
    event_type: str
    data: Any
    created_at: datetime


class Since(msgspec.Struct, forbid_unknown_fields=True):
    """Which events are wanted."""

    since_sequence: Offset = 0


class State(msgspec.Struct):
    """What a workflow has recorded of its state."""

    state: dict[str, Any]


def summary(run: RunRow, parent_id: str | None) -> WorkflowSummary:
    """A run as lists show it."""
    return WorkflowSummary(**_facts(run, parent_id))


def _facts(run: RunRow, parent_id: str | None) -> dict[str, Any]:
    return {
        "id": run.id,
        "org_id": run.org_id,
        "kind": run.kind,
        "workflow_kind": run.kind,
        "status": run.status,
        "queue": run.queue,
        "version": run.version,
        "priority_seconds": run.priority_ms // 1000,
        "parent_workflow_execution_id": parent_id,
        "child_execution_name": run.child_name,
        "cancellation_requested": run.cancel_reason is not None,
        "cancel_reason": run.cancel_reason,
        "worker_id": run.claim_worker if run.claim_token is not None else None,
        "current_sequence": run.sequence,
        "created_at": moment(run.created_at),
        "completed_at": None if run.completed_at is None else moment(run.completed_at),
    }


def _workflow(view: RunView) -> Workflow:
    return Workflow(
        **_facts(view.run, view.parent_id),
        input=view.payload,
        output=view.output,
        error=view.error,
        metadata=view.metadata,
        updated_at=moment(view.updated_at),
        retries=[Retry(moment(one.at), one.note, one.requested_by, one.sequence) for one in view.retries],
    )


def start(asked: Asked[Nothing, StartWorkflow]) -> Answer:
    """201 if the execution is new, 200 if it was found by its key."""
    body = asked.body
    if body.metadata and body.labels:
        raise InvalidArgument("metadata and labels are two names for the same; give one of them")
    payload = bytes(body.input)
    asked.schemas.check(asked.caller, "workflow", body.kind, payload, version=body.version)
    wanted = Start(
        kind=body.kind,
        payload=payload,
        queue=body.queue,
        version=body.version,
        priority_seconds=body.priority_seconds,
        metadata=body.metadata or body.labels,
        key=body.idempotency_key,
        key_ttl_seconds=ttl_seconds(body.idempotency_key_ttl),
    )
    started = asked.engine.workflows.start(asked.caller, wanted)
    run = asked.engine.workflows.find(asked.caller, started.run_id)
    here = f"/api/orgs/{asked.org}/workflow-executions/{run.id}"
    made = StartedWorkflow(
        workflow_execution_id=run.id,
        status=run.status,  # type: ignore[arg-type] # the store knows no others
        kind=run.kind,
        created_at=moment(run.created_at),
        links=Links(self=here, events=f"{here}/events"),
        idempotency_key_used=started.key_used,
        idempotency_key_new=started.key_new,
    )
    return Answer(made, 200 if started.key_used else 201)


def get(asked: Asked[Nothing, Nothing]) -> Answer:
    return Answer(_workflow(asked.engine.views.run(asked.caller, asked.path["id"])))


def listed(asked: Asked[WorkflowFilter, Nothing]) -> Answer:
    query, views = asked.query, asked.engine.views
    wish = Wish(kind=query.kind, statuses=[query.status] if query.status else (), queue=_queue(query.queue))
    page = views.runs(asked.caller, wish, query.window)
    shown = [summary(run, views.parent_id(run)) for run in page.items]
    return Answer(Workflows(shown, page.total, query.limit, query.offset))


def _queue(queue: str | None) -> str | None:
    return limits.DEFAULT_QUEUE if queue == "" else queue


def children(asked: Asked[Windowed, Nothing]) -> Answer:
    query, parent_id = asked.query, asked.path["id"]
    page = asked.engine.views.children(asked.caller, parent_id, query.window)
    shown = [summary(run, parent_id) for run in page.items]
    return Answer(Workflows(shown, page.total, query.limit, query.offset))


def events(asked: Asked[Since, Nothing]) -> Answer:
    views, after = asked.engine.views, asked.query.since_sequence
    history = views.events(asked.caller, asked.path["id"], after=after, limit=_ALL_EVENTS)
    return Answer([_event(event) for event in history])


def _event(event: EventRow) -> Event:
    return Event(event.sequence, event.type, msgspec.Raw(event.data), moment(event.created_at))


def state(asked: Asked[Nothing, Nothing]) -> Answer:
    return Answer(State(dict(asked.engine.queries.state(asked.caller, asked.path["id"]))))


ROUTES: Final[tuple[Route[Any, Any], ...]] = (
    Route(
        "POST",
        BASE,
        "startWorkflow",
        "Start a workflow. 201 if it is new, 200 if the key found one.",
        "workflows",
        start,
        {201: StartedWorkflow, 200: StartedWorkflow},
        {409: "The key stands for something that is no workflow."},
        body=StartWorkflow,
    ),
    Route(
        "GET",
        BASE,
        "listWorkflows",
        "Executions, newest first.",
        "workflows",
        listed,
        {200: Workflows},
        query=WorkflowFilter,
    ),
    Route("GET", f"{BASE}/{{id}}", "getWorkflow", "One execution.", "workflows", get, {200: Workflow}),
    Route(
        "GET",
        f"{BASE}/{{id}}/events",
        "getWorkflowEvents",
        "The history, or what of it is behind an event.",
        "workflows",
        events,
        {200: list[Event]},
        query=Since,
    ),
    Route("GET", f"{BASE}/{{id}}/state", "getWorkflowState", "The recorded state.", "workflows", state, {200: State}),
    Route(
        "GET",
        f"{BASE}/{{id}}/children",
        "listChildren",
        "The children of an execution, the oldest first.",
        "workflows",
        children,
        {200: Workflows},
        query=Windowed,
    ),
)
