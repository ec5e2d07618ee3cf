"""One activation of a workflow, and what becomes of it if something is wrong."""

from __future__ import annotations

import logging
import secrets
from typing import TYPE_CHECKING, Final

from flovyn.errors import (
    CodecError,
    DeterminismError,
    FailedPrecondition,
    InvalidArgument,
    MalformedMessage,
    NotFound,
    ServerError,
    TransportError,
    UsageError,
)
from flovyn.replay import Activation, Status, Submission, fail, hold
from flovyn.wire import methods
from flovyn.worker.commands import submission_request
from flovyn.worker.operations import drive

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from flovyn.replay import Execution
    from flovyn.worker.growth import LongHistories
    from flovyn.worker.options import ViolationPolicy
    from flovyn.worker.runs import Run

__all__ = ["Step"]

logger: logging.Logger = logging.getLogger("flovyn.worker")

# What the server says when the run is not this worker's any more: somebody else has it, or it has ended.
_LOST: Final = (FailedPrecondition, NotFound)

# What is wrong with what the program asks for: it is too large, cannot be written, or makes no sense to the server.
_REFUSED: Final = (UsageError, InvalidArgument)


class Step:
    """One activation, from the history to the accepted submission.

    Args:
        run: The run, as it was claimed.
        on_violation: What becomes of it if its code disagrees with its history.
        send_cancels: Cancels tasks on the server; returns those that need no further call.
        long: Told how long the history is.
        ended: Told of the end of the workflow, by its id, once it is accepted.
        private: Payloads are encoded: what nothing encodes must not tell what an error says.
    """

    def __init__(
        self,
        run: Run,
        on_violation: ViolationPolicy,
        send_cancels: Callable[[Sequence[str]], Awaitable[Sequence[str]]],
        long: LongHistories,
        *,
        ended: Callable[[str], None],
        private: bool,
    ) -> None:
        self._run = run
        self._on_violation: ViolationPolicy = on_violation
        self._cancel = send_cancels
        self._long = long
        self._ended = ended
        self._private = private
        self._salt = secrets.token_hex(4)
        self._tried: frozenset[str] = frozenset()
        self._faulted = False

    async def run(self) -> bool:
        """Run it; returns whether the program may go on from where it stands when the next activation comes.

        Raises:
            TransportError: The connection is gone; the server will hand the run out again.
            FailedPrecondition: The run is not this worker's any more.
            NotFound: The server does not know it any more.
        """
        submission = await self._submission()
        try:
            submission = await self._submitted(submission)
        except ServerError as error:  # nothing of this activation has happened
            polled = self._run.polled
            logger.warning("workflow %s %s: the server refused the submission: %s", polled.kind, polled.id, error)
            return False
        if submission.status is not Status.SUSPENDED:
            self._long.forget(self._run.polled.id)
            self._ended(self._run.polled.id)
            return False
        return await self._settled()

    # --- from the history to a submission ---------------------------------------------------

    async def _submission(self) -> Submission:
        polled = self._run.polled
        try:
            execution = await self._run.load()
            self._long.look(polled, events=execution.history.length, size=len(self._run.applied))
            activation = Activation(
                execution, at_ms=polled.workflow_task_time_millis, salt=self._salt, fenced=self._run.is_fenced
            )
            await drive(activation)
            # What was given up before stands in history already: sent now, it neither puts off an end once more, nor
            # has to be remembered. A fork that will not count can send nothing else.
            decided = execution.tasks.owed(before=execution.journal.activation)
            await self._send_cancels(execution, decided)
            self._tried = frozenset(decided)
            return activation.submission()
        except DeterminismError as error:
            return self._faulty(error, self._on_violation)
        except (TransportError, *_LOST) as error:
            if isinstance(error, MalformedMessage):
                return self._faulty(error, "hold")
            raise
        except Exception as error:  # noqa: BLE001 - there is nothing that it may not be
            # A fault of the SDK or of the server never fails a workflow: the activation is given up and tried again
            # later. Without a word the server would wait for it, since this worker lives.
            return self._faulty(error, "hold")

    def _faulty(self, error: Exception, policy: ViolationPolicy) -> Submission:
        polled, at_ms = self._run.polled, self._run.polled.workflow_task_time_millis
        self._faulted = True
        logger.error("workflow %s %s cannot go on (%s): %s", polled.kind, polled.id, policy, error, exc_info=error)
        if policy == "fail":
            return fail(error, at_ms=at_ms, salt=self._salt)
        return hold(error, at_ms=at_ms, salt=self._salt, holds=self._run.holds(), private=self._private)

    # --- from a submission to its consequences ----------------------------------------------

    async def _submitted(self, submission: Submission) -> Submission:
        """Submit it; returns what was accepted in the end.

        Commands that cannot be sent, or that the server refuses for what is in them, would be refused whenever they are
        made again: they fail the workflow, as an exception of its code does, so that whoever waits for it is told. Any
        other failure may pass, and holds it.
        """
        try:
            await self._send(submission)
        except (TransportError, *_LOST):
            raise
        except Exception as error:
            # The end of a run that is at fault has a payload, too; a hold has none.
            if self._faulted and not isinstance(error, CodecError):
                raise
            submission = self._unsent(error)
        else:
            return submission
        await self._send(submission)
        return submission

    def _unsent(self, error: Exception) -> Submission:
        # A codec that fails here and now may work elsewhere, or later.
        if isinstance(error, CodecError) or not isinstance(error, _REFUSED):
            return self._faulty(error, "hold")
        polled = self._run.polled
        self._faulted = True
        logger.error("workflow %s %s asks for what cannot be had: %s", polled.kind, polled.id, error)
        return fail(error, at_ms=polled.workflow_task_time_millis, salt=self._salt, failure_type="ERROR")

    async def _send(self, submission: Submission) -> None:
        execution = self._run.execution
        after = 0 if execution is None else execution.history.length
        request = submission_request(self._run.polled.id, submission, after=after)
        await self._run.call(methods.SUBMIT_WORKFLOW_COMMANDS, request)

    async def _settled(self) -> bool:
        execution = self._run.execution
        if execution is None or self._faulted:
            return False
        owed = [task_id for task_id in execution.tasks.owed() if task_id not in self._tried]
        if owed:
            if not await self._run.counts(execution):
                return False
            await self._send_cancels(execution, owed)
        return True

    async def _send_cancels(self, execution: Execution, task_ids: Sequence[str]) -> None:
        if task_ids:
            for task_id in await self._cancel(task_ids):
                execution.tasks.answered[task_id] = None
