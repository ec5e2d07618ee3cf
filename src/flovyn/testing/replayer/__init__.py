"""Does the code as it is today do what the histories of yesterday say?"""

from __future__ import annotations

from flovyn.testing.replayer.history import History
from flovyn.testing.replayer.reading import RecordedEvent
from flovyn.testing.replayer.replaying import Replayer
from flovyn.testing.replayer.report import Report

__all__ = ["History", "RecordedEvent", "Replayer", "Report"]
