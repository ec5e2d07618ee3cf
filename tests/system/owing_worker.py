"""A worker that never comes to cancel the tasks which its workflows have given up: it is killed while it owes that.

    python owing_worker.py BACKEND URL ORG TOKEN DIRECTORY

It works from the queue "owing". Each call of CancelTask is a line in DIRECTORY/effects, and goes no further.
"""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import anyio

import flovyn
from flovyn import Client, TaskContext, WorkflowContext, task, workflow
from flovyn.wire import methods
from flovyn.wire.transport import NO_METADATA, Method, Reply, Transport

Q = TypeVar("Q")
R = TypeVar("R")

QUEUE = "owing"


@task
async def endless(ctx: TaskContext) -> None:
    """Runs in another worker."""
    await anyio.sleep_forever()


@workflow
async def gives_up(ctx: WorkflowContext, *, ends: bool) -> str:
    """Gives a task up when it is told to, and ends then, or goes on."""
    async with anyio.create_task_group() as tg:
        tg.create_task(ctx.schedule(endless))
        await ctx.wait_for_signal("enough")
        tg.cancel_scope.cancel("enough")
    if not ends:
        await ctx.wait_for_signal("end")
    return "over"


class Owing:
    """A transport over which no task is cancelled."""

    def __init__(self, transport: Transport, directory: Path) -> None:
        self._transport = transport
        self._directory = directory

    async def unary(self, method: Method[Q, R], request: Q, *, metadata: Mapping[str, str] = NO_METADATA) -> Reply[R]:
        if method.path == methods.CANCEL_TASK.path:
            note(self._directory, "owes a cancel")
            await anyio.sleep_forever()
        return await self._transport.unary(method, request, metadata=metadata)

    def server_stream(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError

    async def client_stream(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError


def note(directory: Path, line: str) -> None:
    """Leave a trace."""
    with (directory / "effects").open("a") as effects:
        effects.write(f"{line} {os.getpid()}\n")


async def main(url: str, org_id: str, token: str, directory: Path) -> None:
    """Work until killed."""
    async with flovyn.connect(url, org_id=org_id, token=token) as client:

        @asynccontextmanager
        async def dial() -> AsyncGenerator[Transport]:
            async with client.connection() as transport:
                yield Owing(transport, directory)

        owing = Client(client.transport, org_id=org_id, queue=QUEUE, dial=dial)
        async with flovyn.Worker(owing, workflows=[gives_up]):
            note(directory, "ready")
            await anyio.sleep_forever()


if __name__ == "__main__":
    name, url, org_id, token, where = sys.argv[1:]
    backend, _, loop = name.partition("+")
    options = {"use_uvloop": True} if loop else {}
    anyio.run(main, url, org_id, token, Path(where), backend=backend, backend_options=options)
