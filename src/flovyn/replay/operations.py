"""`ctx.run`: local effects that the host runs and history remembers (rule 2)."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from flovyn.replay.records import Answer, Cancelled
from flovyn.replay.timers import Timer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from flovyn.nursery.kernel import Kernel, TaskState

__all__ = ["Operation", "Pending"]


class Operation:
    """One call of `ctx.run`.

    Attributes:
        index: Its number among the calls of the run, from 0.
        name: Its name in history.
        body: What the host calls; an awaitable that comes back is awaited there.
        encode: Writes what the body returned as JSON; may raise `PayloadError`.
        task: The task of the program that waits for the answer.
        recorded: What history says of its end, once that has been read.
        answer: How it ended; `Cancelled` as soon as the program has given it up.
        given_up: Whether a cancellation has ended the program's wait.
        started: Whether the host has been told to run the body.
    """

    __slots__ = (
        "_kernel",
        "_pending",
        "answer",
        "body",
        "encode",
        "given_up",
        "index",
        "name",
        "recorded",
        "started",
        "task",
    )

    def __init__(
        self,
        kernel: Kernel,
        pending: Pending,
        index: int,
        name: str,
        body: Callable[[], Awaitable[Any] | Any],
        encode: Callable[[Any], bytes],
    ) -> None:
        assert kernel.current is not None
        self._kernel = kernel
        self._pending = pending
        self.index: int = index
        self.name: str = name
        self.body: Callable[[], Awaitable[Any] | Any] = body
        self.encode: Callable[[Any], bytes] = encode
        self.task: TaskState = kernel.current
        self.recorded: Answer | None = None
        self.answer: Answer | None = None
        self.given_up: bool = False
        self.started: bool = False

    def abort(self) -> bool:
        """A cancellation reaches the waiting task: the wait ends now, and the record will say so."""
        self.given_up = True
        if self.answer is None:
            self.answer = Cancelled()
            self._pending.give_up(self)
        return True

    def guards(self) -> Iterator[Timer]:
        """The timers of the deadlines that reach the body: of the scopes up to the innermost shield, inclusive."""
        for scope in self._kernel.reaching(self.task):
            timer = scope.timer_token
            if isinstance(timer, Timer) and not scope.cancel_called:
                yield timer


class Pending:
    """The operations that the program waits for, in call order.

    There may be thousands at once, and one is answered at a time: nothing here looks at all of them for each.
    """

    __slots__ = ("_given_up", "_operations")

    def __init__(self) -> None:
        self._operations: OrderedDict[int, Operation] = OrderedDict()
        self._given_up: list[Operation] = []

    def __bool__(self) -> bool:
        return bool(self._operations)

    def __iter__(self) -> Iterator[Operation]:
        return iter(self._operations.values())

    def __reversed__(self) -> Iterator[Operation]:
        return reversed(self._operations.values())

    @property
    def first(self) -> Operation:
        """The one that was called first; there is one at least."""
        return next(iter(self))

    def get(self, index: int) -> Operation | None:
        """The one with this number, if the program waits for it."""
        return self._operations.get(index)

    def add(self, operation: Operation) -> None:
        """The program has called it just now."""
        self._operations[operation.index] = operation

    def remove(self, operation: Operation) -> None:
        """It is answered."""
        del self._operations[operation.index]

    def give_up(self, operation: Operation) -> None:
        """The program does not wait for it any more."""
        self._given_up.append(operation)

    def take_given_up(self) -> list[Operation]:
        """Take out those that were given up, in call order."""
        given_up, self._given_up = self._given_up, []
        for operation in given_up:
            self.remove(operation)
        return sorted(given_up, key=_number)


def _number(operation: Operation) -> int:
    return operation.index
