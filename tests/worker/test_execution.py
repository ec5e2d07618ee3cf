"""From a poll to an accepted submission: what is sent, what is kept alive, and what becomes of faults."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterable, AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeVar, cast

import anyio
import pytest

from flovyn import (
    ConnectionLost,
    DeterminismError,
    FailedPrecondition,
    FlovynError,
    InvalidArgument,
    MalformedMessage,
    NotFound,
    PayloadTooLarge,
    ServerError,
    ServerUnavailable,
    TaskContext,
    Unimplemented,
    UsageError,
    Workflow,
    WorkflowContext,
    task,
    workflow,
)
from flovyn.client import Backoff
from flovyn.replay import HistoryGap
from flovyn.serde.codecs import CodecChain
from flovyn.serde.envelope import parse_error
from flovyn.wire import coding, methods
from flovyn.wire.messages.flovyn import v1 as pb
from flovyn.wire.transport import NO_METADATA, Method, Reply
from flovyn.worker.execution import Executions
from flovyn.worker.options import ViolationPolicy, WorkerOptions
from worker.fakes import until

pytestmark = pytest.mark.anyio

Q = TypeVar("Q")
R = TypeVar("R")

ID = "550e8400-e29b-41d4-a716-446655440000"
CLAIM = {"flovyn-claim": "c-1"}
AT = 1_764_000_000_000


class OneRun:
    """A server that has one workflow: keeps its history, and fences nothing."""

    def __init__(self) -> None:
        self.events: list[pb.WorkflowEvent] = []
        self.submitted: list[pb.SubmitWorkflowCommandsRequest] = []
        self.cancelled: list[str] = []
        self.reads: list[int] = []
        self.metadata: list[Mapping[str, str]] = []
        self.errors: dict[str, list[Exception]] = {}
        self.hidden = 0
        self.append("WORKFLOW_STARTED")

    def append(self, kind: str, /, **data: Any) -> None:
        self.events.append(pb.WorkflowEvent(len(self.events) + 1, kind, json.dumps(data).encode()))

    async def unary(self, method: Method[Q, R], request: Q, *, metadata: Mapping[str, str] = NO_METADATA) -> Reply[R]:
        await anyio.lowlevel.checkpoint()
        name = method.path.rpartition("/")[2]
        self.metadata.append(metadata)
        if errors := self.errors.get(name):
            raise errors.pop(0)
        message: object = methods.Empty()
        match request:
            case pb.GetEventsRequest():
                seen = [event for number, event in enumerate(self.events) if number + 1 != self.hidden]
                self.hidden = 0
                raw = coding.encode(pb.GetEventsResponse(events=seen))
                self.reads.append(len(raw))
                message = raw
            case pb.SubmitWorkflowCommandsRequest():
                self.submitted.append(request)
                for command in request.commands:
                    self._accept(command)
            case pb.CancelTaskRequest(task_execution_id):
                self.cancelled.append(task_execution_id)
            case other:
                raise AssertionError(other)
        return Reply(cast("R", message), {})

    def _accept(self, command: pb.WorkflowCommand) -> None:
        types = pb.CommandType
        match command.command_type:
            case types.RECORD_OPERATION:
                operation = command.record_operation
                assert operation is not None
                self.append("OPERATION_COMPLETED", name=operation.operation_name, result=json.loads(operation.result))
            case types.SCHEDULE_TASK:
                scheduled = command.schedule_task
                assert scheduled is not None
                self.append("TASK_SCHEDULED", kind=scheduled.kind, taskExecutionId=scheduled.task_execution_id)
            case types.START_TIMER:
                timer = command.start_timer
                assert timer is not None
                self.append("TIMER_STARTED", timerId=timer.timer_id, durationMs=timer.duration_ms)
            case types.CANCEL_TIMER:
                self.append("TIMER_CANCELLED", timerId=command.cancel_timer and command.cancel_timer.timer_id)
            case types.SUSPEND_WORKFLOW:
                self.append("WORKFLOW_SUSPENDED")
            case types.COMPLETE_WORKFLOW:
                self.append("WORKFLOW_COMPLETED")
            case types.FAIL_WORKFLOW:
                self.append("WORKFLOW_EXECUTION_FAILED")
            case other:
                raise AssertionError(other)

    def server_stream(
        self, method: Method[Q, R], request: Q, *, metadata: Mapping[str, str] = NO_METADATA
    ) -> AbstractAsyncContextManager[AsyncIterator[R]]:
        raise NotImplementedError

    async def client_stream(
        self, method: Method[Q, R], requests: AsyncIterable[Q], *, metadata: Mapping[str, str] = NO_METADATA
    ) -> Reply[R]:
        raise NotImplementedError

    @property
    def tasks(self) -> list[str]:
        return [json.loads(e.event_data)["taskExecutionId"] for e in self.events if e.event_type == "TASK_SCHEDULED"]

    def last(self) -> list[pb.CommandType]:
        """The types of the last submission's commands."""
        return [pb.CommandType(command.command_type) for command in self.submitted[-1].commands]

    def error(self) -> str:
        failure = self.submitted[-1].commands[-1].fail_workflow
        assert failure is not None
        return failure.error


