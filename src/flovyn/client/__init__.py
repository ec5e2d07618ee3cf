"""Starting workflows and learning how they end, from any AnyIO program."""

from __future__ import annotations

from flovyn.client.backoff import Backoff
from flovyn.client.client import Client, connect
from flovyn.client.handle import WorkflowHandle
from flovyn.client.history import HistoryEvent
from flovyn.client.options import StartOptions

__all__ = ["Backoff", "Client", "HistoryEvent", "StartOptions", "WorkflowHandle", "connect"]
