"""Where payloads stand in the messages of the protocol, and the one visitor that goes to all of them.

A payload is what a program gives: values, errors, progress, log lines. Everything else is the platform's to read: ids,
kinds, names, queues, times, labels. `tests/wire/test_payloads.py` holds the table against the protocol's own
description, field by field.
"""

from __future__ import annotations

import enum
import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar, get_args, get_origin, get_type_hints

import anyio
import betterproto2
import msgspec

from flovyn.errors import UsageError
from flovyn.wire.messages.flovyn import v1 as pb

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence

__all__ = [
    "EVENT_PAYLOADS",
    "EVENT_TEXTS",
    "PLACES",
    "Coder",
    "Sort",
    "decoded",
    "decoded_event",
    "decoded_members",
    "encoded",
]

M = TypeVar("M")


class Coder(Protocol):
    """What is done to payloads on their way; `flovyn.serde.codecs.CodecChain` is one."""

    def may_concern(self, data: bytes) -> bool:
        """Whether there may be something encoded in some bytes; never wrongly denied."""
        ...

    async def encode(self, data: bytes) -> bytes:
        """JSON to JSON."""
        ...

    async def decode(self, data: bytes) -> bytes:
        """The reverse."""
        ...

    async def encode_text(self, text: str) -> str:
        """Text to text."""
        ...

    async def decode_text(self, text: str) -> str:
        """The reverse."""
        ...


class Sort(enum.Enum):
    """What stands in a field."""

    JSON = "JSON, as bytes"
    JSON_TEXT = "JSON, as text"
    TEXT = "text for people, such as that of an error"
    OPERATION = "JSON, unless the operation is one of the SDK's own"
    EVENT = "an object with payloads in it"
    PIECE = "a piece of JSON that is sent in pieces"


PLACES: Final[Mapping[type[betterproto2.Message], Mapping[str, Sort]]] = {
    # --- workflows
    pb.WorkflowExecution: {"input": Sort.JSON},
    pb.StartWorkflowRequest: {"input": Sort.JSON},
    pb.StartChildWorkflowRequest: {"input": Sort.JSON},
    pb.ResolvePromiseRequest: {"value": Sort.JSON},
    pb.RejectPromiseRequest: {"error": Sort.TEXT},
    pb.SignalWithStartWorkflowRequest: {"workflow_input": Sort.JSON, "signal_value": Sort.JSON},
    pb.SignalWorkflowRequest: {"signal_value": Sort.JSON},
    pb.WorkflowEvent: {"event_data": Sort.EVENT},
    pb.QueryWorkflowRequest: {"params": Sort.JSON},
    pb.QueryWorkflowResponse: {"result": Sort.JSON, "error": Sort.TEXT},
    pb.ExecutionSpan: {"error_message": Sort.TEXT},
    # --- commands
    pb.RecordOperationCommand: {"result": Sort.OPERATION},
    pb.SetStateCommand: {"value": Sort.JSON},
    pb.ScheduleTaskCommand: {"input": Sort.JSON},
    pb.CompleteWorkflowCommand: {"output": Sort.JSON},
    pb.FailWorkflowCommand: {"error": Sort.TEXT, "stack_trace": Sort.TEXT},
    pb.CancelWorkflowCommand: {"reason": Sort.TEXT},
    pb.ResolvePromiseCommand: {"value": Sort.JSON},
    pb.ScheduleChildWorkflowCommand: {"input": Sort.JSON},
    pb.RequestCancelChildWorkflowCommand: {"reason": Sort.TEXT},
    # --- tasks
    pb.SubmitTaskRequest: {"input": Sort.JSON},
    pb.TaskExecutionInfo: {"input": Sort.JSON},
    pb.CompleteTaskRequest: {"output": Sort.JSON},
    pb.FailTaskRequest: {"error": Sort.TEXT},
    pb.ReportProgressRequest: {"details": Sort.TEXT},
    pb.LogMessageRequest: {"message": Sort.TEXT},
    pb.GetStateResponse: {"value": Sort.JSON},
    pb.SetStateRequest: {"value": Sort.JSON},
    pb.StreamTaskDataRequest: {"payload": Sort.JSON_TEXT},
    # --- agents
    pb.AgentExecutionInfo: {"input": Sort.JSON},
    pb.AgentEntry: {"content": Sort.JSON},
    pb.AppendEntryRequest: {"content": Sort.JSON},
    pb.AgentCheckpoint: {"state": Sort.JSON},
    pb.SubmitCheckpointRequest: {"state": Sort.JSON},
    pb.ScheduleAgentTaskChunk: {"input_chunk": Sort.PIECE},
    pb.CompleteAgentRequest: {"output": Sort.JSON},
    pb.FailAgentRequest: {"error": Sort.TEXT, "stack_trace": Sort.TEXT},
    pb.SignalAgentRequest: {"signal_value": Sort.JSON},
    pb.AgentSignal: {"signal_value": Sort.JSON},
    pb.GetAgentTaskResultResponse: {"output": Sort.JSON, "error": Sort.TEXT},
    pb.TaskResultEntry: {"output": Sort.JSON, "error": Sort.TEXT},
    pb.CancelAgentTaskRequest: {"reason": Sort.TEXT},
    pb.StreamAgentDataRequest: {"payload": Sort.JSON_TEXT},
    pb.SpawnChildAgentRequest: {"input": Sort.JSON, "system_prompt": Sort.TEXT},
    pb.SendParentSignalRequest: {"payload": Sort.JSON},
    pb.SendChildSignalRequest: {"payload": Sort.JSON},
    pb.ChildEventInfo: {"output": Sort.JSON, "error": Sort.TEXT, "signal_payload": Sort.JSON},
}
"""By message and field. What is not here is left alone."""

