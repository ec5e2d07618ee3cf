"""A whole Flovyn in a test: server, worker and client in this process, under a clock that the test has in its hands."""

from __future__ import annotations

from flovyn.testing.environments.clock import VirtualClock
from flovyn.testing.environments.environment import Environment, environment

__all__ = ["Environment", "VirtualClock", "environment"]
