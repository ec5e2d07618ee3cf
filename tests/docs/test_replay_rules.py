"""Each rule of replay names the tests that hold it, and they are there."""

from __future__ import annotations

import re

from house.source import ROOT

NAMED = re.compile(r"`(test_\w+)`")
DEFINED = re.compile(r"^(?:async )?def (test_\w+)", re.MULTILINE)


def test_the_tests_that_hold_the_rules_exist() -> None:
    named = set(NAMED.findall((ROOT / "docs" / "replay.md").read_text(encoding="utf-8")))
    defined = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in DEFINED.findall(path.read_text(encoding="utf-8"))
    }
    assert named
    assert named - defined == set()
