"""What must be true of a store and its leases between any two steps. For tests; it reads everything."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Final

import msgspec

from flovyn.server.engine.events import TERMINAL_TYPES
from flovyn.server.engine.history import ENDED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flovyn.server.engine import Engine
    from flovyn.server.store.runs import EventRow, RunRow
    from flovyn.server.store.tasks import TaskRow

__all__ = ["Witness", "violations"]

_TERMINAL_OF: Final = {
    "COMPLETED": "WORKFLOW_COMPLETED",
    "FAILED": "WORKFLOW_EXECUTION_FAILED",
    "CANCELLED": "WORKFLOW_CANCELLED",
}

_ENDS_OF_TASK: Final[dict[str, list[list[str]]]] = {
    "COMPLETED": [["TASK_COMPLETED"]],
    "FAILED": [["TASK_FAILED"]],
    # The pair, if somebody cancelled it; nothing, if it went with its run.
    "CANCELLED": [["TASK_CANCELLED", "TASK_FAILED"], []],
}


def violations(engine: Engine) -> list[str]:
    """Everything that is wrong, in words; empty if nothing is."""
    found: list[str] = []
    for run in engine.core.store.runs.all():
        history = engine.core.store.runs.events(run.n)
        found += _of_history(run, history, {retry.sequence for retry in engine.core.store.runs.retries(run.n)})
        found += _of_run(engine, run, history)
        found += _of_tasks(engine, run, history)
        found += _of_timers(engine, run, history)
        found += _of_promises(engine, run, history)
        found += _of_children(engine, run, history)
    for task in engine.core.store.tasks.all():
        if task.run is None:
            found += _of_task(engine, task, None, _ENDS_OF_TASK.get(task.status, [[]])[0])
    found += _of_keys(engine)
    found += _of_leases(engine)
    found += _of_clock(engine)
    return found


class Witness:
    """Remembers what histories said: what was written once stays as it was, and nothing is lost."""

    def __init__(self) -> None:
        self._frames: dict[str, bytes] = {}

    def copy(self) -> Witness:
        """What is remembered now, for the case that what comes next turns out never to have happened."""
        copy = Witness()
        copy._frames.update(self._frames)
        return copy

    def violations(self, engine: Engine) -> list[str]:
        """Everything that is wrong, in words; empty if nothing is."""
        store = engine.core.store.runs
        frames = {run.id: store.frames(run.n) for run in store.all()}
        found = [f"run {run_id} is gone" for run_id in self._frames if run_id not in frames]
        for run_id, now in frames.items():
            before = self._frames.get(run_id, b"")
            if not now.startswith(before):
                found.append(f"run {run_id}: its history was rewritten")
        self._frames = frames
        return found + violations(engine)


def _of_history(run: RunRow, history: list[EventRow], retried: set[int]) -> Iterator[str]:
    if [event.sequence for event in history] != list(range(1, run.sequence + 1)):
        yield f"run {run.id}: its events are not numbered 1 to {run.sequence}"
        return
    if history[0].type != "WORKFLOW_STARTED":
        yield f"run {run.id}: its first event is {history[0].type}"
    ends = [event.type for event in history if event.type in TERMINAL_TYPES and event.sequence not in retried]
    expected = [_TERMINAL_OF[run.status]] if run.status in ENDED else []
    if ends != expected:
        yield f"run {run.id} is {run.status}, but its history ends with {ends}"
    elif ends and history[-1].type != ends[0]:
        yield f"run {run.id}: {history[-1].type} stands after its end"


def _of_run(engine: Engine, run: RunRow, history: list[EventRow]) -> Iterator[str]:
    lease = engine.core.leases.of_work("workflow", run.n)
    if run.status == "PENDING" and engine.core.store.runs.first_pending(run.org_id, run.queue, [run.kind]) is None:
        yield f"run {run.id} is PENDING, but in no queue"
    if run.status == "RUNNING" and (run.claim_token is None or lease is None):
        yield f"run {run.id} is RUNNING, but nobody holds it"
    if run.status != "RUNNING" and lease is not None:
        yield f"run {run.id} is {run.status}, but somebody holds it"
    if run.status not in ENDED and (run.cancel_reason is None) != (run.cancel_due_at is None):
        yield f"run {run.id} was asked to stop: {run.cancel_reason}; it has time until {run.cancel_due_at}"
    if run.status in ENDED and run.cancel_due_at is not None:
        yield f"run {run.id} is {run.status}, and has still time to stop"
    if run.status == "WAITING" and history[-1].type != "WORKFLOW_SUSPENDED":
        yield f"run {run.id} is WAITING after {history[-1].type}: its wake-up was lost"
    if run.status == "WAITING" and run.external_sequence > run.claim_sequence:
        yield f"run {run.id} is WAITING, but its last activation has not seen event {run.external_sequence}"


def _of_tasks(engine: Engine, run: RunRow, history: list[EventRow]) -> Iterator[str]:
    told: dict[str, list[str]] = {}
    for event in history:
        if event.type.startswith("TASK_"):
            task_id = str(msgspec.json.decode(event.data)["taskExecutionId"])
            told.setdefault(task_id, []).append(event.type)
    for task_id, types in told.items():
        if types[0] != "TASK_SCHEDULED":
            yield f"run {run.id}: {types[0]} of task {task_id}, which was never scheduled"
    for task in (task for task in engine.core.store.tasks.all() if task.run == run.n):
        ends = [event_type for event_type in told.get(task.id, ()) if event_type != "TASK_SCHEDULED"]
        yield from _of_task(engine, task, run, ends)


def _of_task(engine: Engine, task: TaskRow, run: RunRow | None, ends: list[str]) -> Iterator[str]:
    expected = _ENDS_OF_TASK.get(task.status, [[]])
    if ends not in expected:
        yield f"task {task.id} is {task.status}, but its run was told {ends}"
    if task.status not in ENDED and run is not None and run.status in ENDED:
        yield f"task {task.id} is {task.status}, though its run has ended"
    first = None if task.same_as is None else engine.core.store.tasks.get(task.same_as)
    if (task.status == "FOLLOWING") != (first is not None and first.status not in ENDED and task.status not in ENDED):
        yield f"task {task.id} is {task.status}, but the one it follows is {first and first.status}"
    numbers = [attempt.attempt for attempt in engine.core.store.tasks.attempts(task.n)]
    if any(number > task.execution_count for number in numbers):
        yield f"task {task.id} has recorded attempts {numbers} of {task.execution_count}"
    lease = engine.core.leases.of_work("task", task.n)
    if task.status == "PENDING" and engine.core.store.tasks.first_pending(task.org_id, task.queue, [task.kind]) is None:
        yield f"task {task.id} is PENDING, but in no queue"
    if (task.status == "RUNNING") != (lease is not None):
        yield f"task {task.id} is {task.status}; held: {lease is not None}"


def _of_timers(engine: Engine, run: RunRow, history: list[EventRow]) -> Iterator[str]:
    ends: Counter[str] = Counter()
    started: set[str] = set()
    for event in history:
        if event.type.startswith("TIMER_"):
            timer_id = str(msgspec.json.decode(event.data)["timerId"])
            if event.type == "TIMER_STARTED":
                started.add(timer_id)
            else:
                ends[timer_id] += 1
    for timer_id, count in ends.items():
        if count > 1:
            yield f"run {run.id}: timer {timer_id} ended {count} times"
    armed = {timer_id for n, timer_id in engine.core.store.timers.armed() if n == run.n}
    for timer_id in armed:
        if timer_id not in started or ends[timer_id] or run.status in ENDED:
            yield f"run {run.id}: timer {timer_id} is armed, but never started, ended already, or its run has"
    for timer_id in started:
        if run.status not in ENDED and not ends[timer_id] and timer_id not in armed:
            yield f"run {run.id}: timer {timer_id} has not ended, but is not armed"


_ENDS_OF_PROMISE: Final[dict[str, list[str]]] = {
    "PENDING": [],
    "CLOSED": [],
    "RESOLVED": ["PROMISE_RESOLVED"],
    "REJECTED": ["PROMISE_REJECTED"],
    "TIMEOUT": ["PROMISE_TIMEOUT"],
}


def _of_promises(engine: Engine, run: RunRow, history: list[EventRow]) -> Iterator[str]:
    told: dict[str, list[str]] = {}
    for event in history:
        if event.type.startswith("PROMISE_"):
            told.setdefault(str(msgspec.json.decode(event.data)["promiseId"]), []).append(event.type)
    for promise in (promise for promise in engine.core.store.promises.all() if promise.run == run.n):
        types = told.pop(promise.id, [""])
        ends = [event_type for event_type in types if event_type != "PROMISE_CREATED"]
        if types[0] != "PROMISE_CREATED" or ends != _ENDS_OF_PROMISE[promise.status]:
            yield f"promise {promise.id} is {promise.status}, but its run was told {types}"
        if (promise.status == "PENDING") and run.status in ENDED:
            yield f"promise {promise.id} is PENDING, though its run has ended"
    if told:
        yield f"run {run.id}: events of promises {sorted(told)}, which do not exist"


_END_OF_CHILD: Final = {
    "COMPLETED": ["CHILD_WORKFLOW_COMPLETED"],
    "FAILED": ["CHILD_WORKFLOW_FAILED"],
    "CANCELLED": ["CHILD_WORKFLOW_FAILED"],
}


def _of_children(engine: Engine, run: RunRow, history: list[EventRow]) -> Iterator[str]:
    told: dict[str, list[str]] = {}
    for event in history:
        if event.type.startswith("CHILD_"):
            told.setdefault(str(msgspec.json.decode(event.data)["childExecutionId"]), []).append(event.type)
    for child_id, types in told.items():
        child = engine.core.store.runs.find(child_id)
        if child is None or child.parent != run.n or not child.tells_parent:
            yield f"run {run.id}: {types[0]} of {child_id}, which is no child of it"
            continue
        ends = [event_type for event_type in types if event_type != "CHILD_WORKFLOW_INITIATED"]
        expected = [_END_OF_CHILD.get(child.status, [])]
        if run.status in ENDED:
            expected.append([])  # nobody is told any more
        if types[0] != "CHILD_WORKFLOW_INITIATED" or ends not in expected:
            yield f"child {child_id} is {child.status}, but its parent was told {types}"


def _of_keys(engine: Engine) -> Iterator[str]:
    store = engine.core.store
    for key, target in store.keys.all():
        if target.of == "promise":
            status = None if (promise := store.promises.find(target.id)) is None else promise.status
        else:
            row = store.runs.find(target.id) if target.of == "workflow" else store.tasks.find(target.id)
            status = None if row is None else row.status
        if status is None or (target.of != "promise" and status in {"FAILED", "CANCELLED"}):
            yield f"key {key} stands for {target.of} {target.id}, which is {status}"


def _of_leases(engine: Engine) -> Iterator[str]:
    store = engine.core.store
    for claim in engine.core.leases.claims():
        row = store.runs.get(claim.n) if claim.of == "workflow" else store.tasks.get(claim.n)
        if row.status != "RUNNING" or row.claim_token != claim.token:
            yield f"{claim.of} {row.id} is {row.status}; the lease {claim.token} on it is not fenced"
        if claim.link is None and claim.expires_at is None:
            yield f"{claim.of} {row.id} is held by nobody's connection, for ever"
        if claim.link is not None and claim.link.claims.get(claim.token) is not claim:
            yield f"{claim.of} {row.id} is bound to link {claim.link.id}, which knows nothing of it"
    for link in engine.core.leases.links():
        if link.polls < 0:
            yield f"link {link.id} holds {link.polls} polls"
        for claim in link.claims.values():
            if claim.link is not link or engine.core.leases.of_work(claim.of, claim.n) is not claim:
                yield f"link {link.id} holds the lease {claim.token}, which is none"


def _of_clock(engine: Engine) -> Iterator[str]:
    """The engine must ask for its tick in time."""
    core = engine.core
    now = core.clock()
    due_at = max(now, engine.next_due())
    if core.due_at > due_at:
        yield f"something is due at {due_at}, but the clock is set for {core.due_at}"
    lapses_at = max(now, min(map(core.leases.ends_at, core.leases.claims()), default=math.inf))
    if core.leases.check_at > lapses_at:
        yield f"a lease ends at {lapses_at}, but will be looked at only at {core.leases.check_at}"
