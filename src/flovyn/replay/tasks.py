"""The tasks of a run: scheduled once, and cancelled by the worker where the program has given them up (rule 8)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flovyn.replay.commands import ScheduleTask
from flovyn.replay.recordings import Kind

if TYPE_CHECKING:
    from flovyn.replay.access import Access
    from flovyn.replay.events import Event
    from flovyn.replay.history import History
    from flovyn.replay.identifiers import Identifiers
    from flovyn.replay.journal import Journal
    from flovyn.replay.settlements import Settlements

__all__ = ["Tasks"]


class Tasks:
    """What the program can do with tasks.

    Attributes:
        answered: The tasks for which the server has answered a CancelTask, in whatever way.
    """

    __slots__ = ("_access", "_history", "_identifiers", "_journal", "_settlements", "_unwanted", "answered")

    def __init__(
        self, journal: Journal, identifiers: Identifiers, settlements: Settlements, history: History, access: Access
    ) -> None:
        self._journal = journal
        self._identifiers = identifiers
        self._settlements = settlements
        self._history = history
        self._access = access
        self._unwanted: dict[str, int] = {}  # with the activation that decided it
        self.answered: dict[str, None] = {}

    def schedule(
        self,
        kind: str,
        data: bytes,
        *,
        queue: str | None = None,
        timeout_ms: int | None = None,
        priority_seconds: int | None = None,
        idempotency_key: str | None = None,
        idempotency_key_ttl_seconds: int | None = None,
        max_retries: int | None = None,
    ) -> str:
        """Create a task, or find the one that history has; returns its id, which is its key of the settlements.

        Args:
            kind: What it runs.
            data: Its input, as JSON.
            queue: Where, instead of the workflow's own queue.
            timeout_ms: From its creation to its end, on the server.
            priority_seconds: How much it is favoured.
            idempotency_key: Unique in the org.
            idempotency_key_ttl_seconds: For how long the key counts.
            max_retries: How many attempts the server grants after the first; its own default if None.

        Raises:
            DeterminismViolation: History has another kind here.
            UsageError: The run is read-only.
        """
        if self._access.denied("schedule a task"):
            return ""
        recorded = self._journal.call(Kind.TASK, kind)
        if recorded is not None:
            self._identifiers.skip()
            self._journal.compare(Kind.TASK, "Task type", recorded.data.kind or "", kind)
            self._settlements.begin(recorded.data.task)
            return recorded.data.task
        identity = self._identifiers.salted(self._journal.salt)
        self._settlements.begin(identity)
        self._journal.commands.append(
            ScheduleTask(
                identity,
                kind,
                data,
                queue,
                timeout_ms,
                priority_seconds,
                idempotency_key,
                idempotency_key_ttl_seconds,
                max_retries,
            )
        )
        return identity

    def give_up(self, task_id: str) -> None:
        """The program does not want a task any more: a CancelTask is owed, unless the task has ended.

        Raises:
            UsageError: The run is read-only.
        """
        if not self._access.denied("cancel a task") and self._settlements.is_open(task_id):
            self._unwanted.setdefault(task_id, self._journal.activation)

    def owed(self, *, before: int | None = None) -> list[str]:
        """Ids of the tasks that a CancelTask is owed for.

        They are those that the program has given up, and those that ran away with a submission that does not count.

        Args:
            before: Only what was decided before the activation of this number, and so stands in history.
        """
        ended, answered = self._history.ended_tasks, self.answered
        unwanted = [task for task, decided in self._unwanted.items() if before is None or decided < before]
        return [task for task in [*unwanted, *self._history.stray_tasks] if task not in ended and task not in answered]

    def settle(self, event: Event) -> None:
        """A task has ended."""
        self._unwanted.pop(event.data.task, None)
        self._settlements.settle(event.data.task, event)
