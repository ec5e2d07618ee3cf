"""The client for programs that are not asynchronous: the same calls, each of which blocks until it is answered.

The event loop runs in a thread of its own, for as long as the block of `connect` runs. Any thread may call.
"""

from __future__ import annotations

from flovyn.blocking.client import Client
from flovyn.blocking.connecting import connect
from flovyn.blocking.handle import SignalledStart, WorkflowHandle
from flovyn.blocking.portal import fail_after
from flovyn.blocking.start import Starter, Submitter
from flovyn.blocking.submitted import SubmittedTask

__all__ = [
    "Client",
    "SignalledStart",
    "Starter",
    "SubmittedTask",
    "Submitter",
    "WorkflowHandle",
    "connect",
    "fail_after",
]
