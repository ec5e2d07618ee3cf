"""Which kernel steps on this thread: the only thing about the nursery that is global."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from flovyn.errors import DeterminismError

if TYPE_CHECKING:
    from flovyn.nursery._task import TaskState
    from flovyn.nursery.kernel import Kernel

__all__ = ["current_kernel", "current_task", "stepping"]


class _Stepping(threading.local):
    kernel: Kernel | None = None


stepping = _Stepping()


def current_kernel() -> Kernel:
    """The kernel that is stepping on this thread now.

    Raises:
        DeterminismError: Outside a step.
    """
    kernel = stepping.kernel
    if kernel is None:
        raise DeterminismError(
            "this call belongs inside a workflow, and none is being stepped on this thread; "
            "in other code call AnyIO itself"
        )
    return kernel


def current_task() -> TaskState:
    """The task that makes the current step.

    Raises:
        DeterminismError: Outside a step.
    """
    task = current_kernel().current
    if task is None:
        raise DeterminismError("this call belongs inside a task of a workflow, and none is being stepped now")
    return task
