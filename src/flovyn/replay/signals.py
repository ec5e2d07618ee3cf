"""The signals of a run: kept in the order in which they came, for whoever asks first."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from flovyn.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from flovyn.nursery.kernel import Kernel, TaskState
    from flovyn.replay.access import Access
    from flovyn.replay.events import Event

__all__ = ["Signals"]

_UNNAMED: Final = "__default__"


class Signals:
    """What the program can do with signals."""

    __slots__ = ("_access", "_handlers", "_kept", "_kernel", "_waiters")

    def __init__(self, kernel: Kernel, access: Access) -> None:
        self._kernel = kernel
        self._access = access
        self._kept: dict[str, deque[tuple[int, bytes]]] = {}  # with sequence numbers; no deque is empty
        self._waiters: dict[str, deque[TaskState]] = {}
        self._handlers: dict[str, Callable[[bytes], None]] = {}

    def deliver(self, event: Event) -> None:
        """A signal has come: it is its handler's, else the first waiter's, else it is kept."""
        name, payload = event.data.signal_name or _UNNAMED, bytes(event.data.signal_value)
        handler = self._handlers.get(name)
        if handler is not None:
            handler(payload)
        elif waiters := self._waiters.get(name):
            task = waiters.popleft()
            if not waiters:
                del self._waiters[name]
            self._kernel.wake(task, payload)
        else:
            self._kept.setdefault(name, deque()).append((event.sequence, payload))

    def take(self, name: str) -> bytes | None:
        """Take the oldest signal of a name that nobody has taken.

        Raises:
            UsageError: The run is read-only.
        """
        if self._access.denied("take a signal"):
            return None
        kept = self._kept.get(name)
        if kept is None:
            return None
        payload = kept.popleft()[1]
        if not kept:
            del self._kept[name]
        return payload

    def drain(self, name: str) -> list[bytes]:
        """Take every signal of a name that nobody has taken, the oldest first.

        Raises:
            UsageError: The run is read-only.
        """
        if self._access.denied("take signals"):
            return []
        return [payload for _, payload in self._kept.pop(name, ())]

    def pending(self, name: str) -> int:
        """How many signals of a name nobody has taken."""
        return len(self._kept.get(name, ()))

    def wait(self, name: str, task: TaskState) -> None:
        """The next signal of a name that comes wakes this task, with the payload; it parks right after this call."""
        self._waiters.setdefault(name, deque()).append(task)

    def forget(self, name: str, task: TaskState) -> None:
        """The wait of a task was cancelled."""
        waiters = self._waiters[name]
        waiters.remove(task)
        if not waiters:
            del self._waiters[name]

    def handle(self, handlers: Mapping[str, Callable[[bytes], None]]) -> None:
        """From now on signals of these names go to their handlers; those that wait already do so at once.

        All names in one call, so that what waits is handed out in the order in which it came.

        Raises:
            UsageError: A name has a handler already.
        """
        for name in handlers:
            if name in self._handlers:
                raise UsageError(f"signal {name!r} has a handler already")
        self._handlers.update(handlers)
        kept = [(sequence, name, payload) for name in handlers for sequence, payload in self._kept.pop(name, ())]
        for _, name, payload in sorted(kept):
            handlers[name](payload)
