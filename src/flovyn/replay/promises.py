"""The promises of a run: known by name, created once, whoever created them (rule 3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from flovyn.errors import UsageError
from flovyn.replay.commands import CreatePromise

if TYPE_CHECKING:
    from flovyn.replay.access import Access
    from flovyn.replay.events import Event
    from flovyn.replay.history import History
    from flovyn.replay.journal import Journal
    from flovyn.replay.settlements import Settlement, Settlements

__all__ = ["PromiseRecord", "Promises"]

_LONGEST_KEY: Final = 255
_LONGEST_TTL: Final = 30 * 86_400
"""As long as a server keeps a key."""


class PromiseRecord(NamedTuple):
    """One promise.

    Attributes:
        name: Unique within the run.
        key: The idempotency key by which anybody can resolve it.
    """

    name: str
    key: str


class Promises:
    """What the program can do with promises."""

    __slots__ = ("_access", "_ends", "_history", "_journal", "_made", "_settlements", "_workflow_id")

    def __init__(
        self, workflow_id: str, journal: Journal, settlements: Settlements, history: History, access: Access
    ) -> None:
        self._workflow_id = workflow_id
        self._journal = journal
        self._settlements = settlements
        self._history = history
        self._access = access
        self._made: dict[str, PromiseRecord] = {}
        self._ends: dict[str, Settlement] = {}  # by name, those that the program has asked for

    def create(
        self,
        name: str,
        *,
        timeout_ms: int | None = None,
        idempotency_key: str | None = None,
        idempotency_key_ttl_seconds: int | None = None,
    ) -> PromiseRecord:
        """Create a promise, or find the one of that name.

        Args:
            name: Its name.
            timeout_ms: How long the server waits for somebody to resolve it; for ever if None.
            idempotency_key: Unique in the org; by default made of the run's id and the name.
            idempotency_key_ttl_seconds: For how long the key counts; by default 30 days for the default key, which
                nobody else can want, and as long as the server says for a key that was given.

        Raises:
            DeterminismViolation: An activation of the past did not create it, or created it later.
            UsageError: The key is too long, or the run is read-only.
        """
        key, ttl = idempotency_key, idempotency_key_ttl_seconds
        if key is None:
            key, ttl = f"{self._workflow_id}/{name}", ttl or _LONGEST_TTL
        denied = self._access.denied("create a promise")
        made = self._made.get(name)
        if made is not None or denied:
            return made or PromiseRecord(name, key)
        if len(key) > _LONGEST_KEY:
            raise UsageError(
                f"the idempotency key of promise {name!r} has {len(key)} characters, and a server takes at most "
                f"{_LONGEST_KEY}: give the promise a shorter name or a key of its own"
            )
        # A block that does not count may have created it; the server knows it by its name, and makes no second one.
        elsewhere = name in self._history.promise_names
        recorded = self._journal.call_promise(name, elsewhere=elsewhere)
        if recorded is not None:
            key = recorded.data.idempotency_key or key
        elif not elsewhere:
            self._journal.commands.append(CreatePromise(name, timeout_ms, key, ttl))
        record = self._made[name] = PromiseRecord(name, key)
        return record

    def settlement(self, record: PromiseRecord) -> Settlement:
        """How a promise was resolved, or will be."""
        settlement = self._ends.get(record.name)
        if settlement is None:
            settlement = self._ends[record.name] = self._settlements.get(_by_name(record.name))
        return settlement

    def settle(self, event: Event) -> None:
        """A promise was resolved, rejected, or not in time."""
        data = event.data
        name = self._history.promises.get(data.promise_id or "", data.promise_name)
        if name is not None:
            self._settlements.settle(_by_name(name), event)


def _by_name(name: str) -> str:
    return f"promise:{name}"
