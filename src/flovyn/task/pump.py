"""Sends what a task says: one pump for each task, which begins with the first thing that is said."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, NoReturn

import anyio

from flovyn.errors import FlovynError, ServerUnavailable, TransportError, Unimplemented
from flovyn.task.outbox import Message, Outbox
from flovyn.wire import methods

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from flovyn.wire.transport import Method, Transport

__all__ = ["Pump"]

logger: logging.Logger = logging.getLogger("flovyn.worker")


class Pump:
    """Makes the calls of one outbox, one at a time.

    An event or a log line is sent at most once: it is sent again only if the call certainly had no effect. Nothing that
    goes wrong here reaches the task.

    Args:
        transport: Carries the calls.
        task_id: Whose pump it is.
        claim: The metadata to send with every call.
        start: Has a coroutine function run beside the task.
        pause: Seconds to wait after so many failures in a row, counted from 0.
    """

    def __init__(
        self,
        transport: Transport,
        task_id: str,
        claim: Mapping[str, str],
        *,
        start: Callable[[Callable[[], Any]], None],
        pause: Callable[[int], float],
    ) -> None:
        self._transport = transport
        self._task_id = task_id
        self._claim = claim
        self._start = start
        self._pause = pause
        self._running = False
        self._busy = False
        self._work = anyio.Event()
        self._idle = anyio.Event()
        self._unknown: dict[Method[Any, Any], None] = {}  # the server does not have these calls
        self.outbox: Outbox = Outbox(self._wake)

    async def drain(self, seconds: float) -> None:
        """Wait until everything is sent, for a bounded time; what is left then is dropped."""
        with anyio.move_on_after(seconds):
            await self._emptied()
        self.close()

    async def _emptied(self) -> None:
        while self._busy or len(self.outbox):
            await self._idle.wait()

    def close(self) -> None:
        """Drop what is left, and whatever is still to come."""
        if self.outbox.closed:
            return
        self.outbox.close()
        if self.outbox.dropped:
            logger.warning(
                "task %s: %d log lines and stream events were not sent: the server was too slow, or away",
                self._task_id,
                self.outbox.dropped,
            )

    def _wake(self) -> None:
        self._work.set()
        if not self._running:
            self._running = True
            self._start(self._run)

    async def _run(self) -> NoReturn:
        failures = 0
        while True:
            message = self.outbox.take()
            if message is None:
                self._idle.set()
                self._idle = anyio.Event()
                self._work = anyio.Event()
                await self._work.wait()
                continue
            self._busy = True
            try:
                sent = await self._sent(message)
            finally:
                self._busy = False
            failures = 0 if sent else failures + 1
            if not sent:
                await anyio.sleep(self._pause(failures - 1))

    async def _sent(self, message: Message) -> bool:
        """Make a call; returns whether the next one may follow at once."""
        if message.method in self._unknown:
            return True
        try:
            await self._transport.unary(message.method, message.request, metadata=self._claim)
        except Unimplemented:
            self._unknown[message.method] = None
            logger.info("task %s: the server has no %s; it is not called again", self._task_id, message.method.path)
        except TransportError as error:
            if isinstance(error, ServerUnavailable) or message.latest is not None:
                self.outbox.restore(message, event=message.method is methods.STREAM_TASK_DATA)
            else:
                self.outbox.dropped += 1
            return False
        except FlovynError as error:
            logger.info("task %s: %s was refused: %s", self._task_id, message.method.path, error)
        return True
