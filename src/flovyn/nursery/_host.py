"""Hide the host's event loop for the length of a step.

The only module that knows that asyncio and Trio exist: asyncio from the first step on, as a step may import it, Trio
only if the process has imported it already. While a kernel steps, AnyIO finds the backend `flovyn`; asyncio and Trio
find a tripwire where their loop and task were, so that `asyncio.sleep()` fails with an error that says what to do, and
`asyncio.run()` and `trio.run()` refuse to start.
"""

# ruff: noqa: SLF001  # what is hidden here has no public name

from __future__ import annotations

import sys
import threading
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import sniffio

from flovyn.errors import DeterminismError
from flovyn.nursery import _guards
from flovyn.nursery._current import stepping

if TYPE_CHECKING:
    from flovyn.nursery.kernel import Kernel

__all__ = ["Surroundings", "describe_foreign", "hide", "restore"]

_INSTEAD = {
    "asyncio": "use AnyIO inside a workflow (anyio.sleep, anyio.create_task_group, ...), and ctx.run or a task for I/O",
    "trio": "use AnyIO or flovyn.nursery inside a workflow, and ctx.run or a task for I/O",
}


class _Tripwire:
    """Stands where a loop, runner or task of the host stood; every use of it raises."""

    def __init__(self, library: str, what: str) -> None:
        self.__dict__["_library"] = library
        self.__dict__["_what"] = what

    def _trip(self, name: str) -> NoReturn:
        library = self._library
        raise DeterminismError(
            f"workflow code reached for {library} ({self._what}.{name}): its order and its time are not recorded; "
            f"{_INSTEAD[library]}"
        )

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        self._trip(name)

    def __setattr__(self, name: str, value: object) -> None:
        self._trip(name)


class _Local(threading.local):
    """The tripwires of this thread: asyncio keeps one table of current tasks for all threads, by loop."""

    def __init__(self) -> None:
        self.loop: Any = _Tripwire("asyncio", "the running loop")
        self.task: Any = _Tripwire("asyncio", "the current task")
        self.runner = _Tripwire("trio", "the current run")


_local = _Local()


class Surroundings(NamedTuple):
    """What was current on the thread before a kernel began to step."""

    kernel: Kernel | None
    library: str | None
    generator_hooks: Any
    loop: Any
    task: Any
    trio: dict[str, Any] | None
    guarded: bool


def hide(kernel: Kernel) -> Surroundings:
    """Make `kernel` what is current on this thread, and everything else invisible."""
    loop, task = _hide_asyncio()
    guarded = kernel.tripwires is not None and kernel.tripwires.guards
    before = Surroundings(
        stepping.kernel, sniffio.thread_local.name, sys.get_asyncgen_hooks(), loop, task, _hide_trio(), guarded
    )
    if guarded:
        _guards.install()
    stepping.kernel = kernel
    sniffio.thread_local.name = "flovyn"
    sys.set_asyncgen_hooks(firstiter=kernel.adopt_generator, finalizer=_leave_to_the_kernel)
    return before


def restore(before: Surroundings) -> None:
    """Undo `hide`."""
    if before.guarded:
        _guards.uninstall()
    sys.set_asyncgen_hooks(*before.generator_hooks)
    sniffio.thread_local.name = before.library
    stepping.kernel = before.kernel
    _restore_trio(before.trio)
    _restore_asyncio(before.loop, before.task)


def describe_foreign(request: object) -> DeterminismError:
    """The error for something that workflow code awaited and that is none of ours."""
    kind = request if isinstance(request, type) else type(request)
    library = kind.__module__.partition(".")[0]
    what = f"{kind.__module__}.{kind.__qualname__}"
    if request is None:
        library, what = "asyncio", "a bare yield (asyncio.sleep(0)?)"
    elif hasattr(request, "_asyncio_future_blocking"):
        library = "asyncio"
    instead = _INSTEAD.get(library, "use AnyIO inside a workflow, and ctx.run or a task for everything else")
    return DeterminismError(f"workflow code awaited {what}, which no history can replay; {instead}")


def _leave_to_the_kernel(generator: object) -> None:
    """Async generators are closed by the kernel, in order, never by the garbage collector."""


# --- asyncio --------------------------------------------------------------------------------


@cache
def _asyncio() -> tuple[Any, Any]:
    """The two modules of asyncio's. A program that only defines workflows does not pay for loading them."""
    from asyncio import events, tasks

    return events, tasks


def _hide_asyncio() -> tuple[Any, Any]:
    events, _ = _asyncio()
    loop = events._get_running_loop()
    if loop is _local.loop:  # a kernel inside a step of another: hidden already
        return loop, None
    events._set_running_loop(_local.loop)
    return loop, _swap_task(_local.task)


def _restore_asyncio(loop: Any, task: Any) -> None:
    if loop is _local.loop:
        return
    _swap_task(task)
    _asyncio()[0]._set_running_loop(loop)


def _swap_task(task: Any) -> Any:
    _, tasks = _asyncio()
    swap: Any = getattr(tasks, "_swap_current_task", None)
    if swap is not None:
        return swap(_local.loop, task)
    # Python 3.11: a table by loop, in which the tripwire has either an entry or none.
    if task is None:
        tasks._leave_task(_local.loop, _local.task)
    else:
        tasks._enter_task(_local.loop, task)
    return None


# --- Trio -----------------------------------------------------------------------------------


class _TrioTask(_Tripwire):
    """Trio's handler of Ctrl-C looks at two attributes of the current task, at any moment."""

    def __init__(self, real: Any) -> None:
        super().__init__("trio", "the current task")
        self.__dict__["_ki_protected"] = getattr(real, "_ki_protected", False)
        self.__dict__["coro"] = getattr(real, "coro", None)


_NO_TRIO_TASK = _TrioTask(None)


def _trio_context() -> Any:
    module = sys.modules.get("trio._core._run_context") or sys.modules.get("trio._core._run")
    return getattr(module, "GLOBAL_RUN_CONTEXT", None)


def _hide_trio() -> dict[str, Any] | None:
    context = _trio_context()
    if context is None:
        return None
    current: dict[str, Any] = context.__dict__
    before = current.copy()
    real = before.get("task")
    current["runner"] = _local.runner
    current["task"] = _NO_TRIO_TASK if real is None else _TrioTask(real)
    return before


def _restore_trio(before: dict[str, Any] | None) -> None:
    if before is None:
        return
    current: dict[str, Any] = _trio_context().__dict__
    current.clear()
    current.update(before)
