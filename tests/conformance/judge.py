"""Runs only what is parametrized with the nursery's backend, and holds the list of excused tests to the truth."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any

import pytest

__all__ = ["BACKEND", "Judge"]

BACKEND = "flovyn"


class Judge:
    """A pytest plugin.

    Attributes:
        passed: How many tests passed.
        faults: Why the session fails, beside tests that fail: stale entries of the list, and tests that somebody
            skipped without an entry.
    """

    def __init__(self, excused: Mapping[str, str]) -> None:
        self.passed = 0
        self.faults: list[str] = []
        self._excused = excused
        self._failed: set[str] = set()

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        others = [item for item in items if not _is_ours(item)]
        items[:] = [item for item in items if _is_ours(item)]
        config.hook.pytest_deselected(items=others)
        collected = {item.nodeid for item in items}
        self.faults += [
            f"excused, but there is no such test: {name}" for name in self._excused if name not in collected
        ]

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        reason = self._excused.get(item.nodeid)
        if reason is None:
            if report.skipped:
                self.faults.append(f"neither run nor excused: {item.nodeid}")
            self.passed += report.when == "call" and report.passed
        elif report.failed:
            self._failed.add(item.nodeid)
            report.outcome, report.longrepr = "skipped", (str(item.path), 0, f"Skipped: {reason}")
        elif report.when == "teardown" and item.nodeid not in self._failed:
            self.faults.append(f"excused, but it passes: {item.nodeid}")
        return report

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.faults and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        for fault in self.faults:
            terminalreporter.write_line(f"FAULT {fault}", red=True)
        terminalreporter.write_line(f"conformance: {self.passed} of AnyIO's tests passed on {BACKEND!r}")


def _is_ours(item: pytest.Item) -> bool:
    callspec = getattr(item, "callspec", None)
    return callspec is not None and BACKEND in callspec.params.values()
