"""What tests of workflows are made with."""

from __future__ import annotations

from flovyn.testing.environments import Environment, VirtualClock, environment
from flovyn.testing.replayer import History, RecordedEvent, Replayer, Report

__all__ = ["Environment", "History", "RecordedEvent", "Replayer", "Report", "VirtualClock", "environment"]
