"""The nursery under Trio's names."""

from __future__ import annotations

import math
from contextlib import contextmanager
from typing import TYPE_CHECKING

from flovyn.nursery._current import current_kernel, current_task
from flovyn.nursery._group import TaskGroup
from flovyn.nursery._scope import CancelScope

if TYPE_CHECKING:
    from collections.abc import Generator

__all__ = [
    "checkpoint",
    "current_effective_deadline",
    "current_time",
    "fail_after",
    "fail_at",
    "move_on_after",
    "move_on_at",
    "open_nursery",
    "sleep",
    "sleep_forever",
    "sleep_until",
]


def open_nursery() -> TaskGroup:
    """A nursery, for use with `async with`.

    Example:
        >>> import anyio
        >>> async def greet(name):
        ...     print("hello", name)
        >>> async def main():
        ...     async with open_nursery() as nursery:
        ...         nursery.start_soon(greet, "Ada")
        ...         nursery.start_soon(greet, "Grace")
        >>> anyio.run(main, backend="flovyn")
        hello Ada
        hello Grace
    """
    return TaskGroup()


def current_time() -> float:
    """The clock in seconds; inside a workflow, Unix time as history has it."""
    return current_kernel().now


def current_effective_deadline() -> float:
    """The earliest deadline that reaches the current task: inf if there is none, -inf if it is cancelled."""
    return current_task().scope.effective_deadline()


async def checkpoint() -> None:
    """Let every task that is ready make a step, then raise if the current one is cancelled."""
    await current_kernel().checkpoint()


async def sleep(seconds: float) -> None:
    """Wait.

    Args:
        seconds: How long; 0 is a checkpoint and starts no timer.

    Raises:
        ValueError: It is negative or not a number.
    """
    await current_kernel().sleep(_checked(seconds))


async def sleep_until(deadline: float) -> None:
    """Wait until the clock shows `deadline`; a checkpoint if it does already."""
    await current_kernel().sleep(max(deadline - current_time(), 0))


async def sleep_forever() -> None:
    """Wait until cancelled."""
    await current_kernel().sleep(math.inf)


def move_on_at(deadline: float, *, shield: bool = False) -> CancelScope:
    """A scope that is cancelled at `deadline`, and leaves it at that."""
    return CancelScope(deadline=deadline, shield=shield)


def move_on_after(seconds: float, *, shield: bool = False) -> CancelScope:
    """A scope that is cancelled `seconds` from now, and leaves it at that.

    Raises:
        ValueError: `seconds` is negative or not a number.
    """
    return CancelScope(deadline=current_time() + _checked(seconds), shield=shield)


@contextmanager
def fail_at(deadline: float, *, shield: bool = False) -> Generator[CancelScope]:
    """A scope that is cancelled at `deadline`.

    Raises:
        TimeoutError: That cut the block short.
    """
    with move_on_at(deadline, shield=shield) as scope:
        yield scope
    if scope.cancelled_caught and current_time() >= scope.deadline:
        raise TimeoutError


@contextmanager
def fail_after(seconds: float, *, shield: bool = False) -> Generator[CancelScope]:
    """A scope that is cancelled `seconds` from now.

    Raises:
        TimeoutError: That cut the block short.
        ValueError: `seconds` is negative or not a number.
    """
    with fail_at(current_time() + _checked(seconds), shield=shield) as scope:
        yield scope


def _checked(seconds: float) -> float:
    if not seconds >= 0:
        raise ValueError("`seconds` must be a number that is not negative")
    return seconds
