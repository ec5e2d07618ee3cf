"""The matrix: what is cancelled, when, in what scope, and how the workflow is kept between its activations."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Final, Literal, get_args

from flovyn.definitions import OnCancel

__all__ = ["CANNOT_OCCUR", "CELLS", "OPERATIONS", "Cell", "Operation", "Scope", "Thing", "When", "product_of_axes"]

Thing = Literal["task", "child", "timer", "promise"]
"""What the server keeps for an operation."""

When = Literal["before", "while", "cancel first", "end first", "after"]
"""When the scope is cancelled: before the await, while it waits, in the activation that also sees the end (which of the
two stands first in history decides), after the await."""

Scope = Literal["root", "inner", "shield in root", "shield in inner"]
"""Where the await stands. The root scope is cancelled from outside, an inner one by the workflow's own code."""


@dataclass(frozen=True)
class Operation:
    """Something that waits.

    Attributes:
        begins: The commands that begin it.
        things: What the server then keeps.
        ends: The events that end it, each with the thing whose end it is; none of an operation that ends by itself.
        value: What the await gives.
        on_cancel: What becomes of it when its scope is cancelled.
        keeps_signal: A signal that nobody takes, because the wait for it was cancelled or only looks, stays.
    """

    begins: tuple[str, ...] = ()
    things: tuple[Thing, ...] = ()
    ends: tuple[tuple[Thing | None, str], ...] = ((None, "SIGNAL_RECEIVED"),)
    value: object = None
    on_cancel: OnCancel = "request"
    keeps_signal: bool = False


OPERATIONS: Final[dict[str, Operation]] = {
    "schedule": Operation(("schedule work",), ("task",), (("task", "TASK_COMPLETED"),), "done"),
    "handle": Operation(("schedule work",), ("task",), (("task", "TASK_COMPLETED"),), "done"),
    "child": Operation(("child part-1",), ("child",), (("child", "CHILD_WORKFLOW_COMPLETED"),), "done"),
    "schedule (wait)": Operation(
        ("schedule work",), ("task",), (("task", "TASK_COMPLETED"),), "done", on_cancel="wait"
    ),
    "schedule (abandon)": Operation(
        ("schedule work",), ("task",), (("task", "TASK_COMPLETED"),), "done", on_cancel="abandon"
    ),
    "child (wait)": Operation(
        ("child part-1",), ("child",), (("child", "CHILD_WORKFLOW_COMPLETED"),), "done", on_cancel="wait"
    ),
    "child (abandon)": Operation(
        ("child part-1",), ("child",), (("child", "CHILD_WORKFLOW_COMPLETED"),), "done", on_cancel="abandon"
    ),
    "sleep": Operation(("start timer",), ("timer",), (("timer", "TIMER_FIRED"),), "slept"),
    "promise": Operation(("promise wish",), ("promise",), (("promise", "PROMISE_RESOLVED"),), "granted"),
    "signal": Operation(value="sent", keeps_signal=True),
    "condition": Operation(value="holds", keeps_signal=True),
    "deadline": Operation(("start timer",), ("timer",), (("timer", "TIMER_FIRED"),), "expired"),
    "lock": Operation(value="locked"),
    "task group exit": Operation(
        ("schedule work", "start timer"),
        ("task", "timer"),
        (("task", "TASK_COMPLETED"), ("timer", "TIMER_FIRED")),
        ["done", "slept"],
    ),
    "run": Operation(ends=(), value="ran"),
}


@dataclass(frozen=True)
class Cell:
    """One cell of the matrix, but for the backend.

    Attributes:
        cached: Whether one worker keeps the workflow alive; otherwise each activation is a fresh worker's.
    """

    operation: str
    when: When
    scope: Scope
    cached: bool

    def __str__(self) -> str:
        return f"{self.operation}, {self.when}, {self.scope}, {'cached' if self.cached else 're-enacted'}"

    @property
    def what(self) -> Operation:
        """The operation."""
        return OPERATIONS[self.operation]

    @property
    def is_inner(self) -> bool:
        """Whether the workflow's own code cancels; otherwise it is somebody outside."""
        return self.scope in ("inner", "shield in inner")

    @property
    def is_shielded(self) -> bool:
        """Whether the await stands in a shield."""
        return self.scope in ("shield in root", "shield in inner")

    @property
    def is_gated(self) -> bool:
        """Whether the workflow waits, in a shield, for a word to come to the await.

        It has to where the cancellation comes first. An operation of `ctx.run` begins and ends in one activation: to
        have a cancellation from outside in the same one, that must begin with the word.
        """
        return self.when == "before" or (self.operation == "run" and self.when == "end first" and not self.is_inner)

    @property
    def is_raced(self) -> bool:
        """Whether another operation of the workflow, not a signal, has the scope cancelled."""
        return self.operation == "run" and self.is_inner and self.when in ("while", "cancel first", "end first")


_ANSWERED: Final = (
    "an operation is answered before the next event is shown (rule 2): a cancellation from outside is seen before the"
    " call or after its answer"
)

CANNOT_OCCUR: Final[dict[tuple[str, When, Scope], str]] = {
    ("run", "while", "root"): _ANSWERED,
    ("run", "while", "shield in root"): _ANSWERED,
    ("run", "cancel first", "root"): _ANSWERED,
    ("run", "cancel first", "shield in root"): _ANSWERED,
}


def product_of_axes() -> list[Cell]:
    """Every cell there could be."""
    axes = product(OPERATIONS, get_args(When), get_args(Scope), (True, False))
    return [Cell(operation, when, scope, cached) for operation, when, scope, cached in axes]


CELLS: Final = [cell for cell in product_of_axes() if (cell.operation, cell.when, cell.scope) not in CANNOT_OCCUR]
