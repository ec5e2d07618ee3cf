"""A context that hands out the operations of a run as they are, with the least that it takes to wait for them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from flovyn.replay import Event, Execution
from flovyn.replay.settlements import Settlement
from flovyn.replay.waits import SIGNAL, waits_for_child, waits_for_promise, waits_for_task


class Direct:
    """Everything that a run can do, without types, options and checks."""

    def __init__(self, execution: Execution) -> None:
        self.execution = execution

    async def task(self, kind: str) -> str:
        tasks = self.execution.tasks
        await self._enter()
        task_id = tasks.schedule(kind, b"null")
        settlement = self.execution.settlements.get(task_id)
        return said(await self.settled(settlement, waits_for_task(task_id), lambda: tasks.give_up(task_id)))

    async def child(self, kind: str, name: str | None = None) -> str:
        children = self.execution.children
        await self._enter()
        child = children.schedule(kind, b"null", name=name)
        settlement = children.settlement(child)
        return said(await self.settled(settlement, waits_for_child(child.name), lambda: children.give_up(child)))

    async def promise(self, name: str) -> str:
        promises = self.execution.promises
        await self._enter()
        return said(await self.settled(promises.settlement(promises.create(name)), waits_for_promise(name)))

    async def signal(self, name: str) -> Any:
        signals, kernel = self.execution.signals, self.execution.kernel
        await self._enter()
        payload = signals.take(name)
        if payload is None:
            task = kernel.current
            assert task is not None
            signals.wait(name, task)

            def abort() -> bool:
                signals.forget(name, task)
                return True

            payload = await self._park(abort, SIGNAL)
        return json.loads(payload)

    async def settled(self, settlement: Settlement, text: str, give_up: Callable[[], None] | None = None) -> Event:
        if settlement.event is None:
            task = self.execution.kernel.current
            assert task is not None
            settlement.waiters.append(task)

            def abort() -> bool:
                settlement.waiters.remove(task)
                if give_up is not None:
                    give_up()
                return True

            await self._park(abort, text)
        assert settlement.event is not None
        return settlement.event

    async def _enter(self) -> None:
        await self.execution.kernel.checkpoint_if_cancelled()

    async def _park(self, abort: Callable[[], bool], text: str) -> Any:
        key = object()
        self.execution.waits[key] = text
        try:
            return await self.execution.kernel.park(abort)
        finally:
            del self.execution.waits[key]


def said(event: Event) -> str:
    """How something ended, with what was said about it."""
    word, data = event.type.rpartition("_")[2], event.data
    match word:
        case "COMPLETED":
            return f"COMPLETED {bytes(data.output).decode()}"
        case "RESOLVED":
            return f"RESOLVED {bytes(data.value).decode()}"
        case "FAILED" | "REJECTED":
            return f"{word} {data.error}"
        case "CANCELLED":
            return f"CANCELLED {data.reason}"
        case _:
            return word
