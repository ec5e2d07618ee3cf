"""Random workflows as data: a tree of statements, what it observes on the way, and Hypothesis strategies for both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import anyio
from hypothesis import strategies as st

from flovyn.definitions import Workflow, task, workflow
from flovyn.errors import DeterminismError, ExecutionError
from flovyn.serde.envelope import members_of
from flovyn.workflow import WorkflowContext


@task
async def work(ctx: object, name: str) -> int:
    return len(name)


@dataclass(frozen=True)
class Sleep:
    seconds: float


@dataclass(frozen=True)
class Schedule:
    name: str


@dataclass(frozen=True)
class Operate:
    name: str
    fails: bool


@dataclass(frozen=True)
class Step:
    """A checkpoint."""


@dataclass(frozen=True)
class CancelAround:
    """Cancel one of the scopes around, counted from the innermost."""

    depth: int


@dataclass(frozen=True)
class MoveDeadline:
    """Give one of the scopes around another deadline."""

    depth: int
    seconds: float


@dataclass(frozen=True)
class Group:
    branches: tuple[tuple[Any, ...], ...]


@dataclass(frozen=True)
class Scope:
    seconds: float | None
    shield: bool
    body: tuple[Any, ...]


@dataclass(frozen=True)
class Catch:
    """Go on with `otherwise` if the body fails."""

    body: tuple[Any, ...]
    otherwise: tuple[Any, ...]


@dataclass(frozen=True)
class Compensate:
    """Do `undo` in a shield if the body ends in any other way than well."""

    body: tuple[Any, ...]
    undo: tuple[Any, ...]


names = st.sampled_from("abc")
seconds = st.sampled_from([0.0, 0.5, 1.0, 2.0, 5.0, 20.0])
leaves = st.one_of(
    st.builds(Sleep, seconds),
    st.builds(Schedule, names),
    st.builds(Schedule, names),
    st.builds(Operate, names, st.booleans()),
    st.builds(Step),
    st.builds(CancelAround, st.integers(0, 2)),
    st.builds(MoveDeadline, st.integers(0, 2), seconds),
)


def _nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    body = st.lists(inner, min_size=1, max_size=3).map(tuple)
    return st.one_of(
        st.builds(Group, st.lists(body, min_size=1, max_size=3).map(tuple)),
        st.builds(Scope, st.none() | seconds, st.booleans(), body),
        st.builds(Catch, body, body),
        st.builds(Compensate, body, body),
    )


programs = st.lists(st.recursive(leaves, _nested, max_leaves=12), min_size=1, max_size=4).map(tuple)


class Interpreter:
    """Runs a program; `trace` is what it observed."""

    def __init__(self, program: tuple[Any, ...]) -> None:
        self.program = program
        self.trace: list[object] = []

    def definition(self) -> Workflow[[], None]:
        @workflow(kind="program")
        async def run(ctx: WorkflowContext) -> None:
            await self._block(ctx, self.program, ())

        return run

    async def _block(self, ctx: WorkflowContext, block: tuple[Any, ...], around: tuple[anyio.CancelScope, ...]) -> None:
        for statement in block:
            await self._statement(ctx, statement, around)

    async def _statement(self, ctx: WorkflowContext, statement: Any, around: tuple[anyio.CancelScope, ...]) -> None:
        say = self.trace.append
        match statement:
            case Sleep(length):
                await anyio.sleep(length)
                say(("slept", anyio.current_time()))
            case Schedule(name):
                say(("task", name, await ctx.schedule(work, name)))
            case Operate(name, fails):
                say(("operation", name, await ctx.run(name, operate, name, fails), anyio.current_time()))
            case Step():
                await anyio.lowlevel.checkpoint()
            case CancelAround(depth):
                if depth < len(around):
                    around[-1 - depth].cancel()
            case MoveDeadline(depth, length):
                if depth < len(around):
                    around[-1 - depth].deadline = anyio.current_time() + length
            case Group(branches):
                async with anyio.create_task_group() as tg:
                    for branch in branches:
                        tg.start_soon(self._block, ctx, branch, (*around, tg.cancel_scope))
            case Scope(length, shield, body):
                deadline = float("inf") if length is None else anyio.current_time() + length
                with anyio.CancelScope(deadline=deadline, shield=shield) as scope:
                    await self._block(ctx, body, (*around, scope))
                say(("left", scope.cancel_called, scope.cancelled_caught))
            case Catch(body, otherwise):
                await self._catch(ctx, body, otherwise, around)
            case Compensate(body, undo):
                try:
                    await self._block(ctx, body, around)
                except BaseException as error:
                    if not isinstance(error, (DeterminismError, GeneratorExit)):
                        with anyio.CancelScope(shield=True) as scope:
                            await self._block(ctx, undo, (*around, scope))
                    raise
            case _:
                raise AssertionError(statement)

    async def _catch(
        self,
        ctx: WorkflowContext,
        body: tuple[Any, ...],
        otherwise: tuple[Any, ...],
        around: tuple[anyio.CancelScope, ...],
    ) -> None:
        caught: BaseExceptionGroup[ExecutionError] | None = None
        try:
            await self._block(ctx, body, around)
        except* ExecutionError as errors:
            caught = errors
        if caught is not None:
            self.trace.append(("caught", shape(caught)))
            await self._block(ctx, otherwise, around)


def operate(name: str, fails: bool) -> str:
    if fails:
        raise ValueError(name)
    return name.upper()


def shape(error: BaseException) -> object:
    """An exception as data, so that two of them can be compared."""
    members = members_of(error)
    return [shape(member) for member in members] if members else (type(error).__name__, str(error))
