"""The tables of docs/server.md, made from what they tell of. `python tests/docs/server_tables.py` writes them."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

from flovyn.server import limits
from flovyn.server.auth import USER_METHODS
from flovyn.server.config.settings import KNOWN, TOLERATED
from flovyn.server.rest.table import ROUTES

__all__ = ["PAGE", "TABLES", "between", "rendered"]

PAGE = Path(__file__).parents[2] / "docs" / "server.md"


def _table(*rows: tuple[str, ...]) -> str:
    head, *body = rows
    lines = [head, tuple("---" for _ in head), *body]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


def _limits() -> str:
    path = Path(limits.__file__)
    nodes = ast.parse(path.read_text(encoding="utf-8")).body
    rows = [("constant", "value", "meaning")]
    for node, after in pairwise(nodes):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            name = node.target.id
            assert isinstance(after, ast.Expr), f"{name} has no docstring"
            assert isinstance(after.value, ast.Constant)
            value = getattr(limits, name)
            shown = f"{value:_}" if isinstance(value, int) else repr(value)
            rows.append((f"`{name}`", f"`{shown}`", re.sub(r"\s+", " ", str(after.value.value))))
    return _table(*rows)


def _endpoints() -> str:
    rows = [("method", "address", "")]
    for route in ROUTES:
        where = route.path.replace("/api/orgs/{org}", "…").replace(":path}", "}")
        rows.append((route.method, f"`{where}`", route.summary))
    return _table(*rows)


def _keys() -> str:
    rows = [("key", "meaning")]
    rows += [(f"`{key}`", meaning) for key, meaning in KNOWN.items()]
    return _table(*rows)


def _tolerated() -> str:
    rows = [("key", "why it does nothing")]
    rows += [(f"`{key}`", why) for key, why in TOLERATED.items()]
    return _table(*rows)


def _calls() -> str:
    names = sorted(path.rpartition("/")[2] for path in USER_METHODS)
    return ", ".join(names) + ".\n"


TABLES: dict[str, Callable[[], str]] = {
    "limits": _limits,
    "endpoints": _endpoints,
    "keys": _keys,
    "tolerated": _tolerated,
    "calls of a client": _calls,
}


def between(text: str, name: str) -> tuple[int, int]:
    """Where a table stands in the page."""
    begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->\n"
    return text.index(begin) + len(begin), text.index(end)


def rendered(text: str) -> str:
    """The page with every table made anew."""
    for name, table in TABLES.items():
        start, stop = between(text, name)
        text = f"{text[:start]}\n{table()}\n{text[stop:]}"
    return text


if __name__ == "__main__":
    PAGE.write_text(rendered(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    sys.stdout.write(f"{PAGE} is up to date\n")
