"""What a task body writes down while it runs. State is part of its work; progress and logs are for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flovyn.errors import FailedPrecondition, InvalidArgument
from flovyn.server import limits
from flovyn.server.engine import history, payloads, validation
from flovyn.server.store.notes import Progress

if TYPE_CHECKING:
    from flovyn.server.engine.core import Caller, Core
    from flovyn.server.engine.tasks import Tasks

__all__ = ["Notes"]


class Notes:
    """The state of tasks, which their later attempts find, their progress and their logs."""

    def __init__(self, core: Core, tasks: Tasks) -> None:
        self._core = core
        self._store = core.store.notes
        self._tasks = tasks

    # --- state ------------------------------------------------------------------------------

    def get(self, caller: Caller, task_id: str, key: str) -> bytes | None:
        """The value of a key as JSON; None if it is not set.

        Raises:
            NotFound: There is no such task in the caller's organisation.
        """
        return self._store.get(self._tasks.find(caller, task_id).n, key)

    def keys(self, caller: Caller, task_id: str) -> list[str]:
        """The keys that are set, in order.

        Raises:
            NotFound: There is no such task in the caller's organisation.
        """
        return self._store.keys(self._tasks.find(caller, task_id).n)

    def put(self, caller: Caller, task_id: str, key: str, value: bytes) -> None:
        """Set a key, for this and later attempts.

        Raises:
            NotFound: There is no such task in the caller's organisation.
            FailedPrecondition: The task has ended, or was claimed again since; or it has too many keys.
            InvalidArgument: The value is not JSON, or the key is empty or too long.
        """
        validation.name(key, "key")
        checked = payloads.checked(value, "value")
        task = self._tasks.reported(caller, task_id)
        keys = self._store.keys(task.n)
        if len(keys) >= limits.TASK_STATE_KEYS and key not in keys:
            raise FailedPrecondition(f"task {task.id} has {len(keys)} keys of state already; it can have no more")
        with self._core.transaction():
            self._store.put(task.n, key, bytes(checked))

    def clear(self, caller: Caller, task_id: str, key: str) -> None:
        """Forget a key.

        Raises:
            NotFound: There is no such task in the caller's organisation.
            FailedPrecondition: The task has ended, or was claimed again since.
        """
        task = self._tasks.reported(caller, task_id)
        with self._core.transaction():
            self._store.drop(task.n, key)

    def clear_all(self, caller: Caller, task_id: str) -> None:
        """Forget every key.

        Raises:
            NotFound: There is no such task in the caller's organisation.
            FailedPrecondition: The task has ended, or was claimed again since.
        """
        task = self._tasks.reported(caller, task_id)
        with self._core.transaction():
            self._store.drop_all(task.n)

    # --- progress and logs ------------------------------------------------------------------

    def progress(self, caller: Caller, task_id: str, progress: float, details: str) -> None:
        """Remember how far a task is. What comes after its end counts for nothing, and is no error: it was on its way.

        Raises:
            NotFound: There is no such task in the caller's organisation.
            FailedPrecondition: It was claimed again since.
            InvalidArgument: The progress is not a number from 0 to 1.
        """
        if not 0 <= progress <= 1:
            raise InvalidArgument(f"progress is {progress}; it must be between 0 and 1")
        if self._tasks.find(caller, task_id).status in history.ENDED:
            return
        task = self._tasks.reported(caller, task_id)
        with self._core.transaction():
            details = details[: limits.LOG_LINE_LENGTH]
            self._store.put_progress(task.n, Progress(progress, details, self._core.clock()))

    def log(self, caller: Caller, task_id: str, level: str, message: str) -> None:
        """Keep a log line, whoever writes it and whenever: it is for people.

        Raises:
            NotFound: There is no such task in the caller's organisation.
            InvalidArgument: The level is too long.
        """
        validation.text(level, "level")
        task = self._tasks.find(caller, task_id)
        with self._core.transaction():
            message = message[: limits.LOG_LINE_LENGTH]
            self._store.log(task.n, self._core.clock(), level, message, keep=limits.LOG_LINES)
