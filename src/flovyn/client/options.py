"""How a workflow is to be started."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from flovyn.errors import ConfigurationError

__all__ = ["StartOptions"]

# The platform's own limits: one that is exceeded is better told here than refused there.
_LONGEST_KEY: Final = 255
_SHORTEST_TTL: Final = timedelta(seconds=1)
_LONGEST_TTL: Final = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class StartOptions:
    """How a workflow is to be started.

    Args:
        queue: The queue whose workers run it.
        idempotency_key: Starting twice with one key starts once: as long as the first one has not failed and the key
            lives, the second start is answered with the first one's handle. At most 255 characters.
        idempotency_ttl: How long the key lives, between a second and 30 days; the server's default is a day.

    Raises:
        ConfigurationError: The queue is empty, or a key or its time to live is outside these limits.
    """

    queue: str = "default"
    idempotency_key: str | None = None
    idempotency_ttl: timedelta | None = None

    def __post_init__(self) -> None:
        if not self.queue:
            raise ConfigurationError("queue must not be empty; leave it out for the default")
        key, ttl = self.idempotency_key, self.idempotency_ttl
        if key is not None and not 0 < len(key) <= _LONGEST_KEY:
            raise ConfigurationError(f"an idempotency key has 1 to {_LONGEST_KEY} characters, not {len(key)}")
        if ttl is None:
            return
        if key is None:
            raise ConfigurationError("idempotency_ttl means nothing without an idempotency_key")
        if not _SHORTEST_TTL <= ttl <= _LONGEST_TTL:
            raise ConfigurationError(f"idempotency_ttl must be from {_SHORTEST_TTL} to {_LONGEST_TTL}, not {ttl}")
