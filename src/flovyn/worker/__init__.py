"""The worker: what runs workflows and tasks."""

from __future__ import annotations

from flovyn.worker.reconnect import ExponentialReconnect, FixedReconnect, NoReconnect, Outage, ReconnectStrategy
from flovyn.worker.report import WorkerReport, WorkItem
from flovyn.worker.statistics import WorkerStatistics
from flovyn.worker.worker import Worker

__all__ = [
    "ExponentialReconnect",
    "FixedReconnect",
    "NoReconnect",
    "Outage",
    "ReconnectStrategy",
    "WorkItem",
    "Worker",
    "WorkerReport",
    "WorkerStatistics",
]
