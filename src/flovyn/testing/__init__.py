"""What tests of workflows are made with."""

from __future__ import annotations

from flovyn.testing.replayer import History, RecordedEvent, Replayer, Report

__all__ = ["History", "RecordedEvent", "Replayer", "Report"]
