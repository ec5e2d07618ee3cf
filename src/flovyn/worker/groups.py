"""Keeping the worker's own task groups out of what users catch."""

from __future__ import annotations

import math
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import anyio

from flovyn.serde.envelope import members_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator

__all__ = ["Sealed", "holds_cancellation", "is_own_failure", "leaves", "listen", "opened", "protected", "unwrapped"]

_SHUTDOWN_SECONDS: Final = 0.1


class Sealed(Exception):
    """An error of the user's that task groups of ours must let through as it is, be it a group itself.

    Args:
        error: The error.
    """

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


@contextmanager
def unwrapped() -> Generator[None]:
    """Let an exception that task groups have wrapped alone out of its wrapping. Seals stay closed."""
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


@contextmanager
def opened() -> Generator[None]:
    """Let what is sealed out, as the last thing before users see it."""
    error: BaseException | None = None
    try:
        yield
    except Sealed as sealed:
        error = sealed.error
    except BaseExceptionGroup as group:
        if not any(isinstance(leaf, Sealed) for leaf in leaves(group)):
            raise
        error = group.derive([leaf.error if isinstance(leaf, Sealed) else leaf for leaf in leaves(group)])
    if error is not None:
        raise error


async def protected(body: Callable[[], Awaitable[None]], told: Callable[[], None]) -> None:
    """Run something that no cancellation from outside reaches: it is told instead, and has to end soon after."""
    async with anyio.create_task_group() as group:
        group.start_soon(listen, told)
        with anyio.CancelScope(shield=True):
            await body()
        group.cancel_scope.cancel()


async def listen(told: Callable[[], None]) -> None:
    """Tell somebody when this is cancelled."""
    try:
        await anyio.sleep_forever()
    finally:
        told()


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