@task
async def double(ctx: TaskContext, number: int) -> int:
    return 2 * number


@workflow
async def one_task(ctx: WorkflowContext, number: int) -> int:
    return await ctx.schedule(double, number)


@workflow
async def gives_up(ctx: WorkflowContext) -> None:
    with anyio.move_on_after(1):
        await ctx.schedule(double, 1)
    await anyio.sleep(100)


def polled(kind: str = "one_task", data: bytes = b"21") -> pb.WorkflowExecution:
    return pb.WorkflowExecution(
        id=ID, kind=kind, org_id="org", queue="default", input=data, workflow_task_time_millis=AT
    )


def nobody(task_id: str, reason: str) -> None:
    """No task runs here."""


def executions(
    server: OneRun,
    *workflows: Workflow[..., Any],
    on_violation: ViolationPolicy = "hold",
    cache_size: int = 10,
    **more: Any,
) -> Executions:
    options = WorkerOptions(on_violation=on_violation, cache_size=cache_size, **more)
    return Executions(
        server,
        workflows or (one_task,),
        codecs=CodecChain(),
        cancel_task=nobody,
        workflow_ended=lambda _: None,
        options=options,
    )


MARK, TASK, TIMER = pb.CommandType.RECORD_OPERATION, pb.CommandType.SCHEDULE_TASK, pb.CommandType.START_TIMER
SUSPEND, COMPLETE, FAIL = (
    pb.CommandType.SUSPEND_WORKFLOW,
    pb.CommandType.COMPLETE_WORKFLOW,
    pb.CommandType.FAIL_WORKFLOW,
)


@pytest.mark.parametrize("cache_size", [0, 10])
async def test_what_is_new_may_come_with_the_run(cache_size: int) -> None:
    server = OneRun()
    runs = executions(server, cache_size=cache_size)

    def brought(after: int) -> pb.WorkflowExecution:
        run = polled()
        run.history = coding.encode(pb.GetEventsResponse(events=server.events[after:]))
        run.history_after = after
        return run

    await runs.execute(brought(0), CLAIM)
    assert (server.last(), server.reads) == ([MARK, TASK, SUSPEND], [])
    server.append("TASK_COMPLETED", taskExecutionId=server.tasks[0], output=42)
    await runs.execute(brought(1), CLAIM)
    assert server.last() == [MARK, COMPLETE]
    # Who does not know what was sent before has to ask for all of it.
    assert len(server.reads) == (0 if cache_size else 1)


async def test_what_does_not_follow_what_is_known_is_not_taken() -> None:
    server = OneRun()
    runs = executions(server)
    await runs.execute(polled(), CLAIM)
    server.append("TASK_COMPLETED", taskExecutionId=server.tasks[0], output=42)
    late = polled()
    late.history, late.history_after = coding.encode(pb.GetEventsResponse(events=server.events[2:])), 2
    await runs.execute(late, CLAIM)
    assert (server.last(), len(server.reads)) == ([MARK, COMPLETE], 2)


