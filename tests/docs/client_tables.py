"""The table of docs/client.md, made from the calls that tests make. `python tests/docs/client_tables.py` writes it."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from client.calls import NEVER_REPEATED, REPEATED, WAITING

__all__ = ["PAGE", "TABLE", "between"]

PAGE = Path(__file__).parents[2] / "docs" / "client.md"


def _table() -> str:
    rows = [(name, "again", "REST" if call.rpc is None else "gRPC") for name, call in REPEATED.items()]
    rows += [(name, "for as long as it takes", "REST" if "submitted" in name else "gRPC") for name in sorted(WAITING)]
    rows += [(name, "once", "REST" if call.rpc is None else "gRPC") for name, call in NEVER_REPEATED.items()]
    head = "| call | made | over |\n| --- | --- | --- |\n"
    return head + "".join(f"| {name} | {made} | {over} |\n" for name, made, over in rows)


TABLE = _table()


def between(text: str) -> tuple[int, int]:
    """Where the table is."""
    opening, closing = "<!-- calls -->\n", "<!-- end of calls -->"
    return text.index(opening) + len(opening), text.index(closing)


if __name__ == "__main__":
    text = PAGE.read_text(encoding="utf-8")
    start, stop = between(text)
    PAGE.write_text(f"{text[:start]}\n{TABLE}\n{text[stop:]}", encoding="utf-8")
