"""Telling the server how a task ended, whatever the connection does meanwhile."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Any, Final

import anyio

from flovyn.client import Backoff
from flovyn.errors import (
    AlreadyExists,
    CodecError,
    ConnectionLost,
    FailedPrecondition,
    FlovynError,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ServerError,
    ServerUnavailable,
    TransportError,
    Unauthenticated,
    Unimplemented,
)
from flovyn.serde.envelope import format_error
from flovyn.wire import methods
from flovyn.wire.messages.flovyn import v1 as pb

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flovyn.wire.transport import Method, Transport

__all__ = ["Reporter"]

logger: logging.Logger = logging.getLogger("flovyn.worker")

_OUTAGE: Final = Backoff()

# A refusal that is nobody's known fault (INTERNAL, UNKNOWN, DEADLINE_EXCEEDED) may pass; more often it does not.
_TRIES_AFTER_REFUSAL: Final = 5

# What is said of a task if nothing can be: codecs that fail must not leave it in the hands of this worker.
_UNSPEAKABLE: Final = "CodecError: the codecs of the worker failed, so that it cannot say how the task ended"

# Refusals that name a fault of the report, which the next one would have too.
_FINAL: Final = (AlreadyExists, InvalidArgument, Unimplemented)


class Reporter:
    """Sends CompleteTask and FailTask, again and again over reconnects, as long as the task can still be ours.

    A report is shielded: a body that has done its work has done it, even if the worker is stopped meanwhile. The shield
    is bounded by the lease, and by `hurry` once the worker stops.

    Args:
        transport: Carries the calls; payloads go through the worker's codecs.
        bare: The same without the codecs, for what is no payload.
        lease: For how long a report can matter, in seconds.
    """

    __slots__ = ("_bare", "_lease", "_limit", "_scopes", "_transport")

    def __init__(self, transport: Transport, *, bare: Transport, lease: float) -> None:
        self._transport = transport
        self._bare = bare
        self._lease = lease
        self._limit = math.inf  # seconds that a report may still take; finite once the worker stops
        self._scopes: dict[anyio.CancelScope, None] = {}

    def hurry(self, seconds: float) -> None:
        """Give the reports under way, and those still to come, at most so much time."""
        self._limit = seconds
        for scope in self._scopes:
            scope.deadline = min(scope.deadline, anyio.current_time() + seconds)

    async def complete(self, task_id: str, output: bytes, claim: Mapping[str, str]) -> bool:
        """Report a task's value. One that the server does not take is reported as the failure that it then is.

        Returns:
            Whether the server knows how the task ended.
        """
        request = pb.CompleteTaskRequest(task_execution_id=task_id, output=output)
        # Completing twice is harmless on any server (a task that has ended changes no more), so it is always repeated.
        outcome = await self._report(self._transport, methods.COMPLETE_TASK, request, task_id, claim, repeatable=True)
        if isinstance(outcome, FlovynError):
            # A codec that fails here and now may work in the next attempt.
            retryable = isinstance(outcome, CodecError)
            return await self.fail(task_id, format_error(outcome, retryable=retryable), claim)
        return outcome

    async def fail(self, task_id: str, text: str, claim: Mapping[str, str]) -> bool:
        """Report a task's failure.

        Returns:
            Whether the server knows how the task ended.
        """
        request = pb.FailTaskRequest(task_execution_id=task_id, error=text)
        # Without a claim, a failure that is told twice could hit the next attempt, in another worker.
        repeatable = bool(claim)
        outcome = await self._report(self._transport, methods.FAIL_TASK, request, task_id, claim, repeatable=repeatable)
        if isinstance(outcome, CodecError):
            logger.error("how task %s ended cannot be told: %s; it was: %s", task_id, outcome, text)
            request = pb.FailTaskRequest(task_execution_id=task_id, error=_UNSPEAKABLE)
            outcome = await self._report(self._bare, methods.FAIL_TASK, request, task_id, claim, repeatable=repeatable)
        if isinstance(outcome, FlovynError):
            logger.error("the failure of task %s could not be reported: %s", task_id, outcome)
            return False
        return outcome

    async def _report(
        self,
        transport: Transport,
        method: Method[Any, Any],
        request: object,
        task_id: str,
        claim: Mapping[str, str],
        *,
        repeatable: bool,
    ) -> FlovynError | bool:
        """Send until it is settled. Returns whether it was taken, or a refusal that concerns the report itself."""
        limit = anyio.current_time() + min(self._lease, self._limit)
        with anyio.CancelScope(deadline=limit, shield=True) as scope:
            self._scopes[scope] = None
            try:
                return await self._send(transport, method, request, task_id, claim, repeatable=repeatable)
            finally:
                del self._scopes[scope]
        logger.error("gave up reporting the end of task %s: the server will hand it out again", task_id)
        return False

    async def _send(
        self,
        transport: Transport,
        method: Method[Any, Any],
        request: object,
        task_id: str,
        claim: Mapping[str, str],
        *,
        repeatable: bool,
    ) -> FlovynError | bool:
        failures = refusals = 0
        perhaps = False  # an earlier call may have been heard
        while True:
            try:
                await transport.unary(method, request, metadata=claim)
            except (FailedPrecondition, NotFound) as refusal:
                if perhaps and isinstance(refusal, FailedPrecondition):
                    return True
                logger.info("task %s ended too late, its outcome is dropped: %s", task_id, refusal)
                return False
            except (Unauthenticated, PermissionDenied) as refusal:
                logger.error("the end of task %s could not be reported: %s", task_id, refusal)
                return False
            except (TransportError, ServerError, CodecError) as error:
                if isinstance(error, _FINAL):
                    return error
                if not repeatable and not isinstance(error, ServerUnavailable | CodecError):
                    logger.warning("the end of task %s may or may not have reached the server: %s", task_id, error)
                    return False
                perhaps = perhaps or isinstance(error, ConnectionLost)
                refusals += not isinstance(error, ServerUnavailable | ConnectionLost)
                if refusals == _TRIES_AFTER_REFUSAL:
                    return error
            except FlovynError as error:  # too large, or a transport that is closed: no repetition can help
                return error
            else:
                return True
            await anyio.sleep(_OUTAGE.delay(failures))
            failures += 1
