"""Joins and races, on every host and in the nursery: what comes out, in which order, and what becomes of the rest."""

from __future__ import annotations

import gc
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, TypeVar, cast

import anyio
import pytest

import flovyn.nursery  # noqa: F401  # pyright: ignore[reportUnusedImport] - it registers the backend
from conftest import BACKENDS, MISSING_UVLOOP
from flovyn.errors import AllFailed, DeterminismError, UsageError
from flovyn.serde.envelope import members_of
from flovyn.workflow.combinators import Err, Ok, join_all, join_n, join_settled, select, select_ok

T = TypeVar("T")
Run = Callable[[Callable[[], Coroutine[Any, Any, T]]], T]


@pytest.fixture(
    params=[
        "flovyn",
        *(pytest.param(name, marks=MISSING_UVLOOP if name == "asyncio+uvloop" else ()) for name in BACKENDS),
    ]
)
def run(request: pytest.FixtureRequest) -> Any:
    """Run an async function on one backend."""
    backend, options = BACKENDS.get(request.param, ("flovyn", {}))

    def run_main(main: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        return anyio.run(main, backend=backend, backend_options=options)

    return run_main


async def value(result: T, *, after: int = 0) -> T:
    await rounds(after)
    return result


async def broken(text: str, *, after: int = 0) -> Any:
    await rounds(after)
    raise ValueError(text)


async def rounds(number: int) -> None:
    """Let the others go first, this many times; two apart are enough on a scheduler that shuffles."""
    for _ in range(2 * number):
        await anyio.lowlevel.checkpoint()


async def for_ever(ends: list[str], name: str = "for ever") -> Any:
    try:
        await anyio.sleep_forever()
    finally:
        ends.append(name)


async def fails_in_its_cleanup() -> Any:
    try:
        await anyio.sleep_forever()
    finally:
        raise OSError("the clean-up failed")


class Handle:
    """Anything that can be awaited."""

    def __await__(self) -> Any:
        return value("handle", after=1).__await__()


def test_join_all_keeps_the_order_of_its_arguments(run: Run[Any]) -> None:
    async def main() -> list[object]:
        return await join_all(value(1, after=3), Handle(), value(3))

    assert run(main) == [1, "handle", 3]


def test_nothing_to_join_is_joined_at_once(run: Run[Any]) -> None:
    async def main() -> object:
        nothing: list[Awaitable[None]] = []
        return await join_all(*nothing), await join_settled(*nothing)

    assert run(main) == ([], [])


def test_join_all_raises_the_first_failure_as_itself_and_cancels_the_rest(run: Run[Any]) -> None:
    ends: list[str] = []

    async def main() -> None:
        await join_all(for_ever(ends), broken("first", after=1), for_ever(ends, "and ever"))

    with pytest.raises(ValueError, match="^first$") as caught:
        run(main)
    assert sorted(ends) == ["and ever", "for ever"]
    assert caught.value.__context__ is None
    assert not hasattr(caught.value, "__notes__")


def test_what_fails_after_the_first_failure_is_noted(run: Run[Any]) -> None:
    async def main() -> None:
        await join_all(fails_in_its_cleanup(), broken("first", after=1))

    with pytest.raises(ValueError, match="^first\n") as caught:
        run(main)
    assert caught.value.__notes__ == [
        "While the others were cancelled, another one failed: OSError: the clean-up failed"
    ]


def test_a_group_of_the_branch_itself_is_left_as_it_is(run: Run[Any]) -> None:
    async def grouped() -> None:
        async with anyio.create_task_group() as tg:  # noqa: ASYNC112
            tg.start_soon(broken, "inside")

    async def main() -> None:
        await join_all(grouped())

    with pytest.raises(ExceptionGroup) as caught:
        run(main)
    assert [str(error) for error in caught.value.exceptions] == ["inside"]


def test_join_settled_tells_how_each_ended(run: Run[Any]) -> None:
    async def main() -> object:
        return await join_settled(broken("no"), value(2, after=1))

    failed, fine = run(main)
    assert isinstance(failed, Err)
    assert repr(failed.error) == "ValueError('no')"
    assert fine == Ok(2)


def test_select_takes_the_first_and_cancels_the_rest(run: Run[Any]) -> None:
    ends: list[str] = []

    async def main() -> tuple[int, str]:
        return await select(for_ever(ends), value("b", after=1), for_ever(ends, "and ever"))

    assert run(main) == (1, "b")
    assert sorted(ends) == ["and ever", "for ever"]


def test_select_raises_what_the_first_raised(run: Run[Any]) -> None:
    async def main() -> object:
        return await select(value(1, after=5), broken("first", after=1))

    with pytest.raises(ValueError, match="^first$"):
        run(main)


def test_a_loser_whose_cleanup_fails_is_heard(run: Run[Any]) -> None:
    async def main() -> object:
        return await select(value(1, after=1), fails_in_its_cleanup())

    with pytest.raises(OSError, match="^the clean-up failed$"):
        run(main)


def test_select_ok_takes_the_first_that_succeeds(run: Run[Any]) -> None:
    async def main() -> object:
        return await select_ok(broken("a"), value("b", after=3), broken("c", after=1), fails_in_its_cleanup())

    assert run(main) == (1, "b")


def test_select_ok_tells_all_failures(run: Run[Any]) -> None:
    async def main() -> object:
        return await select_ok(broken("a", after=2), broken("b"))

    with pytest.raises(AllFailed, match=r"^all 2 failed: ValueError: a; ValueError: b$") as caught:
        run(main)
    assert [str(error) for error in caught.value.errors] == ["a", "b"]
    assert members_of(cast("Any", caught.value.__cause__)) == caught.value.errors


def test_join_n_takes_the_first_in_the_order_in_which_they_end(run: Run[Any]) -> None:
    ends: list[str] = []

    async def main() -> list[tuple[int, int]]:
        return await join_n(2, value(10, after=4), for_ever(ends), value(30, after=1))

    assert run(main) == [(2, 30), (0, 10)]
    assert ends == ["for ever"]


def test_join_n_raises_a_failure_among_the_first(run: Run[Any]) -> None:
    async def main() -> object:
        return await join_n(2, value(1), broken("second", after=1), value(3, after=5))

    with pytest.raises(ValueError, match="^second$"):
        run(main)


COMBINATORS: list[Callable[..., Awaitable[Any]]] = [
    join_all,
    join_settled,
    select,
    select_ok,
    lambda *awaitables: join_n(1, *awaitables),
]


@pytest.mark.parametrize("combinator", COMBINATORS)
def test_a_cancellation_from_outside_passes_through(run: Run[Any], combinator: Callable[..., Awaitable[Any]]) -> None:
    ends: list[str] = []

    async def main() -> bool:
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as tg:
                tg.start_soon(cancel_later, scope)
                await combinator(for_ever(ends), for_ever(ends))
                raise AssertionError("not reached")
        return scope.cancelled_caught

    async def cancel_later(scope: anyio.CancelScope) -> None:
        await anyio.wait_all_tasks_blocked()
        scope.cancel()

    assert run(main)
    assert ends == ["for ever"] * 2


@pytest.mark.parametrize("combinator", COMBINATORS)
def test_in_a_scope_that_is_cancelled_already_nothing_goes_on(
    run: Run[Any], combinator: Callable[..., Awaitable[Any]]
) -> None:
    went_on: list[str] = []

    async def branch() -> None:
        await anyio.lowlevel.checkpoint()
        went_on.append("on")

    async def main() -> bool:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await combinator(branch(), branch())
        return scope.cancelled_caught

    assert run(main)
    assert went_on == []


def test_a_cleanup_that_fails_when_all_is_cancelled_is_raised_as_itself(run: Run[Any]) -> None:
    async def main() -> None:
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as tg:
                tg.start_soon(cancel_later, scope)
                await join_all(fails_in_its_cleanup(), anyio.sleep_forever())

    async def cancel_later(scope: anyio.CancelScope) -> None:
        await anyio.wait_all_tasks_blocked()
        scope.cancel()

    with pytest.raises(ExceptionGroup) as caught:  # the group is the test's own
        run(main)
    assert [repr(error) for error in caught.value.exceptions] == ["OSError('the clean-up failed')"]


def test_a_fault_of_determinism_is_no_outcome(run: Run[Any]) -> None:
    async def reaches_outside() -> None:
        raise DeterminismError("outside")

    async def main(combinator: Callable[..., Awaitable[Any]]) -> None:
        await combinator(reaches_outside(), anyio.sleep_forever())

    for combinator in COMBINATORS:
        with pytest.raises(DeterminismError, match="^outside$"):
            run(partial(main, combinator))


class Quit(BaseException):
    """Neither a failure nor a cancellation."""


def test_what_is_no_exception_is_not_kept_back(run: Run[Any]) -> None:
    async def quits() -> None:
        raise Quit

    async def main() -> None:
        await join_settled(quits(), anyio.sleep_forever())

    with pytest.raises(Quit):
        run(main)


WRONG: list[tuple[Callable[..., Awaitable[Any]], str]] = [
    (lambda *a: join_n(3, *a), "cannot wait for the first 3 of 2: ask for at least 1, and at most all"),
    (lambda *a: join_n(0, *a), "cannot wait for the first 0 of 2: ask for at least 1, and at most all"),
    (
        lambda *a: join_all(*a, cast("Any", 7)),
        "7 cannot be waited for: give coroutines (called, not awaited) or handles",
    ),
    (
        lambda *a: select_ok(*a, cast("Any", value)),
        "cannot be waited for: give coroutines (called, not awaited) or handles",
    ),
]


@pytest.mark.parametrize(("call", "message"), WRONG)
def test_a_wrong_call_is_refused_and_leaves_no_coroutine_behind(call: Callable[..., Any], message: str) -> None:
    async def main() -> None:
        with pytest.raises(UsageError) as caught:
            await call(value(1), value(2))
        assert caught.value.message.endswith(message)

    anyio.run(main)
    gc.collect()  # a coroutine that nobody awaited would be a warning, which is an error here


def test_the_first_of_nothing_is_refused() -> None:
    async def main() -> None:
        with pytest.raises(UsageError, match="cannot wait for the first 1 of 0"):
            await select()
        with pytest.raises(UsageError, match="cannot wait for the first of nothing"):
            await select_ok()

    anyio.run(main)
