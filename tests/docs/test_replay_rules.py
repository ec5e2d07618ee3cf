"""The rules of replay and of cancellation name the tests that hold them, and these are there."""

from __future__ import annotations

import re

import pytest

from house.source import ROOT

NAMED = re.compile(r"`(test_\w+)`")
DEFINED = re.compile(r"^(?:async )?def (test_\w+)", re.MULTILINE)


@pytest.mark.parametrize("page", ["replay.md", "cancellation.md"])
def test_the_tests_that_hold_the_rules_exist(page: str) -> None:
    named = set(NAMED.findall((ROOT / "docs" / page).read_text(encoding="utf-8")))
    defined = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in DEFINED.findall(path.read_text(encoding="utf-8"))
    }
    assert named
    assert named - defined == set()
