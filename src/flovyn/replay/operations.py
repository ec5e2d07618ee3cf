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


class Pending(OrderedDict[int, Operation]):
    """The operations that the program waits for, by number, in call order.

    There may be thousands at once, and one is answered at a time: nothing here looks at all of them for each.
    """

    def __init__(self) -> None:
        super().__init__()
        self._given_up: list[Operation] = []

    @property
    def first(self) -> Operation:
        """The one that was called first; there is one at least."""
        return next(iter(self.values()))

    def give_up(self, operation: Operation) -> None:
        """The program does not wait for it any more."""
        self._given_up.append(operation)

    def take_given_up(self) -> list[Operation]:
        """Take out those that were given up, in call order."""
        given_up, self._given_up = self._given_up, []
        for operation in given_up:
            del self[operation.index]
        return sorted(given_up, key=_number)


def _number(operation: Operation) -> int:
    return operation.index
