"""How long to wait before something is tried again."""

from __future__ import annotations

from dataclasses import dataclass

from flovyn.definitions.backoff import grown
from flovyn.errors import ConfigurationError

__all__ = ["Backoff"]


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential back-off with jitter.

    Args:
        initial: The longest first wait, in seconds.
        maximum: The longest wait of all, in seconds.
        factor: How much longer each wait may be than the one before.

    Raises:
        ConfigurationError: The numbers make no back-off.

    Example:
        >>> 0.025 <= Backoff(initial=0.05).delay(0) <= 0.05
        True
        >>> Backoff(initial=0.05, maximum=5.0).delay(10_000) <= 5.0
        True
    """

    initial: float = 0.05
    maximum: float = 5.0
    factor: float = 2.0

    def __post_init__(self) -> None:
        if not 0 < self.initial <= self.maximum:
            raise ConfigurationError(f"a back-off needs 0 < initial <= maximum, not {self.initial} and {self.maximum}")
        if self.factor < 1:
            raise ConfigurationError(f"a back-off needs a factor of at least 1, not {self.factor}")

    def delay(self, attempt: int) -> float:
        """Seconds to wait after failure number `attempt`, counted from 0."""
        # Half of it is random: a fleet that lost its server together must not come back together.
        return grown(attempt + 1, first=self.initial, factor=self.factor, longest=self.maximum, jitter=0.5)
