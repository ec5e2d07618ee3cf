"""A handle on one execution of a workflow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

from flovyn.client.ending import conclude
from flovyn.client.history import HistoryEvent, read_history_event

if TYPE_CHECKING:
    from collections.abc import Callable

    from flovyn.client.watch import Watch

__all__ = ["WorkflowHandle"]

R = TypeVar("R")


class WorkflowHandle(Generic[R]):
    """One execution of a workflow, as its client sees it.

    `Client.start` and `Client.handle` make these. A handle holds no connection and no state of the execution: it may
    be kept, made again from the id, and used from several tasks.
    """

    __slots__ = ("_decode", "_id", "_kind", "_watch")

    def __init__(self, watch: Watch, workflow_id: str, *, kind: str, decode: Callable[[bytes], R]) -> None:
        self._watch = watch
        self._id = workflow_id
        self._kind = kind
        self._decode = decode

    def __repr__(self) -> str:
        return f"<WorkflowHandle {self._kind} {self._id}>"

    @property
    def id(self) -> str:
        """The id of the execution, a UUID as text."""
        return self._id

    @property
    def kind(self) -> str:
        """The kind of the workflow."""
        return self._kind

    async def result(self) -> R:
        """Wait for the workflow to end.

        Waiting only reads: a scope that is cancelled around it leaves the workflow running, and a server that goes
        away meanwhile is waited for. Limit the wait with `anyio.fail_after` or `anyio.move_on_after`.

        Returns:
            What the workflow returned.

        Raises:
            WorkflowFailed: It ended with an error.
            WorkflowCancelled: It was cancelled.
            PayloadError: What it returned does not fit its declared type.
            CodecError: What it returned cannot be decoded with the codecs of this client.
            NotFound: The server knows no such execution.
            Unauthenticated: The server does not accept the token.
        """
        return conclude(await self._watch.ending(self._id), workflow_id=self._id, kind=self._kind, decode=self._decode)

    async def history(self) -> list[HistoryEvent]:
        """Read everything that has happened to the workflow so far.

        Raises:
            CodecError: Something in it cannot be decoded with the codecs of this client.
            NotFound: The server knows no such execution.
            ServerUnavailable: The server cannot be reached.
        """
        return [read_history_event(event) for event in await self._watch.events(self._id)]
