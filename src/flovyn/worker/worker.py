"""The worker: runs workflows and tasks as a tree of nurseries, and leaves nothing behind."""

from __future__ import annotations

import logging
import uuid
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, Self, TypeVar

import anyio

from flovyn.definitions import AnyTask, AnyWorkflow, Definition, Task, Workflow, definition_of, task_of
from flovyn.errors import ConfigurationError, DefinitionError, UsageError
from flovyn.nursery import Tripwires, arm_tripwires
from flovyn.worker.groups import holds_cancellation, listen, opened, protected, unwrapped
from flovyn.worker.lifespan import Lifespan, resources_of
from flovyn.worker.options import ViolationPolicy, WorkerOptions
from flovyn.worker.plan import Plan
from flovyn.worker.reconnect import ExponentialReconnect, ReconnectStrategy
from flovyn.worker.report import Ledger, WorkerReport
from flovyn.worker.statistics import Gauges, WorkerStatistics

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable
    from types import TracebackType

    from anyio.abc import TaskGroup, TaskStatus

    from flovyn.client import Client
    from flovyn.task import Resources
    from flovyn.worker.tree import Tree

__all__ = ["Worker"]

logger: logging.Logger = logging.getLogger("flovyn.worker")

D = TypeVar("D", bound=Definition[..., Any])
G = TypeVar("G")


