"""The worker: what runs workflows and tasks."""

from __future__ import annotations

from flovyn.worker.statistics import WorkerStatistics
from flovyn.worker.worker import Worker

__all__ = ["Worker", "WorkerStatistics"]
