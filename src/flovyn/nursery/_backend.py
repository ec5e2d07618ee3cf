"""The deterministic scheduler as AnyIO sees it."""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Any, TypeVar, final

import anyio._core._eventloop as anyio_registry

from flovyn.nursery._current import current_kernel, current_task
from flovyn.nursery._group import TaskGroup
from flovyn.nursery._info import KernelTaskInfo
from flovyn.nursery._limiter import CapacityLimiter
from flovyn.nursery._outside import Outside, refuse_sockets
from flovyn.nursery._runner import VirtualTestRunner
from flovyn.nursery._scope import Cancelled, CancelScope
from flovyn.nursery._sync import Event, Lock, Semaphore
from flovyn.nursery._virtual import run_virtual

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from anyio.abc import TestRunner

__all__ = ["FlovynBackend", "register"]

T = TypeVar("T")


@final
class FlovynBackend(Outside):
    """The backend named `flovyn`: whatever needs a kernel asks the one that is stepping on this thread."""

    @classmethod
    def run(
        cls, func: Callable[..., Awaitable[T]], args: tuple[Any, ...], kwargs: dict[str, Any], options: dict[str, Any]
    ) -> T:
        """Run an async function alone, over a virtual clock that starts at 0."""
        return run_virtual(func, args, kwargs, **options)

    @classmethod
    def create_test_runner(cls, options: dict[str, Any]) -> TestRunner:
        """What AnyIO's pytest plugin runs tests in."""
        return VirtualTestRunner(**options)

    @classmethod
    def current_token(cls) -> object:
        """The kernel; nothing but an identity to others."""
        return current_kernel()

    @classmethod
    def current_time(cls) -> float:
        """The kernel's clock in seconds."""
        return current_kernel().now

    @classmethod
    def cancelled_exception_class(cls) -> type[BaseException]:
        """What checkpoints raise in a cancelled scope."""
        return Cancelled

    @classmethod
    async def checkpoint(cls) -> None:
        """A step of everybody else, and cancellation."""
        await current_kernel().checkpoint()

    @classmethod
    async def checkpoint_if_cancelled(cls) -> None:
        """Cancellation, if it is due."""
        await current_kernel().checkpoint_if_cancelled()

    @classmethod
    async def cancel_shielded_checkpoint(cls) -> None:
        """A step of everybody else."""
        await current_kernel().cancel_shielded_checkpoint()

    @classmethod
    async def sleep(cls, delay: float) -> None:
        """Wait for a timer."""
        await current_kernel().sleep(delay)

    @classmethod
    def create_cancel_scope(cls, *, deadline: float = math.inf, shield: bool = False) -> CancelScope:
        """A scope that is not entered yet."""
        return CancelScope(deadline=deadline, shield=shield)

    @classmethod
    def current_effective_deadline(cls) -> float:
        """The earliest deadline that reaches the current task; -inf if it is cancelled."""
        return current_task().scope.effective_deadline()

    @classmethod
    def create_task_group(cls) -> TaskGroup:
        """A group that is not entered yet."""
        refuse_sockets(sys._getframe(2))  # noqa: SLF001  # past anyio.create_task_group; `inspect` takes a microsecond
        return TaskGroup()

    @classmethod
    def create_event(cls) -> Event:
        """An event that is not set."""
        return Event()

    @classmethod
    def create_lock(cls, *, fast_acquire: bool) -> Lock:
        """A lock that nobody holds."""
        return Lock(fast_acquire=fast_acquire)

    @classmethod
    def create_semaphore(
        cls, initial_value: int, *, max_value: int | None = None, fast_acquire: bool = False
    ) -> Semaphore:
        """A semaphore with all its permits."""
        return Semaphore(initial_value, max_value=max_value, fast_acquire=fast_acquire)

    @classmethod
    def create_capacity_limiter(cls, total_tokens: float) -> CapacityLimiter:
        """A limiter with all its tokens."""
        return CapacityLimiter(total_tokens)

    @classmethod
    def get_current_task(cls) -> KernelTaskInfo:
        """The task that makes the current step."""
        return KernelTaskInfo(current_task())

    @classmethod
    def get_running_tasks(cls) -> list[KernelTaskInfo]:
        """The tasks that have not ended, in the order in which they were started."""
        return [KernelTaskInfo(task) for task in current_kernel().tasks]

    @classmethod
    async def wait_all_tasks_blocked(cls) -> None:
        """Wait until nothing else can move."""
        await current_kernel().wait_all_blocked()


def register() -> None:
    """Make `anyio.run(backend="flovyn")` and everything inside a step find this backend."""
    anyio_registry.loaded_backends["flovyn"] = FlovynBackend
