"""What a body says through its context, and what of it reaches the server."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from flovyn import (
    ConnectionLost,
    FailedPrecondition,
    PayloadError,
    PermissionDenied,
    ServerUnavailable,
    StateKey,
    SyncTaskContext,
    TaskContext,
    Unimplemented,
    UsageError,
    task,
)
from flovyn.serde.envelope import parse_error
from flovyn.task.outbox import Outbox
from flovyn.wire.messages.flovyn import v1 as pb
from worker.fakes import FakeServer
from worker.test_worker_tasks import outcome, working

pytestmark = pytest.mark.anyio

TOLD = ("ReportProgress", "LogMessage", "StreamTaskData", "SetState", "CompleteTask", "FailTask")


def keep_state(server: FakeServer) -> dict[str, bytes]:
    """Have a server keep the state of its one task."""
    state: dict[str, bytes] = {}

    async def get(request: pb.GetStateRequest) -> pb.GetStateResponse:
        return pb.GetStateResponse(value=state.get(request.key, b""), found=request.key in state)

    async def put(request: pb.SetStateRequest) -> Any:
        state[request.key] = request.value
        return None

    async def drop(request: pb.ClearStateRequest) -> Any:
        state.pop(request.key, None)

    async def drop_all(request: pb.ClearAllStateRequest) -> Any:
        state.clear()

    async def keys(request: pb.GetStateKeysRequest) -> pb.GetStateKeysResponse:
        return pb.GetStateKeysResponse(keys=list(state))

    server.answers |= {
        "GetState": get,
        "SetState": put,
        "ClearState": drop,
        "ClearAllState": drop_all,
        "GetStateKeys": keys,
    }
    return state


def hold(server: FakeServer, name: str) -> Callable[[], None]:
    """Keep calls of a name waiting until the result is called."""
    gate = anyio.Event()

    async def wait(request: Any) -> Any:
        await gate.wait()

    server.answers[name] = wait
    return gate.set


def told(server: FakeServer) -> list[str]:
    return [call.name for call in server.calls if call.name in TOLD]


# --- progress, log, heartbeat ------------------------------------------------------------------


async def test_what_is_said_reaches_the_server_before_the_outcome() -> None:
    @task
    async def speaks(ctx: TaskContext) -> str:
        ctx.log("INFO", "begins")
        ctx.report_progress(0.5, "half of it")
        await ctx.stream_token("Hel")
        ctx.log("WARN", "ends")
        ctx.report_progress(1)
        return "done"

    server = FakeServer()
    async with working(server, speaks):
        server.offer("t1", "speaks", claim="token")
        assert await outcome(server) == b'"done"'
    assert told(server)[-1] == "CompleteTask"
    lines = [(call.request.level, call.request.message) for call in server.seen("LogMessage")]
    assert lines == [("INFO", "begins"), ("WARN", "ends")]
    last: pb.ReportProgressRequest = server.seen("ReportProgress")[-1].request
    assert (last.task_execution_id, last.progress, last.details) == ("t1", 1.0, "")
    assert {call.metadata["flovyn-claim"] for call in server.calls if call.name in TOLD} == {"token"}


async def test_what_is_said_reaches_the_server_before_the_failure_too() -> None:
    @task
    async def speaks(ctx: TaskContext) -> None:
        ctx.log("ERROR", "now I fail")
        raise ValueError("as I said")

    server = FakeServer()
    async with working(server, speaks):
        server.offer("t1", "speaks")
        await outcome(server)
    assert told(server) == ["LogMessage", "FailTask"]


async def test_of_progress_the_last_report_wins_and_the_body_never_waits() -> None:
    server = FakeServer()
    release = hold(server, "ReportProgress")

    @task
    async def quick(ctx: TaskContext) -> None:
        ctx.report_progress(0.1, "first")
        await server.until(lambda: server.seen("ReportProgress"))
        for number in range(2, 10):
            ctx.report_progress(number / 10)  # while the first is on its way
        release()

    async with working(server, quick):
        server.offer("t1", "quick")
        await outcome(server)
    assert [call.request.progress for call in server.seen("ReportProgress")] == [0.1, 0.9]


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan"), True, "0.5", None])
async def test_progress_is_a_number_from_0_to_1(value: Any) -> None:
    context = TaskContext(task_execution_id="t1", kind="k")
    with pytest.raises(UsageError) as caught:
        context.report_progress(value)
    assert caught.value.message == f"progress is a number from 0 to 1, not {value!r}"
    with pytest.raises(UsageError):
        await context.stream_progress(value)


async def test_levels_are_the_platforms() -> None:
    context = TaskContext(task_execution_id="t1", kind="k")
    level: Any = "LOUD"
    with pytest.raises(UsageError, match="^the level of a log line is DEBUG, INFO, WARN, ERROR, not 'LOUD'$"):
        context.log(level, "hello")


@pytest.mark.parametrize(
    "refusal",
    [FailedPrecondition("the task has ended"), PermissionDenied("no"), Unimplemented("no such call")],
    ids=lambda error: type(error).__name__,
)
async def test_a_refusal_reaches_no_body(refusal: Any) -> None:
    @task
    async def speaks(ctx: TaskContext) -> str:
        ctx.log("INFO", "one")
        ctx.report_progress(0.5)
        await ctx.stream_data({"n": 1})
        return "done"

    server = FakeServer()
    for name in ("LogMessage", "ReportProgress", "StreamTaskData"):
        server.refuse(name, refusal)
    async with working(server, speaks):
        server.offer("t1", "speaks")
        assert await outcome(server) == b'"done"'


async def test_a_call_that_the_server_does_not_have_is_made_once() -> None:
    @task
    async def speaks(ctx: TaskContext) -> None:
        for number in range(5):
            await ctx.stream_token(str(number))

    server = FakeServer()
    server.refuse("StreamTaskData", Unimplemented("no such call"))
    async with working(server, speaks):
        server.offer("t1", "speaks")
        await outcome(server)
    assert len(server.seen("StreamTaskData")) == 1


# --- streams -----------------------------------------------------------------------------------


async def test_events_of_a_stream_are_as_the_platform_has_them() -> None:
    @task
    async def shows(ctx: TaskContext) -> None:
        await ctx.stream_token("Hé")
        await ctx.stream_progress(0.25)
        await ctx.stream_progress(1, "done")
        await ctx.stream_data({"rows": [1, None]})
        await ctx.stream_error("lost one")
        await ctx.stream_error("lost two", "E2")

    server = FakeServer()
    async with working(server, shows):
        server.offer("t1", "shows")
        await outcome(server)
    sent: list[pb.StreamTaskDataRequest] = [call.request for call in server.seen("StreamTaskData")]
    token, progress, data, error = (pb.StreamEventType(number) for number in (1, 2, 3, 4))
    assert [(event.sequence, event.type, event.payload) for event in sent] == [
        (0, token, '{"type":"token","text":"Hé"}'),
        (1, progress, '{"type":"progress","progress":0.25}'),
        (2, progress, '{"type":"progress","progress":1.0,"details":"done"}'),
        (3, data, '{"type":"data","data":{"rows":[1,null]}}'),
        (4, error, '{"type":"error","message":"lost one"}'),
        (5, error, '{"type":"error","message":"lost two","code":"E2"}'),
    ]
    assert {(event.task_execution_id, event.workflow_execution_id) for event in sent} == {("t1", "wf-1")}
    assert all(event.timestamp_ms > 1_600_000_000_000 for event in sent)


async def test_numbers_begin_anew_with_each_attempt() -> None:
    from flovyn import RetryPolicy

    @task(retry=RetryPolicy(max_attempts=2, initial_interval=0))
    async def shows(ctx: TaskContext) -> None:
        await ctx.stream_token("a")
        await ctx.stream_token("b")
        if ctx.attempt == 1:
            raise ValueError("again")

    server = FakeServer()
    async with working(server, shows):
        server.offer("t1", "shows")
        await outcome(server)
    assert [call.request.sequence for call in server.seen("StreamTaskData")] == [0, 1, 0, 1]


async def test_an_event_is_sent_again_only_if_it_had_no_effect() -> None:
    @task
    async def shows(ctx: TaskContext) -> None:
        for number in range(4):
            await ctx.stream_token(str(number))

    server = FakeServer()
    server.refuse("StreamTaskData", ServerUnavailable("away"), ConnectionLost("perhaps"))
    async with working(server, shows):
        server.offer("t1", "shows")
        await outcome(server)
    # The first had no effect, so it is sent again; then the line broke in the middle of it.
    assert [call.request.sequence for call in server.seen("StreamTaskData")] == [0, 0, 1, 2, 3]


async def test_progress_is_sent_again_whatever_happened_to_it() -> None:
    @task
    async def speaks(ctx: TaskContext) -> None:
        ctx.report_progress(0.5)

    server = FakeServer()
    server.refuse("ReportProgress", ConnectionLost("perhaps"))
    async with working(server, speaks):
        server.offer("t1", "speaks")
        await outcome(server)
    assert [call.request.progress for call in server.seen("ReportProgress")] == [0.5, 0.5]


async def test_a_stream_that_is_faster_than_the_server_loses_nothing() -> None:
    @task
    async def floods(ctx: TaskContext) -> None:
        for number in range(1000):
            await ctx.stream_token(str(number))

    server = FakeServer()
    async with working(server, floods):
        server.offer("t1", "floods")
        await outcome(server)
    assert [call.request.sequence for call in server.seen("StreamTaskData")] == list(range(1000))


async def test_overflow_leaves_a_gap_in_the_numbers_and_fails_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    module = sys.modules[Outbox.__module__]
    monkeypatch.setattr(module, "_EVENTS", 3)
    monkeypatch.setattr(module, "_WAIT_FOR_ROOM", 0.01)
    server = FakeServer()
    release = hold(server, "StreamTaskData")

    @task
    async def floods(ctx: TaskContext) -> str:
        await ctx.stream_token("0")
        await server.until(lambda: server.seen("StreamTaskData"))
        for number in range(1, 8):
            await ctx.stream_token(str(number))
        release()
        await server.until(lambda: len(server.seen("StreamTaskData")) == 4)
        await ctx.stream_token("8")
        return "done"

    async with working(server, floods):
        server.offer("t1", "floods")
        assert await outcome(server) == b'"done"'
    sent = [(call.request.sequence, call.request.payload[-3:]) for call in server.seen("StreamTaskData")]
    assert sent == [(0, '0"}'), (1, '1"}'), (2, '2"}'), (3, '3"}'), (8, '8"}')]
    assert caplog.messages == ["task t1: 4 log lines and stream events were not sent: the server was too slow, or away"]


async def test_the_outcome_does_not_wait_long_for_what_cannot_be_sent(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("flovyn.worker.claimed._LAST_WORDS", 0.02)
    server = FakeServer()
    hold(server, "LogMessage")

    @task
    async def speaks(ctx: TaskContext) -> str:
        for number in range(3):
            ctx.log("INFO", str(number))
        return "done"

    async with working(server, speaks):
        server.offer("t1", "speaks")
        assert await outcome(server) == b'"done"'
    assert len(server.seen("LogMessage")) == 1
    assert "task t1: 2 log lines and stream events were not sent: the server was too slow, or away" in caplog.messages


async def test_data_that_is_no_json_is_the_callers_mistake() -> None:
    context = TaskContext(task_execution_id="t1", kind="k")
    with pytest.raises(PayloadError, match="cannot write"):
        await context.stream_data(object())
    with pytest.raises(PayloadError, match="cannot write"):
        context.heartbeat(object())


# --- state -------------------------------------------------------------------------------------

SEEN = StateKey[list[str]]("seen")


async def test_state_is_the_servers_and_typed() -> None:
    seen: list[Any] = []

    @task
    async def keeps(ctx: TaskContext) -> None:
        seen.append(await ctx.get(SEEN))
        seen.append(await ctx.get(SEEN, ["default"]))
        await ctx.set(SEEN, ["a"])
        await ctx.set("plain", {"n": 1})
        seen.append(await ctx.get(SEEN))
        seen.append(await ctx.get("plain"))
        seen.append(await ctx.state_keys())
        await ctx.clear("plain")
        seen.append(await ctx.state_keys())
        await ctx.clear_all()
        seen.append(await ctx.state_keys())

    server = FakeServer()
    keep_state(server)
    async with working(server, keeps):
        server.offer("t1", "keeps", claim="token")
        await outcome(server)
    assert seen == [None, ["default"], ["a"], {"n": 1}, ["plain", "seen"], ["seen"], []]
    assert {call.metadata["flovyn-claim"] for call in server.calls if "State" in call.name} == {"token"}


async def test_state_that_does_not_fit_names_its_key() -> None:
    @task
    async def reads(ctx: TaskContext) -> None:
        await ctx.get(SEEN)

    server = FakeServer()
    keep_state(server)["seen"] = b"7"
    async with working(server, reads):
        server.offer("t1", "reads")
        failure = parse_error(str(await outcome(server)))
    assert failure.type == "PayloadError"
    assert failure.message.startswith("state 'seen': the payload does not fit list[str]")


@pytest.mark.parametrize("key", ["", "$flovyn.heartbeat"])
async def test_keys_of_the_sdk_are_out_of_reach(key: str) -> None:
    context = TaskContext(task_execution_id="t1", kind="k")
    for call in (context.get(key), context.set(key, 1), context.clear(key)):
        with pytest.raises(UsageError, match="cannot be used as StateKey name"):
            await call


async def test_state_waits_for_a_server_that_is_away() -> None:
    @task
    async def keeps(ctx: TaskContext) -> str:
        await ctx.set("k", "v")
        value: str = await ctx.get("k")
        return value

    server = FakeServer()
    keep_state(server)
    server.refuse("SetState", ServerUnavailable("away"), ConnectionLost("perhaps"))
    server.refuse("GetState", ConnectionLost("perhaps"))
    async with working(server, keeps):
        server.offer("t1", "keeps")
        assert await outcome(server) == b'"v"'
    assert (len(server.seen("SetState")), len(server.seen("GetState"))) == (3, 2)


async def test_a_refusal_of_state_is_the_bodys_to_see() -> None:
    @task
    async def keeps(ctx: TaskContext) -> None:
        await ctx.set("k", "v")

    server = FakeServer()
    server.refuse("SetState", FailedPrecondition("it can have no more keys"))
    async with working(server, keeps):
        server.offer("t1", "keeps")
        assert parse_error(str(await outcome(server))).type == "FailedPrecondition"


# --- heartbeats --------------------------------------------------------------------------------


async def test_what_a_heartbeat_said_is_there_in_later_attempts_and_no_key_of_the_body() -> None:
    seen: list[Any] = []

    @task
    async def loads(ctx: TaskContext) -> None:
        seen.append(await ctx.last_heartbeat(int))
        ctx.heartbeat(3)
        ctx.heartbeat()  # says nothing new
        seen.append(await ctx.last_heartbeat(int))
        seen.append(await ctx.state_keys())

    server = FakeServer()
    state = keep_state(server)
    async with working(server, loads):
        server.offer("t1", "loads")
        await outcome(server)
        server.offer("t2", "loads", attempt=2)
        await outcome(server, "t2")
    assert seen == [None, 3, [], 3, 3, []]
    assert state == {"$flovyn.heartbeat": b"3"}


async def test_of_what_heartbeats_say_the_last_counts() -> None:
    server = FakeServer()
    release = hold(server, "SetState")

    @task
    async def loads(ctx: TaskContext) -> None:
        ctx.heartbeat(0)
        await server.until(lambda: server.seen("SetState"))
        for number in range(1, 9):
            ctx.heartbeat(number)
        release()

    async with working(server, loads):
        server.offer("t1", "loads")
        await outcome(server)
    assert [call.request.value for call in server.seen("SetState")] == [b"0", b"8"]


# --- the rest ----------------------------------------------------------------------------------


async def test_input_is_what_was_given() -> None:
    seen: list[Any] = []

    @task
    async def one(ctx: TaskContext, numbers: list[int]) -> None:
        seen.append(ctx.input)

    @task
    async def two(ctx: TaskContext, a: int, *, b: str = "b") -> None:
        seen.append(ctx.input)

    @task
    def none(ctx: SyncTaskContext) -> None:
        seen.append(ctx.input)

    server = FakeServer()
    async with working(server, one, two, none):
        server.offer("t1", "one", b"[1,2]")
        server.offer("t2", "two", b'{"a":1}')
        server.offer("t3", "none")
        for name in ("t1", "t2", "t3"):
            await outcome(server, name)
    assert sorted(seen, key=str) == sorted([[1, 2], {"a": 1, "b": "b"}, None], key=str)


async def test_a_context_without_a_worker_keeps_state_and_tells_nobody() -> None:
    context = TaskContext(task_execution_id="t1", kind="k", arguments=5)
    context.report_progress(0.5, "half")
    context.log("INFO", "hello")
    context.heartbeat({"row": 3})
    await context.stream_token("a")
    await context.set(SEEN, ["a"])
    await context.set("other", 1)
    assert (await context.get(SEEN), await context.state_keys()) == (["a"], ["other", "seen"])
    assert (await context.last_heartbeat(), context.input) == ({"row": 3}, 5)
    await context.clear(SEEN)
    assert await context.state_keys() == ["other"]
    await context.clear_all()
    assert await context.state_keys() == []


async def test_a_pump_is_there_only_for_who_speaks() -> None:
    server = FakeServer()
    gate = anyio.Event()

    @task
    async def speaks(ctx: TaskContext, aloud: bool) -> None:
        if aloud:
            ctx.log("INFO", "hello")
        await gate.wait()

    async with working(server, speaks) as worker:
        # The worker itself, its session's heartbeat, its poller and its watch over the lease.
        await server.until(lambda: worker.statistics().internal_tasks == 4)
        server.offer("t1", "speaks", b"false")
        await server.until(lambda: worker.statistics().internal_tasks == 5)  # the task's heartbeat
        server.offer("t2", "speaks", b"true")
        await server.until(lambda: worker.statistics().internal_tasks == 7)  # and a pump
        gate.set()
        await outcome(server, "t2")
