"""What the documentation shows is what runs: code blocks as scripts, docstring examples as doctests."""

from __future__ import annotations

import doctest
import importlib
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import anyio
import pytest

import flovyn
from house.source import MODULES, ROOT, module_name

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```(?P<language>[\w+-]*)[^\n]*\n(?P<body>.*?)^```\s*$", re.MULTILINE | re.DOTALL)
EXCUSE = re.compile(r"<!-- not run: [^>]+ -->\s*\Z")


@dataclass(frozen=True)
class Block:
    """One fenced block of a page."""

    language: str
    body: str
    line: int
    excused: bool


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(
            language=fence["language"],
            body=fence["body"],
            line=text.count("\n", 0, fence.start("body")) + 1,
            excused=EXCUSE.search(text, 0, fence.start()) is not None,
        )
        for fence in FENCE.finditer(text)
    ]


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_block_says_what_it_is(page: Path) -> None:
    for block in blocks(page):
        assert block.language, f"{name_of(page)}:{block.line}: a code block without a language"
        assert block.language != "python" or not block.excused, (
            f"{name_of(page)}:{block.line}: Python blocks always run"
        )


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_python_blocks_run(page: Path, tmp_path: Path) -> None:
    """The blocks of one page are one program, in their order, so that a page can build on what it has shown."""
    program: list[str] = []
    for block in blocks(page):
        if block.language == "python":
            # Tracebacks then name the line of the page.
            program += [""] * (block.line - 1 - len(program)) + block.body.splitlines()
    if not program:
        return
    script = tmp_path / f"{page.stem}.py"
    script.write_text("\n".join(program) + "\n", encoding="utf-8")
    run = subprocess.run(
        [sys.executable, "-W", "error", str(script)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize("name", [module_name(path) for path in MODULES if path.name != "__main__.py"])
def test_docstring_examples(name: str) -> None:
    names = {"anyio": anyio, "flovyn": flovyn}
    result = doctest.testmod(importlib.import_module(name), extraglobs=names, optionflags=doctest.ELLIPSIS)
    assert result.failed == 0
