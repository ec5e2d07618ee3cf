"""The child workflows of a run: each has a name that no other has, and an id that no other activation gives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from flovyn.errors import UsageError
from flovyn.replay.commands import RequestCancelChild, ScheduleChild
from flovyn.replay.recordings import Kind

if TYPE_CHECKING:
    from flovyn.replay.access import Access
    from flovyn.replay.events import Event
    from flovyn.replay.history import History
    from flovyn.replay.identifiers import Identifiers
    from flovyn.replay.journal import Journal
    from flovyn.replay.settlements import Settlement, Settlements

__all__ = ["Child", "Children"]

_REASON: Final = "cancelled by its parent"


class Child(NamedTuple):
    """One child workflow.

    Attributes:
        name: Unique among the children of the run.
        id: Its execution id; empty if the server that wrote the history does not tell.
    """

    name: str
    id: str


class _Decision(NamedTuple):
    child: Child
    reason: str
    scheduled: int
    decided: int


class Children:
    """What the program can do with child workflows."""

    __slots__ = (
        "_access",
        "_counts",
        "_decided",
        "_history",
        "_identifiers",
        "_journal",
        "_named",
        "_settlements",
    )

    def __init__(
        self, journal: Journal, identifiers: Identifiers, settlements: Settlements, history: History, access: Access
    ) -> None:
        self._journal = journal
        self._identifiers = identifiers
        self._settlements = settlements
        self._history = history
        self._access = access
        self._named: dict[str, tuple[Child, int]] = {}  # with the activation that scheduled it
        self._counts: dict[str, int] = {}
        self._decided: dict[str, _Decision] = {}

    def schedule(
        self,
        kind: str,
        data: bytes,
        *,
        name: str | None = None,
        queue: str | None = None,
        priority_seconds: int | None = None,
    ) -> Child:
        """Start a child workflow, or find the one that history has.

        Args:
            kind: What it runs.
            data: Its input, as JSON.
            name: Its name; by default the kind and a number, from 1, that makes it one that was not used.
            queue: Where, instead of the run's own queue.
            priority_seconds: How much it is favoured.

        Raises:
            DeterminismViolation: History has another name or kind here.
            UsageError: The name was used already (nothing is recorded), or the run is read-only.
        """
        denied = self._access.denied("start a child workflow")
        name = self._auto_name(kind) if name is None else name
        if denied:
            return Child(name, "")
        if name in self._named:
            raise UsageError(
                f"a child workflow named {name!r} was started already, and a name is used once: give this one another "
                "name, or none"
            )
        recorded = self._journal.call(Kind.CHILD, name)
        if recorded is not None:
            self._identifiers.skip()
            self._journal.compare(Kind.CHILD, "Child workflow name", recorded.data.child_name, name)
            if recorded.data.child_kind:
                self._journal.compare(Kind.CHILD, "Child workflow kind", recorded.data.child_kind, kind)
            child = Child(name, recorded.data.child)
        else:
            child = Child(name, self._identifiers.salted(self._journal.salt))
            self._journal.commands.append(ScheduleChild(name, kind, child.id, data, queue, priority_seconds))
        self._named[name] = child, self._journal.activation
        self._settlements.begin(_key(child))
        if child.id and (early := self._settlements.early(_by_name(name))) is not None:
            self._settlements.settle(child.id, early)  # whatever is told of the name is told of this id
        return child

    def settlement(self, child: Child) -> Settlement:
        """How a child has ended, or will; ask for it once, when the child is begun, and hold on to it."""
        return self._settlements.get(_key(child))

    def settle(self, event: Event) -> None:
        """A child has ended: the one with the event's id, or the one with its name if either side knows no id."""
        identity, name = event.data.child, event.data.child_name
        known = self._named.get(name)
        if known is not None and (identity == known[0].id or not identity or not known[0].id):
            self._settlements.settle(_key(known[0]), event)
            self._decided.pop(name, None)
        else:
            self._settlements.settle(identity or _by_name(name), event)

    def give_up(self, child: Child, reason: str | None = None) -> None:
        """The program does not want a child any more: it is asked to stop for as long as it has not ended.

        Raises:
            UsageError: The run is read-only.
        """
        if not self._access.denied("cancel a child workflow") and self._settlements.is_open(_key(child)):
            scheduled, decided = self._named[child.name][1], self._journal.activation
            self._decided.setdefault(child.name, _Decision(child, reason or _REASON, scheduled, decided))

    def requests(self, *, fenced: bool = False) -> list[RequestCancelChild]:
        """The children to ask now, in the submission of the live activation, and in every one after it.

        Args:
            fenced: The submission is the only one that the server takes. Elsewhere a child of an earlier activation is
                asked when the decision stands in history: a submission that does not come to count cannot have stopped
                what another waits for.
        """
        now = self._journal.activation
        mine = [
            RequestCancelChild(one.child.name, one.child.id, one.reason)
            for one in self._open()
            if fenced or one.decided < now or one.scheduled == now
        ]
        strays = [
            RequestCancelChild(name, identity, _REASON) for identity, name in self._history.stray_children.items()
        ]
        return mine + strays

    @property
    def undecided(self) -> bool:
        """Whether a child was given up that only the next activation can ask to stop, unless the server fences."""
        now = self._journal.activation
        return any(one.decided == now != one.scheduled for one in self._open())

    def _open(self) -> list[_Decision]:
        ended = self._history.ended_children
        return [one for one in self._decided.values() if not (one.child.id in ended or one.child.name in ended)]

    def _auto_name(self, kind: str) -> str:
        while True:
            number = self._counts[kind] = self._counts.get(kind, 0) + 1
            name = f"{kind}-{number}"
            if name not in self._named:
                return name


def _key(child: Child) -> str:
    return child.id or _by_name(child.name)


def _by_name(name: str) -> str:
    return f"child:{name}"
