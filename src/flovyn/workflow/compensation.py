"""Undoing what was done, when what follows does not come about."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, ParamSpec, Self

import anyio

from flovyn.errors import DeterminismError
from flovyn.serde.envelope import members_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import TracebackType

__all__ = ["Compensation", "compensation"]

P = ParamSpec("P")

# None of these says that the workflow failed: it was evicted, the worker was interrupted, or the code disagrees with
# the outside world or with history. The run goes on elsewhere from what was recorded, so nothing is to be undone.
_NO_FAILURE = (GeneratorExit, KeyboardInterrupt, DeterminismError)


class Compensation:
    """What is to be undone if a block fails; `compensation()` makes these.

    Attributes:
        failures: What the compensations raised that failed, in the order in which they ran.
    """

    __slots__ = ("_steps", "failures")

    def __init__(self) -> None:
        self.failures: list[Exception] = []
        self._steps: list[Callable[[], Awaitable[object]]] = []

    def push(self, fn: Callable[P, Awaitable[object]], /, *args: P.args, **kwargs: P.kwargs) -> None:
        """Add a step: should the block fail or be cancelled, `fn(*args, **kwargs)` is awaited.

        Args:
            fn: An async function, such as `ctx.schedule`. It is not called before.
            args: Its arguments.
            kwargs: Its arguments by name.
        """
        self._steps.append(partial(fn, *args, **kwargs))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None or _holds(error, _NO_FAILURE):
            return
        while self._steps:
            step = self._steps.pop()
            try:
                with anyio.CancelScope(shield=True):
                    await step()
            except DeterminismError:
                raise
            except Exception as failure:  # noqa: BLE001 - the other steps are still due
                self.failures.append(failure)
        if not self.failures:
            return
        for failed in self.failures:
            error.add_note(f"A compensation failed as well: {type(failed).__name__}: {failed}")
        if _holds(error, (anyio.get_cancelled_exc_class(),)):
            # The scope that was cancelled takes its cancellation out, as it must, and the failures go on.
            raise BaseExceptionGroup("cancelled, and compensations failed", [error, *self.failures]) from None


def compensation() -> Compensation:
    """Undo the steps of a block, the last one first, if the block fails or is cancelled.

    Each step runs in a shield, so it can schedule tasks and wait for as long as it takes. One that fails does not keep
    the others from running. Then the error of the block goes on as it was, with the failures in its notes and in
    `failures`; if the block was cancelled, the cancellation goes on in one group with the failures, so the scope that
    was cancelled ends as cancelled, and the failures are raised behind it. A block that ends well undoes nothing.

    Example:
        ```python
        async with flovyn.compensation() as undo:
            payment = await ctx.schedule(charge, order)
            undo.push(ctx.schedule, refund, payment)
            await ctx.schedule(ship, order)
        ```
    """
    return Compensation()


def _holds(error: BaseException, kinds: tuple[type[Any], ...]) -> bool:
    return isinstance(error, kinds) or any(_holds(member, kinds) for member in members_of(error))
