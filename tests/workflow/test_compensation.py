"""Undoing a block: when, in which order, and what is raised then."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from flovyn.errors import DeterminismError
from flovyn.workflow.compensation import compensation
from workflow.test_combinators import Run, run

__all__ = ["run"]  # the fixture


class Ledger:
    """Remembers what was undone."""

    def __init__(self) -> None:
        self.undone: list[str] = []

    async def undo(self, name: str, *, fails: bool = False) -> None:
        await anyio.lowlevel.checkpoint()
        self.undone.append(name)
        if fails:
            raise OSError(name)


def test_a_block_that_ends_well_undoes_nothing(run: Run[Any]) -> None:
    ledger = Ledger()

    async def main() -> None:
        async with compensation() as undo:
            undo.push(ledger.undo, "a")

    run(main)
    assert ledger.undone == []


def test_a_block_that_fails_is_undone_the_last_step_first(run: Run[Any]) -> None:
    ledger = Ledger()

    async def main() -> None:
        async with compensation() as undo:
            undo.push(ledger.undo, "a")
            undo.push(ledger.undo, "b")
            raise ValueError("no")

    with pytest.raises(ValueError, match="^no$") as caught:
        run(main)
    assert ledger.undone == ["b", "a"]
    assert not hasattr(caught.value, "__notes__")


def test_a_cancelled_block_is_undone_in_a_shield_and_stays_cancelled(run: Run[Any]) -> None:
    ledger = Ledger()

    async def main() -> bool:
        with anyio.CancelScope() as scope:
            async with compensation() as undo:
                undo.push(ledger.undo, "a")
                undo.push(ledger.undo, "b")
                scope.cancel()
                await anyio.lowlevel.checkpoint()
        return scope.cancelled_caught

    assert run(main)
    assert ledger.undone == ["b", "a"]


def test_a_compensation_that_fails_stops_no_other_and_replaces_nothing(run: Run[Any]) -> None:
    ledger = Ledger()

    async def main() -> None:
        async with compensation() as undo:
            undo.push(ledger.undo, "a", fails=True)
            undo.push(ledger.undo, "b")
            undo.push(ledger.undo, "c", fails=True)
            raise ValueError("no")

    with pytest.raises(ValueError, match="^no\n") as caught:
        run(main)
    assert ledger.undone == ["c", "b", "a"]
    assert caught.value.__notes__ == [
        "A compensation failed as well: OSError: c",
        "A compensation failed as well: OSError: a",
    ]


def test_after_a_cancellation_the_failures_go_on_behind_it(run: Run[Any]) -> None:
    ledger = Ledger()
    seen: list[object] = []

    async def main() -> None:
        with anyio.CancelScope() as scope:
            try:
                async with compensation() as undo:
                    undo.push(ledger.undo, "a", fails=True)
                    undo.push(ledger.undo, "b")
                    scope.cancel()
                    await anyio.lowlevel.checkpoint()
            finally:
                seen.extend(undo.failures)

    with pytest.raises(ExceptionGroup) as caught:
        run(main)
    assert ledger.undone == ["b", "a"]
    assert [repr(error) for error in caught.value.exceptions] == ["OSError('a')"]
    assert seen == list(caught.value.exceptions)


def test_what_a_compensation_pushes_is_undone_too(run: Run[Any]) -> None:
    ledger = Ledger()

    async def main() -> None:
        async with compensation() as undo:

            async def more() -> None:
                await ledger.undo("more")
                undo.push(ledger.undo, "pushed late")

            undo.push(ledger.undo, "a")
            undo.push(more)
            raise ValueError("no")

    with pytest.raises(ValueError, match="^no$"):
        run(main)
    assert ledger.undone == ["more", "pushed late", "a"]


@pytest.mark.parametrize("error", [DeterminismError("outside"), KeyboardInterrupt()])
def test_what_is_no_failure_of_the_workflow_undoes_nothing(error: BaseException) -> None:
    ledger = Ledger()

    async def main() -> None:
        async with compensation() as undo:
            undo.push(ledger.undo, "a")
            raise error

    with pytest.raises(type(error)):
        anyio.run(main)
    assert ledger.undone == []


def test_a_fault_of_determinism_in_a_compensation_ends_it(run: Run[Any]) -> None:
    ledger = Ledger()

    async def reaches_outside() -> None:
        raise DeterminismError("outside")

    async def main() -> None:
        async with compensation() as undo:
            undo.push(ledger.undo, "a")
            undo.push(reaches_outside)
            raise ValueError("no")

    with pytest.raises(DeterminismError, match="^outside$"):
        run(main)
    assert ledger.undone == []
