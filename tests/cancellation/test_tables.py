"""The page on cancellation says what the matrix expects."""

from __future__ import annotations

import pytest

from cancellation.model import expected
from cancellation.table import CELLS, OPERATIONS, Cell
from cancellation.tables import PAGE, rendered


def test_the_tables_of_the_page_are_what_the_matrix_expects() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert text == rendered(text), "run python tests/cancellation/tables.py"


@pytest.mark.parametrize("operation", OPERATIONS)
def test_what_the_page_says_of_all_cells(operation: str) -> None:
    for cell in CELLS:
        if cell.cached and cell.operation == operation:
            check(cell)


def check(cell: Cell) -> None:
    told = expected(cell)
    assert told == expected(Cell(cell.operation, cell.when, cell.scope, cached=False))
    commands = {command for phase in told.phases for asked in phase.activations for command in asked}
    if cell.is_shielded:
        assert told.notes[0] == cell.what.value
        assert commands.isdisjoint({"CancelTask", "cancel timer", "cancel child part-1"})
    elif cell.when == "before":
        assert commands.isdisjoint(cell.what.begins)
        assert told.phases[-1].kept == {}
