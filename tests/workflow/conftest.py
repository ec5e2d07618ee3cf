"""Nothing that a test of workflows begins outlives it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from replay.replay_platform import OPEN


@pytest.fixture(autouse=True)
def evicted() -> Iterator[None]:
    """Evict every execution of the test."""
    yield
    while OPEN:
        OPEN.pop().close()
