"""Task groups: AnyIO's `TaskGroup` and Trio's `Nursery` in one class."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, cast, final

from anyio import TaskHandle
from anyio.abc import TaskGroup as AbstractTaskGroup

from flovyn.errors import DeterminismError
from flovyn.nursery._current import current_kernel, current_task
from flovyn.nursery._scope import Cancelled, CancelScope
from flovyn.nursery._status import StartStatus

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Context
    from types import TracebackType

    from flovyn.nursery._task import Outcome, TaskState

__all__ = ["TaskGroup"]

T = TypeVar("T")


@final
class TaskGroup(AbstractTaskGroup):
    """Runs tasks, and ends only when all of them have ended.

    Children make their first steps in the order in which they were started. When one fails, the others are cancelled,
    and the errors leave together, as an exception group, in the order in which they were raised.
    """

    def __init__(self) -> None:
        self.cancel_scope: CancelScope = CancelScope()  # pyright: ignore[reportIncompatibleVariableOverride]
        self._host: TaskState | None = None
        self._children: dict[TaskState, None] = {}
        self._errors: list[BaseException] = []
        self._starting = 0
        self._open = False
        self._host_waits = False

    # --- Trio's names -----------------------------------------------------------------------

    @property
    def child_tasks(self) -> tuple[TaskState, ...]:
        """The children that have not ended, in the order in which they were started."""
        return tuple(self._children)

    @property
    def parent_task(self) -> TaskState | None:
        """The task that opened the group."""
        return self._host

    # --- starting ---------------------------------------------------------------------------

    def create_task(
        self, coro: Coroutine[Any, Any, T], *, name: object = None, context: Context | None = None
    ) -> TaskHandle[T]:
        """Start a task that runs a coroutine.

        Args:
            coro: The coroutine.
            name: For people, by default the coroutine's own.
            context: Its context variables, by default a copy of the caller's.

        Returns:
            A handle: awaiting it gives the return value.

        Raises:
            RuntimeError: The group was not entered yet, or is over.
            DeterminismError: The group belongs to another workflow.
        """
        if not isinstance(coro, Coroutine):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"expected a coroutine, got {type(coro).__qualname__}")
        try:
            self._check_open()
        except BaseException:
            coro.close()
            raise
        handle = TaskHandle(coro, coroutine_name(coro, name))
        self.run_task(handle, context)
        return handle

    async def start(
        self,
        func: Callable[..., Coroutine[Any, Any, Any]],
        *args: object,
        name: object = None,
        return_handle: Literal[False, True] = False,
    ) -> Any:
        """Start a task and wait until it says that it has started.

        Until then it runs inside the scopes of the caller, and what it raises is raised here.

        Args:
            func: Called with `args` and a keyword argument `task_status`, whose `started()` ends the wait.
            args: Its positional arguments.
            name: For people, by default the function's own.
            return_handle: Return the task's handle, which has the value of `started()` as `start_value`.

        Returns:
            What `started()` was called with.

        Raises:
            RuntimeError: The group is not open, or the task ended without calling `started()`.
        """
        self._check_open()
        status = StartStatus(self)
        coro = func(*args, task_status=status)
        if not isinstance(coro, Coroutine):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(
                f"Expected {callable_name(func)}() to return a coroutine, but "
                f"the return value ({coro!r}) is not a coroutine object"
            )
        handle: TaskHandle[Any, Any] = TaskHandle(coro, callable_name(func, name))
        self._starting += 1
        try:
            if status.called:  # by the function itself, before there was a task
                self.run_task(handle, None)
            else:
                await _run_until_started(handle, status)
        finally:
            self._starting -= 1
            self._check_over()
        if not status.called:
            raise RuntimeError("child exited without calling task_status.started()")
        if not return_handle:
            return status.value
        handle._start_value = status.value  # noqa: SLF001  # what every backend of AnyIO sets
        return handle

    def run_task(self, handle: TaskHandle[Any, Any], context: Context | None) -> None:
        """Start the task of a handle as a child."""
        host = self._entered()
        task = host.kernel.spawn(
            handle._run_coro(),  # noqa: SLF001  # what every backend of AnyIO calls
            handle.name,
            self.cancel_scope,
            self._child_done,
            context=context,
            parent=host,
            inner=handle.coro,
        )
        if not host.kernel.dead:
            self._children[task] = None

    def move_children(self, target: TaskGroup) -> None:
        """Hand everything that runs in this group over to another: the children of a `start` that have started."""
        if self.cancel_scope.effectively_cancelled:
            # They may be on their way out with a cancelled exception that nothing over there would catch.
            return
        children, self._children = self._children, {}
        for task in children:
            task.done, task.parent = target._child_done, target._host
            target._children[task] = None
        self.cancel_scope.move_members(target.cancel_scope, staying=self._host)
        self._check_over()

    def _check_open(self) -> None:
        if not self._open:
            raise RuntimeError("This task group is not active; no new tasks can be started.")
        if current_kernel() is not self._entered().kernel:
            raise DeterminismError(
                "this task group belongs to another workflow: workflows share nothing, use a promise or a signal"
            )

    def _entered(self) -> TaskState:
        """The task that entered the group."""
        if self._host is None:
            raise RuntimeError("This task group was never entered.")
        return self._host

    # --- ending -----------------------------------------------------------------------------

    def _child_done(self, task: TaskState, outcome: Outcome) -> None:
        del self._children[task]
        if outcome.error is not None:
            self._fail(outcome.error, f"task {task.name!r}")
        self._check_over()

    def _fail(self, error: BaseException, who: str) -> None:
        self._errors.append(error)
        why = error.reason if isinstance(error, Cancelled) else f"{who} of the group raised {type(error).__name__}"
        self.cancel_scope.cancel(why)

    def _check_over(self) -> None:
        if self._host_waits and not self._children and not self._starting:
            self._open = self._host_waits = False
            host = self._entered()
            host.kernel.wake(host)

    async def __aenter__(self) -> Self:
        if self._host is not None:
            raise RuntimeError("TaskGroup cannot be entered more than once")
        self._host = current_task()
        self.cancel_scope.__enter__()
        self._open = True
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> bool:
        kernel = self._entered().kernel
        if kernel.dead:
            return False
        remaining: BaseException | None = None
        try:
            if exc_val is not None:
                self._fail(exc_val, "the body")
            await self._wait_for_children()
            if self._errors:
                remaining = BaseExceptionGroup("unhandled errors in a TaskGroup", self._errors)
            remaining = _merge_cancelled(self.cancel_scope.close(remaining), exc_val)
            if remaining is None or remaining is exc_val:
                return remaining is None and exc_val is not None
            context = remaining.__context__
            try:
                raise remaining
            finally:
                # A context manager cannot replace an exception without Python chaining the two.
                remaining.__context__ = context
                del context
        finally:
            # No frame and no group keeps the errors alive in a cycle.
            self._errors = []
            del exc_val, exc_tb, remaining

    async def _wait_for_children(self) -> None:
        kernel = self._entered().kernel
        if self._children or self._starting:
            # The children hear of a cancellation themselves; the wait for them cannot be cut short.
            self._host_waits = True
            await kernel.wait_woken()
        else:
            self._open = False
            await kernel.cancel_shielded_checkpoint()


async def _run_until_started(handle: TaskHandle[Any, Any], status: StartStatus) -> None:
    """Run a task inside the scopes of the caller, until it moves into the group that it was started for."""
    try:
        async with TaskGroup() as nest:
            status.nest = nest
            nest.run_task(handle, None)
    except BaseExceptionGroup as group:
        # There is one child, and the body raises nothing. The group is of no interest to the caller.
        error: BaseException = group.exceptions[0]
    else:
        return
    context = error.__context__
    try:
        raise error
    finally:
        error.__context__ = context
        del error, context


def _merge_cancelled(error: BaseException | None, raised: BaseException | None) -> BaseException | None:
    """A group of nothing but cancelled exceptions leaves as a single one, as AnyIO has it."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    group = cast("BaseExceptionGroup[BaseException]", error)
    if group.split(Cancelled)[1] is not None:
        return group
    if isinstance(raised, Cancelled):
        return raised
    leaf = _first_leaf(group)
    return Cancelled(leaf.reason, leaf.by) if isinstance(leaf, Cancelled) else group


def _first_leaf(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = cast("BaseExceptionGroup[BaseException]", error).exceptions[0]
    return error


def coroutine_name(coro: Coroutine[Any, Any, Any], name: object = None) -> str:
    """The name of a task that runs `coro`, as AnyIO makes it."""
    if name is not None:
        return str(name)
    frame = getattr(coro, "cr_frame", None)
    module = None if frame is None else frame.f_globals.get("__name__")
    return ".".join(part for part in (module, getattr(coro, "__qualname__", None)) if part)


def callable_name(func: Callable[..., object], name: object = None) -> str:
    """The name of a task that runs `func`, as AnyIO makes it."""
    if name is not None:
        return str(name)
    module, qualname = getattr(func, "__module__", None), getattr(func, "__qualname__", None)
    return ".".join(part for part in (module, qualname) if part)
