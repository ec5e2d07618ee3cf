"""Random programs whose outcome does not depend on the order within one moment, so that Trio must agree.

Every sleep and every deadline ends at a moment of its own: durations carry a fraction that no other sum of fractions
equals. What happens in reaction to a cancellation (many tasks at one moment) is only logged, or comes after a shielded
sleep of its own.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

import anyio
from hypothesis import strategies as st

__all__ = ["Node", "Report", "World", "number_fractions", "programs"]

Node: TypeAlias = tuple[Any, ...]


def _block(children: st.SearchStrategy[Node]) -> st.SearchStrategy[list[Node]]:
    return st.lists(children, min_size=1, max_size=3)


_seconds = st.integers(0, 6)
_number = st.integers(0, 5)
_leaves: st.SearchStrategy[Node] = st.one_of(
    st.tuples(st.just("sleep"), _seconds),
    st.tuples(st.just("raise"), _seconds),
    st.tuples(st.just("cancel"), _seconds, _number),
    st.tuples(st.just("shield"), _seconds, _number, st.booleans()),
    st.tuples(st.just("deadline"), _seconds, _number, _seconds),
    st.tuples(st.just("set"), _seconds, _number),
    st.tuples(st.just("wait"), _number),
    st.tuples(st.just("await_notice"), _seconds, _number),
    st.tuples(st.just("notify"), _seconds, _number, st.booleans()),
    st.tuples(st.just("send"), _seconds, _number),
    st.tuples(st.just("receive"), _seconds, _number),
    st.just(("checkpoint",)),
    st.just(("forever",)),
)


def _grow(children: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
    block = _block(children)
    return st.one_of(
        st.tuples(st.just("scope"), st.none() | _seconds, st.booleans(), block),
        st.tuples(st.just("group"), st.lists(block, min_size=1, max_size=3), block),
        st.tuples(st.just("start"), block, block, block),
        st.tuples(st.just("finally"), block, _seconds),
        st.tuples(st.just("except"), block),
        st.tuples(st.just("swallow"), block),
        st.tuples(st.just("handle"), block, block, st.booleans()),
        st.tuples(st.just("hold"), _seconds, _number, block),
    )


programs: st.SearchStrategy[list[Node]] = st.lists(st.recursive(_leaves, _grow, max_leaves=14), min_size=1, max_size=3)


@dataclass(frozen=True, slots=True)
class Report:
    """What a run did, in a form in which order within one moment is lost."""

    log: list[tuple[float, str]]
    caught: list[bool]
    error: str


class World:
    """Runs one program on whatever backend is current."""

    def __init__(self, program: Sequence[Node]) -> None:
        self.program = program
        self.log: list[tuple[float, str]] = []
        self.scopes: list[tuple[str, anyio.CancelScope]] = []
        self.events: list[anyio.Event] = []
        self.fractions: dict[str, float] = {}
        self.began = 0.0

    async def run(self) -> Report:
        self.began = anyio.current_time()
        self.events = [anyio.Event() for _ in range(6)]
        self.conditions = [anyio.Condition() for _ in range(6)]
        self.streams = [anyio.create_memory_object_stream[str](number % 2) for number in range(6)]
        self.holds: list[anyio.Lock | anyio.Semaphore | anyio.CapacityLimiter] = [
            *(anyio.Lock(), anyio.Lock()),
            *(anyio.Semaphore(1), anyio.Semaphore(2)),
            *(anyio.CapacityLimiter(1), anyio.CapacityLimiter(2)),
        ]
        error = "None"
        try:
            with anyio.CancelScope(deadline=self.began + 1000) as self.around:
                try:
                    await self.block(self.program, "r")
                except BaseException as raised:
                    error = shape(raised)
                    if not isinstance(raised, Exception):
                        raise
        finally:
            for send, receive in self.streams:
                send.close()
                receive.close()
        caught = [scope.cancelled_caught for _, scope in sorted(self.scopes, key=lambda pair: pair[0])]
        return Report(sorted(self.log), [self.around.cancelled_caught, *caught], error)

    def note(self, what: str) -> None:
        self.log.append((anyio.current_time() - self.began, what))

    def unique(self, path: str, seconds: int) -> float:
        """The duration of the node at `path`, with a fraction of its own that depends on nothing but the program."""
        return seconds + self.fractions[path]

    def scope_at(self, number: int) -> anyio.CancelScope | None:
        """One of the scopes entered so far, told by the program and not by the order of entering."""
        scopes = sorted(self.scopes, key=lambda pair: pair[0])
        return scopes[number % len(scopes)][1] if scopes else None

    async def block(self, nodes: Sequence[Node], path: str) -> None:
        for index, node in enumerate(nodes):
            await getattr(self, f"do_{node[0]}")(f"{path}.{index}", *node[1:])

    async def sleep(self, path: str, seconds: int) -> None:
        await anyio.sleep(self.unique(path, seconds))
        self.note(path)

    async def do_sleep(self, path: str, seconds: int) -> None:
        await self.sleep(path, seconds)

    async def do_forever(self, path: str) -> None:
        # Not for ever: inside a shield nothing would end it, and Trio would hang.
        await self.sleep(path, 300)

    async def do_raise(self, path: str, seconds: int) -> None:
        await self.sleep(path, seconds)
        raise ValueError(path)

    async def do_cancel(self, path: str, seconds: int, number: int) -> None:
        await self.sleep(path, seconds)
        scope = self.scope_at(number)
        if scope is not None:
            scope.cancel()

    async def do_shield(self, path: str, seconds: int, number: int, value: bool) -> None:
        await self.sleep(path, seconds)
        scope = self.scope_at(number)
        if scope is not None:
            scope.shield = value

    async def do_deadline(self, path: str, seconds: int, number: int, later: int) -> None:
        await self.sleep(path, seconds)
        scope = self.scope_at(number)
        if scope is not None:
            scope.deadline = anyio.current_time() + self.unique(path + "+", later)

    async def do_set(self, path: str, seconds: int, number: int) -> None:
        await self.sleep(path, seconds)
        self.events[number].set()

    async def do_wait(self, path: str, number: int) -> None:
        with anyio.move_on_after(self.unique(path, 300)):
            await self.events[number].wait()
        self.note(path)

    async def do_await_notice(self, path: str, seconds: int, number: int) -> None:
        await self.sleep(path, seconds)
        condition = self.conditions[number]
        with anyio.move_on_after(self.unique(path + "+", 300)):
            async with condition:
                await condition.wait()
                self.note(f"{path} noticed")

    async def do_notify(self, path: str, seconds: int, number: int, everybody: bool) -> None:
        await self.sleep(path, seconds)
        condition = self.conditions[number]
        async with condition:
            condition.notify_all() if everybody else condition.notify()

    async def do_send(self, path: str, seconds: int, number: int) -> None:
        await self.sleep(path, seconds)
        with anyio.move_on_after(self.unique(path + "+", 300)):
            await self.streams[number][0].send(path)
            self.note(f"{path} sent")

    async def do_receive(self, path: str, seconds: int, number: int) -> None:
        await self.sleep(path, seconds)
        with anyio.move_on_after(self.unique(path + "+", 300)):
            self.note(f"{path} received {await self.streams[number][1].receive()}")

    async def do_checkpoint(self, path: str) -> None:
        await anyio.lowlevel.checkpoint()
        self.note(path)

    async def do_hold(self, path: str, seconds: int, number: int, block: Sequence[Node]) -> None:
        """A lock, a semaphore or a limiter: whoever comes at a moment of its own has a place of its own in line."""
        await self.sleep(path, seconds)
        hold = self.holds[number]
        held = False
        try:
            with anyio.move_on_after(self.unique(path + "+", 300)):
                await hold.acquire()
                held = True
                self.note(f"{path} held")
            await self.block(block, path)
        finally:
            if held:
                hold.release()

    async def do_handle(self, path: str, child: Sequence[Node], body: Sequence[Node], cancel: bool) -> None:
        async with anyio.create_task_group() as group:
            self.scopes.append((path, group.cancel_scope))
            handle = group.create_task(self.block(child, f"{path}.c"))
            await self.block(body, path)
            if cancel:
                handle.cancel()
            with anyio.move_on_after(self.unique(path + "+", 300)):
                await handle.wait()
                self.note(f"{path} waited for")
        self.note(f"{path} {handle.status.name}")

    async def do_swallow(self, path: str, block: Sequence[Node]) -> None:
        """Against the rules; the next checkpoint raises again."""
        try:
            await self.block(block, path)
        except anyio.get_cancelled_exc_class():
            self.note(f"{path} swallowed")

    async def do_scope(self, path: str, deadline: int | None, shield: bool, block: Sequence[Node]) -> None:
        due = float("inf") if deadline is None else anyio.current_time() + self.unique(path, deadline)
        with anyio.CancelScope(deadline=due, shield=shield) as scope:
            self.scopes.append((path, scope))
            await self.block(block, path)
        self.note(f"{path} left")

    async def do_group(self, path: str, children: Sequence[Sequence[Node]], body: Sequence[Node]) -> None:
        async with anyio.create_task_group() as group:
            self.scopes.append((path, group.cancel_scope))
            for index, child in enumerate(children):
                group.start_soon(self.block, child, f"{path}.c{index}")
            await self.block(body, path)
        self.note(f"{path} over")

    async def do_start(self, path: str, before: Sequence[Node], after: Sequence[Node], body: Sequence[Node]) -> None:
        async def child(*, task_status: Any) -> None:
            await self.block(before, f"{path}.b")
            task_status.started()
            await self.block(after, f"{path}.a")

        async with anyio.create_task_group() as group:
            self.scopes.append((path, group.cancel_scope))
            await group.start(child)
            await self.block(body, path)
        self.note(f"{path} over")

    async def do_finally(self, path: str, block: Sequence[Node], seconds: int) -> None:
        try:
            await self.block(block, path)
        finally:
            with anyio.CancelScope(shield=True):
                await self.sleep(path, seconds)

    async def do_except(self, path: str, block: Sequence[Node]) -> None:
        try:
            await self.block(block, path)
        except BaseException as error:
            self.note(f"{path} {shape(error)}")
            if not isinstance(error, Exception):
                raise


def number_fractions(world: World) -> None:
    """Give every node its own fraction: multiples of 2**-34, scattered, so that no two sums of a few are equal."""
    paths: list[str] = []

    def walk(nodes: Sequence[Node], path: str) -> None:
        for index, node in enumerate(nodes):
            here = f"{path}.{index}"
            paths.extend([here, here + "+"])
            match node:
                case ("scope", _, _, block) | ("finally", block, _) | ("except", block):
                    walk(block, here)
                case ("swallow", block) | ("hold", _, _, block):
                    walk(block, here)
                case ("handle", child, body, _):
                    walk(child, f"{here}.c")
                    walk(body, here)
                case ("group", children, body):
                    for number, child in enumerate(cast("list[list[Node]]", children)):
                        walk(child, f"{here}.c{number}")
                    walk(body, here)
                case ("start", before, after, body):
                    walk(before, f"{here}.b")
                    walk(after, f"{here}.a")
                    walk(body, here)
                case _:
                    pass

    walk(world.program, "r")
    # Drawn, not computed: of a linear sequence many sums are equal.
    scattered = random.Random(len(paths))
    world.fractions = {path: (scattered.getrandbits(32) + 1) / 2**34 for path in paths}


def shape(error: BaseException) -> str:
    """An exception as a tree, without the order in which siblings failed."""
    if isinstance(error, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", error)
        return "[" + ", ".join(sorted(shape(inner) for inner in group.exceptions)) + "]"
    if isinstance(error, anyio.get_cancelled_exc_class()):
        return "Cancelled"
    return f"{type(error).__name__}({error})"
