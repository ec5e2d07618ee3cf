"""Asking workflows to stop, and letting failed ones go on."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from flovyn.server import limits
from flovyn.server.rest.route import ORG, Answer, Asked, Nothing, Route
from flovyn.server.rest.workflows import Status

__all__ = ["ROUTES"]

BASE: Final = f"{ORG}/workflow-executions/{{id}}"

Reason = Annotated[str, Meta(max_length=limits.LOG_LINE_LENGTH)]


class Cancel(msgspec.Struct, rename="camel", forbid_unknown_fields=True, kw_only=True):
    """Why, and who wants it."""

    reason: Reason = ""
    requested_by: Annotated[str, Meta(max_length=limits.NAME_LENGTH, description="The key's own name if empty.")] = ""


class CancelQuery(msgspec.Struct, rename="camel", forbid_unknown_fields=True, kw_only=True):
    """The same in an address, which holds less."""

    reason: Annotated[str, Meta(max_length=limits.NAME_LENGTH)] = ""
    requested_by: Annotated[str, Meta(max_length=limits.NAME_LENGTH, description="The key's own name if empty.")] = ""


class Cancelled(msgspec.Struct, rename="camel"):
    """What the request came to: the status is CANCELLED if it ended the execution at once."""

    workflow_execution_id: str
    status: Status
    cancellation_requested: bool


class RetryWorkflow(msgspec.Struct, forbid_unknown_fields=True):
    """Why."""

    note: Reason = ""


class Retried(msgspec.Struct, rename="camel"):
    """What goes on."""

    workflow_execution_id: str
    status: Status


def cancel(asked: Asked[Nothing, Cancel]) -> Answer:
    return _cancel(asked, asked.body)


def delete(asked: Asked[CancelQuery, Nothing]) -> Answer:
    return _cancel(asked, asked.query)


def _cancel(asked: Asked[Any, Any], said: Cancel | CancelQuery) -> Answer:
    run_id = asked.path["id"]
    by = said.requested_by or asked.principal.id
    asked.engine.request_cancel(asked.caller, run_id, reason=said.reason, requested_by=by)
    run = asked.engine.workflows.find(asked.caller, run_id)
    return Answer(Cancelled(run.id, run.status, cancellation_requested=True))  # type: ignore[arg-type]


def retry(asked: Asked[Nothing, RetryWorkflow]) -> Answer:
    run_id = asked.path["id"]
    asked.engine.retries.retry(asked.caller, run_id, note=asked.body.note, requested_by=asked.principal.id)
    run = asked.engine.workflows.find(asked.caller, run_id)
    return Answer(Retried(run.id, run.status))  # type: ignore[arg-type]


_ENDED: Final = {409: "It has ended."}
_SUMMARY: Final = "Ask an execution to stop; a second request ends it, whatever it is doing."

ROUTES: Final[tuple[Route[Any, Any], ...]] = (
    Route(
        "POST",
        f"{BASE}/cancel",
        "cancelWorkflow",
        _SUMMARY,
        "workflows",
        cancel,
        {200: Cancelled},
        _ENDED,
        body=Cancel,
    ),
    *(
        Route("DELETE", where, name, _SUMMARY, "workflows", delete, {200: Cancelled}, _ENDED, query=CancelQuery)
        for where, name in ((BASE, "deleteWorkflow"), (f"{BASE}/cancel", "deleteWorkflowByCancelling"))
    ),
    Route(
        "POST",
        f"{BASE}/retry",
        "retryWorkflow",
        "Let an execution that has failed go on from where it failed.",
        "workflows",
        retry,
        {200: Retried},
        {409: "It has not failed, or cannot go on."},
        body=RetryWorkflow,
    ),
)
