"""A disk that is full for a while: it is said, nothing that was acknowledged is lost, and the server goes on."""

from __future__ import annotations

import sys
from pathlib import Path

import anyio
import pytest

from flovyn.errors import ServerUnavailable
from flovyn.wire import methods
from flovyn.wire.channel import Channel
from flovyn.wire.messages.flovyn import v1 as pb
from system.processes import ServerProcess, kill, server

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(sys.platform != "linux", reason="limits the size of another process's files"),
]

PAYLOAD = b'"' + b"x" * 10_000 + b'"'


def limit_files(at: ServerProcess, size: int) -> None:
    """Let no file of the process grow beyond this; -1 lets them."""
    import resource

    resource.prlimit(at.process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def largest(directory: Path) -> int:
    """The size of the largest file."""
    return max(file.stat().st_size for file in directory.iterdir())


async def start(at: ServerProcess, channel: Channel) -> str:
    request = pb.StartWorkflowRequest(org_id=at.org_id, workflow_kind="order", input=PAYLOAD)
    return (await channel.unary(methods.START_WORKFLOW, request)).message.workflow_execution_id


async def test_a_disk_that_is_full_for_a_while(tmp_path: Path) -> None:
    kept: list[str] = []
    with anyio.fail_after(30):
        async with server(tmp_path / "db") as at, Channel(at.url, token=at.token) as channel:
            kept += [await start(at, channel) for _ in range(5)]
            limit_files(at, largest(tmp_path) + 20 * len(PAYLOAD))
            refusals: list[str] = []
            while len(refusals) < 5:
                try:
                    kept.append(await start(at, channel))
                except ServerUnavailable as error:
                    refusals.append(error.message)
            assert all("the server cannot use its database at the moment" in refusal for refusal in refusals)
            assert len(kept) > 5
            limit_files(at, -1)
            kept += [await start(at, channel) for _ in range(5)]
            await kill(at.process)
        async with server(tmp_path / "db", port=at.port), Channel(at.url, token=at.token) as channel:
            for run in kept:
                events = pb.GetEventsRequest(workflow_execution_id=run)
                assert len((await channel.unary(methods.GET_EVENTS, events)).message.events) == 1
            poll = pb.PollRequest(worker_id="w", org_id=at.org_id)
            for run in [*kept, ""]:  # and nothing of what was refused
                polled = (await channel.unary(methods.POLL_WORKFLOW, poll)).message.workflow_execution
                assert ("" if polled is None else polled.id) == run
