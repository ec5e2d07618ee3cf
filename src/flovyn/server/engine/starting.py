"""Bringing a workflow execution into being, whoever wants it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from flovyn.server.engine import events, history, keys, payloads, validation
from flovyn.server.store.keys import Target
from flovyn.server.store.runs import RunRow

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flovyn.server.engine.core import Core
    from flovyn.server.engine.events import Event

__all__ = ["Prepared", "Start", "create", "prepare"]


@dataclass(frozen=True, slots=True)
class Start:
    """What somebody wants to have started.

    Attributes:
        kind: The workflow's kind; nobody need have registered it yet.
        payload: Its input as JSON; nothing at all means null.
        queue: Where it waits for a worker; empty means the default queue.
        priority_seconds: By how much it stands earlier in the queue than its age says.
        key: An idempotency key.
        key_ttl_seconds: How long the key counts.
        parent_id: The run that it is a child of.
    """

    kind: str
    payload: bytes = b""
    queue: str = ""
    version: str | None = None
    priority_seconds: int = 0
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])
    key: str | None = None
    key_ttl_seconds: int | None = None
    parent_id: str | None = None


@dataclass(frozen=True, slots=True)
class Prepared:
    """A checked start, of which nothing is stored yet."""

    run: RunRow
    payload: bytes
    started: Event
    key: str | None
    key_expires_at: int


def prepare(core: Core, org_id: str, wanted: Start, *, at: str = "") -> Prepared:
    """Check what is wanted.

    Args:
        core: The engine's surroundings.
        org_id: The organisation it is for.
        wanted: What is wanted.
        at: What stands before the name of a field in a refusal.

    Raises:
        InvalidArgument: A value makes no sense; the message names it.
    """
    now = core.clock()
    key = wanted.key
    expires_at = now if key is None else now + keys.lifetime_ms(key, wanted.key_ttl_seconds)
    priority_ms = wanted.priority_seconds * 1000
    version = wanted.version
    run = RunRow(
        n=0,
        id=core.new_id(),
        org_id=org_id,
        kind=validation.name(wanted.kind, f"{at}workflow_kind"),
        queue=validation.queue_name(wanted.queue, f"{at}queue"),
        version=None if version is None else validation.text(version, f"{at}workflow_version"),
        priority_ms=priority_ms,
        created_at=now,
        position=now - priority_ms,
        status="PENDING",
        sequence=0,
        external_sequence=0,
        cancel_reason=None,
        completed_at=None,
        claim_token=None,
        claim_worker=None,
        claim_process=None,
        claim_sequence=0,
        contested=0,
    )
    payload = payloads.checked(wanted.payload, f"{at}input")
    started = events.workflow_started(
        kind=run.kind, payload=payload, metadata=wanted.metadata, parent_id=wanted.parent_id
    )
    return Prepared(run, wanted.payload, started, key, expires_at)


def create(core: Core, prepared: Prepared, *more: Event) -> None:
    """Store a run with its first events; its key stands for it from now on. Part of the caller's transaction."""
    run = prepared.run
    if prepared.key is not None:
        core.store.keys.put(run.org_id, prepared.key, Target("workflow", run.id), prepared.key_expires_at)
    told = [prepared.started, *more]
    run.sequence = run.external_sequence = len(told)
    core.store.runs.insert(run, prepared.payload)
    core.store.runs.append(run.n, history.rows(told, run.created_at))
    core.make_ready("workflow", run.org_id, run.queue, run.kind)
