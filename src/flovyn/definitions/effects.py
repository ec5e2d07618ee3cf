"""`effect`: a function for `ctx.run`, with what is to happen if it fails or takes too long."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar

from flovyn.definitions.options import duration
from flovyn.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta

    from flovyn.definitions.retry import RetryPolicy

__all__ = ["Effect", "effect"]

P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)


@dataclass(frozen=True, slots=True, eq=False)
class Effect(Generic[P, R_co]):
    """A function for `ctx.run` with its options; see `effect`.

    Calling it calls the function, once and without a limit. It is the worker that makes the attempts.

    Attributes:
        fn: The function.
        retry: How often it is tried again; None for never.
        start_to_close: The limit for one attempt; None for no limit.
    """

    fn: Callable[P, R_co]
    retry: RetryPolicy | None
    start_to_close: timedelta | None

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        return self.fn(*args, **kwargs)


def effect(
    fn: Callable[P, R_co], *, retry: RetryPolicy | None = None, start_to_close: timedelta | float | None = None
) -> Effect[P, R_co]:
    """Say what is to happen if the function of a `ctx.run` fails or takes too long.

    The attempts are made by the worker, one after the other, while the workflow waits; only the outcome of the last
    one is recorded, a failure too. Deadlines and cancellations of the workflow reach into an attempt, and into the wait
    between two, as they reach any `ctx.run`. What has to be tried for minutes is a task.

    Args:
        fn: The function.
        retry: How often it is tried again, and after how long.
        start_to_close: The limit for one attempt, in seconds or as a timedelta. An attempt that is over it is cancelled
            and counts as failed with `TimeoutError`.

    Returns:
        A callable of the same signature.

    Raises:
        DefinitionError: The limit is not a positive, finite time.
        UsageError: A limit for a synchronous function, which nothing can end from outside; or an effect of an effect.

    Example:
        ```python
        from flovyn import RetryPolicy, WorkflowContext, effect, workflow

        async def exchange_rate(currency: str) -> float:
            return 1.08

        asked = effect(exchange_rate, retry=RetryPolicy(max_attempts=5), start_to_close=2)

        @workflow
        async def convert(ctx: WorkflowContext, amount: float) -> float:
            return amount * await ctx.run("rate", asked, "USD")
        ```
    """
    where = f"effect({getattr(fn, '__qualname__', None) or repr(fn)})"
    if isinstance(fn, Effect):
        raise UsageError(f"{where}: it is an effect already; give all its options at once")
    limit = duration(where, "start_to_close", start_to_close)
    if limit is not None and not _is_asynchronous(fn):
        raise UsageError(
            f"{where}: start_to_close={start_to_close!r} cannot be kept, since nothing ends a synchronous function "
            "from outside; write it as `async def`, or run it in a task"
        )
    return Effect(fn, retry, limit)


def _is_asynchronous(fn: Any) -> bool:
    return inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(type(fn).__call__)
