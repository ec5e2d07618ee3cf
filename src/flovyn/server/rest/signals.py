"""Signals. The platform's documents spell these fields with underscores, and all others without: both are read here."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from flovyn.server.engine import Start
from flovyn.server.rest.fields import Metadata, Name, Priority, Queue, Version, null
from flovyn.server.rest.route import ORG, Answer, Asked, Nothing, Route

__all__ = ["ROUTES"]

BASE: Final = f"{ORG}/workflow-executions"


class Signal(msgspec.Struct, rename="camel", forbid_unknown_fields=True, kw_only=True):
    """A signal. The fields may be spelt with underscores too."""

    signal_name: Name
    signal_value: msgspec.Raw = msgspec.field(default_factory=null)


class Signalled(msgspec.Struct, rename="camel"):
    """Where the signal stands in the history."""

    workflow_execution_id: str
    signal_event_sequence: int
    signal_delivered: bool


class SignalWithStart(Signal, rename="camel", forbid_unknown_fields=True, kw_only=True):
    """A signal, and what to start for it if need be. The fields may be spelt with underscores too."""

    workflow_id: Name
    workflow_kind: Name
    workflow_input: msgspec.Raw = msgspec.field(default_factory=null)
    queue: Queue = ""
    version: Version | None = None
    priority_seconds: Priority = 0
    metadata: Metadata = {}


class SignalledWithStart(msgspec.Struct, kw_only=True):
    """What became of it, in both spellings."""

    workflow_execution_id: str
    workflowExecutionId: str  # noqa: N815
    workflow_created: bool
    workflowCreated: bool  # noqa: N815
    signal_event_sequence: int
    signalEventSequence: int  # noqa: N815
    signal_delivered: bool
    signalDelivered: bool  # noqa: N815


def signal(asked: Asked[Nothing, Signal]) -> Answer:
    body = asked.body
    signals = asked.engine.signals
    sent = signals.signal(asked.caller, asked.path["id"], body.signal_name, bytes(body.signal_value))
    return Answer(Signalled(sent.run_id, sent.sequence, signal_delivered=True))


def signal_with_start(asked: Asked[Nothing, SignalWithStart]) -> Answer:
    body, caller = asked.body, asked.caller
    payload = bytes(body.workflow_input)
    asked.schemas.check(caller, "workflow", body.workflow_kind, payload, version=body.version, field="workflowInput")
    wanted = Start(
        kind=body.workflow_kind,
        payload=payload,
        queue=body.queue,
        version=body.version,
        priority_seconds=body.priority_seconds,
        metadata=body.metadata,
        key=body.workflow_id,
    )
    sent = asked.engine.signals.signal_with_start(caller, wanted, body.signal_name, bytes(body.signal_value))
    return Answer(
        SignalledWithStart(
            workflow_execution_id=sent.run_id,
            workflowExecutionId=sent.run_id,
            workflow_created=sent.created,
            workflowCreated=sent.created,
            signal_event_sequence=sent.sequence,
            signalEventSequence=sent.sequence,
            signal_delivered=True,
            signalDelivered=True,
        )
    )


ROUTES: Final[tuple[Route[Any, Any], ...]] = (
    Route(
        "POST",
        f"{BASE}/signal-with-start",
        "signalWithStart",
        "Signal the workflow that has this id of yours; if there is none, or it has ended, start it for the signal.",
        "signals",
        signal_with_start,
        {200: SignalledWithStart},
        {409: "The id stands for something that is no workflow."},
        body=SignalWithStart,
        underscores=True,
    ),
    Route(
        "POST",
        f"{BASE}/{{id}}/signal",
        "signalWorkflow",
        "Send a signal to an execution that has not ended.",
        "signals",
        signal,
        {200: Signalled},
        {409: "It has ended."},
        body=Signal,
        underscores=True,
    ),
)
