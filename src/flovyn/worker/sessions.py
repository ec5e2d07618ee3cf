"""One registration with the server, and everything that lives by it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final, NoReturn

import anyio

from flovyn.errors import (
    FailedPrecondition,
    FlovynError,
    InvalidArgument,
    PermissionDenied,
    Unauthenticated,
    Unimplemented,
    UsageError,
)
from flovyn.wire import methods
from flovyn.wire.messages.flovyn import v1 as pb
from flovyn.worker.groups import leaves

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

# What a server says to a worker that it will never accept, and what this side says of a call that it cannot make.
_HOPELESS: Final = (FailedPrecondition, InvalidArgument, PermissionDenied, Unauthenticated, Unimplemented, UsageError)


class Sessions:
    """One session after the other, for as long as the worker is to work.

    A session is a registration, its heartbeat and its pollers. If any part of it fails un-asked, all of it ends, and
    after a pause there is a new one. The work that was claimed goes on meanwhile, in `work`.
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

    async def run(self) -> NoReturn:
        """Keep a session up until cancelled.

        Raises:
            ServerError: The server does not accept the registration, and never will.
            UsageError: The transport cannot be used, for instance because its block has been left.
        """
        failures = 0
        while True:
            began = anyio.current_time()
            error = await self._session()
            if anyio.current_time() - began >= self._options.reconnect.maximum:
                failures = 0
            delay = self._options.reconnect.delay(failures)
            failures += 1
            logger.warning("worker %s: %s; trying again in %.2f s", self._registration.worker_name, error, delay)
            await anyio.sleep(delay)

    async def _session(self) -> BaseException:
        """Run one session to its end, which is always a failure, and return what it was."""
        try:
            server_id = await self._register()
        except _HOPELESS:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it was, the next session may do better
            return _noted(error)
        failures: list[BaseException] = []
        try:
            async with anyio.create_task_group() as parts:
                for poller in self._pollers:
                    await parts.start(poller.poll, self._work)
                if server_id:
                    parts.start_soon(self._heartbeat, server_id)
                self._ready()
                await anyio.sleep_forever()  # pollers that were stopped end; the session goes on for what still runs
        except* Exception as group:  # noqa: BLE001 - likewise
            failures.extend(leaves(group))
        for failure in failures:
            if isinstance(failure, UsageError):
                raise failure
        return _noted(failures[0])

    async def _register(self) -> str:
        """Introduce the worker. Returns the id that the server gave it."""
        reply = (await self._transport.unary(methods.REGISTER_WORKER, self._registration)).message
        self._contact.heard()
        if reply.success:
            return reply.worker_id
        conflicts = [f"{conflict.kind}: {conflict.reason}" for conflict in reply.workflow_conflicts]
        conflicts += [f"{conflict.kind}: {conflict.reason}" for conflict in reply.task_conflicts]
        reasons = "; ".join([reply.error or "no reason given", *conflicts])
        raise FailedPrecondition(f"the server refuses worker {self._registration.worker_name!r}: {reasons}")

    async def _heartbeat(self, server_id: str) -> NoReturn:
        request = pb.WorkerHeartbeatRequest(worker_id=server_id)
        with self._gauges.count("internal_tasks"):
            while True:
                await anyio.sleep(self._options.heartbeat_interval)
                # A server that does not know us any more refuses this, and the next session registers anew.
                await self._transport.unary(methods.SEND_HEARTBEAT, request)
                self._contact.heard()


def _noted(error: BaseException) -> BaseException:
    if not isinstance(error, FlovynError):
        logger.error("a session was ended by a bug of this SDK; the worker goes on", exc_info=error)
    return error
