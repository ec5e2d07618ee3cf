"""The context of a workflow: every way in which its code can ask for something durable.

Sleeping, waiting with a deadline, fanning out and cancelling need no context: they are AnyIO's own functions.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial
from types import FunctionType
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, get_type_hints, overload
from weakref import WeakKeyDictionary

from flovyn import serde
from flovyn.definitions import Effect
from flovyn.errors import DeterminismError, OperationFailed, UsageError
from flovyn.replay.records import Failure, Value
from flovyn.workflow.failures import task_error

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from uuid import UUID

    from flovyn.definitions import Task
    from flovyn.replay import Event, Execution

__all__ = ["WorkflowContext"]

P = ParamSpec("P")
R = TypeVar("R")


class WorkflowContext:
    """What the first parameter of a `@workflow` function gives.

    Inside a workflow AnyIO itself is durable: `anyio.sleep` is a timer on the server, a task group fans out durable
    tasks, and leaving a cancel scope cancels what is inside it, on the server too.

    Example:
        ```python
        import anyio
        from flovyn import WorkflowContext, task, workflow, TaskContext

        @task
        async def greet(ctx: TaskContext, name: str) -> str:
            return f"hello {name}"

        @workflow
        async def welcome(ctx: WorkflowContext, names: list[str]) -> list[str]:
            async with anyio.create_task_group() as tg:
                greetings = [tg.create_task(ctx.schedule(greet, name)) for name in names]
            await anyio.sleep(86_400)
            return [greeting.return_value for greeting in greetings]
        ```
    """

    __slots__ = ("_execution",)

    def __init__(self, execution: Execution) -> None:
        self._execution = execution

    def __repr__(self) -> str:
        info = self._execution.info
        return f"<WorkflowContext {info.kind} {info.workflow_id}>"

    @property
    def workflow_execution_id(self) -> str:
        """The id of this execution."""
        return self._execution.info.workflow_id

    @property
    def org_id(self) -> str:
        """The org that this execution belongs to."""
        return self._execution.info.org_id

    @property
    def kind(self) -> str:
        """The workflow's kind."""
        return self._execution.info.kind

    @property
    def queue(self) -> str:
        """The queue that this execution was started on; its tasks go there unless they name another."""
        return self._execution.info.queue

    @property
    def is_cancellation_requested(self) -> bool:
        """Whether somebody outside has asked for this workflow to be cancelled."""
        return self._execution.root.cancel_called

    @property
    def cancel_reason(self) -> str | None:
        """The reason that was given for the cancellation."""
        return self._execution.root.cancel_reason

    def current_time(self) -> datetime:
        """The workflow's clock, in UTC: exact on every replay, never before the timer that woke the workflow."""
        return datetime.fromtimestamp(self._execution.kernel.now, UTC)

    def random_uuid(self) -> UUID:
        """A UUID that is the same on every replay, of the platform's own sequence."""
        return self._execution.identifiers.random_uuid()

    def random(self) -> float:
        """A float in [0, 1) that is the same on every replay, of the platform's own generator."""
        return self._execution.randomness.random()

    async def schedule(self, task: Task[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run a task somewhere, durably, and wait for its result.

        Cancelling the scope around this call ends the wait at once and cancels the task on the server.

        Args:
            task: The definition; `task.options(...)` for another queue or time limit.
            args: The task's arguments after its context.
            kwargs: The task's arguments by name.

        Returns:
            What the task returned.

        Raises:
            PayloadError: An argument cannot be written as JSON, or the result does not fit the task's return type.
            TaskFailed: The task failed, after all its attempts.
            TaskCancelled: Somebody else cancelled the task.
            TaskTimeout: The task was over a time limit.
        """
        execution = await self._entered()
        data = task.encode_input(args, kwargs)
        limit = task.schedule_to_close
        task_id = execution.tasks.schedule(
            task.kind,
            data,
            queue=task.queue,
            # Rounded up, as all times here are: half a millisecond is not no time at all.
            timeout_ms=None if limit is None else -(-limit // timedelta(milliseconds=1)),
        )
        event = await self._settled(task_id)
        if event.type != "TASK_COMPLETED":
            raise task_error(event, task.kind)
        return task.decode_output(bytes(event.data.output))

    @overload
    async def run(
        self, name: str, fn: Callable[P, Coroutine[Any, Any, R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> R: ...

    @overload
    async def run(self, name: str, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R: ...

    async def run(self, name: str, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Run a short local effect and remember how it ended.

        The function runs in the worker, outside the deterministic world, at least once; once the workflow has moved
        on, a replay is given what was recorded. Long work belongs into a task.

        Args:
            name: Its name in history.
            fn: A function, synchronous (it blocks the worker: keep it short) or asynchronous.
            args: Its arguments.
            kwargs: Its arguments by name.

        Returns:
            What the function returned, as it comes back from JSON by the function's return annotation.

        Raises:
            OperationFailed: The function raised, or returned what cannot be written as JSON. Recorded as well.
            PayloadError: What was recorded does not fit the function's return annotation.
            UsageError: The name is empty or begins with a dollar sign.
        """
        if not name or name.startswith("$"):
            raise UsageError(f"name={name!r} cannot name an operation: use a non-empty name that does not begin with $")
        execution = await self._entered()
        returned = _return_type(fn)
        operation = execution.start_operation(
            name, partial(fn, *args, **kwargs), lambda value: serde.encode(value, returned)
        )
        execution.waits[operation] = f"Waiting for operation {name} to complete"
        try:
            await execution.kernel.park(operation.abort)
        finally:
            del execution.waits[operation]
        match operation.answer:
            case Value(data):
                return serde.decode(data, returned)
            case Failure(info):
                raise OperationFailed(str(info), name=name, error_type=info.type, details=info.as_data())
            case other:
                raise DeterminismError(f"operation {name!r} was resumed with {other!r}")  # pragma: no cover

    async def _entered(self) -> Execution:
        """The way into everything durable: nothing begins in a cancelled scope, or in a run that was evicted."""
        kernel = self._execution.kernel
        if kernel.dead:
            await kernel.park(_never)
        await kernel.checkpoint_if_cancelled()
        return self._execution

    async def _settled(self, task_id: str) -> Event:
        execution = self._execution
        settlement = execution.settlements.get(task_id)
        if settlement.event is None:
            task = execution.kernel.current
            assert task is not None
            settlement.waiters.append(task)

            def abort() -> bool:
                settlement.waiters.remove(task)
                execution.tasks.give_up(task_id)
                return True

            execution.waits[task_id] = f"Waiting for task {task_id} to complete"
            try:
                await execution.kernel.park(abort)
            finally:
                del execution.waits[task_id]
        assert settlement.event is not None
        return settlement.event


def _never() -> bool:
    return False


# Weak: a function that stands inside a workflow holds that workflow's context, and goes with it.
_return_types: WeakKeyDictionary[FunctionType, Any] = WeakKeyDictionary()


def _return_type(fn: Callable[..., Any]) -> Any:
    target: Any = fn
    while isinstance(target, partial | Effect):
        target = target.func if isinstance(target, partial) else target.fn
    target = getattr(target, "__func__", target)
    if not isinstance(target, FunctionType):
        return _annotated_return(target)
    if target not in _return_types:
        _return_types[target] = _annotated_return(target)
    return _return_types[target]


def _annotated_return(target: Any) -> Any:
    try:
        return get_type_hints(target, include_extras=True).get("return", Any)
    except Exception:  # noqa: BLE001 - an annotation that only a type checker can see, or a callable without any
        return Any
