"""Running a shell, and whatever answers calls for it, for the length of a block."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine

    from flovyn.server.shell import Shell

__all__ = ["hosted"]


@asynccontextmanager
async def hosted(
    shell: Shell,
    *services: Callable[..., Coroutine[Any, Any, Any]],
    keeps_time: bool = True,
    farewell: Callable[[], Awaitable[None]] | None = None,
) -> AsyncGenerator[list[Any]]:
    """Run services until the block is left; what the block raises leaves it as it is, never in a group.

    Args:
        shell: What the services call.
        services: Each is started as by `TaskGroup.start`, and ends only when it is cancelled.
        keeps_time: Whether time passes by itself; if not, it is whoever moves the engine's clock who ticks it.
        farewell: What is done at the end of a block that raises nothing, while all still runs.

    Yields:
        What the services said when they had started, in their order.
    """
    raised: Exception | None = None
    async with anyio.create_task_group() as tasks:
        said = [await tasks.start(service) for service in services]
        tasks.start_soon(shell.keep_writing)
        if keeps_time:
            tasks.start_soon(shell.keep_time)
        try:
            yield said
            if farewell is not None:
                await farewell()
        except Exception as error:  # noqa: BLE001 - kept away from the task group, which would wrap it
            raised = error
        finally:
            tasks.cancel_scope.cancel()
    shell.write()
    if raised is not None:
        raise raised
