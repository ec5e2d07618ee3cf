"""Kernels for tests: one that writes down what is asked of its timers, and a short way to run alone."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import anyio

from flovyn.nursery.kernel import CancelScope, Kernel, Outcome, TaskState

__all__ = ["Driver", "run"]

T = TypeVar("T")


def run(func: Callable[..., Awaitable[T]], *args: Any) -> T:
    """Run alone, over virtual time."""
    return anyio.run(func, *args, backend="flovyn")


class Driver:
    """Owns a kernel; timers fire only when the test says so.

    Attributes:
        log: ("start" | "cancel" | "fire", due), in the order of the calls.
        ended: Outcomes of root tasks, in the order of their ends.
    """

    def __init__(self, *, now: float = 0.0, step_limit: int = 100_000, private: bool = False) -> None:
        self.kernel = Kernel(self, now=now, step_limit=step_limit, private=private)
        self.log: list[tuple[str, float]] = []
        self.armed: dict[int, tuple[float, Callable[[], None], CancelScope | None]] = {}
        self.ended: list[Outcome] = []
        self._tokens = 0

    def start(self, due: float, fire: Callable[[], None], scope: CancelScope | None) -> object:
        self._tokens += 1
        self.armed[self._tokens] = (due, fire, scope)
        self.log.append(("start", due))
        return self._tokens

    def cancel(self, token: object) -> None:
        assert isinstance(token, int)
        due, _, _ = self.armed.pop(token)
        self.log.append(("cancel", due))

    def fire(self) -> None:
        """Fire the timer that is due first, at its time."""
        token = min(self.armed, key=lambda token: (self.armed[token][0], token))
        due, fire, _ = self.armed.pop(token)
        self.log.append(("fire", due))
        self.kernel.now = max(self.kernel.now, due)
        fire()

    def task(
        self, coro: Coroutine[Any, Any, Any], *, name: str = "root", scope: CancelScope | None = None
    ) -> TaskState:
        return self.kernel.start(coro, name=name, scope=scope, done=self.ended.append)

    def run(self, coro: Coroutine[Any, Any, Any]) -> TaskState:
        """Start a root task and run to quiescence."""
        task = self.task(coro)
        assert self.kernel.run() is True
        return task

    def finish(self) -> Any:
        """Fire timers until the first root task has ended; its value, or its error raised."""
        self.kernel.run()
        while not self.ended:
            self.fire()
            self.kernel.run()
        outcome = self.ended[0]
        if outcome.error is not None:
            raise outcome.error
        return outcome.value

    def finish_of(self, coro: Coroutine[Any, Any, Any]) -> Any:
        """Start a root task and fire timers until it has ended."""
        self.task(coro)
        return self.finish()
