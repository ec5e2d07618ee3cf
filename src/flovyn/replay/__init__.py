"""History drives the scheduler: the deterministic half of a worker, without I/O, clock or randomness of its own.

`docs/replay.md` in the project lists the rules, each with the counterexample that made it.
"""

from __future__ import annotations

from flovyn.replay.activation import Activation
from flovyn.replay.events import Event, read_event
from flovyn.replay.execution import Execution, RunInfo
from flovyn.replay.fault import fail, hold, holds_before
from flovyn.replay.history import HistoryGap
from flovyn.replay.operations import Operation
from flovyn.replay.reenactment import Reenactment
from flovyn.replay.submission import Status, Submission

__all__ = [
    "Activation",
    "Event",
    "Execution",
    "HistoryGap",
    "Operation",
    "Reenactment",
    "RunInfo",
    "Status",
    "Submission",
    "fail",
    "hold",
    "holds_before",
    "read_event",
]
