"""Starting, claiming, reading and submitting."""

from __future__ import annotations

from typing import Any

import pytest

from flovyn.errors import FailedPrecondition, FlovynError, InvalidArgument, NotFound, Unimplemented
from flovyn.server import limits
from flovyn.server.engine import Ready, Start
from flovyn.wire.coding import decode
from flovyn.wire.messages.flovyn import v1 as pb
from server.world import World, cancel, complete, fail, schedule, start_timer, suspend, task_id

SUSPENDED = pb.WorkflowStatus.SUSPENDED


@pytest.fixture
def world() -> World:
    return World()


def command(command_type: pb.CommandType, **payload: Any) -> pb.WorkflowCommand:
    return pb.WorkflowCommand(command_type=command_type, **payload)


def test_a_start_is_the_first_event_and_ready_to_be_polled(world: World) -> None:
    run = world.start(payload=b'{"id": 7}', metadata={"team": "a"})
    assert world.history(run) == [
        ("WORKFLOW_STARTED", {"input": {"id": 7}, "kind": "order", "metadata": {"team": "a"}})
    ]
    assert world.engine.take_ready() == [Ready("workflow", "org-1", "default", "order")]
    assert world.status(run) == "PENDING"
    world.sound()


def test_an_input_of_no_bytes_is_null(world: World) -> None:
    run = world.start(payload=b"")
    assert world.history(run)[0][1]["input"] is None