@pytest.mark.parametrize("cache_size", [0, 10])
async def test_two_activations_make_a_workflow(cache_size: int) -> None:
    server = OneRun()
    runs = executions(server, cache_size=cache_size)
    await runs.execute(polled(), CLAIM)
    assert server.last() == [MARK, TASK, SUSPEND]
    assert [command.sequence_number for command in server.submitted[0].commands] == [2, 3, 4]
    assert server.submitted[0].status == pb.WorkflowStatus.SUSPENDED
    server.append("TASK_COMPLETED", taskExecutionId=server.tasks[0], output=42)
    await runs.execute(polled(), CLAIM)
    assert server.last() == [MARK, COMPLETE]
    complete = server.submitted[1].commands[1].complete_workflow
    assert complete is not None
    assert complete.output == b"42"
    assert server.metadata == [CLAIM] * 4
    runs.close()


async def test_a_refused_submission_is_dropped_with_its_run() -> None:
    server = OneRun()
    server.errors["SubmitWorkflowCommands"] = [FailedPrecondition("claimed again")]
    runs = executions(server)
    await runs.execute(polled(), CLAIM)
    assert server.submitted == []
    await runs.execute(polled(), CLAIM)  # from the start, with other ids
    assert server.last() == [MARK, TASK, SUSPEND]
    runs.close()


async def test_a_submission_whose_answer_is_lost_is_not_repeated_and_its_run_is_not_trusted() -> None:
    server = OneRun()
    runs = executions(server)
    server.errors["SubmitWorkflowCommands"] = [ConnectionLost("gone")]
    with pytest.raises(ConnectionLost):
        await runs.execute(polled(), CLAIM)
    assert server.submitted == []
    await runs.execute(polled(), CLAIM)
    assert len(server.submitted) == 1
    runs.close()


@pytest.mark.parametrize("call", ["GetEvents", "SubmitWorkflowCommands"])
async def test_what_had_no_effect_is_called_again(call: str) -> None:
    runs_of_body: list[int] = []

    @workflow(kind="one_task")
    async def effect(ctx: WorkflowContext, number: int) -> None:
        await ctx.run("effect", lambda: runs_of_body.append(number))

    server = OneRun()
    server.errors[call] = [ServerUnavailable("away"), ServerUnavailable("away")]
    await executions(server, effect).execute(polled(), CLAIM)
    assert server.last() == [MARK, MARK, COMPLETE]
    assert runs_of_body == [21]


async def test_an_outage_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flovyn.worker.runs._OUTAGE", Backoff(initial=0.001, maximum=0.001))
    server = OneRun()
    server.errors["GetEvents"] = [ServerUnavailable(f"away {number}") for number in range(100)]
    with anyio.fail_after(5), pytest.raises(ServerUnavailable):
        await executions(server).execute(polled(), CLAIM)


async def test_a_history_with_a_hole_is_read_again() -> None:
    server = OneRun()
    runs = executions(server)
    await runs.execute(polled(), CLAIM)
    runs.close()
    server.append("TASK_COMPLETED", taskExecutionId=server.tasks[0], output=42)
    server.hidden = 3
    await runs.execute(polled(), CLAIM)
    assert server.last() == [MARK, COMPLETE]


