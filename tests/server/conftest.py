"""Nothing that a server test opens outlives it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from server.world import OPEN


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    """Close every store of the test."""
    yield
    while OPEN:
        OPEN.pop().close()
