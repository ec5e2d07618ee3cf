"""Who holds a piece of work, how it is lost, and who may report late."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flovyn.errors import FailedPrecondition, InvalidArgument, NotFound
from flovyn.server import limits
from server.world import TIMEOUT_MS, World, complete, schedule, start_timer, suspend, task_id

GRACE = limits.DISCONNECT_GRACE_MS


@pytest.fixture
def world() -> World:
    return World()


def claim(world: World, worker: str = "w", link: int = 1) -> str:
    """The token of the next run, claimed and confirmed by reading its events, as every worker does."""
    claimed = world.claim(worker, link)
    assert claimed is not None
    world.engine.workflows.events(world.caller(link), claimed[0])
    return claimed[1]


def claim_task(world: World, worker: str = "w", link: int = 1) -> str:
    claimed = world.claim_task(worker, link)
    assert claimed is not None
    return claimed[1]


def register(world: World, name: str = "w", link: int = 1, process: str = "1", **kinds: Any) -> str:
    return world.engine.workers.register(
        world.caller(link),
        name=name,
        version="1",
        worker_type="UNIFIED",
        host="h",
        process=process,
        workflows=kinds.get("workflows", {"order": b""}),
        tasks=kinds.get("tasks", {"charge": b""}),
    )


# --- silence --------------------------------------------------------------------------------


def test_a_silent_worker_loses_its_claims(world: World) -> None:
    run = world.start()
    claim(world)
    world.advance(TIMEOUT_MS - 1)
    assert world.status(run) == "RUNNING"
    world.advance(1)
    assert world.status(run) == "PENDING"
    assert claim(world, "other", 2)
    world.sound()


def test_whoever_shows_no_tokens_may_be_silent_for_longer() -> None:
    """The official workers heartbeat every 30 seconds, or never; ours every few, so its silence tells more."""
    world = World(patience_ms=3 * TIMEOUT_MS)
    run, other = world.start(), world.start()
    claim(world)
    token = claim(world, "v", link=2)
    world.engine.workflows.events(world.caller(2, token), other)
    world.advance(TIMEOUT_MS)
    assert (world.status(run), world.status(other)) == ("RUNNING", "PENDING")
    world.advance(2 * TIMEOUT_MS - 1)
    assert world.status(run) == "RUNNING"
    world.advance(1)
    assert world.status(run) == "PENDING"


@pytest.mark.parametrize("sign", ["heartbeat", "poll", "call", "heartbeat elsewhere"])
def test_any_sign_of_life_keeps_the_claims(world: World, sign: str) -> None:
    worker_id = register(world)
    run = world.start()
    claim(world)
    for _ in range(5):
        world.advance(TIMEOUT_MS - 1)
        match sign:
            case "heartbeat":
                world.engine.workers.heartbeat(world.caller(), worker_id)
            case "poll":
                world.poller()
            case "call":
                world.engine.call_begun(world.caller())
            case _:
                world.engine.workers.heartbeat(world.caller(link=2), worker_id)
    assert world.status(run) == "RUNNING"
    world.advance(TIMEOUT_MS)
    assert world.status(run) == "PENDING"


def test_a_replica_of_the_same_name_gives_no_sign_of_life_for_the_other(world: World) -> None:
    register(world, link=1, process="1")
    worker_id = register(world, link=2, process="2")
    run = world.start()
    claim(world, link=1)
    world.advance(TIMEOUT_MS - 1)
    world.engine.workers.heartbeat(world.caller(link=2), worker_id)
    world.advance(1)
    assert world.status(run) == "PENDING"


def test_a_poll_that_is_held_open_is_a_sign_of_life(world: World) -> None:
    run = world.start()
    claim(world)
    world.engine.poll_begun(world.caller())
    world.advance(limits.POLL_CAP_S * 1000 - 1)
    assert world.status(run) == "RUNNING"
    world.engine.poll_ended(world.caller())
    world.advance(TIMEOUT_MS - 1)
    assert world.status(run) == "RUNNING"
    world.advance(1)
    assert world.status(run) == "PENDING"


def test_a_run_whose_poll_answer_got_lost_is_freed_though_its_worker_lives(world: World) -> None:
    run = world.start()
    world.claim()
    for _ in range(2):
        assert world.status(run) == "RUNNING"
        world.advance(TIMEOUT_MS // 2)
        world.engine.call_begun(world.caller())
    assert world.status(run) == "PENDING"


def test_a_poll_that_ends_early_counts_from_its_end(world: World) -> None:
    run = world.start()
    claim(world)
    world.engine.poll_begun(world.caller())
    world.advance(2 * TIMEOUT_MS)
    world.engine.poll_ended(world.caller())
    world.advance(TIMEOUT_MS)
    assert world.status(run) == "PENDING"


@pytest.mark.parametrize("link", [1, 2])
def test_coming_back_does_not_confirm_that_a_claim_arrived(world: World, link: int) -> None:
    run = world.start()
    world.claim()
    world.engine.disconnected(1)
    world.poller(link=link)
    for _ in range(2):
        assert world.status(run) == "RUNNING"
        world.advance(TIMEOUT_MS // 2)
        world.engine.call_begun(world.caller(link=link))
    assert world.status(run) == "PENDING"


def live(world: World, milliseconds: int, link: int = 1) -> None:
    """The worker of this connection gives signs of life for so long."""
    for _ in range(milliseconds // 1_000):
        world.engine.call_begun(world.caller(link))
        world.advance(1_000)


def two_tasks(world: World) -> None:
    world.start()
    world.activate(schedule(0), schedule(1), suspend(), link=9)


@pytest.mark.parametrize("first", [True, False])
def test_a_task_whose_poll_answer_got_lost_is_freed_if_its_worker_echoes_tokens(world: World, first: bool) -> None:
    two_tasks(world)
    lost, arrived = (0, 1) if first else (1, 0)
    tokens = [claim_task(world), claim_task(world)]
    world.engine.tasks.heartbeat(world.caller(claim=tokens[arrived]), task_id(arrived))
    live(world, limits.TASK_UNCONFIRMED_MS - 1_000)
    assert world.task_status(lost) == "RUNNING"
    live(world, 1_000)
    assert [world.task_status(lost), world.task_status(arrived)] == ["PENDING", "RUNNING"]
    claim_task(world)
    assert world.attempts(lost) == [(1, "TIMEOUT", "its worker fell silent")]
    world.sound()


def test_a_worker_that_has_echoed_a_token_before_must_do_so_for_the_next_task_too(world: World) -> None:
    two_tasks(world)
    world.engine.tasks.complete(world.caller(claim=claim_task(world)), task_id(0), b"1")
    claim_task(world)
    live(world, limits.TASK_UNCONFIRMED_MS)
    assert world.task_status(1) == "PENDING"


def test_a_server_that_is_patient_with_workers_is_so_with_their_first_call(world: World) -> None:
    world.engine.core.leases.worker_timeout_ms = 3 * limits.TASK_UNCONFIRMED_MS
    two_tasks(world)
    world.engine.tasks.complete(world.caller(claim=claim_task(world)), task_id(0), b"1")
    claim_task(world)
    live(world, 3 * limits.TASK_UNCONFIRMED_MS - 1_000)
    assert world.task_status(1) == "RUNNING"
    live(world, 1_000)
    assert world.task_status(1) == "PENDING"


def test_one_call_for_a_task_is_enough(world: World) -> None:
    two_tasks(world)
    world.engine.tasks.complete(world.caller(claim=claim_task(world)), task_id(0), b"1")
    world.engine.tasks.heartbeat(world.caller(claim=claim_task(world)), task_id(1))
    live(world, 3 * limits.TASK_UNCONFIRMED_MS)
    assert world.task_status(1) == "RUNNING"


def test_that_one_worker_echoes_tokens_binds_no_other_on_the_same_connection(world: World) -> None:
    two_tasks(world)
    claim_task(world, "official")
    world.engine.tasks.complete(world.caller(claim=claim_task(world, "ours")), task_id(1), b"1")
    live(world, 3 * limits.TASK_UNCONFIRMED_MS)
    assert world.task_status(0) == "RUNNING"
    world.engine.tasks.complete(world.caller(), task_id(0), b"1")
    assert world.task_status(0) == "COMPLETED"


def test_a_worker_that_lives_but_never_submits_loses_the_run_in_the_end(world: World) -> None:
    run = world.start()
    claim(world)
    for _ in range(limits.CLAIM_WITHOUT_REPORT_MS // 1_000 - 1):
        world.advance(1_000)
        world.engine.call_begun(world.caller())
    assert world.status(run) == "RUNNING"
    world.advance(1_000)
    assert world.status(run) == "PENDING"


def test_a_task_may_take_as_long_as_its_worker_lives(world: World) -> None:
    two_tasks(world)
    claim_task(world)
    for _ in range(2 * limits.CLAIM_WITHOUT_REPORT_MS // 4_000):
        world.advance(4_000)
        world.engine.call_begun(world.caller())
    assert world.task_status() == "RUNNING"


# --- connections ----------------------------------------------------------------------------


def test_a_closed_connection_frees_its_claims_after_the_grace(world: World) -> None:
    run = world.start()
    claim(world)
    world.engine.disconnected(1)
    world.advance(GRACE - 1)
    assert world.status(run) == "RUNNING"
    world.advance(1)
    assert world.status(run) == "PENDING"
    world.sound()


def test_the_connection_of_another_changes_nothing(world: World) -> None:
    run = world.start()
    claim(world)
    world.poller(link=2)
    world.engine.disconnected(2)
    world.engine.disconnected(3)
    world.advance(TIMEOUT_MS - 1)
    assert world.status(run) == "RUNNING"


@pytest.mark.parametrize("sign", ["heartbeat", "poll"])
def test_an_official_worker_keeps_its_claims_by_showing_up_on_a_new_connection(world: World, sign: str) -> None:
    worker_id = register(world)
    run = world.start()
    claim(world)
    world.engine.disconnected(1)
    world.advance(GRACE - 1)
    if sign == "heartbeat":
        world.engine.workers.heartbeat(world.caller(link=2), worker_id)
    else:
        world.poller(link=2)
    world.advance(TIMEOUT_MS - 1)
    assert world.status(run) == "RUNNING"
    world.submit(run, complete(), link=2)
    assert world.status(run) == "COMPLETED"
    world.sound()


def test_a_worker_that_registers_again_has_the_time_of_its_lease_to_show_its_token(world: World) -> None:
    register(world)
    first, second = world.start(), world.start()
    token = claim(world)
    claim(world)
    world.engine.disconnected(1)
    register(world, link=2)
    world.advance(TIMEOUT_MS - 1)
    world.engine.workflows.events(world.caller(2, token), first)
    world.advance(1)
    assert [world.status(first), world.status(second)] == ["RUNNING", "PENDING"]
    world.sound()


def test_a_worker_that_showed_its_token_gets_that_time_anew_when_it_reconnects_again(world: World) -> None:
    register(world)
    run = world.start()
    token = claim(world)
    for link in (1, 2):
        world.engine.disconnected(link)
        register(world, link=link + 1)
        world.advance(TIMEOUT_MS - 1)
        assert world.status(run) == "RUNNING"
        world.engine.workflows.events(world.caller(link + 1, token), run)
    world.sound()


def test_registering_again_and_again_does_not_keep_what_nobody_holds(world: World) -> None:
    register(world)
    run = world.start()
    claim(world)
    world.engine.disconnected(1)
    for link in range(2, 8):
        register(world, link=link)
        world.advance(TIMEOUT_MS // 5)
    assert world.status(run) == "PENDING"


@pytest.mark.parametrize("echoed", ["before", "after"])
def test_what_was_claimed_over_a_connection_that_its_process_left_must_be_shown_over_the_new_one(
    world: World, echoed: str
) -> None:
    """A connection may be half open: the server does not hear that it is gone, while the worker has another one."""
    register(world)
    kept, lost, task = world.start(), world.start(), world.start()
    world.activate(schedule(0), suspend())
    kept, lost = lost, task  # the first one has suspended
    token = claim(world)
    claim(world)
    claim_task(world)
    if echoed == "before":
        world.engine.workflows.events(world.caller(1, token), kept)
    world.advance(10)
    register(world, link=2)
    world.engine.workflows.events(world.caller(2, token), kept)
    for _ in range(3):
        world.advance(TIMEOUT_MS // 2 - 5)
        world.engine.workflows.events(world.caller(2, token), kept)
        world.poller(link=2)
    assert (world.status(kept), world.status(lost)) == ("RUNNING", "PENDING")
    assert world.claim_task("w", 2) is not None
    world.sound()


def test_another_process_and_a_worker_without_tokens_keep_what_they_hold_over_other_connections(world: World) -> None:
    register(world)
    run = world.start()
    token = claim(world)
    world.engine.workflows.events(world.caller(1, token), run)
    register(world, link=2, process="2")
    register(world, "v", link=3)
    other = world.start()
    claim(world, "v", 3)
    register(world, "v", link=4)
    for _ in range(3):
        world.advance(TIMEOUT_MS - 1)
        for name, link in (("w", 1), ("v", 4)):
            world.poller(worker=name, link=link)
    assert (world.status(run), world.status(other)) == ("RUNNING", "RUNNING")


def test_a_successor_of_the_same_name_does_not_keep_the_claims_of_the_dead(world: World) -> None:
    register(world, process="1")
    run = world.start()
    claim(world)
    world.engine.disconnected(1)
    register(world, link=2, process="2")
    world.poller(link=2)
    world.advance(GRACE)
    assert world.status(run) == "PENDING"
    assert claim(world, link=2)


def test_a_process_without_a_name_is_nobodys_successor(world: World) -> None:
    register(world, process="")
    run = world.start()
    claim(world)
    world.engine.disconnected(1)
    register(world, link=2, process="")
    world.advance(GRACE)
    assert world.status(run) == "PENDING"


def test_nothing_is_remembered_of_those_who_have_gone(world: World) -> None:
    for link in range(1, 20):
        worker = f"worker-{link}"
        register(world, worker, link, process=str(link))
        for number in range(2):
            world.start()
            token = claim(world, worker, link)
            world.engine.disconnected(link)
            if number:
                world.poller(worker=worker, link=link)
            run = next(run.id for run in world.store.runs.all() if run.claim_token == token)
            world.submit(run, suspend() if link % 2 else complete(), claim=token, link=link + 50)
            world.engine.disconnected(link + 50)
        world.start()
        claim(world, worker, link)
        world.engine.disconnected(link)
        world.advance(GRACE)
    assert {
        name: kept for name, kept in vars(world.engine.core.leases).items() if isinstance(kept, dict) and kept
    } == {}
    world.sound()


# --- fencing --------------------------------------------------------------------------------


def test_a_late_submission_for_a_run_that_was_claimed_again_changes_nothing(world: World) -> None:
    run = world.start()
    late = claim(world, "a", 1)
    world.engine.disconnected(1)
    world.advance(GRACE)
    current = claim(world, "b", 2)
    before = world.history(run)
    for token in (late, None):
        with pytest.raises(FailedPrecondition, match="was claimed again since: this report comes too late"):
            world.submit(run, complete(), claim=token, link=3)
    assert world.history(run) == before
    world.submit(run, complete(), claim=current, link=2)
    assert world.status(run) == "COMPLETED"
    world.sound()


def test_without_a_token_the_connection_that_claimed_last_is_believed(world: World) -> None:
    run = world.start()
    claim(world, "a", 1)
    world.advance(TIMEOUT_MS)
    claim(world, "b", 2)
    with pytest.raises(FailedPrecondition, match="claimed again"):
        world.submit(run, complete(), link=1)
    world.submit(run, suspend(), link=2)
    assert world.status(run) == "WAITING"


def test_without_a_token_the_holder_may_come_back_on_a_connection_where_it_showed_itself(world: World) -> None:
    run = world.start()
    claim(world, "a", 1)
    world.advance(TIMEOUT_MS)
    claim(world, "b", 2)
    register(world, "b", link=3, process="another connection")
    world.poller(worker="c", link=4)
    world.engine.disconnected(2)
    with pytest.raises(FailedPrecondition, match="claimed again"):
        world.submit(run, complete(), link=4)
    world.submit(run, complete(), link=3)
    assert world.status(run) == "COMPLETED"


def test_without_a_token_nobody_is_believed_once_two_have_lost_the_same_work(world: World) -> None:
    run = world.start()
    for worker, link in (("a", 1), ("b", 2)):
        token = claim(world, worker, link)
        world.advance(TIMEOUT_MS)
    for link in (1, 2, 3):
        with pytest.raises(FailedPrecondition, match="claimed again"):
            world.submit(run, complete(), link=link)
    world.submit(run, complete(), claim=token, link=3)
    assert world.status(run) == "COMPLETED"


def test_a_claim_that_is_given_back_does_not_hide_that_the_work_was_lost_before(world: World) -> None:
    run = world.start()
    claim(world, "a", link=1)
    world.advance(TIMEOUT_MS)
    claimed = world.engine.workflows.claim(world.caller(2), world.poller("workflow", "b", link=2))
    assert claimed is not None
    world.engine.workflows.give_back(claimed)
    token = claim(world, "c", link=3)
    with pytest.raises(FailedPrecondition, match="was claimed again since"):
        world.submit(run, complete(), link=1)
    world.submit(run, suspend(), link=3, claim=token)
    world.sound()


def test_what_was_contested_once_is_not_after_a_report(world: World) -> None:
    run = world.start()
    claim(world, "a", 1)
    world.advance(TIMEOUT_MS)
    claim(world, "b", 2)
    world.submit(run, start_timer("t", 1), suspend(), link=2)
    world.advance(1)
    claim(world, "b", 2)
    world.submit(run, complete(), link=9)
    assert world.status(run) == "COMPLETED"


def test_without_a_token_an_uncontested_claim_may_be_reported_from_anywhere(world: World) -> None:
    run = world.start()
    claim(world, "a", 1)
    world.submit(run, complete(), link=9)
    assert world.status(run) == "COMPLETED"


def test_a_holder_that_was_only_late_may_still_report_while_nobody_else_has_come(world: World) -> None:
    run = world.start()
    token = claim(world)
    world.advance(TIMEOUT_MS)
    assert world.status(run) == "PENDING"
    world.submit(run, schedule(0), suspend(), claim=token)
    assert world.status(run) == "WAITING"
    task = claim_task(world)
    world.engine.disconnected(1)
    world.advance(GRACE)
    assert world.task_status() == "PENDING"
    world.engine.tasks.heartbeat(world.caller(5, task), task_id(0))
    assert world.task_status() == "RUNNING"
    assert world.claim_task() is None
    world.sound()
    world.engine.disconnected(5)
    world.advance(GRACE)
    world.engine.tasks.complete(world.caller(6, task), task_id(0), b"1")
    assert world.task_status() == "COMPLETED"
    assert world.attempts() == [(1, "COMPLETED", None)]
    world.sound()


def test_a_task_that_was_claimed_again_tells_its_first_worker_so(world: World) -> None:
    world.start()
    world.activate(schedule(0, max_retries=0), suspend())
    late = claim_task(world, "a", 1)
    world.engine.disconnected(1)
    world.advance(GRACE)
    current = claim_task(world, "b", 2)
    assert world.attempts() == [(1, "TIMEOUT", "its worker fell silent")]
    reports: list[Callable[[], None]] = [
        lambda: world.engine.tasks.heartbeat(world.caller(3, late), task_id(0)),
        lambda: world.engine.tasks.complete(world.caller(3, late), task_id(0), b"1"),
        lambda: world.engine.tasks.fail(world.caller(3, None), task_id(0), "no"),
    ]
    for report in reports:
        with pytest.raises(FailedPrecondition, match="was claimed again since"):
            report()
    world.engine.tasks.complete(world.caller(2, current), task_id(0), b"2")
    assert world.types(world.store.runs.all()[0].id)[-1] == "TASK_COMPLETED"
    world.sound()


# --- restart --------------------------------------------------------------------------------


@pytest.fixture
def stored(tmp_path: Path) -> Any:
    world = World(str(tmp_path / "flovyn.db"))
    yield world
    world.store.close()


def test_after_a_restart_a_living_worker_finishes_what_it_holds(stored: World) -> None:
    run = stored.start()
    stored.activate(schedule(0), suspend())
    task = claim_task(stored)
    stored.start()
    token = claim(stored)
    stored.restart()
    stored.sound()
    stored.advance(TIMEOUT_MS - 1)
    stored.engine.tasks.complete(stored.caller(7, task), task_id(0), b"1")
    stored.submit(stored.store.runs.all()[1].id, complete(), claim=token, link=7)
    assert stored.types(run)[-1] == "TASK_COMPLETED"
    assert stored.status(stored.store.runs.all()[1].id) == "COMPLETED"
    stored.sound()


def test_after_a_restart_what_nobody_asks_for_is_freed(stored: World) -> None:
    run = stored.start()
    late = claim(stored)
    stored.restart()
    stored.advance(TIMEOUT_MS)
    assert stored.status(run) == "PENDING"
    current = claim(stored, "b", 2)
    with pytest.raises(FailedPrecondition, match="claimed again"):
        stored.submit(run, complete(), claim=late, link=3)
    stored.submit(run, complete(), claim=current, link=2)
    stored.sound()


def test_after_a_restart_an_official_worker_is_recognised_by_its_next_poll(stored: World) -> None:
    register(stored)
    run = stored.start()
    claim(stored)
    stored.restart()
    stored.poller(link=4)
    stored.advance(TIMEOUT_MS - 1)
    stored.submit(run, complete(), link=4)
    assert stored.status(run) == "COMPLETED"


def test_a_restart_forgets_nothing(stored: World) -> None:
    run = stored.start()
    key = stored.start(key="once")
    stored.activate(schedule(0), suspend())
    register(stored)
    before = stored.store.runs.all(), stored.store.tasks.all(), stored.history(run)
    stored.restart()
    assert (stored.store.runs.all(), stored.store.tasks.all(), stored.history(run)) == before
    assert stored.start(key="once") == key
    assert stored.poller().kinds == ("order",)


# --- registration ---------------------------------------------------------------------------


def test_a_worker_keeps_its_id_and_replaces_what_it_can_do(world: World) -> None:
    first = register(world, workflows={"a": b"", "b": b""})
    assert register(world, workflows={"c": b""}, tasks={}) == first
    assert world.poller().kinds == ("c",)
    assert world.poller("task").kinds == ()
    assert register(world, name="other") != first
    assert register(world, name=first) != first  # a name that looks like somebody's id


def test_workers_of_one_name_get_what_they_registered_themselves(world: World) -> None:
    """Some official workers are all called after their queue, whatever they can do."""
    worker_id = register(world, link=1, process="1", tasks={"charge": b""})
    assert register(world, link=2, process="2", tasks={"mail": b""}) == worker_id
    assert world.poller("task", worker_id, link=1).kinds == ("charge",)
    assert world.poller("task", worker_id, link=2).kinds == ("mail",)
    assert world.poller("task", worker_id, link=3).kinds == ("mail",)  # nobody registered there: the latest counts


def test_a_worker_may_poll_under_another_string_than_its_name(world: World) -> None:
    """The native worker does, if it is given a name."""
    register(world, "configured", link=1, tasks={"charge": b"", "mail": b""})
    poller = world.poller("task", "worker-4711", link=1)
    assert (poller.worker, poller.kinds) == ("worker-4711", ("charge", "mail"))
    assert world.poller("task", "worker-4711", link=2).kinds is None


def test_a_worker_that_never_registered_may_take_anything(world: World) -> None:
    world.start(kind="whatever")
    assert world.poller().kinds is None
    assert world.claim() is not None


def test_what_makes_no_sense_is_refused(world: World) -> None:
    with pytest.raises(InvalidArgument, match="worker_name is empty"):
        register(world, name="")
    with pytest.raises(InvalidArgument, match="workflows.kind is empty"):
        register(world, workflows={"": b""})
    with pytest.raises(InvalidArgument, match="worker_id is empty"):
        world.poller(worker="")
    with pytest.raises(NotFound, match="worker 'nobody' is unknown; register first"):
        world.engine.workers.heartbeat(world.caller(), "nobody")
    worker_id = register(world)
    with pytest.raises(NotFound):
        world.engine.workers.heartbeat(world.caller(org="org-2"), worker_id)
