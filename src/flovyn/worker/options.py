"""How a worker works, checked when it is made."""

from __future__ import annotations

from dataclasses import dataclass, field

from flovyn.client import Backoff
from flovyn.errors import ConfigurationError

__all__ = ["WorkerOptions"]


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """The options of `Worker` that are numbers; they are described there.

    Raises:
        ConfigurationError: A number that cannot work, by its name.
    """

    max_concurrent_workflows: int = 10
    max_concurrent_tasks: int = 20
    grace: float = 30.0
    heartbeat_interval: float = 2.0
    task_heartbeat_interval: float = 2.0
    lease: float = 60.0
    reconnect: Backoff = field(default_factory=Backoff)

    def __post_init__(self) -> None:
        for name in ("max_concurrent_workflows", "max_concurrent_tasks"):
            if getattr(self, name) < 1:
                raise ConfigurationError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("heartbeat_interval", "task_heartbeat_interval", "lease"):
            # `not >` rather than `<=`, so that NaN is refused too.
            if not getattr(self, name) > 0:
                raise ConfigurationError(f"{name} must be more than 0 seconds, not {getattr(self, name)}")
        if not self.grace >= 0:
            raise ConfigurationError(f"grace must be 0 seconds or more, not {self.grace}")
        for name in ("heartbeat_interval", "task_heartbeat_interval"):
            if getattr(self, name) >= self.lease:
                raise ConfigurationError(
                    f"{name} ({getattr(self, name)} s) must be shorter than the lease ({self.lease} s):"
                    " work that is silent for that long is given to others"
                )
