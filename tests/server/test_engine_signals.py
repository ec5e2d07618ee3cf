"""Signals: every call is an event, none is lost, and a start for a signal happens once."""

from __future__ import annotations

from typing import Any

import pytest

from flovyn.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from server.world import World, complete, create_promise, fail, suspend


@pytest.fixture
def world() -> World:
    return World()


def test_each_signal_is_an_event_and_wakes(world: World) -> None:
    run = world.start()
    world.activate(suspend())
    assert world.signal(run, "pay", b'{"amount":5}') == 3
    assert world.status(run) == "PENDING"
    assert world.signal(run, "pay", b"") == 4
    assert world.history(run)[2:] == [
        ("SIGNAL_RECEIVED", {"signalName": "pay", "signalValue": {"amount": 5}}),
        ("SIGNAL_RECEIVED", {"signalName": "pay", "signalValue": None}),
    ]
    world.sound()


def test_a_signal_before_the_first_activation_is_seen_by_it(world: World) -> None:
    run = world.start()
    assert world.signal(run) == 2
    world.activate(suspend())
    assert world.status(run) == "WAITING"


def test_a_signal_while_the_run_works_is_not_lost(world: World) -> None:
    run = world.start()
    claimed = world.claim()
    assert claimed is not None
    world.signal(run)
    world.submit(run, suspend(), claim=claimed[1])
    assert world.status(run) == "PENDING"
    world.sound()


def test_a_run_that_has_ended_takes_no_signal(world: World) -> None:
    run = world.start()
    world.activate(complete())
    with pytest.raises(FailedPrecondition, match=f"workflow {run} cannot be signalled: it is COMPLETED"):
        world.signal(run)
    assert world.types(run)[-1] == "WORKFLOW_COMPLETED"


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("", b"1", "signal_name is empty"),
        ("x" * 256, b"1", "signal_name has 256 characters"),
        ("x", b"{", "signal_value is not JSON"),
    ],
)
def test_a_faulty_signal_is_refused(world: World, name: str, value: bytes, text: str) -> None:
    run = world.start()
    with pytest.raises(InvalidArgument, match=text):
        world.signal(run, name, value)
    with pytest.raises(InvalidArgument, match=text):
        world.signal_with_start("k", name, value)
    assert world.types(run) == ["WORKFLOW_STARTED"]
    assert len(world.store.runs.all()) == 1


def test_an_unknown_run_and_that_of_another_organisation_look_the_same(world: World) -> None:
    run = world.start()
    for caller, run_id in ((world.caller(), "nope"), (world.caller(org="org-2"), run)):
        with pytest.raises(NotFound, match=f"workflow execution '{run_id}' is unknown"):
            world.engine.signals.signal(caller, run_id, "go", b"1")


def test_signal_with_start_starts_once_and_then_only_signals(world: World) -> None:
    first = world.signal_with_start("cart-7", "add", b"1", metadata={"a": "b"})
    assert (first.created, first.sequence) == (True, 2)
    assert [ready.kind for ready in world.engine.take_ready()] == ["order"]
    assert world.history(first.run_id) == [
        ("WORKFLOW_STARTED", {"input": {}, "kind": "order", "metadata": {"a": "b"}}),
        ("SIGNAL_RECEIVED", {"signalName": "add", "signalValue": 1}),
    ]
    world.activate(suspend())
    second = world.signal_with_start("cart-7", "add", b"2", kind="another", queue="q")
    assert (second.run_id, second.created, second.sequence) == (first.run_id, False, 4)
    assert world.status(first.run_id) == "PENDING"
    assert world.start(key="cart-7") == first.run_id
    world.sound()


@pytest.mark.parametrize("end", [complete(), fail()])
def test_signal_with_start_replaces_a_run_that_has_ended(world: World, end: Any) -> None:
    first = world.signal_with_start("k")
    world.activate(end)
    second = world.signal_with_start("k")
    assert second.created
    assert second.run_id != first.run_id
    third = world.signal_with_start("k")
    assert (third.run_id, third.created) == (second.run_id, False)
    world.sound()


def test_signal_with_start_starts_anew_when_the_key_has_expired(world: World) -> None:
    first = world.signal_with_start("k", key_ttl_seconds=10)
    world.advance(10_000)
    second = world.signal_with_start("k")
    assert second.created
    assert second.run_id != first.run_id


def test_signal_with_start_finds_what_was_started_with_the_key(world: World) -> None:
    run = world.start(key="k")
    assert world.signal_with_start("k").run_id == run


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"key": ""}, "workflow_id is empty"),
        ({"kind": ""}, "workflow_kind is empty"),
        ({"payload": b"{"}, "input is not JSON"),
        ({"key_ttl_seconds": 0}, "idempotency_key_ttl_seconds is 0"),
    ],
)
def test_a_faulty_start_is_refused(world: World, options: dict[str, Any], text: str) -> None:
    with pytest.raises(InvalidArgument, match=text):
        options = {"key": "k", **options}
        world.signal_with_start(**options)
    assert world.store.runs.all() == []


def test_a_key_of_a_promise_is_no_workflow_id(world: World) -> None:
    world.start()
    world.activate(create_promise(idempotency_key="k"), suspend())
    with pytest.raises(AlreadyExists, match="workflow_id 'k' is taken by promise "):
        world.signal_with_start("k")
