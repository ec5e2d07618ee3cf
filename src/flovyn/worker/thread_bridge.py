"""Running a plain function in a thread, and its way back into the event loop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar

import anyio
import anyio.from_thread
import anyio.lowlevel
import anyio.to_thread

from flovyn.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from anyio.from_thread import BlockingPortal
    from anyio.lowlevel import EventLoopToken

    from flovyn.task import SyncTaskContext
    from flovyn.worker.attempt import Attempt

__all__ = ["ThreadBridge", "run_in_thread"]

T = TypeVar("T")

_ENDED: Final = "the body of this task has ended: its context cannot be used any more"


class ThreadBridge:
    """From a thread to the event loop of the worker. What waits there is cancelled with the attempt.

    Args:
        token: The event loop.
        portal: Where what waits runs: a nursery inside the attempt's scope.
    """

    __slots__ = ("_portal", "_token", "closed")

    def __init__(self, token: EventLoopToken, portal: BlockingPortal) -> None:
        self._token = token
        self._portal = portal
        self.closed: bool = False

    def call(self, fn: Callable[[], T]) -> T:
        self._check()
        try:
            return anyio.from_thread.run_sync(fn, token=self._token)
        except anyio.RunFinishedError:
            raise UsageError(_ENDED) from None

    def wait(self, fn: Callable[[], Coroutine[Any, Any, T]]) -> T:
        self._check()
        result: T = self._portal.call(fn)
        return result

    def _check(self) -> None:
        if self.closed:
            raise UsageError(_ENDED)


async def run_in_thread(
    attempt: Attempt,
    limiter: anyio.CapacityLimiter,
    make_context: Callable[[ThreadBridge], SyncTaskContext],
    body: Callable[[SyncTaskContext], Any],
) -> Any:
    """Run a body in a thread, until it ends or its attempt is abandoned.

    Args:
        attempt: Whose body it is.
        limiter: Whose threads they are.
        make_context: Makes the body's context, which reaches the event loop over the bridge.
        body: The function.

    Returns:
        What it returned; nothing of meaning if it was abandoned.

    Raises:
        BaseException: Whatever it raised.
    """
    value: Any = None
    failure: BaseException | None = None

    def run() -> Any:
        attempt.thread_running = True
        try:
            return body(context)
        finally:
            attempt.thread_running = False

    async with anyio.from_thread.BlockingPortal() as portal:
        bridge = ThreadBridge(anyio.lowlevel.current_token(), portal)
        context = make_context(bridge)
        with anyio.CancelScope(shield=True) as attempt.waiting_for_thread:  # noqa: ASYNC912 - a thread is waited for
            try:
                value = await anyio.to_thread.run_sync(run, abandon_on_cancel=True, limiter=limiter)
            except Exception as error:  # noqa: BLE001 - kept away from the portal's task group, which would wrap it
                failure = error
        bridge.closed = True
    if failure is None:
        return value
    try:
        raise failure
    finally:
        del failure  # or it would hold this frame, which holds it
