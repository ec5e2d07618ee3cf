"""The desk of a running task: what its body says goes to the server."""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING, Final, TypeVar

import anyio
import anyio.lowlevel

from flovyn.errors import ConnectionLost, ServerUnavailable
from flovyn.task.entries import HEARTBEAT_KEY
from flovyn.task.outbox import Message
from flovyn.wire import methods
from flovyn.wire.messages.flovyn import v1 as pb

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from flovyn.task.desk import LogLevel, StreamKind
    from flovyn.task.pump import Pump
    from flovyn.wire.transport import Method, Transport

__all__ = ["WireDesk"]

_KINDS: Final[Mapping[StreamKind, pb.StreamEventType]] = {
    "token": pb.StreamEventType.TOKEN,
    "progress": pb.StreamEventType.PROGRESS,
    "data": pb.StreamEventType.DATA,
    "error": pb.StreamEventType.ERROR,
}

Q = TypeVar("Q")
R = TypeVar("R")


class WireDesk:
    """One attempt's desk. What it tells goes through the task's pump; what it asks is asked at once.

    Args:
        transport: Carries the calls.
        task_id: The task.
        workflow_id: The workflow that it belongs to; empty if it stands alone.
        claim: The metadata to send with every call.
        pump: The task's pump, which is made when it is first asked for.
        notes: What this claim's heartbeats have said, which may still be on its way.
        beat: Told of each heartbeat.
        pause: Seconds to wait after so many failures in a row, counted from 0.
    """

    def __init__(
        self,
        transport: Transport,
        task_id: str,
        workflow_id: str,
        claim: Mapping[str, str],
        *,
        pump: Callable[[], Pump],
        notes: dict[str, bytes],
        beat: Callable[[], None],
        pause: Callable[[int], float],
    ) -> None:
        self._transport = transport
        self._task_id = task_id
        self._workflow_id = workflow_id
        self._claim = claim
        self._pump = pump
        self._notes = notes
        self._beat = beat
        self._pause = pause
        self._numbers = itertools.count()
        self._in_order: anyio.Lock | None = None

    # --- told -------------------------------------------------------------------------------

    def progress(self, fraction: float, details: str) -> None:
        request = pb.ReportProgressRequest(task_execution_id=self._task_id, progress=fraction, details=details)
        self._pump().outbox.put(Message(methods.REPORT_PROGRESS, request, latest="progress"))

    def log(self, level: LogLevel, message: str) -> None:
        request = pb.LogMessageRequest(task_execution_id=self._task_id, level=level, message=message)
        self._pump().outbox.put(Message(methods.LOG_MESSAGE, request))

    def heartbeat(self, details: bytes | None) -> None:
        self._beat()
        if details is not None:
            self._notes[HEARTBEAT_KEY] = details
            request = pb.SetStateRequest(task_execution_id=self._task_id, key=HEARTBEAT_KEY, value=details)
            self._pump().outbox.put(Message(methods.SET_STATE, request, latest="heartbeat"))

    async def stream(self, kind: StreamKind, payload: str) -> None:
        # Whoever waits for room keeps those behind waiting, so that the numbers come in order.
        if self._in_order is None:
            self._in_order = anyio.Lock(fast_acquire=True)
        async with self._in_order:
            request = pb.StreamTaskDataRequest(
                task_execution_id=self._task_id,
                workflow_execution_id=self._workflow_id,
                sequence=next(self._numbers),
                type=_KINDS[kind],
                payload=payload,
                timestamp_ms=time.time_ns() // 1_000_000,
            )
            await self._pump().outbox.put_event(Message(methods.STREAM_TASK_DATA, request))

    # --- asked ------------------------------------------------------------------------------

    async def last_heartbeat(self) -> bytes | None:
        said = self._notes.get(HEARTBEAT_KEY)
        if said is not None:
            await anyio.lowlevel.checkpoint()
            return said
        return await self.get(HEARTBEAT_KEY)

    async def get(self, key: str) -> bytes | None:
        reply = await self._call(methods.GET_STATE, pb.GetStateRequest(task_execution_id=self._task_id, key=key))
        return reply.value if reply.found else None

    async def set(self, key: str, value: bytes) -> None:
        await self._call(methods.SET_STATE, pb.SetStateRequest(task_execution_id=self._task_id, key=key, value=value))

    async def clear(self, key: str) -> None:
        await self._call(methods.CLEAR_STATE, pb.ClearStateRequest(task_execution_id=self._task_id, key=key))

    async def clear_all(self) -> None:
        self._notes.clear()
        await self._call(methods.CLEAR_ALL_STATE, pb.ClearAllStateRequest(task_execution_id=self._task_id))

    async def keys(self) -> list[str]:
        request = pb.GetStateKeysRequest(task_execution_id=self._task_id)
        return list((await self._call(methods.GET_STATE_KEYS, request)).keys)

    async def _call(self, method: Method[Q, R], request: Q) -> R:
        """Call until there is an answer: every one of these may be made twice. The task's own scope is the bound."""
        failures = 0
        while True:
            try:
                return (await self._transport.unary(method, request, metadata=self._claim)).message
            except (ServerUnavailable, ConnectionLost):
                await anyio.sleep(self._pause(failures))
                failures += 1
