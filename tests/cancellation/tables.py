"""The tables of docs/cancellation.md: what the matrix expects. `python tests/cancellation/tables.py` writes them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import get_args

sys.path.append(str(Path(__file__).parents[1]))  # for the command; tests have it

from cancellation.model import Expected, Phase, expected
from cancellation.table import CANNOT_OCCUR, CELLS, OPERATIONS, Cell, Scope, When

__all__ = ["PAGE", "TABLES", "rendered"]

PAGE = Path(__file__).parents[2] / "docs" / "cancellation.md"

COLUMNS: dict[When, str] = {
    "before": "before the await",
    "while": "while it waits",
    "cancel first": "in the activation that sees its end, before the end",
    "end first": "likewise, behind the end",
    "after": "after it",
}


def _of(operation: str, when: When, scope: Scope) -> Expected | None:
    if (operation, when, scope) in CANNOT_OCCUR:
        return None
    return expected(Cell(operation, when, scope, cached=True))  # which makes no difference to what is expected


def _gives(operation: str, when: When, scope: Scope) -> str:
    """What the await gives: its value, or the cancellation."""
    told = _of(operation, when, scope)
    if told is None:
        return "cannot occur"
    return "`Cancelled`" if str(told.notes[0]).startswith("Cancelled") else "its value"


def _awaits() -> str:
    rows = [("await", *COLUMNS.values())]
    for operation in OPERATIONS:
        cells: list[str] = []
        for when in COLUMNS:
            inner, root = _gives(operation, when, "inner"), _gives(operation, when, "root")
            cells.append(inner if inner == root else f"{inner}; from outside: {root}")
        rows.append((f"`{operation}`", *cells))
    return _table(*rows)


def _told(phase: Phase) -> str:
    return "; ".join(", ".join(f"`{word}`" for word in asked) for asked in phase.activations)


def _server() -> str:
    rows = [("await", "an inner scope: the workflow goes on", "the root scope: it ends", "what is left")]
    for operation, what in OPERATIONS.items():
        if not what.things:
            continue
        inner, root = _of(operation, "while", "inner"), _of(operation, "while", "root")
        assert inner is not None
        assert root is not None
        left = [phase.phases[1].kept for phase in (inner, root)]
        shown = [", ".join(f"{thing} {status}" for thing, status in kept.items()) or "nothing" for kept in left]
        both = shown[0] if shown[0] == shown[1] else f"{shown[0]}; {shown[1]}"
        rows.append((f"`{operation}`", _told(inner.phases[1]), _told(root.phases[1]), both))
    return _table(*rows)


def _size() -> str:
    awaits, moments, scopes = len(OPERATIONS), len(get_args(When)), len(get_args(Scope))
    every = awaits * moments * scopes * 2
    return (
        f"{awaits} awaits, {moments} moments, {scopes} scopes, cached or re-enacted: that makes {every} cells."
        f" {len(CELLS)} are run, on asyncio, on asyncio with uvloop and on trio; {every - len(CELLS)} cannot occur.\n"
    )


def _cannot_occur() -> str:
    rows = [("await", "when", "scope", "why it cannot occur")]
    rows += [(f"`{operation}`", when, scope, why) for (operation, when, scope), why in CANNOT_OCCUR.items()]
    return _table(*rows)


def _table(*rows: tuple[str, ...]) -> str:
    head, *body = rows
    return "".join(f"| {' | '.join(line)} |\n" for line in [head, tuple("---" for _ in head), *body])


TABLES: dict[str, Callable[[], str]] = {
    "awaits": _awaits,
    "server": _server,
    "size": _size,
    "cannot occur": _cannot_occur,
}


def rendered(text: str) -> str:
    """The page with its tables made anew; each stands between two comments that name it."""
    for name, make in TABLES.items():
        begin, end = f"<!-- matrix: {name} -->\n", "<!-- end -->"
        start = text.index(begin) + len(begin)
        text = f"{text[:start]}\n{make()}\n{text[text.index(end, start) :]}"
    return text


if __name__ == "__main__":
    PAGE.write_text(rendered(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
