"""Pages of what is stored, definitions, organisations: by way of the engine."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from flovyn.errors import InvalidArgument, NotFound
from flovyn.server.engine import Described, TaskWanted
from flovyn.server.store.listing import Window, Wish
from flovyn.server.store.orgs import OrgRow
from server.world import ORG, World, complete, fail, schedule, suspend


def ids(world: World, wish: Wish = Wish(), window: Window = Window(100)) -> tuple[list[str], int]:  # noqa: B008
    page = world.engine.views.runs(world.caller(), wish, window)
    return [run.id for run in page.items], page.total


def test_pages_join_without_a_gap_and_without_a_repetition() -> None:
    world = World()
    runs = [world.start(kind=f"k{n % 3}", queue="q" if n % 2 else "") for n in range(25)]
    for _ in range(4):
        world.activate(complete())
    found: list[str] = []
    for offset in range(0, 30, 7):
        page, total = ids(world, window=Window(7, offset))
        assert total == 25
        found += page
    assert found == list(reversed(runs))
    assert ids(world, Wish(kind="k1", queue="q", statuses=("PENDING", "COMPLETED")))[1] == 4
    assert ids(world, Wish(statuses=("COMPLETED",))) == ([runs[6], runs[4], runs[2], runs[0]], 4)


@pytest.mark.parametrize(
    "wish", [Wish(), Wish(kind="k"), Wish(queue="q"), Wish(statuses=("FAILED",)), Wish("k", ("FAILED",), "q")], ids=str
)
@pytest.mark.parametrize("of", ["run", "task"])
def test_no_page_reads_a_whole_table(of: str, wish: Wish, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    listing, connection = world.store.listing, world.store.database.connection
    asked: list[tuple[str, Any]] = []

    def noted(query: str, values: Any = ()) -> Any:
        asked.append((query, values))
        return connection.execute(query, values)

    monkeypatch.setattr(listing, "_execute", noted)
    if of == "run":
        listing.runs(ORG, wish, Window(10))
        listing.run_count(ORG, wish)
    else:
        listing.tasks(ORG, wish, Window(10))
        listing.task_count(ORG, wish)
    assert len(asked) == 2
    for query, values in asked:
        plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {query}", values)]
        assert [step for step in plan if re.match(r"SCAN (run|task)\b", step)] == []
        assert any(f"SEARCH {of} USING COVERING INDEX {of}_listed (org_id=?" in step for step in plan), plan


def test_what_another_organisation_has_is_on_no_page() -> None:
    world = World()
    world.start()
    world.engine.tasks.submit(world.caller(), TaskWanted("t", world.new_id()))
    world.cooperate()
    eve, views = world.caller(org="org-2"), world.engine.views
    assert [views.runs(eve, Wish(), Window(9)).total, views.tasks(eve, Wish(), Window(9)).total] == [0, 0]
    assert [views.workers(eve, Window(9)).total, views.definitions(eve, "workflow", Window(9)).total] == [0, 0]
    assert views.org(eve) is None


def register(world: World, *definitions: Described, org: str = ORG) -> None:
    world.engine.workers.register(
        world.caller(org=org), name="w", version="1", worker_type="UNIFIED", host="h", process="1",
        workflows={}, tasks={}, definitions=definitions,
    )  # fmt: skip


def test_a_definition_is_what_was_registered_last_with_the_day_it_came_first() -> None:
    world = World()
    register(world, Described("workflow", "order", "1", description="old", tags=["a"]))
    world.now += 10
    register(world, Described("workflow", "order", "1", description="new"), Described("task", "order"))
    (row,) = world.engine.definitions.versions(world.caller(), "workflow", "order")
    assert (row.description, row.tags, row.registered_at - row.created_at) == ("new", b"[]", 10)
    world.now += 10
    register(world, Described("workflow", "order", "0", input_schema=b"{}"))
    versions = world.engine.definitions.versions(world.caller(), "workflow", "order")
    assert [row.version for row in versions] == ["0", "1"]
    schema = world.engine.definitions.input_schema
    assert [schema(world.caller(), "workflow", "order", version) for version in (None, "0", "1", "2")] == [
        b"{}",
        b"{}",
        None,
        None,
    ]
    with pytest.raises(NotFound, match="workflow definition 'order' is unknown: no worker has registered it"):
        world.engine.definitions.versions(world.caller(org="org-2"), "workflow", "order")


@pytest.mark.parametrize(
    ("described", "text"),
    [
        (Described("workflow", "k", input_schema=b"{"), r"workflows\['k'\].input_schema is not JSON"),
        (Described("task", "k", output_schema=b"\xff"), r"tasks\['k'\].output_schema is not JSON"),
        (Described("workflow", "k", version="v" * 256), r"workflows\['k'\].version has 256 characters"),
        (Described("task", ""), "tasks.kind is empty"),
    ],
)
def test_a_definition_that_makes_no_sense_registers_nothing(described: Described, text: str) -> None:
    world = World()
    with pytest.raises(InvalidArgument, match=text):
        register(world, described)
    assert world.engine.views.workers(world.caller(), Window(9)).total == 0


def test_organisations_follow_the_configuration() -> None:
    world = World()
    world.engine.sync([OrgRow("1", "acme", "Acme", "FREE", 0), OrgRow("2", "other", "Other", "FREE", 0)])
    created = world.now
    world.now += 5
    world.engine.sync([OrgRow("2", "acme", "Acme II", "PRO", 0)])
    orgs = world.store.orgs
    assert orgs.find("1") == OrgRow("1", "1", "Acme", "FREE", created)
    assert orgs.find("2") == OrgRow("2", "acme", "Acme II", "PRO", created)


# --- tasks that wait for their time ---------------------------------------------------------


def submit(world: World, **options: Any) -> str:
    return world.engine.tasks.submit(world.caller(), TaskWanted("t", world.new_id(), **options)).task_id


def test_a_task_is_given_to_nobody_before_its_time(tmp_path: Path) -> None:
    world = World(str(tmp_path / "a.db"))
    late, now = submit(world, scheduled_at=world.now + 500), submit(world, scheduled_at=world.now)
    claimed = world.claim_task()
    assert claimed is not None
    assert claimed[0] == now
    world.advance(499)
    assert world.claim_task() is None
    world.restart()
    world.advance(1)
    claimed = world.claim_task()
    assert claimed is not None
    assert claimed[0] == late
    world.sound()


def test_a_task_whose_deadline_comes_before_its_time_fails() -> None:
    world = World()
    task = submit(world, scheduled_at=world.now + 500, timeout_ms=200)
    world.advance(600)
    assert world.engine.views.task(world.caller(), task).task.end_reason == "Task timed out"
    assert world.claim_task() is None


@pytest.mark.parametrize("how", ["cancel", "withdraw"])
def test_a_task_that_waits_for_its_time_can_be_cancelled(how: str) -> None:
    world = World()
    task = submit(world, scheduled_at=world.now + 500)
    getattr(world.engine.tasks, how)(world.caller(), task)
    world.advance(600)
    assert world.claim_task() is None
    assert world.engine.views.task(world.caller(), task).task.status == "CANCELLED"


def test_a_time_a_century_away_is_a_mistake() -> None:
    world = World()
    with pytest.raises(InvalidArgument, match="scheduled_at is 9999999999999999; it must be between 0 and"):
        submit(world, scheduled_at=9_999_999_999_999_999)


def test_only_tasks_that_stand_alone_are_shown_alone() -> None:
    world = World()
    world.start()
    run = world.activate(schedule(), suspend())
    (task,) = world.engine.views.tasks_of(world.caller(), run, Window(9)).items
    with pytest.raises(NotFound):
        world.engine.views.task(world.caller(), task.id)
    world.signal(run)
    world.activate(fail())
    assert world.engine.views.run(world.caller(), run).error == "boom"
