"""One registration with the server, and everything that lives by it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final, NoReturn

import anyio

from flovyn.errors import ConnectionLost, FailedPrecondition, FlovynError, Unimplemented
from flovyn.wire import methods
from flovyn.wire.messages.flovyn import v1 as pb
from flovyn.wire.transport import Connected
from flovyn.worker.groups import leaves
from flovyn.worker.patience import ANSWER_WITHIN, NoAnswer, answered
from flovyn.worker.reconnect import Outage, next_wait
from flovyn.worker.verdicts import ends_worker, refuses_worker

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from anyio.abc import TaskGroup

    from flovyn.wire.transport import Transport
    from flovyn.worker.contact import Contact
    from flovyn.worker.options import WorkerOptions
    from flovyn.worker.polling import Poller
    from flovyn.worker.statistics import Gauges

__all__ = ["Sessions"]

logger: logging.Logger = logging.getLogger("flovyn.worker")

# A session that held for so long ends a row of failures; one that breaks at once does not.
_STEADY: Final = 5.0


class _Gone(ConnectionLost):
    """The connection of a session is gone, whether or not a call was under way."""


class Sessions:
    """One session after the other, for as long as the worker is to work.

    A session is a connection with a registration, its heartbeat and its pollers. If any part of it fails un-asked, all
    of it ends, and after a pause there is a new one. The work that was claimed goes on meanwhile, in `work`.
    """

    def __init__(
        self,
        transport: Transport,
        registration: pb.WorkerRegistrationRequest,
        pollers: Sequence[Poller[Any]],
        *,
        work: TaskGroup,
        options: WorkerOptions,
        contact: Contact,
        gauges: Gauges,
        ready: Callable[[], None],
    ) -> None:
        self._transport = transport
        self._registration = registration
        self._pollers = pollers
        self._work = work
        self._options = options
        self._contact = contact
        self._gauges = gauges
        self._ready = ready
        self._answer_within = min(ANSWER_WITHIN, options.lease)
        self._failures = 0

    async def run(self) -> NoReturn:
        """Keep a session up until cancelled.

        Raises:
            ServerError: The server refuses the worker, and always will.
            UsageError: The transport cannot be used, for instance because its block has been left.
            Exception: The way in which the last session failed, if the strategy gives up.
        """
        strategy = self._options.reconnect
        while True:
            error = await self._session()
            if isinstance(error, NoAnswer) and isinstance(self._transport, Connected):
                # It lives as far as anybody can tell, and is of no use: what goes on waiting there waits in vain.
                self._transport.hang_up(str(error))
            self._failures += 1
            wait = next_wait(strategy, Outage(self._failures, error, self._contact.silence()))
            logger.warning("worker %s: %s; trying again in %.2f s", self._registration.worker_name, error, wait)
            await anyio.sleep(wait)

    async def _session(self) -> Exception:
        """Run one session to its end, which is always a failure, and return what it was."""
        try:
            server_id = await self._register()
        except Exception as error:
            if refuses_worker(error):
                raise
            return _noted(error)
        began = anyio.current_time()
        failures: list[Exception] = []
        try:
            async with anyio.create_task_group() as parts:
                for poller in self._pollers:
                    await parts.start(poller.poll, self._work)
                parts.start_soon(self._watch_connection)
                if server_id:
                    parts.start_soon(self._heartbeat, server_id)
                self._ready()
                await anyio.sleep_forever()  # pollers that were stopped end; the session goes on for what still runs
        except* Exception as group:  # noqa: BLE001 - whatever it was, the next session may do better
            failures.extend(leaf for leaf in leaves(group) if isinstance(leaf, Exception))
        if anyio.current_time() - began >= _STEADY:
            self._failures = 0
        for failure in failures:
            if ends_worker(failure):
                raise failure
        # That the connection is gone says less than the call that failed with it.
        return _noted(min(failures, key=lambda failure: isinstance(failure, _Gone)))

    async def _register(self) -> str:
        """Introduce the worker. Returns the id that the server gave it."""
        call = self._transport.unary(methods.REGISTER_WORKER, self._registration)
        reply = (await answered(call, "the registration", self._answer_within)).message
        self._contact.heard()
        if reply.success:
            return reply.worker_id
        conflicts = [f"{conflict.kind}: {conflict.reason}" for conflict in reply.workflow_conflicts]
        conflicts += [f"{conflict.kind}: {conflict.reason}" for conflict in reply.task_conflicts]
        reasons = "; ".join([reply.error or "no reason given", *conflicts])
        raise FailedPrecondition(f"the server refuses worker {self._registration.worker_name!r}: {reasons}")

    async def _heartbeat(self, server_id: str) -> None:
        request = pb.WorkerHeartbeatRequest(worker_id=server_id)
        with self._gauges.count("internal_tasks"):
            while True:
                await anyio.sleep(self._options.heartbeat_interval)
                call = self._transport.unary(methods.SEND_HEARTBEAT, request)
                try:
                    # A server that does not know us any more refuses this, and the next session registers anew.
                    await answered(call, "a heartbeat", self._answer_within)
                except Unimplemented:
                    logger.info("worker %s: the server takes no heartbeats", self._registration.worker_name)
                    return
                self._contact.heard()

    async def _watch_connection(self) -> None:
        """Notice that the connection is gone also while no call is under way, since the claims hang on it."""
        if isinstance(self._transport, Connected):
            with self._gauges.count("internal_tasks"):
                await self._transport.lost()
            raise _Gone("the connection to the server is gone")


def _noted(error: Exception) -> Exception:
    if not isinstance(error, FlovynError):
        logger.error("a session was ended by a bug of this SDK; the worker goes on", exc_info=error)
    return error