class Worker:
    """Runs workflows and tasks for a Flovyn server.

    There are two ways in. `async with Worker(...)` works for the length of a block; `await tg.start(worker.run)` works
    in a task group of yours until `stop` or until it is cancelled. Both go on once the worker is registered and polls.
    A server that cannot be reached is waited for, at the start and at any later time; one that refuses the worker ends
    it with the refusal.

    Leaving the block, or `stop`, ends the polling at once and lets what runs finish within `grace`; what is left is
    then cancelled, each with the reason. A cancellation from outside does the same within `cancel_grace`, which is
    nothing unless you say otherwise; an error that leaves the block takes none. What was cut short is reported by
    nobody: the server gives it to another worker. `report` tells what became of everything.

    Args:
        client: The client whose server, organisation and queue the worker uses, over a connection of its own.
        workflows: The `@workflow` functions and classes that it runs.
        tasks: The `@task` functions and classes that it runs.
        queue: The queue that it takes work from; the client's if left out.
        name: Its name, which should be stable and unique; ``worker-<uuid>`` if left out.
        max_concurrent_workflows: How many activations of workflows may run at once.
        max_concurrent_tasks: How many tasks may run at once.
        lifespan: Makes an async context manager that is entered before the worker connects, and left when the last of
            its work has ended. What it yields (one object, or several as a tuple) is what `TaskContext.resource` finds.
            An error in it ends the worker, and leaves it as it is.
        grace: Seconds that running work gets to finish after a `stop`.
        cancel_grace: Seconds that it gets, shielded, when the worker is cancelled from outside.
        abandon_after: Seconds that the body of a task may go on once it is cancelled. One that runs still is abandoned:
            logged as an error, its slot given to another task. A thread is left behind then; an asynchronous body goes
            on for as long as it likes, and the worker cannot end before it does.
        heartbeat_interval: Seconds between signs of life of the worker.
        task_heartbeat_interval: Seconds between those of each running task: a task that was cancelled on the server
            notices within that time.
        lease: Seconds of silence after which the server gives a worker's work to others. The worker, too, ends all that
            runs when it has not heard the server for so long.
        on_violation: What becomes of a workflow whose code disagrees with its history, or reaches outside: `hold`
            suspends it, each time for longer, until a worker with fixed code picks it up; `fail` fails it. Either way
            the worker logs an error.
        cache_size: How many suspended workflows are kept in memory, so that the next step of each need not begin with
            re-enacting its history; 0 for none. It makes a difference in speed only.
        cache_age: Seconds after which one that nothing has happened to is dropped from memory.
        step_limit: How many scheduler steps a workflow may take without waiting for anything durable, before it counts
            as running away: a violation, as of `on_violation`.
        tripwires: What becomes of workflow code that does I/O, sleeps, starts threads, or reads a clock or random
            numbers that no replay can repeat; `flovyn.nursery.Tripwires` has the switches and what they are at first.
        reconnect: When to go back to a server that cannot be reached, or went away: an `ExponentialReconnect` if left
            out; a `FixedReconnect`, `NoReconnect`, or any function from an `Outage` to the seconds to wait, or to None
            to give up, which ends the worker with the error.

    Raises:
        ConfigurationError: There is nothing to run, or an option cannot work.
        DefinitionError: Something that is no definition, or has no code; or two definitions of one kind.

    Example:
        ```python
        async with flovyn.connect(url, org_id=org_id, token=token) as client:
            async with flovyn.Worker(client, workflows=[place_order], tasks=[charge, ship]):
                await anyio.sleep_forever()
        ```
    """

    def __init__(  # noqa: PLR0913 - options by keyword, each with a default
        self,
        client: Client,
        *,
        workflows: Iterable[AnyWorkflow[..., Any]] = (),
        tasks: Iterable[AnyTask[..., Any]] = (),
        queue: str | None = None,
        name: str | None = None,
        max_concurrent_workflows: int = 10,
        max_concurrent_tasks: int = 20,
        lifespan: Lifespan | None = None,
        grace: float = 30.0,
        cancel_grace: float = 0.0,
        abandon_after: float = 10.0,
        heartbeat_interval: float = 2.0,
        task_heartbeat_interval: float = 2.0,
        lease: float = 60.0,
        on_violation: ViolationPolicy = "hold",
        cache_size: int = 1_000,
        cache_age: float = 3_600.0,
        step_limit: int = 100_000,
        tripwires: Tripwires | None = None,
        reconnect: ReconnectStrategy | None = None,
    ) -> None:
        self._plan = Plan(
            org_id=client.org_id,
            queue=client.queue if queue is None else queue,
            name=f"worker-{uuid.uuid4()}" if name is None else name,
            workflows=_checked("workflows", workflows, _workflow),
            tasks=_checked("tasks", tasks, _task),
            codecs=client.codecs,
            options=WorkerOptions(
                max_concurrent_workflows=max_concurrent_workflows,
                max_concurrent_tasks=max_concurrent_tasks,
                grace=grace,
                cancel_grace=cancel_grace,
                abandon_after=abandon_after,
                heartbeat_interval=heartbeat_interval,
                task_heartbeat_interval=task_heartbeat_interval,
                lease=lease,
                on_violation=on_violation,
                cache_size=cache_size,
                cache_age=cache_age,
                step_limit=step_limit,
                tripwires=tripwires or Tripwires(),
                reconnect=ExponentialReconnect() if reconnect is None else reconnect,
            ),
        )
        for option, text in (("queue", self._plan.queue), ("name", self._plan.name)):
            if not text:
                raise ConfigurationError(f"{option} must not be empty; leave it out for the default")
        if not self._plan.workflows and not self._plan.tasks:
            raise ConfigurationError("a worker needs something to run: give it workflows=[...] or tasks=[...]")
        self._connection = client.connection
        self._lifespan = lifespan
        self._gauges = Gauges()
        self._ledger = Ledger()
        self._report: WorkerReport | None = None
        self._entered = False
        self._tree: Tree | None = None
        self._grace: float | None = None  # what a stop allowed that came before there was a tree
        self._block: AsyncExitStack[bool | None]
        self._group: TaskGroup

    def __repr__(self) -> str:
        kinds = ", ".join(definition.kind for definition in (*self._plan.workflows, *self._plan.tasks))
        return f"<Worker {self.name} on {self.queue!r}: {kinds}>"

    @property
    def name(self) -> str:
        """The worker's name, by which the server knows it."""
        return self._plan.name

    @property
    def queue(self) -> str:
        """The queue that the worker takes work from."""
        return self._plan.queue

    def statistics(self) -> WorkerStatistics:
        """What the worker is doing right now; all zero before it runs and after it has ended."""
        return self._gauges.read(abandoned_tasks=self._ledger.running)

    @property
    def report(self) -> WorkerReport | None:
        """What became of the work that was under way when the worker was told to end; None until it has ended."""
        return self._report

    def stop(self) -> None:
        """Ask the worker to end: no more polls, and `grace` for what runs. Returns at once."""
        self._stop_within(self._plan.options.grace)

    async def run(  # noqa: ASYNC128 - `_run` says that it has started
        self, *, task_status: TaskStatus[Worker] = anyio.TASK_STATUS_IGNORED
    ) -> None:
        """Work until `stop` or until cancelled; `await tg.start(worker.run)` waits until the worker polls.

        Raises:
            UsageError: The worker has run before.
            Unauthenticated: The server does not accept the client's token.
            PermissionDenied: The token is not good for this organisation.
            FailedPrecondition: The server refuses the worker for what it registers.
            ServerUnavailable: The server cannot be reached, and `reconnect` has given up.
        """
        with opened():
            await self._run(task_status=task_status)

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            stack.enter_context(opened())
            stack.enter_context(unwrapped())
            self._group = await stack.enter_async_context(anyio.create_task_group())
            await self._group.start(self._run)
            self._block = stack.pop_all()
        return self

    def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> Coroutine[Any, Any, bool | None]:
        if error is None:
            self.stop()
        elif not holds_cancellation(error):
            # The block's own error is kept from the group, which would wrap it. A cancellation is not: it may be the
            # group's, because the worker failed.
            self._stop_within(0.0)
            kind = error = traceback = None
        return self._block.__aexit__(kind, error, traceback)

    # --- one run ----------------------------------------------------------------------------

    async def _run(self, *, task_status: TaskStatus[Worker]) -> None:
        if self._entered:
            raise UsageError(f"worker {self.name} has run already; make a new Worker to run again")
        self._entered = True
        arm_tripwires()
        ready = _Once(lambda: task_status.started(self))
        told = partial(self._stop_within, self._plan.options.cancel_grace)
        with self._gauges.count("internal_tasks"), unwrapped():
            async with anyio.create_task_group() as group:
                group.start_soon(listen, told)
                with anyio.CancelScope() as scope:
                    await self._live(scope, ready)
                group.cancel_scope.cancel()

    async def _live(self, scope: anyio.CancelScope, ready: Callable[[], None]) -> None:
        """Everything that the worker does. While it works, a cancellation from outside is only told to it."""
        async with resources_of(self._lifespan) as resources:
            scope.shield = True
            try:
                # The lifespan may cancel what it is around, in its own nursery. Its resources are gone then.
                await protected(partial(self._work, resources, ready), partial(self._stop_within, 0.0))
            finally:
                scope.shield = False
                self._ledger.begin()
                self._report = self._ledger.report()
                logger.info("worker %s has ended: %s", self.name, self._report)

    async def _work(self, resources: Resources, ready: Callable[[], None]) -> None:
        # Whatever speaks the protocol is loaded only by those who are about to: it takes longer than all the rest.
        from flovyn.worker.tree import Tree

        async with self._connection() as transport:
            self._tree = Tree(self._plan, transport, resources, self._gauges, self._ledger)
            if self._grace is not None:
                self._tree.stop(self._grace)
            await self._tree.run(ready)

    def _stop_within(self, grace: float) -> None:
        self._grace = grace if self._grace is None else min(grace, self._grace)
        if self._tree is not None:
            self._tree.stop(self._grace)


class _Once:
    """A callback that is called through once."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[[], None]) -> None:
        self._call: Callable[[], None] | None = call

    def __call__(self) -> None:
        call, self._call = self._call, None
        if call is not None:
            call()


def _workflow(given: AnyWorkflow[..., Any]) -> Workflow[..., Any]:
    return definition_of(given)


def _task(given: AnyTask[..., Any]) -> Task[..., Any]:
    return task_of(given)


def _checked(option: str, given: Iterable[G], definition: Callable[[G], D]) -> tuple[D, ...]:
    """Refuse what is no definition of that sort or has no code, and two of one kind."""
    checked: dict[str, D] = {}
    for one in given:
        try:
            found = definition(one)
        except DefinitionError as error:
            raise DefinitionError(f"{option}=[...]: {error.message}") from None
        if not found.has_code:
            raise DefinitionError(f"{option}=[...]: {found!r} has no code here: whoever defines it runs it")
        other = checked.setdefault(found.kind, found)
        if other is not found:
            raise DefinitionError(f"{option}=[...] has two of kind {found.kind!r}: {other!r} and {found!r}")
    return tuple(checked.values())
