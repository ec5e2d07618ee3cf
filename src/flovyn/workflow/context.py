"""The context of a workflow: every way in which its code can ask for something durable.

Waiting with a deadline, fanning out and cancelling need no context: they are AnyIO's own functions.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from random import Random
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

from flovyn import serde
from flovyn.definitions import checked_name
from flovyn.definitions.options import check_key, duration
from flovyn.workflow import conditions, scheduling, signals, state
from flovyn.workflow.classes import run_class
from flovyn.workflow.logs import WorkflowLogger
from flovyn.workflow.operations import operate
from flovyn.workflow.promises import create_promise
from flovyn.workflow.times import instant, length
from flovyn.workflow.waiting import enter

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from uuid import UUID

    from flovyn.definitions import AnyTask, AnyWorkflow, ClassParts, Promise, Signal, StateKey
    from flovyn.replay import Execution
    from flovyn.workflow.handles import ChildHandle, TaskHandle
    from flovyn.workflow.promises import PromiseHandle

__all__ = ["WorkflowContext"]

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
D = TypeVar("D")


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

    __slots__ = ("_execution", "instance")

    def __init__(self, execution: Execution) -> None:
        self._execution = execution
        self.instance: Any = None
        """The object that runs, if the workflow is a class and has begun."""

    def __repr__(self) -> str:
        info = self._execution.info
        return f"<WorkflowContext {info.kind} {info.workflow_id}>"

    # --- what is known ----------------------------------------------------------------------

    @property
    def workflow_execution_id(self) -> str:
        """The id of this execution."""
        return self._execution.info.workflow_id

    @property
    def org_id(self) -> str:
        """The org that this execution belongs to."""
        return self._execution.info.org_id

    @property
    def parent_execution_id(self) -> str | None:
        """The workflow that has started this one as a child; None if none has, or the server does not tell."""
        return self._execution.history.parent_id

    @property
    def kind(self) -> str:
        """The workflow's kind."""
        return self._execution.info.kind

    @property
    def queue(self) -> str:
        """The queue that this execution was started on; its tasks go there unless they name another."""
        return self._execution.info.queue

    @property
    def input(self) -> Any:
        """The input that this execution was started with, as plain JSON data."""
        return serde.decode(self._execution.info.input, Any)

    @property
    def is_cancellation_requested(self) -> bool:
        """Whether somebody outside has asked for this workflow to be cancelled."""
        return self._execution.root.cancel_called

    @property
    def cancel_reason(self) -> str | None:
        """The reason that was given for the cancellation."""
        return self._execution.root.cancel_reason

    @property
    def logger(self) -> WorkflowLogger:
        """A logger named ``flovyn.workflow.<kind>`` that is silent while the past is re-enacted."""
        return WorkflowLogger(self._execution)

    def current_time(self) -> datetime:
        """The workflow's clock, in UTC: exact on every replay, never before the timer that woke the workflow."""
        return datetime.fromtimestamp(self._execution.kernel.now, UTC)

    def random_uuid(self) -> UUID:
        """A UUID that is the same on every replay, of the platform's own sequence."""
        return self._execution.identifiers.random_uuid()

    def random(self) -> float:
        """A float from 0 to 1, both included, that is the same on every replay; of the platform's own generator."""
        return self._execution.randomness.random()

    def new_random(self) -> Random:
        """A generator of Python's own, seeded by the next number of the platform's: for shuffling, choosing, and so on.

        Example:
            ```python
            dice = ctx.new_random()
            winner = dice.choice(entries)
            ```
        """
        return Random(self._execution.randomness.next())  # noqa: S311 - repeatable is what it has to be

    def patched(self, patch_id: str) -> bool:
        """Whether to take the new way at a place where the code was changed.

        True in executions that come here for the first time with the new code, and on every replay of them; false in
        those that were here before the change.

        Args:
            patch_id: The name of the change; it stays the same for as long as the old way is in the code.

        Raises:
            UsageError: The name is empty or begins with a dollar sign.

        Example:
            ```python
            if ctx.patched("check-fraud-first"):
                await ctx.schedule(check_fraud, order)
            await ctx.schedule(charge, order)
            ```
        """
        return self._execution.patched(checked_name("patch", patch_id))

    # --- tasks and children -----------------------------------------------------------------

    async def schedule(self, task: AnyTask[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run a task somewhere, durably, and wait for its result.

        Cancelling the scope around this call ends the wait and cancels the task on the server, as its `on_cancel` says.

        Args:
            task: The task, a function or a class; `task.options(...)` for another queue or time limit.
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
        return await scheduling.run_task(self._execution, task, args, kwargs)

    def schedule_async(self, task: AnyTask[P, R], *args: P.args, **kwargs: P.kwargs) -> TaskHandle[R]:
        """Have a task run somewhere, durably, and go on at once.

        The task belongs to the scope around this call: cancelling that cancels the task, as its `on_cancel` says.

        Args:
            task: The task, a function or a class; `task.options(...)` for another queue or time limit.
            args: The task's arguments after its context.
            kwargs: The task's arguments by name.

        Returns:
            A handle: `await handle` gives the result, `handle.cancel()` gives the task up.

        Raises:
            PayloadError: An argument cannot be written as JSON.

        Example:
            ```python
            report = ctx.schedule_async(render, order)
            await ctx.schedule(charge, order)
            return await report
            ```
        """
        return scheduling.begin_task(self._execution, task, args, kwargs)

    async def schedule_workflow(self, workflow: AnyWorkflow[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run another workflow as a child of this one, and wait for its result.

        Cancelling the scope around this call ends the wait and asks the child to stop, as its `on_cancel` says. A child
        outlives its parent.

        Args:
            workflow: The workflow, a function or a class; `workflow.options(...)` for a name or another queue.
            args: What it takes after its context.
            kwargs: Likewise, by name.

        Returns:
            What the child returned.

        Raises:
            PayloadError: An argument cannot be written as JSON, or the result does not fit the child's return type.
            UsageError: The child's name was used before.
            ChildWorkflowFailed: The child failed.
            ChildWorkflowCancelled: Somebody else cancelled the child.
        """
        return await scheduling.run_child(self._execution, workflow, args, kwargs)

    def schedule_workflow_async(self, workflow: AnyWorkflow[P, R], *args: P.args, **kwargs: P.kwargs) -> ChildHandle[R]:
        """Start another workflow as a child of this one, and go on at once.

        The child belongs to the scope around this call: cancelling that asks it to stop, as its `on_cancel` says.

        Args:
            workflow: The workflow, a function or a class; `workflow.options(...)` for a name or another queue.
            args: What it takes after its context.
            kwargs: Likewise, by name.

        Returns:
            A handle: `await handle` gives the result, `handle.cancel()` asks the child to stop.

        Raises:
            PayloadError: An argument cannot be written as JSON.
            UsageError: The child's name was used before.
        """
        return scheduling.begin_child(self._execution, workflow, args, kwargs)

    # --- local effects ----------------------------------------------------------------------

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
            fn: A function, synchronous (it blocks the worker: keep it short) or asynchronous; `flovyn.effect` makes one
                that is tried again or limited in time.
            args: Its arguments.
            kwargs: Its arguments by name.

        Returns:
            What the function returned, as it comes back from JSON by the function's return annotation.

        Raises:
            OperationFailed: The function raised, or returned what cannot be written as JSON. Recorded as well.
            PayloadError: The function's return annotation cannot be a payload, or what was recorded does not fit it.
            UsageError: The name is empty or begins with a dollar sign.
        """
        return await operate(self._execution, name, fn, args, kwargs)

    # --- time and conditions ----------------------------------------------------------------

    async def sleep(self, time: timedelta | float) -> None:
        """Wait for a durable timer; `anyio.sleep` with timedeltas.

        Args:
            time: How long, in seconds or as a timedelta.

        Raises:
            UsageError: It is negative or not a number.
        """
        seconds = length("time", time)
        await enter(self._execution, "sleep")
        await self._execution.kernel.sleep(seconds)

    async def sleep_until(self, when: datetime) -> None:
        """Wait for a point in time, durably; one that lies in the past is no wait.

        Args:
            when: A datetime with a time zone.

        Raises:
            UsageError: It has no time zone.
        """
        moment = instant("when", when)
        await enter(self._execution, "sleep")
        await self._execution.kernel.sleep(max(0.0, moment - self._execution.kernel.now))

    async def wait_condition(self, predicate: Callable[[], bool]) -> None:
        """Wait until something holds that this workflow's own code, a signal handler above all, brings about.

        Conditions are asked whenever nothing else can move, the one that has waited longest first. One at a time goes
        on: what it changes, the next one sees.

        Args:
            predicate: A plain function that looks and changes nothing.

        Raises:
            UsageError: The predicate is asynchronous, or tries to schedule, draw or take something.

        Example:
            ```python
            await ctx.wait_condition(lambda: len(self.items) >= 10)
            ```
        """
        await conditions.wait_condition(self._execution, predicate)

    # --- promises ---------------------------------------------------------------------------

    @overload
    def create_promise(
        self,
        promise: Promise[T],
        *,
        expires_after: timedelta | float | None = None,
        idempotency_key: str | None = None,
        idempotency_key_ttl: timedelta | float | None = None,
    ) -> PromiseHandle[T]: ...

    @overload
    def create_promise(
        self,
        promise: str,
        *,
        expires_after: timedelta | float | None = None,
        idempotency_key: str | None = None,
        idempotency_key_ttl: timedelta | float | None = None,
    ) -> PromiseHandle[Any]: ...

    def create_promise(
        self,
        promise: Promise[Any] | str,
        *,
        expires_after: timedelta | float | None = None,
        idempotency_key: str | None = None,
        idempotency_key_ttl: timedelta | float | None = None,
    ) -> PromiseHandle[Any]:
        """Create a promise that somebody outside resolves, and go on at once.

        It exists from now on, so its key can be handed out before anybody waits. A second call with a name gives the
        same promise.

        Args:
            promise: Its name, as a `Promise` with a type or as text.
            expires_after: How long the server waits for somebody to resolve it, in seconds or as a timedelta.
            idempotency_key: The key by which it can be resolved; made of this execution's id and the name if left out,
                and then good for 30 days.
            idempotency_key_ttl: How long the key lives, between a second and 30 days; the server's default is a day.

        Returns:
            A handle with the key; `await handle.wait()` gives the value.

        Raises:
            DefinitionError: A time or the key cannot work.
            UsageError: The name is empty or begins with a dollar sign.

        Example:
            ```python
            approval = ctx.create_promise(Promise[bool]("approval"))
            await ctx.schedule(mail, approver, approval.key)
            approved = await approval.wait()
            ```
        """
        where = f"promise {promise!r}"
        lives = duration(where, "idempotency_key_ttl", idempotency_key_ttl)
        check_key(where, idempotency_key, lives)
        return create_promise(
            self._execution,
            promise,
            expires_after=duration(where, "expires_after", expires_after),
            idempotency_key=idempotency_key,
            idempotency_key_ttl=lives,
        )

    @overload
    async def promise(self, promise: Promise[T], *, expires_after: timedelta | float | None = None) -> T: ...

    @overload
    async def promise(self, promise: str, *, expires_after: timedelta | float | None = None) -> Any: ...

    async def promise(self, promise: Promise[Any] | str, *, expires_after: timedelta | float | None = None) -> Any:
        """Create a promise and wait until somebody outside resolves it.

        Args:
            promise: Its name, as a `Promise` with a type or as text.
            expires_after: How long the server waits for somebody to resolve it, in seconds or as a timedelta.

        Returns:
            What it was resolved with.

        Raises:
            PromiseRejected: Somebody has rejected it.
            PromiseTimeout: Nobody has resolved it in time.
            PayloadError: What it was resolved with does not fit the promise's type.
        """
        await enter(self._execution, "create a promise")
        return await self.create_promise(promise, expires_after=expires_after).wait()

    # --- signals ----------------------------------------------------------------------------

    @overload
    async def wait_for_signal(self, signal: Signal[T]) -> T: ...

    @overload
    async def wait_for_signal(self, signal: str) -> Any: ...

    async def wait_for_signal(self, signal: Signal[Any] | str) -> Any:
        """Take the oldest signal of a name, or wait for the next one. Who waits first is served first.

        Cancelling the wait loses no signal: one that was assigned already is delivered.

        Args:
            signal: Its name, as a `Signal` with a type or as text.

        Raises:
            PayloadError: The signal does not fit the type; it is taken all the same.
        """
        return await signals.wait(self._execution, signal)

    def has_signal(self, signal: Signal[Any] | str) -> bool:
        """Whether a signal of that name waits to be taken."""
        return signals.pending(self._execution, signal) > 0

    def pending_signals(self, signal: Signal[Any] | str) -> int:
        """How many signals of that name wait to be taken."""
        return signals.pending(self._execution, signal)

    @overload
    def drain_signals(self, signal: Signal[T]) -> list[T]: ...

    @overload
    def drain_signals(self, signal: str) -> list[Any]: ...

    def drain_signals(self, signal: Signal[Any] | str) -> list[Any]:
        """Take all signals of a name that have come, the oldest first.

        Raises:
            PayloadError: One of them does not fit the type; all are taken all the same.
        """
        return signals.drain(self._execution, signal)

    # --- state ------------------------------------------------------------------------------

    @overload
    def get(self, key: StateKey[T]) -> T | None: ...

    @overload
    def get(self, key: StateKey[T], default: D) -> T | D: ...

    @overload
    def get(self, key: str, default: Any = None) -> Any: ...

    def get(self, key: StateKey[Any] | str, default: Any = None) -> Any:
        """What this execution has written under a key.

        Args:
            key: As a `StateKey` with a type or as text.
            default: What to return if there is nothing.

        Raises:
            PayloadError: What was written does not fit the type.
        """
        return state.get(self._execution, key, default)

    @overload
    def set(self, key: StateKey[T], value: T) -> None: ...

    @overload
    def set(self, key: str, value: object) -> None: ...

    def set(self, key: StateKey[Any] | str, value: Any) -> None:
        """Write a value under a key, for people and tools to see while the workflow runs.

        Args:
            key: As a `StateKey` with a type or as text.
            value: Anything that can be written as JSON.

        Raises:
            PayloadError: It cannot.

        Example:
            ```python
            progress = StateKey[int]("progress")
            ctx.set(progress, 50)
            ```
        """
        state.write(self._execution, key, value)

    def clear(self, key: StateKey[Any] | str) -> None:
        """Drop what is under a key."""
        state.clear(self._execution, key)

    def clear_all(self) -> None:
        """Drop every key, in alphabetical order."""
        for key in self._execution.state.keys():  # noqa: SIM118 - not a dict
            self._execution.state.clear(key)

    def state_keys(self) -> list[str]:
        """The keys under which something is written, in alphabetical order."""
        return self._execution.state.keys()

    # --- for the SDK ------------------------------------------------------------------------

    async def run_class(self, parts: ClassParts, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run a workflow that is a class; for the SDK itself."""
        self.instance = parts.cls()
        return await run_class(self._execution, self, self.instance, parts, args, kwargs)
