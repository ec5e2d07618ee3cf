"""Random workflows as data: every operation of the context, alone, nested, and in branches that run concurrently."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from hypothesis import strategies as st

__all__ = ["Block", "Program", "looking", "programs"]

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


# --- strategies -----------------------------------------------------------------------------

names = st.sampled_from("ab")
seconds = st.sampled_from([0.0, 0.5, 1.0, 2.0, 5.0, 20.0])
on_cancel = st.sampled_from(["request", "wait", "abandon"])
depths = st.integers(0, 2)

_tasks = st.builds(Schedule, names, on_cancel, st.booleans())
_reads = st.one_of(
    st.builds(Signal, names, st.sampled_from(["wait", "look", "drain"])),
    st.builds(State, st.sampled_from(["set", "read", "clear", "clear all"]), names),
    st.builds(Draw, st.sampled_from(["uuid", "number", "generator"])),
    st.builds(Look),
    st.builds(Sleep, seconds, st.sampled_from(["anyio", "context", "until"])),
)
_leaves = st.one_of(
    _tasks,
    _tasks,
    _reads,
    _reads,
    st.builds(Child, st.none() | names, on_cancel, st.booleans()),
    st.builds(Begin, st.sampled_from(["task", "child"]), on_cancel),
    st.builds(Handle, st.sampled_from(["await", "cancel"]), st.integers(0, 2)),
    st.builds(Operate, names, st.sampled_from([False, False, True])),
    st.builds(Promise, names, st.sampled_from(["create", "wait", "both"])),
    st.builds(Count, names) | st.builds(Condition, names),
    st.builds(Event, names, st.sampled_from(["set", "wait"])),
    st.builds(Stream, st.sampled_from(["put", "take"])),
    st.builds(Step) | st.builds(Step) | st.builds(Raise, names),
    st.builds(CancelAround, depths),
    st.builds(MoveDeadline, depths, seconds),
)


def _nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    body = st.lists(inner, min_size=1, max_size=3).map(tuple)
    branches = st.lists(body, min_size=1, max_size=3).map(tuple)
    return st.one_of(
        st.builds(Group, branches, st.booleans()),
        st.builds(Group, branches),
        st.builds(Begun, st.sampled_from(["task", "child"]), on_cancel, body),
        st.builds(Join, st.sampled_from(["all", "settled", "select", "select ok", "two"]), branches),
        st.builds(Scope, st.none() | seconds, st.booleans(), body),
        st.builds(Catch, body, body),
        st.builds(Compensate, body, body),
        st.builds(Undo, body, body),
        st.builds(Swallow, body, body),
        st.builds(Locked, st.sampled_from(["lock", "semaphore"]), body),
        st.builds(Patched, names, body, body),
    )


def _blocks(leaves: st.SearchStrategy[Any], *, leaf_count: int, length: int) -> st.SearchStrategy[Block]:
    least = 1 + length // 3
    return st.lists(st.recursive(leaves, _nested, max_leaves=leaf_count), min_size=least, max_size=length).map(tuple)


def _tolerant(block: Block) -> Block:
    """Whatever one of them fails with, the next one is run."""
    return tuple(Catch((one,), (Step(),)) for one in block)


def _programs(leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[Program]:
    main = _blocks(leaves, leaf_count=12, length=6)
    handler = _blocks(leaves, leaf_count=4, length=2).map(_tolerant)
    h, i = st.tuples(st.just("h"), handler), st.tuples(st.just("i"), handler)
    return st.builds(Program, main | main.map(_tolerant), st.just(()) | st.tuples(h) | st.tuples(h, i))


programs = _programs(_leaves)
"""Anything at all."""

looking = _programs(_reads | _leaves)
"""Programs that look at the clock, chance, signals, state and patches at every turn."""
