"""Who is woken for what: no work may lie in a queue while somebody who could do it waits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import anyio
import pytest
from anyio.lowlevel import checkpoint

from flovyn.errors import ServerUnavailable
from flovyn.server.auth import Key, Keys
from flovyn.server.engine import Caller, Poller, Ready
from flovyn.server.shell import Shell
from server.world import ORG, World

pytestmark = pytest.mark.anyio

LIMIT_S = 5


@dataclass(frozen=True)
class Piece:
    kind: str


class Queue:
    """Work as a list of kinds, and the polls that wait for it."""

    def __init__(self) -> None:
        self.world = World()
        self.shell = Shell(self.world.engine, Keys([Key("t", ORG, "Worker")]))
        self.work: list[str] = []
        self.got: dict[str, str | None] = {}
        self.fault: Exception | None = None

    def put(self, kind: str, *, at: int | None = None) -> None:
        """Work that has become ready, at the end of the queue or at a place in it."""
        self.work.insert(len(self.work) if at is None else at, kind)
        self.shell.waiters.wake(Ready("task", ORG, "default", kind))

    def claim(self, _caller: Caller, poller: Poller) -> Piece | None:
        if self.fault is not None:
            fault, self.fault = self.fault, None
            raise fault
        for kind in self.work:
            if poller.takes(kind):
                self.work.remove(kind)
                return Piece(kind)
        return None

    def give_back(self, claimed: Piece) -> None:
        self.put(claimed.kind, at=0)

    async def poll(self, name: str, kinds: Sequence[str]) -> None:
        poller = Poller("task", ORG, "default", name, tuple(kinds))
        claimed = await self.shell.poll(self.world.caller(), poller, 60, self)
        self.got[name] = claimed[0].kind if claimed else None


async def until(holds: Callable[[], bool]) -> None:
    while not holds():
        await checkpoint()


async def test_a_poll_that_takes_other_work_than_it_was_woken_for_passes_the_call_on() -> None:
    queue = Queue()
    with anyio.fail_after(LIMIT_S):
        async with anyio.create_task_group() as tasks:
            for waiting, (name, kinds) in enumerate([("both", "ab"), ("only b", "b"), ("only a", "a")], start=1):
                tasks.start_soon(queue.poll, name, kinds)
                await until(lambda waiting=waiting: len(queue.shell.waiters) == waiting)  # type: ignore[misc]
            queue.put("a")
            queue.put("b", at=0)  # an older one, given back: it stands first
            await until(lambda: len(queue.got) == 2)
            assert queue.work == []
            queue.put("a" if "only b" in queue.got else "b")  # who looked first is the scheduler's business
    assert queue.work == []


async def test_a_poll_that_is_given_up_as_it_is_woken_takes_nothing() -> None:
    queue = Queue()
    with anyio.fail_after(LIMIT_S):
        async with anyio.create_task_group() as tasks:
            scope = anyio.CancelScope()

            async def give_up() -> None:
                with scope:
                    await queue.poll("first", "a")

            tasks.start_soon(give_up)
            await until(lambda: len(queue.shell.waiters) == 1)
            tasks.start_soon(queue.poll, "second", "a")
            await until(lambda: len(queue.shell.waiters) == 2)
            queue.put("a")
            scope.cancel()
    assert queue.got == {"second": "a"}


async def test_a_poll_that_fails_as_it_looks_passes_the_call_on() -> None:
    queue = Queue()
    with anyio.fail_after(LIMIT_S):
        async with anyio.create_task_group() as tasks:

            async def fail() -> None:
                with pytest.raises(ServerUnavailable):
                    await queue.poll("first", "a")

            tasks.start_soon(fail)
            await until(lambda: len(queue.shell.waiters) == 1)
            tasks.start_soon(queue.poll, "second", "a")
            await until(lambda: len(queue.shell.waiters) == 2)
            queue.fault = ServerUnavailable("disk full")
            queue.put("a")
    assert queue.got == {"second": "a"}
