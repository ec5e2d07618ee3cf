"""Makes the nursery the only backend that AnyIO's tests know, and judges what they do."""

from __future__ import annotations

import anyio._core._eventloop as registry
import pytest

import flovyn.nursery
from conformance.excused import EXCUSED
from conformance.judge import BACKEND, Judge

assert flovyn.nursery.__name__  # importing it made the backend known
setattr(registry, "BACKENDS", (BACKEND,))  # noqa: B010  # its declared type is that of the two that AnyIO has


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Judge(EXCUSED))
