"""Keeping the worker's own task groups out of what users catch."""

from __future__ import annotations

import math
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import anyio

from flovyn.serde.envelope import members_of

if TYPE_CHECKING:
    from collections.abc import Generator

__all__ = ["holds_cancellation", "is_own_failure", "leaves", "unwrapped"]

_SHUTDOWN_SECONDS: Final = 0.1


@contextmanager
def unwrapped() -> Generator[None]:
    """Let an exception that task groups have wrapped alone out of its wrapping."""
    only: BaseException | None = None
    try:
        yield
    except BaseExceptionGroup as group:
        inside = leaves(group)
        if len(inside) > 1:
            raise
        only = inside[0]
    # Outside the handler, so that the group does not become the context of what it held.
    if only is not None:
        raise only


def leaves(error: BaseException) -> list[BaseException]:
    """The exceptions inside a group of groups; an exception that is no group is its only leaf."""
    members = members_of(error)
    return [leaf for member in members for leaf in leaves(member)] if members else [error]


def holds_cancellation(error: BaseException) -> bool:
    """Whether an exception is the backend's cancelled exception, or a group with one in it."""
    return any(isinstance(leaf, anyio.get_cancelled_exc_class()) for leaf in leaves(error))


async def is_own_failure(error: BaseException) -> bool:
    """Whether user code that ended with an error failed by itself, which costs it nothing but its own work.

    It did not if Ctrl-C ended it, or a cancellation from outside. A cancelled exception alone says nothing: on asyncio,
    awaiting a future that somebody has cancelled raises the same one. So this asks the scopes around the caller, which
    must be those around the code.
    """
    if any(isinstance(leaf, KeyboardInterrupt | GeneratorExit) for leaf in leaves(error)):
        return False
    if not holds_cancellation(error):
        return True
    if anyio.current_effective_deadline() > -math.inf:
        # An asyncio loop that shuts down cancels every task by itself; the scopes around this one hear of it a moment
        # later, and end this wait.
        await anyio.sleep(_SHUTDOWN_SECONDS)
    return anyio.current_effective_deadline() > -math.inf
