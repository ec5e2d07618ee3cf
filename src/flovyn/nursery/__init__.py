"""The deterministic nursery: AnyIO's and Trio's structured concurrency, in an order that never varies.

Importing this package registers the AnyIO backend `flovyn`. Workflow code uses AnyIO as everywhere else, or the same
objects under Trio's names, which are here. By itself the nursery runs over a virtual clock:

    >>> import anyio, flovyn.nursery
    >>> async def a_day() -> float:
    ...     await anyio.sleep(86_400)
    ...     return anyio.current_time()
    >>> anyio.run(a_day, backend="flovyn")
    86400.0
"""

from __future__ import annotations

from flovyn.nursery._audit import arm_tripwires
from flovyn.nursery._backend import register
from flovyn.nursery._group import TaskGroup as Nursery
from flovyn.nursery._limiter import CapacityLimiter
from flovyn.nursery._scope import Cancelled, CancelScope
from flovyn.nursery._sync import Event, Lock, Semaphore
from flovyn.nursery._trio import (
    checkpoint,
    current_effective_deadline,
    current_time,
    fail_after,
    fail_at,
    move_on_after,
    move_on_at,
    open_nursery,
    sleep,
    sleep_forever,
    sleep_until,
)
from flovyn.nursery._tripwires import Tripwires

__all__ = [
    "CancelScope",
    "Cancelled",
    "CapacityLimiter",
    "Event",
    "Lock",
    "Nursery",
    "Semaphore",
    "Tripwires",
    "arm_tripwires",
    "checkpoint",
    "current_effective_deadline",
    "current_time",
    "fail_after",
    "fail_at",
    "move_on_after",
    "move_on_at",
    "open_nursery",
    "sleep",
    "sleep_forever",
    "sleep_until",
]

register()