EVENT_PAYLOADS: Final = frozenset({"input", "output", "result", "value", "signalValue"})
"""The keys of `event_data` under which JSON stands that a program gave."""

EVENT_TEXTS: Final = frozenset({"error", "stackTrace", "reason"})
"""The keys of `event_data` under which text stands that a program gave."""

_OWN_OPERATIONS: Final = "$flovyn"


_FEW: Final = 16
_AT_ONCE: Final = 8
"""How many payloads of one message are decoded at once, where there are many: they may come from a store."""


async def encoded(message: M, coder: Coder) -> M:
    """A message with its payloads encoded; the one that was given stays as it is, as it may be sent again.

    Raises:
        CodecError: A codec failed.
    """
    return await _visited(message, coder, _ENCODE)


async def decoded(message: M, coder: Coder) -> M:
    """A message with its payloads decoded; the one that was given stays as it is.

    Raises:
        CodecError: A payload was encoded in a way that is not known here, or a codec failed.
    """
    return await _visited(message, coder, _DECODE)


async def decoded_event(data: bytes, coder: Coder) -> bytes:
    """The data of an event with its payloads decoded.

    Raises:
        CodecError: A payload was encoded in a way that is not known here, or a codec failed.
    """
    members = _members(data) if coder.may_concern(data) else None
    if members is None:
        return data
    for key, raw in members.items():
        if key in EVENT_PAYLOADS:
            members[key] = msgspec.Raw(await coder.decode(bytes(raw)))
        elif key in EVENT_TEXTS and isinstance(text := msgspec.json.decode(raw), str):
            members[key] = msgspec.Raw(msgspec.json.encode(await coder.decode_text(text)))
    return msgspec.json.encode(members)


async def decoded_members(data: bytes, coder: Coder) -> bytes:
    """An object of payloads, such as the whole state of a workflow, with each of them decoded.

    Raises:
        CodecError: A payload was encoded in a way that is not known here, or a codec failed.
    """
    members = _members(data) if coder.may_concern(data) else None
    if members is None:
        return data
    return msgspec.json.encode({key: msgspec.Raw(await coder.decode(bytes(raw))) for key, raw in members.items()})