async def test_a_hole_that_stays_is_named_and_the_run_held(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flovyn.worker.runs._REREAD_SECONDS", 0)
    server = OneRun()
    runs = executions(server)
    await runs.execute(polled(), CLAIM)
    runs.close()
    del server.events[1]
    server.reads.clear()
    await runs.execute(polled(), CLAIM)
    assert server.last() == [MARK, TIMER, SUSPEND]
    assert len(server.reads) == 5
    (error,) = [record.exc_info[1] for record in caplog.records if record.levelname == "ERROR" and record.exc_info]
    hole = "history has event 3 after event 1"
    assert str(error) == f"the history of workflow {polled().id} has a hole, however often it is read: {hole}"
    assert isinstance(error, MalformedMessage)
    assert (type(error.__cause__), str(error.__cause__)) == (HistoryGap, hole)


async def test_a_kind_that_the_worker_does_not_know_is_held(caplog: pytest.LogCaptureFixture) -> None:
    server = OneRun()
    await executions(server).execute(polled("unknown"), CLAIM)
    assert server.last() == [MARK, TIMER, SUSPEND]
    assert "handed workflow kind 'unknown'; it knows: one_task" in caplog.text


@workflow(kind="one_task")
async def changed(ctx: WorkflowContext, number: int) -> int:
    await anyio.sleep(1)
    return number


async def test_code_that_disagrees_is_held_longer_each_time_until_a_fixed_deployment(
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = OneRun()
    runs = executions(server)
    await runs.execute(polled(), CLAIM)
    runs.close()
    wrong = executions(server, changed)
    waits: list[int] = []
    for _ in range(3):
        await wrong.execute(polled(), CLAIM)
        assert server.last() == [MARK, TIMER, SUSPEND]
        timer = server.submitted[-1].commands[1].start_timer
        assert timer is not None
        waits.append(timer.duration_ms)
        server.append("TIMER_FIRED", timerId=timer.timer_id)
    assert waits == [1_000, 2_000, 4_000]
    assert "Timer call not in history" in caplog.text
    server.append("TASK_COMPLETED", taskExecutionId=server.tasks[0], output=42)
    fixed = executions(server)
    await fixed.execute(polled(), CLAIM)
    assert server.last() == [MARK, COMPLETE]


async def test_code_that_disagrees_fails_the_workflow_where_that_is_the_policy() -> None:
    server = OneRun()
    runs = executions(server)
    await runs.execute(polled(), CLAIM)
    runs.close()
    await executions(server, changed, on_violation="fail").execute(polled(), CLAIM)
    assert server.last() == [MARK, FAIL]
    failure = server.submitted[-1].commands[-1].fail_workflow
    assert failure is not None
    assert failure.failure_type == "DETERMINISM_VIOLATION"
    assert parse_error(failure.error).type == "DeterminismViolation"


@pytest.mark.parametrize(
    "refusal",
    [
        PayloadTooLarge("300 bytes are over 200", size=300, limit=200),
        UsageError("commands[1].schedule_task.kind: text that cannot be written as UTF-8"),
        InvalidArgument("commands[1].kind is too long"),
    ],
    ids=repr,
)
async def test_commands_that_nobody_can_take_fail_the_workflow(refusal: FlovynError) -> None:
    """They would come every time, and whoever waits for the workflow would wait for ever."""
    server = OneRun()
    server.errors["SubmitWorkflowCommands"] = [refusal]
    await executions(server).execute(polled(), CLAIM)
    assert server.last() == [MARK, FAIL]
    failure = server.submitted[-1].commands[-1].fail_workflow
    assert failure is not None
    assert failure.failure_type == "ERROR"
    info = parse_error(failure.error)
    assert (info.type, info.message) == (type(refusal).__name__, refusal.message)
    assert server.tasks == []


@pytest.mark.parametrize("claim", [CLAIM, {}], ids=["fenced", "not fenced"])
async def test_cancels_go_out_once_the_submission_counts(claim: dict[str, str]) -> None:
    server = OneRun()
    told: list[tuple[str, str]] = []
    runs = Executions(
        server,
        [gives_up],
        codecs=CodecChain(),
        cancel_task=lambda task_id, reason: told.append((task_id, reason)),
        workflow_ended=lambda _: None,
        options=WorkerOptions(),
    )
    await runs.execute(polled("gives_up", b"null"), claim)
    timer = server.submitted[0].commands[1].start_timer
    assert timer is not None
    server.append("TIMER_FIRED", timerId=timer.timer_id)
    server.errors["CancelTask"] = [NotFound("no such task")]  # an answer like any other
    await runs.execute(polled("gives_up", b"null"), claim)
    assert told == [(server.tasks[0], "cancelled by its workflow")]
    assert len(server.reads) == (2 if claim else 3)
    assert server.cancelled == []
    runs.close()


@pytest.mark.parametrize("claim", [CLAIM, {}], ids=["fenced", "not fenced"])
async def test_a_timer_that_is_left_is_cancelled_at_once_only_where_no_other_submission_can_count(
    claim: dict[str, str],
) -> None:
    @workflow(kind="waits")
    async def waits(ctx: WorkflowContext) -> None:
        for name in ("first", "second", "third"):
            with anyio.move_on_after(60):
                await ctx.wait_for_signal(name)

    server = OneRun()
    runs = executions(server, waits)
    for name in ("", "first", "second"):
        if name:
            server.append("SIGNAL_RECEIVED", signalName=name, signalValue=None)
        await runs.execute(polled("waits", b"null"), claim)
    started = [c.start_timer.timer_id for s in server.submitted for c in s.commands if c.start_timer]
    cancelled = [[c.cancel_timer.timer_id for c in s.commands if c.cancel_timer] for s in server.submitted]
    assert len(started) == 3
    if claim:
        assert cancelled == [[], [started[0]], [started[1]]]
    else:
        assert cancelled == [[], [], [started[0]]]
    runs.close()


async def test_what_is_kept_alive_is_bounded() -> None:
    server = OneRun()
    ended: list[str] = []

    @workflow(kind="one_task")
    async def watched(ctx: WorkflowContext, number: int) -> None:
        try:
            await ctx.schedule(double, number)
        finally:
            ended.append("evicted")

    runs = executions(server, watched, cache_size=0)
    await runs.execute(polled(), CLAIM)
    assert ended == ["evicted"]
    runs = executions(server, watched, cache_size=1)
    await runs.execute(polled(), CLAIM)
    assert ended == ["evicted"]
    runs.close()
    assert ended == ["evicted", "evicted"]


async def test_what_is_kept_alive_is_kept_for_a_time_only() -> None:
    server = OneRun()
    ended: list[str] = []

    @workflow(kind="one_task")
    async def watched(ctx: WorkflowContext, number: int) -> None:
        try:
            await ctx.schedule(double, number)
        finally:
            ended.append("evicted")

    runs = executions(server, watched, cache_age=0.05)
    async with anyio.create_task_group() as tg:
        tg.start_soon(runs.keep_young)
        await runs.execute(polled(), CLAIM)
        assert ended == []
        await until(lambda: ended)
        tg.cancel_scope.cancel()
    server.append("TASK_COMPLETED", taskExecutionId=server.tasks[0], output=42)
    await runs.execute(polled(), CLAIM)  # from the start, which shows in nothing else
    assert server.last() == [MARK, COMPLETE]
    runs.close()
    assert ended == ["evicted", "evicted"]


async def test_the_steps_of_an_activation_are_limited() -> None:
    @workflow(kind="one_task")
    async def spins(ctx: WorkflowContext, number: int) -> None:
        for _ in range(number):
            await anyio.lowlevel.checkpoint()

    server = OneRun()
    await executions(server, spins, step_limit=500, on_violation="fail").execute(polled(data=b"400"), CLAIM)
    assert server.last() == [MARK, COMPLETE]
    server = OneRun()
    await executions(server, spins, step_limit=500, on_violation="fail").execute(polled(data=b"600"), CLAIM)
    assert server.last() == [MARK, FAIL]
    assert parse_error(server.error()).type == "RunawayWorkflow"


@pytest.mark.parametrize("cache_size", [0, 10])
async def test_a_long_history_is_warned_of_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, cache_size: int
) -> None:
    monkeypatch.setattr("flovyn.worker.growth._MANY_EVENTS", 13)
    monkeypatch.setattr("flovyn.worker.growth._MANY_BYTES", 2_000)

    @workflow(kind="run")
    async def long(ctx: WorkflowContext) -> None:
        while True:
            await anyio.sleep(1)

    def warnings() -> list[str]:
        return [record.getMessage().partition(",")[0] for record in caplog.records if record.name == "flovyn.worker"]

    server = OneRun()
    runs = executions(server, long, cache_size=cache_size)
    lengths: list[int] = []
    for _ in range(10):
        lengths.append(len(server.events))
        await runs.execute(polled("run", b"null"), CLAIM)
        assert ("13 events" in "".join(warnings())) == (lengths[-1] >= 13)
        timers = [command.start_timer for command in server.submitted[-1].commands if command.start_timer]
        server.append("TIMER_FIRED", timerId=timers[-1].timer_id)
    assert 13 in lengths  # the very crossing was looked at
    size = next(size for size in server.reads if size >= 2_000)
    assert warnings() == [
        f"workflow run {ID} has a history of 13 events",
        f"workflow run {ID} has a history of {size / 1024 / 1024:.1f} MiB",
    ]
    runs.close()


@pytest.mark.parametrize(
    "unreadable",
    [
        pb.WorkflowEvent(3, "WORKFLOW_SUSPENDED", b""),  # what a block of another SDK ends with: no marker in it
        pb.WorkflowEvent(3, "TASK_COMPLETED", b"no JSON"),
        pb.WorkflowEvent(4, "TASK_COMPLETED", b"{}"),  # there is no third event
    ],
    ids=["foreign", "malformed", "hole"],
)
async def test_a_history_that_cannot_be_read_is_held_longer_each_time(unreadable: pb.WorkflowEvent) -> None:
    server = OneRun()
    server.append("TASK_SCHEDULED", kind="x", taskExecutionId="1")
    server.events.append(unreadable)
    waits: list[int] = []
    for _ in range(3):
        await executions(server).execute(polled(), CLAIM)
        assert server.last() == [MARK, TIMER, SUSPEND]
        timer = server.submitted[-1].commands[1].start_timer
        assert timer is not None
        waits.append(timer.duration_ms)
        server.append("TIMER_FIRED", timerId=timer.timer_id)
    assert waits == [1_000, 2_000, 4_000]


@pytest.mark.parametrize(
    "trouble",
    [
        ServerError("the disk is full", status="INTERNAL"),
        Unimplemented("commands[1]: this server knows no such command"),
        RuntimeError("a bug of this SDK"),
    ],
    ids=repr,
)
async def test_a_submission_that_fails_for_what_may_pass_holds_the_run(trouble: Exception) -> None:
    """Without a word the server would wait for a worker that lives."""
    server = OneRun()
    server.errors["SubmitWorkflowCommands"] = [trouble]
    runs = executions(server)
    await runs.execute(polled(), CLAIM)
    assert server.last() == [MARK, TIMER, SUSPEND]
    assert server.tasks == []
    await runs.execute(polled(), CLAIM)
    assert server.last() == [MARK, TASK, SUSPEND]
    runs.close()


async def test_a_refusal_of_what_follows_a_refusal_is_not_answered_any_more(caplog: pytest.LogCaptureFixture) -> None:
    server = OneRun()
    server.errors["SubmitWorkflowCommands"] = [InvalidArgument("no"), InvalidArgument("no, no")]
    await executions(server).execute(polled(), CLAIM)
    assert server.submitted == []
    assert "the server refused the submission: no, no" in caplog.text


async def test_a_server_that_fails_to_read_its_history_gets_the_run_back() -> None:
    server = OneRun()
    server.errors["GetEvents"] = [ServerError("the disk is away", status="INTERNAL")]
    await executions(server).execute(polled(), CLAIM)
    assert server.last() == [MARK, TIMER, SUSPEND]


@pytest.mark.parametrize("lost", [FailedPrecondition("claimed again"), NotFound("unknown")], ids=repr)
async def test_a_run_that_is_lost_is_left_alone(lost: ServerError) -> None:
    server = OneRun()
    server.errors["GetEvents"] = [lost]
    with pytest.raises(type(lost)):
        await executions(server).execute(polled(), CLAIM)
    assert server.submitted == []


async def test_the_reason_of_a_hold_can_always_be_written(caplog: pytest.LogCaptureFixture) -> None:
    # The log has the error as it is, and not everything that carries pytest's reports can carry that.
    caplog.set_level(logging.CRITICAL, "flovyn.worker")

    @workflow(kind="one_task")
    async def reaches_outside(ctx: WorkflowContext, number: int) -> None:
        raise DeterminismError("\ud800" + "x" * 100_000)

    server = OneRun()
    await executions(server, reaches_outside).execute(polled(), CLAIM)
    suspended = server.submitted[-1].commands[-1].suspend_workflow
    assert suspended is not None
    assert suspended.reason.startswith("Held: \\ud800xxx")
    assert len(suspended.reason) < 10_000


async def test_a_run_that_was_handed_out_twice_at_once_leaves_one_behind() -> None:
    ended: list[str] = []

    @workflow(kind="one_task")
    async def watched(ctx: WorkflowContext, number: int) -> None:
        try:
            await ctx.schedule(double, number)
        finally:
            ended.append("evicted")

    server = OneRun()
    runs = executions(server, watched)
    async with anyio.create_task_group() as tg:
        for _ in range(2):
            tg.start_soon(runs.execute, polled(), CLAIM)
    assert ended == ["evicted"]
    runs.close()
    assert ended == ["evicted", "evicted"]
