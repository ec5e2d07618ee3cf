"""Nothing that a test records with outlives it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from replay.replay_platform import evict


@pytest.fixture(autouse=True)
def evicted() -> Iterator[None]:
    """Evict every execution of the test."""
    yield
    evict()
