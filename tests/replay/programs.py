"""Runs random workflows; what each observes on the way is its trace."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from datetime import timedelta
from typing import Any, TypeAlias

import anyio
from anyio.abc import TaskStatus
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from flovyn import definitions
from flovyn.definitions import StateKey, Task, Workflow, definition_of, query, signal, task, workflow
from flovyn.errors import DeterminismError, ExecutionError, UsageError
from flovyn.serde.envelope import members_of
from flovyn.workflow import (
    ChildHandle,
    Ok,
    TaskHandle,
    WorkflowContext,
    compensation,
    join_all,
    join_n,
    join_settled,
    select,
    select_ok,
)
from replay import statements as s
from replay.statements import Block, Program, looking, programs

__all__ = ["AROUND", "Interpreter", "Program", "looking", "programs", "shape"]

PATIENCE = 30.0
"""So long a branch waits for another one: none waits for ever."""


@task(kind="work")
async def work(ctx: object, name: str) -> int:
    return len(name)


@workflow(kind="child")
async def child(ctx: object, name: str) -> int:
    return len(name)


class Boom(Exception):
    """What programs raise."""


class Sheltered:
    """The shield around a compensation, which no program has in its hands."""

    shield = True
    deadline = float("inf")

    def cancel(self) -> None: ...


Scopes: TypeAlias = tuple[anyio.CancelScope | Sheltered, ...]
AROUND: ContextVar[tuple[WorkflowContext, Scopes] | None] = ContextVar("around", default=None)
"""The scopes around the statement that runs, as the program has written them."""


class Interpreter:
    """Runs a program.

    Attributes:
        life: The newest run of it.
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        self.life = Life(program)

    @property
    def trace(self) -> list[Any]:
        """What the newest run has observed."""
        return self.life.trace

    def definition(self) -> Workflow[[], int]:
        """The program as a workflow: a class if it handles signals."""
        return self._class() if self.program.handlers else self._function()

    def _begin(self) -> Life:
        self.life = Life(self.program)
        return self.life

    def _function(self) -> Workflow[[], int]:
        @workflow(kind="program")
        async def run(ctx: WorkflowContext) -> int:
            return await self._begin().run(ctx)

        return run

    def _class(self) -> Workflow[[], int]:
        begin, handled = self._begin, dict(self.program.handlers)

        class Handling:
            ctx: WorkflowContext

            def __init__(self) -> None:
                self.life = begin()

            @signal
            async def h(self, ctx: WorkflowContext, value: int) -> None:
                await self.life.handle(ctx, "h", value, handled["h"])

            @signal
            async def i(self, ctx: WorkflowContext, value: int) -> None:
                await self.life.handle(ctx, "i", value, handled.get("i", ()))

            @query
            def look(self) -> int:
                return len(self.life.trace)

            @query
            def meddle(self) -> None:
                self.ctx.create_promise("of a query")

            async def run(self, ctx: WorkflowContext) -> int:
                self.ctx = ctx
                return await self.life.run(ctx)

        return definition_of(workflow(kind="program")(Handling))