_members_of: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def _members(data: bytes) -> dict[str, msgspec.Raw] | None:
    try:
        return _members_of(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None  # whoever reads it says what is wrong with it


# --- the visitor ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Plan:
    """Where a kind of message has payloads.

    Attributes:
        places: Its own fields.
        inner: Its fields with messages that have some, and whether they are repeated.
    """

    places: tuple[tuple[str, Sort], ...]
    inner: tuple[tuple[str, bool], ...]


_plans: Final[dict[type[Any], _Plan | None]] = {}


def _plan(cls: type[Any]) -> _Plan | None:
    """What there is to visit in a kind of message; None if there is nothing."""
    if cls not in _plans:
        inner = tuple((name, repeated) for name, kind, repeated in _messages_in(cls) if _plan(kind) is not None)
        places = tuple(PLACES.get(cls, {}).items())
        _plans[cls] = _Plan(places, inner) if places or inner else None
    return _plans[cls]


def _messages_in(cls: type[Any]) -> Iterator[tuple[str, type[Any], bool]]:
    for name, hint in get_type_hints(cls).items():
        for kind in (hint, *get_args(hint)):
            if isinstance(kind, type) and issubclass(kind, betterproto2.Message):
                yield name, kind, get_origin(hint) is list


async def _visited(message: M, coder: Coder, ways: _Ways) -> M:
    plan = _plan(type(message))
    if plan is None:
        return message
    changes: dict[str, object] = {}
    for name, sort in plan.places:
        value = getattr(message, name)
        if value:
            changes[name] = await ways[sort](message, value, coder)
    for name, repeated in plan.inner:
        value = getattr(message, name)
        if value is not None:
            visit = _all_visited if repeated else _visited
            changes[name] = await visit(value, coder, ways)
    return _changed(message, changes)


def _changed(message: M, changes: dict[str, object]) -> M:
    if all(getattr(message, name) is value for name, value in changes.items()):
        return message
    # Not by its constructor, which would forget the fields that this version does not know.
    copy = object.__new__(type(message))
    vars(copy).update(vars(message) | changes)
    return copy


async def _all_visited(messages: Sequence[M], coder: Coder, ways: _Ways) -> Sequence[M]:
    results = list(messages)
    if len(results) <= _FEW:
        for index, message in enumerate(messages):
            results[index] = await _visited(message, coder, ways)
        return _kept(messages, results)
    faults: list[Exception] = []
    left = iter(enumerate(messages))
    async with anyio.create_task_group() as visitors:
        for _ in range(_AT_ONCE):
            visitors.start_soon(_visit_some, left, results, coder, ways, faults)
    if faults:  # raised behind the block: what is wrong with a payload must not arrive in a group of ours
        raise faults[0]
    return _kept(messages, results)


def _kept(before: Sequence[M], after: Sequence[M]) -> Sequence[M]:
    """What it was, unless something in it has changed."""
    return before if all(map(operator.is_, before, after)) else after


async def _visit_some(
    left: Iterator[tuple[int, M]], results: list[M], coder: Coder, ways: _Ways, faults: list[Exception]
) -> None:
    for index, message in left:
        if faults:
            return
        try:
            results[index] = await _visited(message, coder, ways)
        except Exception as error:  # noqa: BLE001 - not swallowed
            faults.append(error)


# --- what is done at each sort of place -----------------------------------------------------


async def _encode_json(_: Any, value: bytes, coder: Coder) -> bytes:
    return await coder.encode(value)


async def _decode_json(_: Any, value: bytes, coder: Coder) -> bytes:
    return await coder.decode(value)


async def _encode_json_text(_: Any, value: str, coder: Coder) -> str:
    return (await coder.encode(value.encode())).decode()


async def _decode_json_text(_: Any, value: str, coder: Coder) -> str:
    return (await coder.decode(value.encode())).decode()


async def _encode_text(_: Any, value: str, coder: Coder) -> str:
    return await coder.encode_text(value)


async def _decode_text(_: Any, value: str, coder: Coder) -> str:
    return await coder.decode_text(value)


async def _encode_operation(command: pb.RecordOperationCommand, value: bytes, coder: Coder) -> bytes:
    # What the SDK records for itself has nothing of the program in it, and tools read it.
    return value if command.operation_name.startswith(_OWN_OPERATIONS) else await coder.encode(value)


async def _decode_event(_: Any, value: bytes, coder: Coder) -> bytes:
    return await decoded_event(value, coder)


async def _encode_event(*_: Any) -> bytes:
    raise UsageError("events are the server's to write: no message with one can be sent")


async def _refuse_piece(*_: Any) -> bytes:
    raise UsageError("what is sent in pieces is encoded as a whole: send it by the call that takes the pieces")


_Ways = dict[Sort, "Callable[[Any, Any, Coder], Awaitable[object]]"]
_ENCODE: Final[_Ways] = {
    Sort.JSON: _encode_json,
    Sort.JSON_TEXT: _encode_json_text,
    Sort.TEXT: _encode_text,
    Sort.OPERATION: _encode_operation,
    Sort.EVENT: _encode_event,
    Sort.PIECE: _refuse_piece,
}
_DECODE: Final[_Ways] = {
    Sort.JSON: _decode_json,
    Sort.JSON_TEXT: _decode_json_text,
    Sort.TEXT: _decode_text,
    Sort.OPERATION: _decode_json,
    Sort.EVENT: _decode_event,
    Sort.PIECE: _refuse_piece,
}
