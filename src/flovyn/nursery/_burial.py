"""Ending coroutines that will never be resumed, however stubborn they are."""

from __future__ import annotations

import ctypes
import gc
import sys
import threading
import types
import weakref
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable

    from flovyn.nursery._task import TaskState

__all__ = ["Burial"]

_ATTEMPTS = 100


class Burial:
    """Ends the tasks of a dead kernel, inside a step of it: there every wait waits for ever, and none raises.

    The interpreter tries to close a coroutine once more before it frees it. Inside the step the coroutine's next wait
    just waits, and the interpreter complains, which is ignored. At any other time the wait would fail, at once and for
    ever, and a coroutine that swallows every error would never return. So whatever refuses to end is let go of before
    the step is over, and if something else still refers to it, it is never freed at all.
    """

    def __init__(self) -> None:
        self._stubborn: list[Any] = []
        self._interrupt: KeyboardInterrupt | None = None
        self._complain = sys.unraisablehook
        self._thread = threading.get_ident()

    def __enter__(self) -> Self:
        self._complain, sys.unraisablehook = sys.unraisablehook, self._complaint
        return self

    def __exit__(self, *_error: object) -> None:
        try:
            self._let_go()
        finally:
            sys.unraisablehook = self._complain
        if self._interrupt is not None:
            raise self._interrupt

    def bury(self, task: TaskState) -> None:
        """Close the coroutines and async generators of a task. Whatever they raise is lost, except Ctrl-C."""
        coroutines: list[Any] = [task.coro] if task.inner is None else [task.coro, task.inner]
        generators, task.generators = task.generators, []
        task.coro, task.inner = _ended(), None
        task.coro.close()
        for coroutine in coroutines:
            self._close(task, coroutine)
        for generator in generators:
            self._close_generator(task, generator)

    def _close(self, task: TaskState, coroutine: Any) -> None:
        """Throw GeneratorExit in until the coroutine has ended: each attempt gets past one `await` in a `finally`."""
        for _ in range(_ATTEMPTS):
            if self._attempt(task, coroutine.close):
                return
        self._stubborn.append(coroutine)

    def _close_generator(self, task: TaskState, generator: types.AsyncGeneratorType[Any, Any]) -> None:
        closing: Any = generator.aclose()
        self._attempt(task, lambda: closing.send(None))
        # If it waits in a `finally`: `closing.close()` would only forget it.
        for _ in range(_ATTEMPTS):
            if generator.ag_frame is None:
                return
            self._attempt(task, lambda: closing.throw(GeneratorExit()))
        self._stubborn.append(generator)

    def _attempt(self, task: TaskState, close: Callable[[], object]) -> bool:
        try:
            task.context.run(close)
        except RuntimeError:
            # "coroutine ignored GeneratorExit"; if it is the user's, the next attempt finds the coroutine ended.
            return False
        except KeyboardInterrupt as interrupt:
            self._interrupt = interrupt
        except BaseException:  # noqa: BLE001  # the workflow goes on elsewhere; nobody waits for this copy
            return True
        return True

    def _let_go(self) -> None:
        references = [weakref.ref(coroutine) for coroutine in self._stubborn]
        self._stubborn.clear()
        if any(reference() is not None for reference in references):
            gc.collect()  # a cycle holds it: its own traceback, say
        for reference in references:
            coroutine = reference()
            if coroutine is not None:
                ctypes.pythonapi.Py_IncRef(ctypes.py_object(coroutine))

    def _complaint(self, unraisable: Any) -> None:
        ours = threading.get_ident() == self._thread and isinstance(
            unraisable.object, (types.CoroutineType, types.AsyncGeneratorType)
        )
        if not ours:
            self._complain(unraisable)


async def _ended() -> None:
    """Takes the place of a coroutine that was buried."""
