"""Random workflows as data: every operation of the context, alone, nested, and in branches that run concurrently."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias, cast

from hypothesis import strategies as st

__all__ = ["Block", "Program", "looking", "programs", "without_patches"]

Block: TypeAlias = tuple[Any, ...]
OnCancel: TypeAlias = Literal["request", "wait", "abandon"]


@dataclass(frozen=True)
class Program:
    """A workflow: a function, or a class if it handles signals."""

    main: Block
    handlers: tuple[tuple[str, Block], ...] = ()


# --- tasks, children, operations ------------------------------------------------------------


@dataclass(frozen=True)
class Schedule:
    name: str
    on_cancel: OnCancel = "request"
    by_kind: bool = False


@dataclass(frozen=True)
class Child:
    """With a name of its own, which can be taken already, or with one that is made for it."""

    name: str | None = None
    on_cancel: OnCancel = "request"
    by_kind: bool = False


@dataclass(frozen=True)
class Begin:
    """A task or a child that nobody waits for, yet; its handle is there for every branch."""

    what: Literal["task", "child"]
    on_cancel: OnCancel = "request"


@dataclass(frozen=True)
class Handle:
    """Wait for one of the handles, or cancel it, counted from the newest."""

    what: Literal["await", "cancel"]
    nth: int


@dataclass(frozen=True)
class Begun:
    """One that is waited for after the body, whatever has become of it."""

    what: Literal["task", "child"]
    on_cancel: OnCancel
    body: Block


@dataclass(frozen=True)
class Operate:
    name: str
    fails: bool


# --- time, conditions, synchronization ------------------------------------------------------


@dataclass(frozen=True)
class Sleep:
    seconds: float
    how: Literal["anyio", "context", "until"] = "anyio"


@dataclass(frozen=True)
class Count:
    """One more of something that conditions wait for."""

    name: str


@dataclass(frozen=True)
class Condition:
    """Wait until there is one of something, and take it."""

    name: str


@dataclass(frozen=True)
class Event:
    name: str
    what: Literal["set", "wait"]


@dataclass(frozen=True)
class Stream:
    what: Literal["put", "take"]


@dataclass(frozen=True)
class Step:
    """A checkpoint."""


# --- promises, signals, state, and what is known --------------------------------------------


@dataclass(frozen=True)
class Promise:
    name: str
    what: Literal["create", "wait", "both"]


@dataclass(frozen=True)
class Signal:
    name: str
    what: Literal["wait", "look", "drain"]


@dataclass(frozen=True)
class State:
    what: Literal["set", "clear", "clear all", "read"]
    key: str = "a"


@dataclass(frozen=True)
class Draw:
    what: Literal["uuid", "number", "generator"]


@dataclass(frozen=True)
class Look:
    """The clock, and whether somebody has asked for the end."""


@dataclass(frozen=True)
class Before:
    """What stood where code is patched now: one statement, as it is one afterwards."""

    body: Block


@dataclass(frozen=True)
class Patched:
    name: str
    new: Block
    old: Block


# --- scopes and failures --------------------------------------------------------------------


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
class Raise:
    name: str


@dataclass(frozen=True)
class Group:
    branches: tuple[Block, ...]
    started: bool = False  # the first branch by `start`, which waits until half of it is done


@dataclass(frozen=True)
class Scope:
    seconds: float | None
    shield: bool
    body: Block


@dataclass(frozen=True)
class Catch:
    """Go on with `otherwise` if the body fails."""

    body: Block
    otherwise: Block


@dataclass(frozen=True)
class Swallow:
    """Go on with `otherwise` whatever comes, cancellations and the end of the execution included."""

    body: Block
    otherwise: Block


@dataclass(frozen=True)
class Compensate:
    """Do `undo` in a shield if the body ends in any other way than well."""

    body: Block
    undo: Block


@dataclass(frozen=True)
class Undo:
    """The same by `compensation()`, in two steps."""

    body: Block
    undo: Block


@dataclass(frozen=True)
class Locked:
    by: Literal["lock", "semaphore"]
    body: Block


@dataclass(frozen=True)
class Join:
    how: Literal["all", "settled", "select", "select ok", "two"]
    branches: tuple[Block, ...]


def without_patches(program: Program) -> Program:
    """The program as it was before the code was patched."""
    return Program(_before(program.main), tuple((name, _before(block)) for name, block in program.handlers))


def _parts(statement: Any) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", vars(statement))


def _before(block: Block) -> Block:
    statements: list[Any] = []
    for statement in block:
        if isinstance(statement, Patched):
            statements.append(Before(_before(statement.old)))
        else:
            parts = _parts(statement)
            changed: dict[str, Any] = {
                name: _before(parts[name]) for name in ("body", "otherwise", "undo") if name in parts
            }
            if "branches" in parts:
                changed["branches"] = tuple(map(_before, parts["branches"]))
            statements.append(replace(statement, **changed))
    return tuple(statements)


# --- strategies -----------------------------------------------------------------------------

names = st.sampled_from("ab")
seconds = st.sampled_from([0.0, 0.5, 1.0, 2.0, 5.0, 20.0])
on_cancel = st.sampled_from(["request", "wait", "abandon"])
depths = st.integers(0, 2)

_tasks = st.builds(Schedule, names, on_cancel, st.booleans())
_sleeps = st.builds(Sleep, seconds, st.sampled_from(["anyio", "context", "until"]))
_operations = st.builds(Operate, names, st.sampled_from([False, False, True]))
_cancels = st.builds(CancelAround, depths)
_moves = st.builds(MoveDeadline, depths, seconds)
_handles = st.builds(Handle, st.sampled_from(["await", "cancel"]), st.integers(0, 2))
_begins = st.builds(Begin, st.sampled_from(["task", "child"]), on_cancel)
_children = st.builds(Child, st.none() | names, on_cancel, st.booleans())
_states = st.builds(State, st.sampled_from(["set", "read", "clear", "clear all"]), names)
_signals = st.builds(Signal, names, st.sampled_from(["wait", "look", "drain"]))
_draws = st.builds(Draw, st.sampled_from(["uuid", "number", "generator"]))
_looks = st.builds(Look)

_promises = st.builds(Promise, names, st.sampled_from(["create", "wait", "both"]))


def _pick(*choices: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """One of these; one that is named twice comes up twice as often, which `one_of` does not promise."""
    return st.sampled_from(choices).flatmap(lambda choice: choice)


_work = _pick(_tasks, _tasks, _tasks, _operations, _children, _begins)
_given_up = _pick(_cancels, _cancels, _moves, _handles, _handles)
_together = _pick(
    st.builds(Count, names),
    st.builds(Condition, names),
    st.builds(Event, names, st.sampled_from(["set", "wait"])),
    st.builds(Stream, st.sampled_from(["put", "take"])),
    st.builds(Step),
)
_read = _pick(_signals, _signals, _states, _states, _draws, _looks)
_raises = st.builds(Raise, names)

_anything = _pick(*[_work] * 4, *[_sleeps, _read, _promises, _together] * 2, _given_up, _raises)
_reading = _pick(*[_read] * 4, *[_work, _sleeps] * 2, _promises, _together, _given_up)
_giving_up = _pick(*[_work] * 3, *[_given_up] * 2, _sleeps, _together)
_busy = _pick(*[_operations] * 5, _given_up, _tasks, _sleeps, _looks)


def _nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    body = st.lists(inner, min_size=1, max_size=3).map(tuple)
    branches = st.lists(body, min_size=2, max_size=3).map(tuple)
    groups = st.builds(Group, branches, st.booleans())
    scopes = st.builds(Scope, st.none() | seconds, st.sampled_from([False, False, True]), body)
    return _pick(
        *[groups, scopes] * 3,
        st.builds(Begun, st.sampled_from(["task", "child"]), on_cancel, body),
        st.builds(Join, st.sampled_from(["all", "settled", "select", "select ok", "two"]), branches),
        st.builds(Catch, body, body),
        st.builds(Compensate, body, body),
        st.builds(Undo, body, body),
        st.builds(Swallow, body, body),
        st.builds(Locked, st.sampled_from(["lock", "semaphore"]), body),
        st.builds(Patched, names, body, body),
    )


def _blocks(leaf: st.SearchStrategy[Any], *, depth: int, length: int) -> st.SearchStrategy[Block]:
    level = leaf
    for _ in range(depth):
        level = _pick(leaf, _nested(level))
    return st.lists(level, min_size=1 + length // 3, max_size=length).map(tuple)


def _tolerant(block: Block) -> Block:
    """Whatever one of them fails with, the next one is run."""
    return tuple(Catch((one,), (Step(),)) for one in block)


def _programs(leaf: st.SearchStrategy[Any]) -> st.SearchStrategy[Program]:
    main = _blocks(leaf, depth=3, length=6)
    handler = _blocks(leaf, depth=1, length=3).map(_tolerant)
    h, i = st.tuples(st.just("h"), handler), st.tuples(st.just("i"), handler)
    return st.builds(Program, main | main.map(_tolerant), st.just(()) | st.tuples(h) | st.tuples(h, i))


programs = st.one_of(*map(_programs, (_anything, _giving_up, _busy)))
"""Anything at all; much that is given up; and many operations at once."""

looking = _programs(_reading)
"""Programs that look at the clock, chance, signals, state and patches at every turn."""