@pytest.mark.parametrize(
    ("wanted", "text"),
    [
        (Start(kind=""), "workflow_kind is empty"),
        (Start(kind="k" * 256), "workflow_kind has 256 characters; at most 255 are allowed"),
        (Start(kind="k", queue="q" * 101), "queue has 101 characters; at most 100 are allowed"),
        (Start(kind="k", payload=b"{nope"), "input is not JSON: "),
        (Start(kind="k", payload=b'"\xff"'), "input is not JSON: "),
        (Start(kind="k", payload=b"[" * 100_000), "input is not JSON: "),
        (Start(kind="k", key=""), "idempotency_key is empty"),
        (Start(kind="k", key="x" * 256), "idempotency_key has 256 characters; at most 255 are allowed"),
        (
            Start(kind="k", key="x", key_ttl_seconds=0),
            "idempotency_key_ttl_seconds is 0; it must be between 1 and 2592000",
        ),
    ],
)
def test_a_start_that_makes_no_sense_names_the_field(world: World, wanted: Start, text: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        world.engine.workflows.start(world.caller(), wanted)
    assert caught.value.message.startswith(text)
    assert world.store.runs.all() == []
    assert world.engine.take_ready() == []


def test_the_same_key_finds_the_same_run_until_it_expires_or_the_run_fails(world: World) -> None:
    def start(key: str = "k", org: str = "org-1") -> tuple[str, bool, bool]:
        started = world.engine.workflows.start(world.caller(org=org), Start(kind="order", key=key, key_ttl_seconds=10))
        return started.run_id, started.key_used, started.key_new

    first, used, new = start()
    assert (used, new) == (False, True)
    assert start() == (first, True, False)
    assert start(org="org-2")[0] != first
    world.activate(complete())
    assert start() == (first, True, False)

    world.advance(10_000)
    second, used, new = start()
    assert (second != first, used, new) == (True, False, True)
    world.activate(fail())
    third, used, new = start()
    assert (third != second, used, new) == (True, False, True)
    world.activate(cancel())
    assert start()[0] != third
    world.sound()


def test_expired_keys_are_swept_away(world: World) -> None:
    world.start(key="k", key_ttl_seconds=10)
    world.start(key="l", key_ttl_seconds=10_000)
    world.advance(limits.EXPIRED_KEYS_PURGE_MS)
    kept = world.store.database.connection.execute("SELECT key FROM idempotency_key").fetchall()
    assert kept == [("l",)]


def test_a_start_without_a_key_is_always_new(world: World) -> None:
    started = world.engine.workflows.start(world.caller(), Start(kind="order"))
    assert (started.key_used, started.key_new) == (False, True)


def test_priority_moves_a_run_forward_and_age_decides_otherwise(world: World) -> None:
    old = world.start()
    world.now += 1_000
    young = world.start()
    world.now += 1_000
    urgent = world.start(priority_seconds=3)
    assert [world.claim(), world.claim(), world.claim()] == [
        (run, token)
        for run, token in zip(
            [urgent, old, young], [f"00000000-0000-0000-0000-00000000000{n}" for n in (4, 5, 6)], strict=True
        )
    ]
    assert world.claim() is None


def test_queues_and_organisations_keep_apart(world: World) -> None:
    here = world.start(queue="")
    there = world.start(queue="gpu")
    assert (
        world.engine.workflows.claim(
            world.caller(org="org-2"),
            world.engine.workers.poller(world.caller(org="org-2"), "workflow", worker_id="w", queue="default"),
        )
        is None
    )
    assert [claimed[0] for queue in ("gpu", "default") if (claimed := world.claim(queue=queue))] == [there, here]


def test_a_poll_gets_only_the_kinds_it_lists_or_registered(world: World) -> None:
    world.start(kind="a")
    b = world.start(kind="b")
    engine, caller = world.engine, world.caller()
    claimed = engine.workflows.claim(caller, world.poller(kinds=["b", "c"]))
    assert claimed is not None
    assert claimed.run.id == b
    worker_id = engine.workers.register(
        caller, name="w2", version="1", worker_type="UNIFIED", host="h", process="1", workflows={"c": b""}, tasks={}
    )
    for name in ("w2", worker_id):
        assert engine.workflows.claim(caller, world.poller(worker=name)) is None
        assert engine.tasks.claim(caller, world.poller("task", worker=name)) is None
    c = world.start(kind="c")
    claimed = engine.workflows.claim(caller, world.poller(worker=worker_id))
    assert claimed is not None
    assert claimed.run.id == c
    assert claimed.run.claim_worker == "w2"


def test_every_command_of_an_activation_becomes_its_event(world: World) -> None:
    run = world.start()
    kinds = pb.CommandType
    world.activate(
        command(kinds.COMMAND_TYPE_UNSPECIFIED),
        command(
            kinds.RECORD_OPERATION, record_operation=pb.RecordOperationCommand(operation_name="now", result=b"[1]")
        ),
        command(kinds.SET_STATE, set_state=pb.SetStateCommand(key="a", value=b"1.5")),
        command(kinds.CLEAR_STATE, clear_state=pb.ClearStateCommand(key="a")),
        schedule(0, payload=b'{"x":1}'),
        schedule(1, queue="gpu", max_retries=0, timeout_ms=500),
        start_timer("timer-0", 250),
        start_timer("timer-1", 250),
        command(kinds.CANCEL_TIMER, cancel_timer=pb.CancelTimerCommand(timer_id="timer-1")),
        command(kinds.CANCEL_TIMER, cancel_timer=pb.CancelTimerCommand(timer_id="unknown")),
        suspend("Waiting for timer timer-0 to fire"),
    )
    assert world.history(run)[1:] == [
        ("OPERATION_COMPLETED", {"operationName": "now", "name": "now", "result": [1]}),
        ("STATE_SET", {"key": "a", "value": 1.5}),
        ("STATE_CLEARED", {"key": "a"}),
        ("TASK_SCHEDULED", {"kind": "charge", "taskExecutionId": task_id(0), "input": {"x": 1}, "queue": "default"}),
        (
            "TASK_SCHEDULED",
            {
                "kind": "charge",
                "taskExecutionId": task_id(1),
                "input": {},
                "queue": "gpu",
                "maxRetries": 0,
                "timeoutMs": 500,
            },
        ),
        ("TIMER_STARTED", {"timerId": "timer-0", "durationMs": 250, "fireAtMs": world.now + 250}),
        ("TIMER_STARTED", {"timerId": "timer-1", "durationMs": 250, "fireAtMs": world.now + 250}),
        ("TIMER_CANCELLED", {"timerId": "timer-1"}),
        ("WORKFLOW_SUSPENDED", {"reason": "Waiting for timer timer-0 to fire"}),
    ]
    assert world.status(run) == "WAITING"
    assert world.store.timers.armed() == [(1, "timer-0")]
    world.sound()


@pytest.mark.parametrize(
    ("last", "status", "event"),
    [
        (complete(b'{"ok":true}'), "COMPLETED", ("WORKFLOW_COMPLETED", {"output": {"ok": True}})),
        (
            fail("boom"),
            "FAILED",
            ("WORKFLOW_EXECUTION_FAILED", {"error": "boom", "stackTrace": "line 1", "failureType": "ERROR"}),
        ),
        (cancel("enough"), "CANCELLED", ("WORKFLOW_CANCELLED", {"reason": "enough"})),
    ],
)
def test_the_end_of_a_run_ends_its_tasks_and_timers(
    world: World, last: pb.WorkflowCommand, status: str, event: tuple[str, Any]
) -> None:
    run = world.start()
    world.activate(schedule(0), schedule(1), start_timer("t", 10), start_timer("u", 20), suspend())
    claimed_task = world.claim_task()
    assert claimed_task is not None
    world.advance(10)
    world.activate(last)
    assert world.history(run)[-1] == event
    assert world.status(run) == status
    assert [world.task_status(0), world.task_status(1)] == ["CANCELLED", "CANCELLED"]
    assert world.attempts(0) == [(1, "CANCELLED", f"its workflow {run} has ended")]
    assert world.store.timers.armed() == []
    with pytest.raises(FailedPrecondition, match=f"was cancelled: its workflow {run} has ended"):
        world.engine.tasks.heartbeat(world.caller(claim=claimed_task[1]), task_id(0))
    world.advance(60_000)
    assert world.history(run)[-1] == event
    assert world.claim() is None
    assert world.claim_task() is None
    world.sound()


def test_some_official_workers_suspend_by_the_status_alone(world: World) -> None:
    run = world.start()
    claimed = world.claim()
    assert claimed is not None
    world.engine.workflows.submit(world.caller(), run, [schedule(0)], SUSPENDED)
    assert world.history(run)[-1] == ("WORKFLOW_SUSPENDED", {"reason": ""})
    assert world.status(run) == "WAITING"


def bad(index: int, **payload: Any) -> list[pb.WorkflowCommand]:
    return [*(schedule(n) for n in range(index)), pb.WorkflowCommand(**payload), suspend()]


@pytest.mark.parametrize(
    ("commands", "status", "error", "text"),
    [
        (
            bad(1, command_type=pb.CommandType.CREATE_PROMISE, create_promise=pb.CreatePromiseCommand(promise_id="")),
            SUSPENDED,
            InvalidArgument,
            "commands[1].create_promise.promise_id is empty",
        ),
        (
            bad(
                0,
                command_type=pb.CommandType.SCHEDULE_TASK,
                schedule_task=pb.ScheduleTaskCommand(kind="k", task_execution_id=task_id(1), idempotency_key=""),
            ),
            SUSPENDED,
            InvalidArgument,
            "commands[0].schedule_task.idempotency_key is empty",
        ),
        (
            bad(0, command_type=77),
            SUSPENDED,
            Unimplemented,
            "commands[0]: this server does not carry out command type 77",
        ),
        (
            bad(0, command_type=pb.CommandType.SET_STATE),
            SUSPENDED,
            InvalidArgument,
            "commands[0].set_state is missing, though the command's type asks for it",
        ),
        (
            [schedule(0, payload=b"{"), suspend()],
            SUSPENDED,
            InvalidArgument,
            "commands[0].schedule_task.input is not JSON",
        ),
        ([schedule(0, kind=""), suspend()], SUSPENDED, InvalidArgument, "commands[0].schedule_task.kind is empty"),
        (
            [schedule(0, max_retries=-1), suspend()],
            SUSPENDED,
            InvalidArgument,
            "commands[0].schedule_task.max_retries is -1; it must be between 0 and 1000000",
        ),
        (
            bad(
                0,
                command_type=pb.CommandType.SCHEDULE_TASK,
                schedule_task=pb.ScheduleTaskCommand(kind="k", task_execution_id="7"),
            ),
            SUSPENDED,
            InvalidArgument,
            "commands[0].schedule_task.task_execution_id '7' is not a UUID",
        ),
        ([start_timer("t", -5), suspend()], SUSPENDED, InvalidArgument, "commands[0].start_timer.duration_ms is -5; "),
        ([start_timer("", 5), suspend()], SUSPENDED, InvalidArgument, "commands[0].start_timer.timer_id is empty"),
        (
            [suspend(), schedule(0)],
            SUSPENDED,
            InvalidArgument,
            "commands[1] stands after the command that ends the activation",
        ),
        (
            [complete()],
            SUSPENDED,
            InvalidArgument,
            "status is SUSPENDED, but the last command is the one for COMPLETED",
        ),
        (
            [schedule(0)],
            pb.WorkflowStatus.COMPLETED,
            InvalidArgument,
            "status is COMPLETED, but no command ends the activation that way",
        ),
        (
            [],
            pb.WorkflowStatus.RUNNING,
            InvalidArgument,
            "status is RUNNING, but no command ends the activation that way",
        ),
    ],
)
def test_a_submission_with_a_fault_changes_nothing_at_all(
    world: World, commands: list[pb.WorkflowCommand], status: pb.WorkflowStatus, error: type[FlovynError], text: str
) -> None:
    run = world.start()
    claimed = world.claim()
    assert claimed is not None
    world.engine.take_ready()
    with pytest.raises(error) as caught:
        world.engine.workflows.submit(world.caller(claim=claimed[1]), run, commands, status)
    assert caught.value.message.startswith(text)
    assert world.types(run) == ["WORKFLOW_STARTED"]
    assert world.store.tasks.all() == []
    assert world.engine.take_ready() == []
    world.sound()
    world.submit(run, complete(), claim=claimed[1])
    assert world.status(run) == "COMPLETED"


def test_a_task_or_timer_of_an_id_that_is_taken_is_recorded_but_not_made_twice(world: World) -> None:
    run = world.start()
    world.activate(schedule(0), start_timer("t", 10), suspend())
    world.advance(10)
    world.activate(schedule(0), start_timer("t", 10), suspend())
    assert world.types(run).count("TASK_SCHEDULED") == 2
    assert world.types(run).count("TIMER_STARTED") == 2
    assert len(world.store.tasks.all()) == 1
    world.advance(1_000)
    assert world.types(run).count("TIMER_FIRED") == 1


def test_a_task_of_another_run_is_refused_rather_than_waited_for(world: World) -> None:
    world.start()
    world.activate(schedule(0), suspend())
    run = world.start()
    claimed = world.claim()
    assert claimed is not None
    with pytest.raises(InvalidArgument) as caught:
        world.submit(run, schedule(1), schedule(0), suspend(), claim=claimed[1])
    assert caught.value.message == f"the task execution id {task_id(0)} is taken by a task of another workflow"
    assert world.types(run) == ["WORKFLOW_STARTED"]
    assert len(world.store.tasks.all()) == 1
    world.sound()


def test_what_happened_since_the_claim_wakes_the_run_as_soon_as_it_suspends(world: World) -> None:
    run = world.start()
    world.activate(schedule(0), schedule(1), suspend())
    first, second = world.claim_task(), world.claim_task()
    assert first is not None
    assert second is not None
    world.engine.tasks.complete(world.caller(claim=first[1]), first[0], b"1")
    claimed = world.claim()
    assert claimed is not None
    world.engine.tasks.complete(world.caller(claim=second[1]), second[0], b"2")
    assert world.status(run) == "RUNNING"
    world.engine.take_ready()
    world.submit(run, suspend(), claim=claimed[1])
    assert world.status(run) == "PENDING"
    assert world.engine.take_ready() == [Ready("workflow", "org-1", "default", "order")]
    world.activate(suspend())
    assert world.status(run) == "WAITING"
    world.sound()


def test_reading_gives_the_history_in_order(world: World) -> None:
    run = world.start()
    world.activate(schedule(0), suspend())
    reply = decode(pb.GetEventsResponse, world.engine.workflows.events(world.caller(), run))
    assert [(event.sequence_number, event.event_type) for event in reply.events] == [
        (1, "WORKFLOW_STARTED"),
        (2, "TASK_SCHEDULED"),
        (3, "WORKFLOW_SUSPENDED"),
    ]
    assert reply.events[2].event_data == b'{"reason":"waiting"}'


def test_what_belongs_to_another_organisation_is_unknown(world: World) -> None:
    run = world.start()
    world.activate(schedule(0), suspend())
    stranger = world.caller(org="org-2")
    for call in (
        lambda: world.engine.workflows.events(stranger, run),
        lambda: world.engine.workflows.submit(stranger, run, [complete()], pb.WorkflowStatus.COMPLETED),
        lambda: world.engine.request_cancel(stranger, run, reason=""),
        lambda: world.engine.tasks.complete(stranger, task_id(0), b""),
        lambda: world.engine.tasks.fail(stranger, task_id(0), ""),
        lambda: world.engine.tasks.heartbeat(stranger, task_id(0)),
        lambda: world.engine.tasks.cancel(stranger, task_id(0)),
    ):
        with pytest.raises(NotFound, match="is unknown"):
            call()


def test_a_run_that_is_not_claimed_takes_no_submission(world: World) -> None:
    run = world.start()
    with pytest.raises(FailedPrecondition, match="is not claimed by anybody: it is PENDING"):
        world.submit(run, complete())
    world.activate(suspend())
    with pytest.raises(FailedPrecondition, match="is not claimed by anybody: it is WAITING"):
        world.submit(run, complete())
    with pytest.raises(NotFound, match="workflow execution 'nope' is unknown"):
        world.submit("nope", complete())


def test_nothing_comes_after_the_end(world: World) -> None:
    run = world.start()
    claimed = world.claim()
    assert claimed is not None
    world.submit(run, complete(), claim=claimed[1])
    for claim in (claimed[1], None):
        with pytest.raises(FailedPrecondition, match="has ended already: it is COMPLETED"):
            world.submit(run, complete(), claim=claim)
    assert world.types(run) == ["WORKFLOW_STARTED", "WORKFLOW_COMPLETED"]


def test_a_run_has_ended_when_its_last_event_was_written(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    run = world.start()
    claimed = world.claim()
    assert claimed is not None

    def ticking() -> int:
        world.now += 1
        return world.now

    monkeypatch.setattr(world.engine.core, "clock", ticking)
    world.submit(run, complete(), claim=claimed[1])
    shown = world.engine.views.run(world.caller(), run)
    assert shown.run.completed_at == shown.updated_at
