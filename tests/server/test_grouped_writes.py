"""Concurrent calls share one transaction; nobody is answered before it is written, and nothing of a lost one counts."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from flovyn.errors import FailedPrecondition, ServerUnavailable
from flovyn.server.auth import Key, Keys
from flovyn.server.engine.invariants import violations
from flovyn.server.service import Server, serve
from flovyn.server.shell import Shell
from flovyn.wire import methods
from flovyn.wire.channel import Channel
from flovyn.wire.messages.flovyn import v1 as pb
from server.world import TIMEOUT_MS, World, complete, schedule, suspend, task_id

pytestmark = pytest.mark.anyio

LIMIT_S = 20


async def start(server: Server, channel: Channel, payload: bytes = b"{}") -> str:
    request = pb.StartWorkflowRequest(org_id=server.org_id, workflow_kind="order", input=payload)
    return (await channel.unary(methods.START_WORKFLOW, request)).message.workflow_execution_id


async def poll(server: Server, channel: Channel) -> str:
    request = pb.PollRequest(worker_id="w", org_id=server.org_id, timeout_seconds=10)
    run = (await channel.unary(methods.POLL_WORKFLOW, request)).message.workflow_execution
    return "" if run is None else run.id


def failing(store: Any, times: int = 1) -> Callable[[], None]:
    """A commit that fails as often as said."""
    commit = store.commit
    left = [None] * times

    def instead() -> None:
        if left:
            left.pop()
            store.database.roll_back()
            raise ServerUnavailable("disk full")
        commit()

    return instead


async def test_concurrent_calls_share_a_transaction(monkeypatch: pytest.MonkeyPatch) -> None:
    with anyio.fail_after(LIMIT_S):
        async with serve() as server, Channel(server.url, token=server.token) as channel:
            store = server.engine.core.store
            commit, written = store.commit, list[int]()

            def counted() -> None:
                commit()
                written.append(len(store.runs.all()))

            monkeypatch.setattr(store, "commit", counted)
            async with anyio.create_task_group() as tg:
                for _ in range(16):
                    tg.start_soon(start, server, channel)
            assert written[-1] == 16
            assert len(written) < 16
            await start(server, channel)
            assert written[-1] == 17


async def test_nobody_is_answered_before_it_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    with anyio.fail_after(LIMIT_S):
        async with serve() as server, Channel(server.url, token=server.token) as channel:
            store = server.engine.core.store
            commit, events = store.commit, list[str]()

            def noted() -> None:
                events.append("w")
                commit()

            monkeypatch.setattr(store, "commit", noted)
            run = await start(server, channel)
            events.append("a")
            assert await poll(server, channel) == run
            events.append("a")
            assert re.fullmatch("w+aw+a", "".join(events))


async def test_what_cannot_be_written_has_not_happened(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with anyio.fail_after(LIMIT_S):
        async with serve() as server, Channel(server.url, token=server.token) as channel:
            store = server.engine.core.store
            first = await start(server, channel)
            assert await poll(server, channel) == first
            monkeypatch.setattr(store, "commit", failing(store))
            outcomes: list[str] = []

            async def attempt() -> None:
                try:
                    outcomes.append(await poll(server, channel))
                except ServerUnavailable as error:
                    outcomes.append(error.message)

            async with anyio.create_task_group() as tg:
                tg.start_soon(attempt)
                while not server.statistics().waiting_polls:
                    await anyio.sleep(0.001)
                with pytest.raises(ServerUnavailable, match="disk full"):
                    await start(server, channel)
                assert violations(server.engine) == []
                assert [row.id for row in store.runs.all()] == [first]
                run = await start(server, channel)
                if outcomes:  # the poll had a claim that was lost with the rest
                    assert outcomes == ["disk full"]
                    tg.start_soon(attempt)
            assert outcomes[-1] == run
            assert server.statistics().claims == 2
            assert violations(server.engine) == []
    assert caplog.messages == ["nothing of what was done last could be written: disk full"]


async def test_a_report_that_was_lost_can_be_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    with anyio.fail_after(LIMIT_S):
        async with serve() as server, Channel(server.url, token=server.token) as channel:
            run = await start(server, channel)
            assert await poll(server, channel) == run
            store = server.engine.core.store
            request = pb.SubmitWorkflowCommandsRequest(
                workflow_execution_id=run, commands=[complete()], status=pb.WorkflowStatus.COMPLETED
            )
            with monkeypatch.context() as broken:
                broken.setattr(store, "commit", failing(store))
                with pytest.raises(ServerUnavailable, match="disk full"):
                    await channel.unary(methods.SUBMIT_WORKFLOW_COMMANDS, request)
            assert (server.statistics().claims, violations(server.engine)) == (1, [])
            await channel.unary(methods.SUBMIT_WORKFLOW_COMMANDS, request)
            assert (server.statistics().claims, violations(server.engine)) == (0, [])


async def test_a_disk_that_is_full_in_the_middle_of_a_group_loses_the_whole_group(tmp_path: Path) -> None:
    with anyio.fail_after(LIMIT_S):
        async with serve(db=str(tmp_path / "small.db")) as server, Channel(server.url, token=server.token) as channel:
            store = server.engine.core.store
            kept = await start(server, channel)
            store.database.connection.execute("PRAGMA max_page_count = 1")  # SQLite allows no less than it has
            outcomes: list[str] = []

            async def attempt(size: int) -> None:
                try:
                    await start(server, channel, b'"' + b"x" * size + b'"')
                except ServerUnavailable as error:
                    outcomes.append(error.message)

            async with anyio.create_task_group() as tg:
                for size in (1, 200_000, 1):
                    tg.start_soon(attempt, size)
            assert outcomes
            assert all("cannot use its database at the moment" in outcome for outcome in outcomes)
            assert len(store.runs.all()) == 4 - len(outcomes)
            assert violations(server.engine) == []
            store.database.connection.execute("PRAGMA max_page_count = 100000")
            assert await poll(server, channel) == kept
            await start(server, channel)


async def test_what_was_claimed_for_a_caller_who_has_gone_is_given_back() -> None:
    world = World()
    world.start()
    world.activate(schedule(), suspend())
    shell = Shell(world.engine, Keys([Key("t", "org-1", "Worker")]))
    run = world.start()
    shell.write()
    polls: list[Callable[[], Awaitable[object]]] = [
        lambda: shell.poll(world.caller(), world.poller("workflow"), 0, world.engine.workflows),
        lambda: shell.poll(world.caller(), world.poller("task"), 0, world.engine.tasks),
    ]
    for poll_once in polls:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await poll_once()
        assert scope.cancelled_caught
        shell.write()
        world.sound()
    assert world.status(run) == "PENDING"
    assert world.task_status() == "PENDING"
    again = world.claim_task()
    assert again is not None
    assert again[0] == task_id(0)
    assert world.store.tasks.all()[0].execution_count == 1
    assert world.claim() is not None


async def test_a_claim_that_somebody_else_has_by_now_is_not_given_back() -> None:
    world = World()
    world.start()
    claimed = world.engine.workflows.claim(world.caller(), world.poller())
    assert claimed is not None
    world.submit(claimed.run.id, suspend(), claim=claimed.token)
    world.engine.workflows.give_back(claimed)
    assert world.status(claimed.run.id) == "WAITING"
    with pytest.raises(FailedPrecondition):
        world.submit(claimed.run.id, suspend(), claim=claimed.token)


@pytest.mark.parametrize("of", ["workflow", "task"])
def test_a_claim_that_was_lost_leaves_the_work_with_whoever_had_it_before(of: Any, tmp_path: Path) -> None:
    world = World(str(tmp_path / "a.db"))
    world.start()
    if of == "task":
        world.activate(schedule(), suspend())
    claim = world.claim if of == "workflow" else world.claim_task
    first = claim("w", 1)
    assert first is not None
    world.store.group(lambda: None)
    world.advance(TIMEOUT_MS)  # the lease lapses, and somebody else has the work: none of which is written
    second = claim("v", 2)
    assert second is not None
    assert second[0] == first[0]
    world.store.database.roll_back()
    world.engine.reload()
    world.sound()
    (held,) = world.engine.core.leases.claims()
    assert held.token == first[1]
    assert world.engine.core.leases.of_work(of, held.n) is held


def test_a_store_that_groups_shows_at_once_and_keeps_on_commit(tmp_path: Path) -> None:
    begun: list[None] = []
    world = World(str(tmp_path / "a.db"))
    world.store.group(lambda: begun.append(None))
    run = world.start()
    world.start()
    assert (len(begun), world.status(run)) == (1, "PENDING")
    world.store.commit()
    world.start()
    assert len(begun) == 2
    with pytest.raises(sqlite3.IntegrityError), world.store.transaction():
        world.store.database.connection.execute("INSERT INTO run_input VALUES (1, 'again')")
    assert len(world.store.runs.all()) == 3
    world.store.close()
    assert len(World(world.path).store.runs.all()) == 2
