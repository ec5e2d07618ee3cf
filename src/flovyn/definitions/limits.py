"""The platform's own limits: one that is exceeded is better told here than refused there."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

__all__ = ["LARGEST_PRIORITY", "LONGEST_KEY", "LONGEST_TTL", "SHORTEST_TTL"]

LONGEST_KEY: Final = 255
SHORTEST_TTL: Final = timedelta(seconds=1)
LONGEST_TTL: Final = timedelta(days=30)

LARGEST_PRIORITY: Final = timedelta(seconds=2**31 - 1)
"""What a signed field of 32 bits holds, either way."""
