"""Work on large payloads, which would hold the host's loop for too long."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, ParamSpec, TypeVar

import anyio.to_thread

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["off_the_loop"]

P = ParamSpec("P")
R = TypeVar("R")

# Compressing so many bytes takes some milliseconds, which is a hundred times what handing them to a thread costs.
_LARGE: Final = 256 * 1024


async def off_the_loop(size: int, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Do some work on a payload: at once if it is small, in a thread if it is large.

    A thread cannot be ended from outside, so a cancellation waits for it, which is not for long.
    """
    if size <= _LARGE:
        return work(*args, **kwargs)
    return await anyio.to_thread.run_sync(lambda: work(*args, **kwargs))
