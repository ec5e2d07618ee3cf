"""Histories to replay: from a file, from JSON, or from a server."""

from __future__ import annotations

import dataclasses
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from flovyn.errors import CodecError, MalformedHistory
from flovyn.serde.codecs import CodecChain
from flovyn.testing.replayer.reading import Document, RecordedEvent, compact, read_document
from flovyn.wire import methods
from flovyn.wire.messages.flovyn import v1 as pb
from flovyn.wire.payloads import EVENT_PAYLOADS, EVENT_TEXTS, decoded_event

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable

    from flovyn.client import Client
    from flovyn.serde.codecs import PayloadCodec

__all__ = ["History"]


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What has happened to one execution of a workflow.

    Attributes:
        workflow_id: The id of the execution, a UUID. Random values of a workflow are derived from it.
        kind: The kind of the workflow.
        events: Everything that happened, in order, from 1 without holes.
        org_id: The organisation that it belongs to; empty if nobody said.
        queue: The queue that it was started on.
        input: Its input, as JSON.
        source: The file that it was read from, or whatever else it is known by; not part of what is compared.

    Example:
        >>> from flovyn.testing import History
        >>> history = History.from_json('''{
        ...     "id": "550e8400-e29b-41d4-a716-446655440000",
        ...     "events": [
        ...         {"sequenceNumber": 1, "eventType": "WORKFLOW_STARTED", "data": {"kind": "order", "input": 7}}
        ...     ]
        ... }''')
        >>> history.kind, history.input
        ('order', b'7')
        >>> History.from_json(history.to_json()) == history
        True
    """

    workflow_id: str
    kind: str
    events: tuple[RecordedEvent, ...]
    org_id: str = ""
    queue: str = "default"
    input: bytes = b"null"
    source: str | None = field(default=None, compare=False)

    @classmethod
    def from_json(cls, data: str | bytes, *, workflow_id: str | None = None, source: str | None = None) -> History:
        """Read an exported history.

        The document is an object with the array `events`, as GetEvents gives it, or that array alone, as the REST API
        does. An event has `sequenceNumber`, `eventType` and `data` (or `eventData`): an object, JSON in a string, or
        base64. Beside `events` may stand `id`, `kind`, `orgId`, `queue` and `input`; kind and input are otherwise those
        of the first event. Keys may be in snake_case.

        Args:
            data: The document.
            workflow_id: The id of the execution, where the document does not say it.
            source: What errors and reports call the document.

        Raises:
            MalformedHistory: It cannot be read, or does not say which workflow and which execution this is.
        """
        return _make(read_document(data, source), workflow_id=workflow_id, source=source)

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> History:
        """Read a file; one that does not say the id of its execution may have it as its name.

        Raises:
            MalformedHistory: The file cannot be read, or holds no history (see `from_json`).
        """
        path = Path(path)
        source = str(path)
        try:
            data = path.read_bytes()
        except OSError as error:
            raise MalformedHistory(f"the file cannot be read: {error.strerror or error}", source=source) from error
        return cls.from_json(data, workflow_id=path.stem if _is_uuid(path.stem) else None, source=source)

    @classmethod
    async def fetch(cls, client: Client, workflow_id: str) -> History:
        """Read the history of an execution from a server, as far as it has come; the client's codecs decode it.

        Raises:
            CodecError: A payload of it cannot be decoded with the codecs of this client.
            NotFound: The server knows no such execution.
            ServerUnavailable: The server cannot be reached.
            MalformedHistory: What it has is not a history that can be replayed.
        """
        request = pb.GetEventsRequest(workflow_execution_id=workflow_id)
        reply = await client.transport.unary(methods.GET_EVENTS, request)
        events = [
            {
                "sequenceNumber": event.sequence_number,
                "eventType": event.event_type,
                "data": event.event_data.decode(errors="replace"),
            }
            for event in reply.message.events
        ]
        document = {"id": workflow_id, "orgId": client.org_id, "events": events}
        return cls.from_json(msgspec.json.encode(document), source=workflow_id)

    async def decoded(self, codecs: Iterable[PayloadCodec]) -> History:
        """This history with its payloads decoded, as it has to be to be replayed: an export has them as they were sent.

        Args:
            codecs: Those that the workers used, in any order.

        Raises:
            CodecError: A payload was encoded by a codec that is not among them, or cannot be decoded.

        Example:
            ```python
            history = await History.read("tests/histories/order.json").decoded([ZlibCodec(), encryption])
            Replayer([place_order]).replay(history).raise_for_status()
            ```
        """
        chain = CodecChain(codecs)
        events = [
            dataclasses.replace(event, data=await decoded_event(event.data, chain)) if event.data else event
            for event in self.events
        ]
        return dataclasses.replace(self, events=tuple(events), input=await chain.decode(self.input))

    def refuse_encoded(self) -> None:
        """Raise if there is something in it that codecs have encoded and nothing has decoded.

        Raises:
            CodecError: There is.
        """
        if CodecChain.is_encoded(self.input) or any(map(_is_encoded, self.events)):
            raise CodecError(
                f"the history of {self.workflow_id} has payloads that are encoded: decode it with "
                "`await history.decoded(codecs)` before it is replayed"
            )

    def to_json(self) -> str:
        """This history as a document that `read` and `from_json` read, fit to be kept beside the tests."""
        document = {
            "id": self.workflow_id,
            "kind": self.kind,
            "orgId": self.org_id,
            "queue": self.queue,
            "input": msgspec.Raw(self.input),
            "events": [
                {
                    "sequenceNumber": event.sequence,
                    "eventType": event.type,
                    "data": msgspec.Raw(event.data) if event.data else None,
                }
                for event in self.events
            ],
        }
        return msgspec.json.format(msgspec.json.encode(document), indent=2).decode() + "\n"


def _is_encoded(event: RecordedEvent) -> bool:
    if not CodecChain().may_concern(event.data):
        return False
    members = msgspec.json.decode(event.data, type=dict[str, msgspec.Raw])
    if any(CodecChain.is_encoded(bytes(members[key])) for key in EVENT_PAYLOADS & members.keys()):
        return True
    texts = [msgspec.json.decode(members[key]) for key in EVENT_TEXTS & members.keys()]
    return any(isinstance(text, str) and CodecChain.is_encoded(text) for text in texts)


def _make(document: Document, *, workflow_id: str | None, source: str | None) -> History:
    identity = document.workflow_id or workflow_id
    if identity is None:
        raise MalformedHistory(
            'it does not say which execution this is, and random values depend on that: put its "id" beside the '
            '"events", or name the file after it',
            source=source,
        )
    if not _is_uuid(identity):
        raise MalformedHistory(f"the id of an execution is a UUID, not {identity!r}", source=source, place="id")
    if not document.kind:
        raise MalformedHistory(
            'it does not say which workflow this is: put its "kind" beside the "events"', source=source
        )
    return History(
        workflow_id=str(uuid.UUID(identity)),
        kind=document.kind,
        events=document.events,
        org_id=document.org_id or "",
        queue=document.queue or "default",
        input=compact(document.input or b"null"),
        source=source,
    )


def _is_uuid(text: str) -> bool:
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True
