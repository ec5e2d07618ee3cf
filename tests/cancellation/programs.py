"""The workflow of the matrix: one program, which does what its cell says and notes what it sees."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager, contextmanager

import anyio

from flovyn import TaskContext, WorkflowContext, task, workflow
from flovyn.definitions import OnCancel

__all__ = ["REASON", "SECONDS", "SIGHTS", "Race", "cell", "part", "races", "work"]

REASON = "enough"
SECONDS = 60
"""How long the timers run."""

SIGHTS: defaultdict[str, list[list[object]]] = defaultdict(list)
"""By workflow, what each run of its program has seen, the runs in their order: a re-enactment is a run of its own."""


@task
async def work(ctx: TaskContext) -> str:
    raise AssertionError("the test stands for whoever works on it")


@workflow
async def part(ctx: WorkflowContext) -> str:
    raise AssertionError("likewise")


class Race:
    """Bodies of `ctx.run` of which one ends before the other. The host runs them, so the event is the host's."""

    def __init__(self) -> None:
        self._passed: anyio.Event | None = None
        self.cancelled = 0

    def _event(self) -> anyio.Event:
        self._passed = self._passed or anyio.Event()
        return self._passed

    async def first(self) -> str:
        self._event().set()
        return "ran"

    async def second(self) -> str:
        with anyio.CancelScope(shield=True):
            await self._event().wait()
        return "ran"

    async def endless(self) -> str:
        try:
            await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class():
            self.cancelled += 1
            raise
        return "never"


races: defaultdict[str, Race] = defaultdict(Race)
"""By workflow; a body that has its record is not run again, so re-enactments share it."""


# --- what is awaited ------------------------------------------------------------------------


async def schedule(ctx: WorkflowContext, how: OnCancel = "request") -> object:
    return await ctx.schedule(work.options(on_cancel=how))


async def handle(ctx: WorkflowContext) -> object:
    """It belongs to the scope that it is awaited in."""
    return await ctx.schedule_async(work)


async def child(ctx: WorkflowContext, how: OnCancel = "request") -> object:
    return await ctx.schedule_workflow(part.options(on_cancel=how))


async def sleep(ctx: WorkflowContext) -> object:
    await anyio.sleep(SECONDS)
    return "slept"


async def promise(ctx: WorkflowContext) -> object:
    return await ctx.promise("wish")


async def signal(ctx: WorkflowContext) -> object:
    return await ctx.wait_for_signal("done")


async def condition(ctx: WorkflowContext) -> object:
    await ctx.wait_condition(lambda: ctx.has_signal("done"))
    return "holds"


async def deadline(ctx: WorkflowContext) -> object:
    with anyio.move_on_after(SECONDS):
        await anyio.sleep_forever()
    return "expired"


async def group_exit(ctx: WorkflowContext) -> object:
    async with anyio.create_task_group() as tg:
        handles = [tg.create_task(schedule(ctx)), tg.create_task(sleep(ctx))]
    return [handle.return_value for handle in handles]


AWAITED: dict[str, Callable[[WorkflowContext], Awaitable[object]]] = {
    "schedule": schedule,
    "handle": handle,
    "schedule (wait)": lambda ctx: schedule(ctx, "wait"),
    "schedule (abandon)": lambda ctx: schedule(ctx, "abandon"),
    "child": child,
    "child (wait)": lambda ctx: child(ctx, "wait"),
    "child (abandon)": lambda ctx: child(ctx, "abandon"),
    "sleep": sleep,
    "promise": promise,
    "signal": signal,
    "condition": condition,
    "deadline": deadline,
    "task group exit": group_exit,
}


@asynccontextmanager
async def held(ctx: WorkflowContext) -> AsyncGenerator[Callable[[WorkflowContext], Awaitable[object]]]:
    """A lock that another task holds, whatever is cancelled, until a signal comes."""
    lock = anyio.Lock()

    async def hold() -> None:
        with anyio.CancelScope(shield=True):
            await ctx.wait_for_signal("done")
        lock.release()

    async def holder(*, task_status: anyio.abc.TaskStatus[None]) -> None:
        await lock.acquire()
        task_status.started()
        await hold()

    async def acquire(ctx: WorkflowContext) -> object:
        async with lock:
            return "locked"

    async with anyio.create_task_group() as tg:
        await tg.start(holder)
        yield acquire


# --- where it stands ------------------------------------------------------------------------


@contextmanager
def noted(notes: list[object]) -> Generator[None]:
    """Note what leaves the block."""
    try:
        yield
    except anyio.get_cancelled_exc_class() as error:
        notes.append(f"{type(error).__name__}: {error}")
        raise
    except Exception as error:
        notes.append(repr(error))
        raise


class Program:
    """One run of the program.

    Args:
        shielded: Whether the await stands in a shield.
        gated: Whether a word is waited for before it, in a shield.
    """

    def __init__(self, ctx: WorkflowContext, operation: str, *, shielded: bool, gated: bool, race: str) -> None:
        self.ctx = ctx
        self.operation = operation
        self.shielded = shielded
        self.gated = gated
        self.race = race
        self.notes: list[object] = []
        SIGHTS[ctx.workflow_execution_id].append(self.notes)

    async def waits(self, awaited: Callable[[WorkflowContext], Awaitable[object]]) -> None:
        """The await of the cell, and one more behind it, which no shield protects."""
        with noted(self.notes):
            if self.gated:
                with anyio.CancelScope(shield=True):
                    await self.ctx.wait_for_signal("go")
            with anyio.CancelScope(shield=self.shielded):
                self.notes.append(await awaited(self.ctx))
            await self.ctx.wait_for_signal("next")
            self.notes.append("next")

    async def canceller(self, scope: anyio.CancelScope) -> None:
        if self.race:
            race = races[self.ctx.workflow_execution_id]
            await self.ctx.run("cancel", race.second if self.race == "end first" else race.first)
        else:
            await self.ctx.wait_for_signal("cancel")
        scope.cancel(REASON)

    async def inner(self, awaited: Callable[[WorkflowContext], Awaitable[object]]) -> list[object]:
        scope = anyio.CancelScope()
        async with anyio.create_task_group() as tg:
            tg.start_soon(self.canceller, scope, name="the canceller")
            with scope:
                await self.waits(awaited)
            self.notes.append(scope.cancelled_caught)
        await self.ctx.wait_for_signal("end")
        if self.operation in ("signal", "condition"):
            self.notes.append(self.ctx.pending_signals("done"))
        if self.operation == "promise" and (self.shielded or not self.gated):  # else it never began
            self.notes.append(await self.ctx.promise("wish"))
        return self.notes

    async def operate(self, ctx: WorkflowContext) -> object:
        race = races[ctx.workflow_execution_id]
        if not self.race:
            return await ctx.run("work", lambda: "ran")
        if self.race == "end first":
            return await ctx.run("work", race.first)
        return await ctx.run("work", race.endless if self.race == "while" and not self.shielded else race.second)


@workflow
async def cell(
    ctx: WorkflowContext, operation: str, *, inner: bool, shielded: bool, gated: bool, race: str
) -> list[object] | None:
    program = Program(ctx, operation, shielded=shielded, gated=gated, race=race)
    place = program.inner if inner else program.waits
    if operation == "run":
        return await place(program.operate)
    if operation != "lock":
        return await place(AWAITED[operation])
    async with held(ctx) as acquire:
        return await place(acquire)
