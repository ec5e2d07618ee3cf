"""A handle on one execution of a workflow, for threads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar, overload

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

    from flovyn.blocking.portal import Portal
    from flovyn.client import HistoryEvent, WorkflowDescription, WorkflowSummary
    from flovyn.client import WorkflowHandle as AsyncWorkflowHandle
    from flovyn.definitions import Promise, Query, Signal

__all__ = ["SignalledStart", "WorkflowHandle"]

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class WorkflowHandle(Generic[R]):
    """One execution of a workflow; what each method does and raises is said at `flovyn.WorkflowHandle`."""

    __slots__ = ("_handle", "_portal")

    def __init__(self, portal: Portal, handle: AsyncWorkflowHandle[R]) -> None:
        self._portal = portal
        self._handle = handle

    def __repr__(self) -> str:
        return f"<blocking {self._handle!r}>"

    @property
    def id(self) -> str:
        """The id of the execution, a UUID as text."""
        return self._handle.id

    @property
    def kind(self) -> str:
        """The kind of the workflow."""
        return self._handle.kind

    def result(self) -> R:
        """Wait for the workflow to end; limit the wait with `flovyn.blocking.fail_after`."""
        return self._portal.call(self._handle.result)

    def describe(self) -> WorkflowDescription[R]:
        """Ask where the workflow stands; over REST."""
        return self._portal.call(self._handle.describe)

    def history(self) -> list[HistoryEvent]:
        """Read everything that has happened to the workflow so far."""
        return self._portal.call(self._handle.history)

    def follow(self, *, after: int = 0) -> Iterator[HistoryEvent]:
        """Go through the history as it is written, to the event that ends the workflow."""
        return self._portal.entries(self._handle.follow(after=after))

    def children(self) -> Iterator[WorkflowSummary]:
        """Go through the workflow's children, the oldest first; over REST."""
        return self._portal.entries(self._handle.children())

    @overload
    def query(self, query: Query[T], /, *args: Any, **kwargs: Any) -> T: ...

    @overload
    def query(self, query: Callable[Concatenate[Any, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T: ...

    @overload
    def query(self, query: str, /, *args: Any, **kwargs: Any) -> Any: ...

    def query(self, query: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Ask the workflow something, wherever it stands; its own code answers, here."""
        return self._portal.call(lambda: self._handle.query(query, *args, **kwargs))

    @overload
    def query_server(self, query: Query[T], /, *args: Any, **kwargs: Any) -> T: ...

    @overload
    def query_server(self, query: Callable[Concatenate[Any, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T: ...

    @overload
    def query_server(self, query: str, /, *args: Any, **kwargs: Any) -> Any: ...

    def query_server(self, query: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Ask the server something about the workflow."""
        return self._portal.call(lambda: self._handle.query_server(query, *args, **kwargs))

    @overload
    def signal(self, signal: Signal[T], value: T, /) -> int: ...

    @overload
    def signal(
        self, signal: Callable[Concatenate[Any, Any, P], Coroutine[Any, Any, Any]], /, *args: P.args, **kwargs: P.kwargs
    ) -> int: ...

    @overload
    def signal(self, signal: str, value: object = None, /) -> int: ...

    def signal(self, signal: Any, /, *args: Any, **kwargs: Any) -> int:
        """Send the workflow a signal. It is never sent twice."""
        return self._portal.call(lambda: self._handle.signal(signal, *args, **kwargs))

    @overload
    def resolve(self, promise: Promise[T], value: T, /) -> None: ...

    @overload
    def resolve(self, promise: str, value: object = None, /) -> None: ...

    def resolve(self, promise: Any, value: Any = None, /) -> None:
        """Give a promise of the workflow its value; waits until the workflow has made it."""
        self._portal.call(lambda: self._handle.resolve(promise, value))

    def reject(self, promise: Promise[Any] | str, error: str | Exception, /) -> None:
        """Give a promise of the workflow an error; waits until the workflow has made it."""
        self._portal.call(lambda: self._handle.reject(promise, error))

    def cancel(self, reason: str = "") -> None:
        """Ask the workflow to stop; over REST."""
        self._portal.call(lambda: self._handle.cancel(reason))

    def retry(self, note: str = "") -> WorkflowHandle[R]:
        """Let the workflow go on from where it failed; over REST. Returns a handle on the retried run."""
        return WorkflowHandle(self._portal, self._portal.call(lambda: self._handle.retry(note)))


@dataclass(frozen=True, slots=True)
class SignalledStart(Generic[R]):
    """What became of a signal with a start.

    Attributes:
        handle: The execution that got the signal.
        created: Whether it was started for the signal; if not, there was one.
        sequence: The number of the signal in its history.
    """

    handle: WorkflowHandle[R]
    created: bool
    sequence: int
