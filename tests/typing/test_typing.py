"""Both type checkers, strict, over the files beside this one: they find what is marked, and nothing else.

A line that has to be an error ends in a comment that names the checkers with what they call it, several behind commas.
What has to be fine says by `assert_type` what it is. These files are no part of the checkers' common run, which would
take this directory for the standard library's `typing`.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
FILES = sorted(HERE.glob("*.py"))  # this one too

MARKER = re.compile(r"# E: (?P<expected>(mypy|pyright)\[.*)$")
EXPECTED = re.compile(r"(?P<checker>mypy|pyright)\[(?P<rules>[\w,-]+)\]")
REPORTED = re.compile(r"^(?P<file>[^:]+):(?P<line>\d+): error: .*\[(?P<code>[\w-]+)\]$")

Faults = set[tuple[str, int, str]]


def expected(checker: str) -> Faults:
    """File, line and code of every error that the files promise."""
    faults: Faults = set()
    for path in FILES:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if (marker := MARKER.search(line)) is not None:
                found = {each["checker"]: each["rules"] for each in EXPECTED.finditer(marker["expected"])}
                assert found, f"{path.name}:{number}: a marker that names no checker"
                faults |= {(path.name, number, code) for code in found.get(checker, "").split(",") if code}
    return faults


def test_there_is_something_to_find() -> None:
    assert [path.stem for path in FILES] == ["clients", "contexts", "definitions", "handles", "tasks", "test_typing"]
    for checker in ("mypy", "pyright"):
        assert len(expected(checker)) > 40


def disagreement(checker: str, found: Faults) -> str:
    """What only one side has, a line for each."""
    promised = expected(checker)
    lines = [f"not found: {fault}" for fault in sorted(promised - found)]
    return "\n".join([*lines, *(f"not marked: {fault}" for fault in sorted(found - promised))])


def test_mypy_finds_what_is_marked_and_nothing_else() -> None:
    pytest.importorskip("mypy", reason="a part of `nox -s types`")
    options = ["--config-file", str(ROOT / "pyproject.toml"), "--cache-dir", str(ROOT / ".mypy_cache"), "--no-pretty"]
    run = subprocess.run(
        [sys.executable, "-m", "mypy", *options, "--no-error-summary", *(path.name for path in FILES)],
        cwd=HERE,
        env={**os.environ, "MYPYPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.stderr == ""
    matches = [(line, REPORTED.match(line)) for line in run.stdout.splitlines() if ": note: " not in line]
    assert [line for line, match in matches if match is None] == []
    found = {(match["file"], int(match["line"]), match["code"]) for _, match in matches if match}
    assert disagreement("mypy", found) == ""


def test_pyright_finds_what_is_marked_and_nothing_else() -> None:
    if importlib.util.find_spec("pyright") is None:
        pytest.skip("a part of `nox -s types`")
    command = ["-m", "pyright", "--outputjson", "--pythonpath", sys.executable, "--project", str(HERE)]
    run = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False)
    report = json.loads(run.stdout)
    assert report["summary"]["filesAnalyzed"] == len(FILES)
    found = {
        (Path(each["file"]).name, each["range"]["start"]["line"] + 1, each.get("rule", each["message"]))
        for each in report["generalDiagnostics"]
    }
    assert disagreement("pyright", found) == ""
