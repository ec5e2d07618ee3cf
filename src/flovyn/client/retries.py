"""Which failures of a call pass, and calling again until one does not, or it has been tried often enough."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Final, TypeVar

import anyio

from flovyn.definitions import RetryPolicy
from flovyn.errors import ConnectionLost, DeadlineExceeded, ServerError, ServerUnavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["CALLS", "passes", "repeat"]

T = TypeVar("T")

CALLS: Final = RetryPolicy(max_attempts=8, initial_interval=0.05, max_interval=2.0, jitter=0.5)
"""How calls are repeated if nothing else is said: for five seconds or so, which a restart of a server may take."""


def passes(error: BaseException) -> bool:
    """Whether the same call may do better in a moment.

    Example:
        >>> passes(ServerUnavailable("away")), passes(ServerError("no", status="ABORTED")), passes(ServerError("no"))
        (True, True, False)
    """
    if isinstance(error, ServerUnavailable | ConnectionLost | DeadlineExceeded):
        return True
    return isinstance(error, ServerError) and error.status == "ABORTED"


async def repeat(call: Callable[[], Awaitable[T]], policy: RetryPolicy) -> T:
    """Make a call that may be made any number of times, until it is answered or the policy has no further attempt.

    Raises:
        FlovynError: What the last attempt raised.
    """
    for attempt in itertools.count(1):
        try:
            return await call()
        except Exception as error:
            if not passes(error) or not policy.allows(attempt, error):
                raise
        await anyio.sleep(policy.delay(attempt))
    raise AssertionError("unreachable")