class Life:
    """One run of a program.

    Attributes:
        trace: What it has observed.
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        self.trace: list[Any] = []
        self._handles: list[TaskHandle[int] | ChildHandle[int]] = []
        self._counts: Counter[str] = Counter()
        self._events: dict[str, anyio.Event] = {}
        self._locks: dict[str, anyio.Lock | anyio.Semaphore] = {}
        self._streams: tuple[MemoryObjectSendStream[int], MemoryObjectReceiveStream[int]] | None = None
        self._inside = 0  # how many of the main block and the handlers are under way
        self._means: dict[type[Any], Callable[[WorkflowContext, Any, Scopes], Awaitable[None]]] = {
            s.Schedule: self._schedule,
            s.Child: self._child,
            s.Begin: self._begin,
            s.Begun: self._begun,
            s.Handle: self._handle,
            s.Operate: self._operate,
            s.Sleep: self._sleep,
            s.Count: self._count,
            s.Condition: self._condition,
            s.Event: self._event,
            s.Stream: self._stream,
            s.Step: self._step,
            s.Promise: self._promise,
            s.Signal: self._signal,
            s.State: self._state,
            s.Draw: self._draw,
            s.Look: self._look,
            s.Before: self._before,
            s.Patched: self._patched,
            s.CancelAround: self._cancel_around,
            s.MoveDeadline: self._move_deadline,
            s.Raise: self._raise,
            s.Group: self._group,
            s.Scope: self._scope,
            s.Catch: self._catch,
            s.Swallow: self._swallow,
            s.Compensate: self._compensate,
            s.Undo: self._undo,
            s.Locked: self._locked,
            s.Join: self._join,
        }

    # --- the whole --------------------------------------------------------------------------

    async def run(self, ctx: WorkflowContext) -> int:
        """Run the main block."""
        await self._part(ctx, self.program.main)
        return len(self.trace)

    async def handle(self, ctx: WorkflowContext, name: str, value: int, block: Block) -> None:
        """Handle a signal."""
        self._say("got", name, value)
        await self._part(ctx, block)

    async def _part(self, ctx: WorkflowContext, block: Block) -> None:
        self._inside += 1
        try:
            await self._block(ctx, block, ())
        finally:
            self._inside -= 1
            if self._inside == 0 and self._streams is not None:
                for stream in self._streams:
                    stream.close()
                self._streams = None

    async def _block(self, ctx: WorkflowContext, block: Block, around: Scopes) -> None:
        for statement in block:
            AROUND.set((ctx, around))
            await self._means[type(statement)](ctx, statement, around)

    async def _branch(self, ctx: WorkflowContext, block: Block, around: Scopes, value: int) -> int:
        await self._block(ctx, block, around)
        return value

    def _say(self, *observed: object) -> None:
        self.trace.append(observed)

    # --- tasks, children, operations --------------------------------------------------------

    async def _schedule(self, ctx: WorkflowContext, it: s.Schedule, _: Scopes) -> None:
        self._say("task", it.name, await ctx.schedule(a_task(it.on_cancel, by_kind=it.by_kind), it.name))

    async def _child(self, ctx: WorkflowContext, it: s.Child, _: Scopes) -> None:
        definition = a_child(it.on_cancel, by_kind=it.by_kind)
        definition = definition if it.name is None else definition.options(child_name=it.name)
        self._say("child", it.name, await ctx.schedule_workflow(definition, "c"))

    async def _begin(self, ctx: WorkflowContext, it: s.Begin | s.Begun, _: Scopes) -> None:
        handle = (
            ctx.schedule_async(a_task(it.on_cancel), "t")
            if it.what == "task"
            else ctx.schedule_workflow_async(a_child(it.on_cancel), "c")
        )
        self._handles.append(handle)
        self._say("began", handle.task_id if isinstance(handle, TaskHandle) else handle.name)

    async def _begun(self, ctx: WorkflowContext, it: s.Begun, around: Scopes) -> None:
        await self._begin(ctx, it, around)
        handle = self._handles[-1]
        await self._block(ctx, it.body, around)
        AROUND.set((ctx, around))
        self._say("ended", await handle)

    async def _handle(self, _: WorkflowContext, it: s.Handle, __: Scopes) -> None:
        if it.nth < len(self._handles):
            handle = self._handles[-1 - it.nth]
            if it.what == "cancel":
                handle.cancel()
            else:
                self._say("ended", await handle)

    async def _operate(self, ctx: WorkflowContext, it: s.Operate, _: Scopes) -> None:
        self._say("operation", it.name, await ctx.run(it.name, operate, it.name, it.fails), anyio.current_time())

    # --- time, conditions, synchronization --------------------------------------------------

    async def _sleep(self, ctx: WorkflowContext, it: s.Sleep, _: Scopes) -> None:
        match it.how:
            case "anyio":
                await anyio.sleep(it.seconds)
            case "context":
                await ctx.sleep(timedelta(seconds=it.seconds))
            case "until":
                await ctx.sleep_until(ctx.current_time() + timedelta(seconds=it.seconds))
        self._say("slept", anyio.current_time())

    async def _count(self, _: WorkflowContext, it: s.Count, __: Scopes) -> None:
        self._counts[it.name] += 1

    async def _condition(self, ctx: WorkflowContext, it: s.Condition, _: Scopes) -> None:
        with anyio.move_on_after(PATIENCE) as scope:
            await ctx.wait_condition(lambda: self._counts[it.name] > 0)
            self._counts[it.name] -= 1
        self._say("condition", it.name, self._counts[it.name], scope.cancelled_caught)
        assert self._counts[it.name] >= 0, "two were woken for one"

    async def _event(self, _: WorkflowContext, it: s.Event, __: Scopes) -> None:
        event = self._events.setdefault(it.name, anyio.Event())
        if it.what == "set":
            event.set()
            return
        with anyio.move_on_after(PATIENCE) as scope:
            await event.wait()
        self._say("event", it.name, scope.cancelled_caught)

    async def _stream(self, _: WorkflowContext, it: s.Stream, __: Scopes) -> None:
        if self._streams is None:
            self._streams = anyio.create_memory_object_stream[int](1)
        with anyio.move_on_after(PATIENCE) as scope:
            if it.what == "put":
                await self._streams[0].send(len(self.trace))
            else:
                self._say("taken", await self._streams[1].receive())
        self._say(it.what, scope.cancelled_caught)

    async def _step(self, _: WorkflowContext, __: s.Step, ___: Scopes) -> None:
        await anyio.lowlevel.checkpoint()

    # --- promises, signals, state, and what is known ----------------------------------------

    async def _promise(self, ctx: WorkflowContext, it: s.Promise, _: Scopes) -> None:
        name = definitions.Promise[int](it.name)
        match it.what:
            case "create":
                self._say("promise", ctx.create_promise(name).key)
            case "wait":
                self._say("promise", it.name, await ctx.create_promise(name).wait())
            case "both":
                value = await ctx.promise(name, expires_after=60)
                self._say("promise", it.name, value)

    async def _signal(self, ctx: WorkflowContext, it: s.Signal, _: Scopes) -> None:
        name = definitions.Signal[int](it.name)
        match it.what:
            case "wait":
                value = await ctx.wait_for_signal(name)
                self._say("got", it.name, value)
            case "look":
                self._say("pending", it.name, ctx.has_signal(name), ctx.pending_signals(name))
            case "drain":
                for value in ctx.drain_signals(name):
                    self._say("got", it.name, value)

    async def _state(self, ctx: WorkflowContext, it: s.State, _: Scopes) -> None:
        key = StateKey[int](it.key)
        match it.what:
            case "set":
                self._say("set", it.key, len(self.trace))
                ctx.set(key, len(self.trace) - 1)
            case "clear":
                ctx.clear(key)
                self._say("clear", it.key)
            case "clear all":
                ctx.clear_all()
                self._say("clear all")
            case "read":
                self._say("state", {name: ctx.get(StateKey[int](name)) for name in ctx.state_keys()})

    async def _draw(self, ctx: WorkflowContext, it: s.Draw, _: Scopes) -> None:
        match it.what:
            case "uuid":
                self._say("drew", ctx.random_uuid())
            case "number":
                self._say("drew", ctx.random())
            case "generator":
                self._say("drew", ctx.new_random().sample(range(100), 3))

    async def _look(self, ctx: WorkflowContext, _: s.Look, __: Scopes) -> None:
        ctx.logger.info("event %d", len(self.trace))
        self._say("clock", anyio.current_time(), ctx.current_time())
        self._say("cancelled", ctx.is_cancellation_requested, ctx.cancel_reason)

    async def _before(self, ctx: WorkflowContext, it: s.Before, around: Scopes) -> None:
        await self._block(ctx, it.body, around)

    async def _patched(self, ctx: WorkflowContext, it: s.Patched, around: Scopes) -> None:
        new = ctx.patched(it.name)
        self._say("patched", it.name, new)
        await self._block(ctx, it.new if new else it.old, around)

    # --- scopes and failures ----------------------------------------------------------------

    async def _cancel_around(self, _: WorkflowContext, it: s.CancelAround, around: Scopes) -> None:
        if it.depth < len(around):
            around[-1 - it.depth].cancel()

    async def _move_deadline(self, _: WorkflowContext, it: s.MoveDeadline, around: Scopes) -> None:
        if it.depth < len(around):
            around[-1 - it.depth].deadline = anyio.current_time() + it.seconds

    async def _raise(self, _: WorkflowContext, it: s.Raise, __: Scopes) -> None:
        raise Boom(it.name)

    async def _group(self, ctx: WorkflowContext, it: s.Group, around: Scopes) -> None:
        async with anyio.create_task_group() as tg:
            inside = (*around, tg.cancel_scope)
            for number, branch in enumerate(it.branches):
                if it.started and number == 0:
                    self._say("started", await tg.start(self._serve, ctx, branch, inside))
                else:
                    tg.start_soon(self._block, ctx, branch, inside)

    async def _serve(self, ctx: WorkflowContext, block: Block, around: Scopes, *, task_status: TaskStatus[int]) -> None:
        half = len(block) // 2
        await self._block(ctx, block[:half], around)
        task_status.started(len(self.trace))
        await self._block(ctx, block[half:], around)

    async def _scope(self, ctx: WorkflowContext, it: s.Scope, around: Scopes) -> None:
        deadline = float("inf") if it.seconds is None else anyio.current_time() + it.seconds
        scope = anyio.CancelScope(deadline=deadline, shield=it.shield)
        AROUND.set((ctx, (*around, scope)))  # its deadline is its own: a shielded one may have it after a cancellation
        with scope:
            await self._block(ctx, it.body, (*around, scope))
        self._say("left", scope.cancel_called, scope.cancelled_caught)

    async def _catch(self, ctx: WorkflowContext, it: s.Catch, around: Scopes) -> None:
        caught: BaseException | None = None
        try:
            await self._block(ctx, it.body, around)
        except* (ExecutionError, UsageError, Boom, RuntimeError) as errors:
            caught = errors
        if caught is not None:
            self._say("caught", shape(caught))
            await self._block(ctx, it.otherwise, around)

    async def _swallow(self, ctx: WorkflowContext, it: s.Swallow, around: Scopes) -> None:
        swallowed = False
        try:
            await self._block(ctx, it.body, around)
        except BaseException as error:
            if isinstance(error, DeterminismError):
                raise
            self._say("swallowed", shape(error))
            swallowed = True
        if swallowed:
            await self._block(ctx, it.otherwise, around)

    async def _compensate(self, ctx: WorkflowContext, it: s.Compensate, around: Scopes) -> None:
        try:
            await self._block(ctx, it.body, around)
        except BaseException as error:
            if not isinstance(error, (DeterminismError, GeneratorExit)):
                with anyio.CancelScope(shield=True) as scope:
                    await self._block(ctx, it.undo, (*around, scope))
            raise

    async def _undo(self, ctx: WorkflowContext, it: s.Undo, around: Scopes) -> None:
        async with compensation() as undo:
            for number in range(2):
                undo.push(self._branch, ctx, (s.Look(), *it.undo), (*around, Sheltered()), number)
            await self._block(ctx, it.body, around)

    async def _locked(self, ctx: WorkflowContext, it: s.Locked, around: Scopes) -> None:
        lock = self._locks.setdefault(it.by, anyio.Lock() if it.by == "lock" else anyio.Semaphore(1))
        acquired = False
        with anyio.move_on_after(PATIENCE):
            await lock.acquire()
            acquired = True
        self._say(it.by, acquired)
        if acquired:
            try:
                await self._block(ctx, it.body, around)
            finally:
                lock.release()

    async def _join(self, ctx: WorkflowContext, it: s.Join, around: Scopes) -> None:
        branches = [self._branch(ctx, branch, around, number) for number, branch in enumerate(it.branches)]
        match it.how:
            case "all":
                self._say("joined", await join_all(*branches))
            case "settled":
                outcomes = await join_settled(*branches)
                self._say("settled", [one.value if isinstance(one, Ok) else shape(one.error) for one in outcomes])
            case "select":
                self._say("first", await select(*branches))
            case "select ok":
                self._say("first well", await select_ok(*branches))
            case "two":
                self._say("first two", await join_n(min(2, len(branches)), *branches))


def a_task(on_cancel: s.OnCancel, *, by_kind: bool = False) -> Task[[str], int]:
    """A task whose kind tells what becomes of it when it is cancelled."""
    if on_cancel == "request" and not by_kind:
        return work
    kind = "work" if on_cancel == "request" else f"work.{on_cancel}"
    return definitions.task_by_kind(kind, result=int).options(on_cancel=on_cancel)


def a_child(on_cancel: s.OnCancel, *, by_kind: bool = False) -> Workflow[[str], int]:
    """Likewise."""
    if on_cancel == "request" and not by_kind:
        return child
    kind = "child" if on_cancel == "request" else f"child.{on_cancel}"
    return definitions.workflow_by_kind(kind, result=int).options(on_cancel=on_cancel)


def operate(name: str, fails: bool) -> str:
    if fails:
        raise ValueError(name)
    return name.upper()


def shape(error: BaseException) -> object:
    """An exception as data, so that two of them can be compared."""
    members = members_of(error)
    return [shape(member) for member in members] if members else (type(error).__name__, str(error))
