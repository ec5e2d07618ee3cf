"""What our server adds to the platform's protocol to save calls: waiting for an end, histories with what is polled."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from anyio.abc import TaskStatus

from flovyn.errors import InvalidArgument, NotFound
from flovyn.server import Server, serve
from flovyn.server.engine import Caller as EngineCaller
from flovyn.server.engine.invariants import violations
from flovyn.wire import methods
from flovyn.wire.channel import Channel
from flovyn.wire.coding import encode
from flovyn.wire.messages.flovyn import v1 as pb
from flovyn.wire.transport import NO_METADATA, Reply
from server.world import complete, fail, schedule, start_timer, suspend, task_id

pytestmark = pytest.mark.anyio

WAIT = {"flovyn-wait": "20"}
HISTORY = {"flovyn-history": "4096"}


class Caller:
    """A client and a worker on one connection."""

    def __init__(self, server: Server, channel: Channel) -> None:
        self.server = server
        self.channel = channel

    async def start(self) -> str:
        request = pb.StartWorkflowRequest(org_id=self.server.org_id, workflow_kind="order", input=b"{}")
        return (await self.channel.unary(methods.START_WORKFLOW, request)).message.workflow_execution_id

    async def poll(self, metadata: Mapping[str, str] = NO_METADATA) -> tuple[pb.WorkflowExecution, str]:
        request = pb.PollRequest(worker_id="w", org_id=self.server.org_id, timeout_seconds=5)
        reply = await self.channel.unary(methods.POLL_WORKFLOW, request, metadata=metadata)
        assert reply.message.workflow_execution is not None
        return reply.message.workflow_execution, reply.metadata["flovyn-claim"]

    async def poll_all(self, more: int, seconds: int = 5) -> list[tuple[str, str]]:
        """Ids and claims of the runs that a poll brings."""
        request = pb.PollRequest(worker_id="w", org_id=self.server.org_id, timeout_seconds=seconds)
        reply = await self.channel.unary(methods.POLL_WORKFLOW, request, metadata={"flovyn-more": str(more)})
        first = reply.message.workflow_execution
        if first is None:
            return []
        return [(first.id, reply.metadata["flovyn-claim"]), *((run.id, run.claim) for run in reply.message.more)]

    async def poll_tasks(self, more: int) -> list[tuple[str, str]]:
        request = pb.PollTaskRequest(worker_id="w", org_id=self.server.org_id, timeout_seconds=5)
        reply = await self.channel.unary(methods.POLL_TASK, request, metadata={"flovyn-more": str(more)})
        first = reply.message.task
        assert first is not None
        others = [(task.task_execution_id, task.claim) for task in reply.message.more]
        return [(first.task_execution_id, reply.metadata["flovyn-claim"]), *others]

    async def submit(self, run: str, token: str, *commands: pb.WorkflowCommand) -> None:
        request = pb.SubmitWorkflowCommandsRequest(workflow_execution_id=run, commands=list(commands))
        metadata = {"flovyn-claim": token}
        await self.channel.unary(methods.SUBMIT_WORKFLOW_COMMANDS, request, metadata=metadata)

    async def events(self, run: str, metadata: Mapping[str, str] = NO_METADATA) -> Reply[pb.GetEventsResponse]:
        request = pb.GetEventsRequest(workflow_execution_id=run)
        return await self.channel.unary(methods.GET_EVENTS, request, metadata=metadata)

    async def types(self, run: str, metadata: Mapping[str, str] = NO_METADATA) -> list[str]:
        return [event.event_type for event in (await self.events(run, metadata)).message.events]


@asynccontextmanager
async def calling(**options: Any) -> AsyncGenerator[Caller]:
    with anyio.fail_after(15):
        async with serve(**options) as server, Channel(server.url, token=server.token) as channel:
            yield Caller(server, channel)


# --- waiting for an end ---------------------------------------------------------------------------


async def test_the_answer_is_held_back_until_the_run_has_ended() -> None:
    heard: list[list[str]] = []
    async with calling() as caller:
        run = await caller.start()
        async with anyio.create_task_group() as tg:

            async def wait() -> None:
                heard.append(await caller.types(run, WAIT))

            tg.start_soon(wait)
            tg.start_soon(wait)
            _, token = await caller.poll()
            await caller.submit(run, token, schedule(0), start_timer("t", 1), suspend())
            _, token = await caller.poll()
            suspended = await caller.types(run)
            assert suspended[-2:] == ["WORKFLOW_SUSPENDED", "TIMER_FIRED"]
            assert heard == []
            await caller.submit(run, token, complete())
        assert heard == [[*suspended, "WORKFLOW_COMPLETED"]] * 2
        assert await caller.types(run, WAIT) == heard[0]  # there is nothing left to wait for


async def test_it_is_held_back_no_longer_than_wanted_and_says_that_it_can_be() -> None:
    async with calling() as caller:
        run = await caller.start()
        began = anyio.current_time()
        reply = await caller.events(run, {"flovyn-wait": "1"})
        assert anyio.current_time() - began >= 0.99
        assert ([event.event_type for event in reply.message.events], reply.metadata["flovyn-wait"]) == (
            ["WORKFLOW_STARTED"],
            "1",
        )
        assert (await caller.events(run, {"flovyn-wait": "0"})).metadata["flovyn-wait"] == "0"
        assert "flovyn-wait" not in (await caller.events(run)).metadata


async def test_an_end_that_was_retried_is_one_already() -> None:
    async with calling() as caller:
        run = await caller.start()
        _, token = await caller.poll()
        await caller.submit(run, token, fail())
        caller.server.engine.retries.retry(EngineCaller(caller.server.org_id, 0), run, note="", requested_by="me")
        assert await caller.types(run, WAIT) == ["WORKFLOW_STARTED", "WORKFLOW_EXECUTION_FAILED"]


async def test_what_cannot_be_waited_for() -> None:
    async with calling() as caller:
        with pytest.raises(NotFound, match="is unknown"):
            await caller.events("550e8400-e29b-41d4-a716-446655440000", WAIT)
        run = await caller.start()
        for nonsense in ("soon", "-1", "1.5", "9" * 10):
            with pytest.raises(InvalidArgument, match="flovyn-wait is a number"):
                await caller.events(run, {"flovyn-wait": nonsense})


async def test_a_server_that_ends_lets_go_of_who_waits() -> None:
    heard: list[list[str]] = []
    with anyio.fail_after(15):
        async with anyio.create_task_group() as tg, AsyncExitStack() as stack:
            server = await stack.enter_async_context(serve())
            channel = Channel(server.url, token=server.token)
            await tg.start(_opened, channel)
            caller = Caller(server, channel)
            run = await caller.start()

            async def wait() -> None:
                heard.append(await caller.types(run, WAIT))
                tg.cancel_scope.cancel()

            tg.start_soon(wait)
            while server.statistics().waiting_results != 1:
                await anyio.sleep(0.001)
        assert server.statistics().waiting_results == 0
    assert heard == [["WORKFLOW_STARTED"]]


async def _opened(channel: Channel, *, task_status: TaskStatus[None]) -> None:
    async with channel:
        task_status.started()
        await anyio.sleep_forever()


# --- histories with what is polled ----------------------------------------------------------------


async def test_a_history_comes_with_its_run_and_later_only_what_is_new() -> None:
    async with calling() as caller:
        run = await caller.start()
        polled, token = await caller.poll(HISTORY)
        first = encode((await caller.events(run)).message)
        assert (polled.history, polled.history_after) == (first, 0)
        await caller.submit(run, token, start_timer("t", 1), suspend())
        polled, token = await caller.poll(HISTORY)
        whole = encode((await caller.events(run)).message)
        assert (first + polled.history, polled.history_after) == (whole, 1)
        await caller.submit(run, token, start_timer("u", 1), suspend())
        polled, token = await caller.poll(HISTORY)
        assert polled.history_after == 4
        assert whole + polled.history == encode((await caller.events(run)).message)


async def test_another_connection_gets_all_of_it() -> None:
    async with calling() as caller, Channel(caller.server.url, token=caller.server.token) as channel:
        run = await caller.start()
        _, token = await caller.poll(HISTORY)
        await caller.submit(run, token, start_timer("t", 1), suspend())
        polled, _ = await Caller(caller.server, channel).poll(HISTORY)
        assert (polled.history, polled.history_after) == (encode((await caller.events(run)).message), 0)


async def test_it_comes_only_if_it_is_wanted_and_not_too_large() -> None:
    async with calling() as caller:
        for metadata in (NO_METADATA, {"flovyn-history": "10"}):
            run = await caller.start()
            polled, token = await caller.poll(metadata)
            assert (polled.id, polled.history, polled.history_after) == (run, b"", 0)
            # One that was read with its claim counts as sent.
            await caller.events(run, {"flovyn-claim": token})
            await caller.submit(run, token, start_timer("t", 1), suspend())
            polled, token = await caller.poll(HISTORY)
            assert (polled.id, polled.history_after) == (run, 1)
            await caller.submit(run, token, complete())


async def test_nonsense_is_refused_before_anything_is_claimed() -> None:
    async with calling() as caller:
        await caller.start()
        with pytest.raises(InvalidArgument, match="flovyn-history is a number, not 'all'"):
            await caller.poll({"flovyn-history": "all"})
        assert caller.server.statistics().claims == 0


# --- several at once ------------------------------------------------------------------------------


async def test_a_poll_brings_as_many_runs_as_it_asks_for_each_with_a_claim_of_its_own() -> None:
    async with calling() as caller:
        runs = [await caller.start() for _ in range(5)]
        claimed = await caller.poll_all(2)
        assert [run for run, _ in claimed] == runs[:3]
        assert len({token for _, token in claimed}) == 3
        for run, token in claimed:
            await caller.submit(run, token, complete())
        rest = await caller.poll_all(9)
        assert [run for run, _ in rest] == runs[3:]
        assert await caller.poll_all(9, seconds=0) == []
        assert violations(caller.server.engine) == []


async def test_so_does_a_poll_for_tasks_and_only_who_asks_gets_more() -> None:
    async with calling() as caller:
        run = await caller.start()
        _, token = await caller.poll()
        await caller.submit(run, token, *(schedule(number) for number in range(4)), suspend())
        (first,) = await caller.poll_tasks(0)
        others = await caller.poll_tasks(15)
        assert [task for task, _ in (first, *others)] == [task_id(number) for number in range(4)]
        for task, claim in (first, *others):
            request = pb.CompleteTaskRequest(task_execution_id=task, output=b"1")
            await caller.channel.unary(methods.COMPLETE_TASK, request, metadata={"flovyn-claim": claim})
        assert (await caller.types(run)).count("TASK_COMPLETED") == 4
        with pytest.raises(InvalidArgument, match="flovyn-more is a number, not 'all'"):
            asked = pb.PollTaskRequest(worker_id="w", org_id=caller.server.org_id)
            await caller.channel.unary(methods.POLL_TASK, asked, metadata={"flovyn-more": "all"})


async def test_where_others_wait_each_gets_one() -> None:
    brought: list[list[str]] = []
    async with calling() as caller, anyio.create_task_group() as tg:
        run = await caller.start()
        _, token = await caller.poll()

        async def poll() -> None:
            brought.append([task for task, _ in await caller.poll_tasks(15)])

        for _ in range(3):
            tg.start_soon(poll)
        while caller.server.statistics().waiting_polls != 3:
            await anyio.sleep(0.001)
        await caller.submit(run, token, *(schedule(number) for number in range(3)), suspend())
        while len(brought) < 3:
            await anyio.sleep(0.001)
        assert sorted(brought) == sorted([task_id(number)] for number in range(3))


async def test_what_a_poll_was_to_bring_is_free_again_when_it_is_given_up() -> None:
    # One that has arrived, and is dropped then, is free when nobody has asked for its events.
    async with calling(worker_timeout=0.3) as caller:
        runs = [await caller.start() for _ in range(3)]
        for turns in range(30):
            with anyio.CancelScope() as scope:
                async with anyio.create_task_group() as tg:
                    tg.start_soon(caller.poll_all, 2)
                    for _ in range(turns):
                        await anyio.lowlevel.checkpoint()
                    scope.cancel()
        claimed: list[str] = []
        while len(claimed) < 3:
            claimed += [run for run, _ in await caller.poll_all(2)]
        assert sorted(claimed) == sorted(runs)
