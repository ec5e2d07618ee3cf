"""How a worker works, checked when it is made."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

from flovyn.errors import ConfigurationError
from flovyn.nursery import Tripwires
from flovyn.worker.reconnect import ExponentialReconnect, ReconnectStrategy

__all__ = ["ViolationPolicy", "WorkerOptions"]

ViolationPolicy = Literal["hold", "fail"]
"""What becomes of a run whose code disagrees with its history."""


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """The options of `Worker` that say how it works; they are described there.

    Raises:
        ConfigurationError: A value that cannot work, by the option's name.
    """

    max_concurrent_workflows: int = 10
    max_concurrent_tasks: int = 20
    grace: float = 30.0
    cancel_grace: float = 0.0
    abandon_after: float = 10.0
    heartbeat_interval: float = 2.0
    task_heartbeat_interval: float = 2.0
    lease: float = 60.0
    on_violation: ViolationPolicy = "hold"
    cache_size: int = 1_000
    cache_age: float = 3_600.0
    step_limit: int = 100_000
    tripwires: Tripwires = field(default_factory=Tripwires)
    reconnect: ReconnectStrategy = field(default_factory=ExponentialReconnect)

    def __post_init__(self) -> None:
        if self.on_violation not in get_args(ViolationPolicy):
            choices = " or ".join(repr(choice) for choice in get_args(ViolationPolicy))
            raise ConfigurationError(f"on_violation must be {choices}, not {self.on_violation!r}")
        for name, least in (
            ("max_concurrent_workflows", 1),
            ("max_concurrent_tasks", 1),
            ("cache_size", 0),
            ("step_limit", 1),
        ):
            if not getattr(self, name) >= least:
                raise ConfigurationError(f"{name} must be at least {least}, not {getattr(self, name)}")
        for name in ("heartbeat_interval", "task_heartbeat_interval", "lease", "cache_age"):
            # `not >` rather than `<=`, so that NaN is refused too.
            if not getattr(self, name) > 0:
                raise ConfigurationError(f"{name} must be more than 0 seconds, not {getattr(self, name)}")
        for name in ("grace", "cancel_grace", "abandon_after"):
            if not getattr(self, name) >= 0:
                raise ConfigurationError(f"{name} must be 0 seconds or more, not {getattr(self, name)}")
        if not callable(self.reconnect):
            raise ConfigurationError(f"reconnect takes a strategy like ExponentialReconnect(), not {self.reconnect!r}")
        for name in ("heartbeat_interval", "task_heartbeat_interval"):
            if getattr(self, name) >= self.lease:
                raise ConfigurationError(
                    f"{name} ({getattr(self, name)} s) must be shorter than the lease ({self.lease} s):"
                    " work that is silent for that long is given to others"
                )
