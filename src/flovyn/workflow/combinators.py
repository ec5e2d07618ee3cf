"""Several things at once, where a task group would take more lines: joins and races.

They are built on task groups, so whatever they start has ended when they return, and what they give up is cancelled, on
the server too. In a workflow what counts as first is decided by history, so it is the same on every replay. Their own
groups never show: one failure is raised as itself.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeAlias, TypeVar

import anyio

from flovyn.errors import AllFailed, DeterminismError, UsageError
from flovyn.serde.envelope import members_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from anyio.abc import TaskGroup

__all__ = ["Err", "Ok", "Settled", "join_all", "join_n", "join_settled", "select", "select_ok"]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Ok(Generic[T_co]):
    """It returned `value`."""

    value: T_co


@dataclass(frozen=True, slots=True)
class Err:
    """It raised `error`."""

    error: Exception


Settled: TypeAlias = "Ok[T] | Err"
"""How one of several things ended."""


async def join_all(*awaitables: Awaitable[T]) -> list[T]:
    """Wait for all; the first failure is raised, and the rest is cancelled.

    Args:
        awaitables: Coroutines or handles; they run at the same time.

    Returns:
        What they returned, in the order of the arguments.

    Raises:
        Exception: The first failure, as itself. What failed after it, while it was cancelled, is in the notes.

    Example:
        ```python
        payment, parcel = await flovyn.join_all(ctx.schedule(charge, order), ctx.schedule(ship, order))
        ```
    """
    race = _Race(awaitables)
    await race.run(lambda: race.failed)
    race.raise_failure()
    return [race.value(index) for index in range(len(awaitables))]


async def join_settled(*awaitables: Awaitable[T]) -> list[Settled[T]]:
    """Wait for all, however they end.

    Args:
        awaitables: Coroutines or handles; they run at the same time.

    Returns:
        An `Ok` or an `Err` for each, in the order of the arguments.

    Example:
        >>> async def fine() -> int: return 1
        >>> async def broken() -> int: raise ValueError("no")
        >>> async def main():
        ...     return await join_settled(fine(), broken())
        >>> anyio.run(main)
        [Ok(value=1), Err(error=ValueError('no'))]
    """
    race = _Race(awaitables)
    await race.run(lambda: False, tolerant=True)
    return [race.outcomes[index] for index in range(len(awaitables))]


async def select(*awaitables: Awaitable[T]) -> tuple[int, T]:
    """Wait for the first to end, in the order of history, and cancel the rest.

    Args:
        awaitables: Coroutines or handles, at least one; they run at the same time.

    Returns:
        Which argument it was, from 0, and what it returned.

    Raises:
        Exception: What the first to end raised; or what another one raised while it was cancelled, for nobody else
            would hear that its clean-up failed.
        UsageError: There is nothing to wait for.

    Example:
        ```python
        index, answer = await flovyn.select(ctx.schedule(ask, "north"), ctx.schedule(ask, "south"))
        ```
    """
    return (await join_n(1, *awaitables))[0]


async def join_n(n: int, /, *awaitables: Awaitable[T]) -> list[tuple[int, T]]:
    """Wait for the first `n` to end, in the order of history, and cancel the rest.

    Args:
        n: How many are wanted, at least one.
        awaitables: Coroutines or handles, at least `n`; they run at the same time.

    Returns:
        Which arguments they were, from 0, and what they returned, in the order in which they ended.

    Raises:
        Exception: The first failure among them; or what another one raised while it was cancelled.
        UsageError: There are fewer than `n`, or `n` is no positive number.

    Example:
        ```python
        quorum = await flovyn.join_n(2, *(ctx.schedule(vote, member) for member in members))
        ```
    """
    race = _Race(awaitables)
    if not 1 <= n <= len(awaitables):
        race.close()
        raise UsageError(f"cannot wait for the first {n} of {len(awaitables)}: ask for at least 1, and at most all")
    await race.run(lambda: race.failed or len(race.order) >= n)
    race.raise_failure()
    return [(index, race.value(index)) for index in race.order[:n]]


async def select_ok(*awaitables: Awaitable[T]) -> tuple[int, T]:
    """Wait for the first that succeeds, in the order of history, and cancel the rest.

    Args:
        awaitables: Coroutines or handles, at least one; they run at the same time.

    Returns:
        Which argument it was, from 0, and what it returned.

    Raises:
        AllFailed: None succeeded; `errors` has all the failures.
        UsageError: There is nothing to wait for.

    Example:
        ```python
        _, quote = await flovyn.select_ok(*(ctx.schedule(ask, supplier) for supplier in suppliers))
        ```
    """
    race = _Race(awaitables)
    if not awaitables:
        raise UsageError("cannot wait for the first of nothing: give at least one coroutine or handle")
    await race.run(lambda: race.succeeded, tolerant=True)
    for index in race.order:
        outcome = race.outcomes[index]
        if isinstance(outcome, Ok):
            return index, outcome.value
    failures = race.failures([*range(len(awaitables))])
    raise AllFailed(failures) from ExceptionGroup("all failed", failures)


class _Race(Generic[T]):
    """Things that run at the same time until somebody has seen enough.

    Attributes:
        outcomes: How those ended that have, by their number.
        order: Their numbers, in the order in which they ended.
        failed: Whether one of them failed.
        succeeded: Whether one of them did not.
    """

    def __init__(self, awaitables: Sequence[Awaitable[T]]) -> None:
        self.outcomes: dict[int, Settled[T]] = {}
        self.order: list[int] = []
        self.failed: bool = False
        self.succeeded: bool = False
        self._awaitables = awaitables
        for awaitable in awaitables:
            if not isinstance(awaitable, Awaitable):  # pyright: ignore[reportUnnecessaryIsInstance]
                self.close()
                raise UsageError(
                    f"{awaitable!r} cannot be waited for: give coroutines (called, not awaited) or handles"
                )

    async def run(self, enough: Callable[[], bool], *, tolerant: bool = False) -> None:
        """Run all until each has ended, or until there is `enough`, and the rest is cancelled.

        Args:
            enough: Asked each time that one has ended.
            tolerant: Failures are no more than outcomes: if all is cancelled from outside, none of them is raised.
        """
        interrupted: BaseException | None = None
        try:
            async with anyio.create_task_group() as tg:
                for index, awaitable in enumerate(self._awaitables):
                    tg.start_soon(self._contend, tg, index, awaitable, enough)
        except BaseException as error:  # noqa: ASYNC103, ASYNC104, BLE001 - looked at, and raised, below
            interrupted = error
        finally:
            self.close()
        if interrupted is None:
            return
        left = self._unrecorded(interrupted)
        superseded = self.failed and not tolerant and all(map(_is_cancellation, left))
        try:
            if left and not superseded:
                raise left[0] if len(left) == 1 else interrupted
        finally:
            del interrupted, left  # or they would hold this frame, which holds them

    def _unrecorded(self, error: BaseException) -> list[BaseException]:
        """What is in an error beside the failures that are outcomes."""
        known = [
            leaf for outcome in self.outcomes.values() if isinstance(outcome, Err) for leaf in _leaves(outcome.error)
        ]
        return [leaf for leaf in _leaves(error) if not any(leaf is failure for failure in known)]

    async def _contend(self, tg: TaskGroup, index: int, awaitable: Awaitable[T], enough: Callable[[], bool]) -> None:
        try:
            self._end(index, Ok(await awaitable))
        except DeterminismError:
            raise  # no failure of this branch, but of the whole run
        except Exception as error:  # noqa: BLE001 - whoever waits for the branch decides
            self._end(index, Err(error))
        except BaseExceptionGroup as group:
            # The branch was cancelled, and its clean-up failed.
            failures = group.split(anyio.get_cancelled_exc_class())[1]
            if isinstance(failures, Exception):
                leaves = _leaves(failures)
                self._end(index, Err(_an_exception(leaves[0]) if len(leaves) == 1 else failures))
            raise
        if enough():
            tg.cancel_scope.cancel("the others have been enough")

    def _end(self, index: int, outcome: Settled[T]) -> None:
        self.outcomes[index] = outcome
        self.order.append(index)
        if isinstance(outcome, Ok):
            self.succeeded = True
        else:
            self.failed = True

    def close(self) -> None:
        """Close the coroutines that were never begun, so that nobody is warned of them."""
        for awaitable in self._awaitables:
            if inspect.iscoroutine(awaitable) and inspect.getcoroutinestate(awaitable) == inspect.CORO_CREATED:
                awaitable.close()

    def value(self, index: int) -> T:
        """What one of them returned that did."""
        outcome = self.outcomes[index]
        assert isinstance(outcome, Ok)
        return outcome.value

    def failures(self, indices: Sequence[int]) -> list[Exception]:
        """What those of these raised that did."""
        outcomes = [self.outcomes[index] for index in indices]
        return [outcome.error for outcome in outcomes if isinstance(outcome, Err)]

    def raise_failure(self) -> None:
        """Raise the first failure, if there is one, with the others in its notes."""
        failures = self.failures(self.order)
        if not failures:
            return
        first, *others = failures
        for other in others:
            first.add_note(f"While the others were cancelled, another one failed: {type(other).__name__}: {other}")
        try:
            raise first
        finally:
            del first, failures, others


def _leaves(error: BaseException) -> list[BaseException]:
    members = members_of(error)
    return [leaf for member in members for leaf in _leaves(member)] if members else [error]


def _is_cancellation(error: BaseException) -> bool:
    return isinstance(error, anyio.get_cancelled_exc_class())


def _an_exception(error: BaseException) -> Exception:
    assert isinstance(error, Exception)
    return error
