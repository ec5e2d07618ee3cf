"""Random interleavings of every call, with crashes and clock jumps between any two; the invariants hold after each.

There are two machines. In one, each step is written by itself. In the other, steps gather in a transaction that is
written now and then, or cannot be written: then none of them has happened, and what was learnt from them is forgotten.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from flovyn.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound, ServerUnavailable
from flovyn.server.auth import Key, Keys
from flovyn.server.engine import Caller, ClaimedRun, ClaimedTask, Start, TaskWanted
from flovyn.server.engine.invariants import Witness
from flovyn.server.shell import Shell
from flovyn.wire.messages.flovyn import v1 as pb
from server.world import (
    ORG,
    World,
    cancel,
    cancel_child,
    clear_state,
    complete,
    create_promise,
    fail,
    resolve_promise,
    schedule,
    schedule_child,
    set_state,
    start_timer,
    suspend,
    task_id,
)

LINKS = st.integers(1, 4)
NUMBERS = st.integers(0, 5)
WORKERS = st.sampled_from("wv")
ENDED = {"COMPLETED", "FAILED", "CANCELLED"}
FINAL = 'no\n[flovyn:error {"retryable": false}]'
STRANGER = "org-2"


def timer_commands() -> st.SearchStrategy[pb.WorkflowCommand]:
    return st.builds(start_timer, st.sampled_from(["a", "b", "c"]), st.integers(0, 3_000))


def cancel_timer_commands() -> st.SearchStrategy[pb.WorkflowCommand]:
    return st.sampled_from(["a", "b", "c"]).map(
        lambda timer_id: pb.WorkflowCommand(
            command_type=pb.CommandType.CANCEL_TIMER, cancel_timer=pb.CancelTimerCommand(timer_id=timer_id)
        )
    )


def schedule_commands() -> st.SearchStrategy[pb.WorkflowCommand]:
    return st.builds(
        schedule,
        NUMBERS,
        max_retries=st.sampled_from([None, 0, 1]),
        timeout_ms=st.sampled_from([None, 500, 20_000]),
        idempotency_key=st.sampled_from([None, None, "key-1", "key-4"]),
    )


def promise_commands() -> st.SearchStrategy[pb.WorkflowCommand]:
    return st.builds(
        create_promise,
        st.sampled_from(["p", "q"]),
        timeout_ms=st.sampled_from([None, 0, 700]),
        idempotency_key=st.sampled_from([None, "key-1", "key-2"]),
    ) | st.sampled_from(["p", "q"]).map(resolve_promise)


def child_commands() -> st.SearchStrategy[pb.WorkflowCommand]:
    return st.builds(schedule_child, st.integers(0, 2)) | st.builds(
        cancel_child, st.sampled_from([None, 0, 1, 2]), st.sampled_from(["", "child-0", "child-1"])
    )


def other_commands() -> st.SearchStrategy[pb.WorkflowCommand]:
    operation = pb.RecordOperationCommand(operation_name="op", result=b"1")
    return st.sampled_from(
        [
            set_state("k"),
            clear_state("k"),
            pb.WorkflowCommand(command_type=pb.CommandType.RECORD_OPERATION, record_operation=operation),
            pb.WorkflowCommand(command_type=pb.CommandType.COMMAND_TYPE_UNSPECIFIED),
        ]
    )


def commands() -> st.SearchStrategy[pb.WorkflowCommand]:
    return st.one_of(
        schedule_commands(),
        timer_commands(),
        cancel_timer_commands(),
        promise_commands(),
        child_commands(),
        other_commands(),
    )


@dataclass
class Known:
    """What callers have learnt: every run, every token that they ever got, what was accepted with it.

    Attributes:
        ends: The whole history of each run that has ended.
    """

    runs: list[str] = field(default_factory=list[str])
    tokens: dict[str, list[str | None]] = field(default_factory=dict[str, "list[str | None]"])
    accepted: dict[str, set[str]] = field(default_factory=dict[str, "set[str]"])
    ends: dict[str, list[tuple[str, Any]]] = field(default_factory=dict[str, "list[tuple[str, Any]]"])


class Machine(RuleBasedStateMachine):
    """Four connections, on each of which any worker may show up."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="flovyn-machine-"))
        self.files = 0
        self.world = World(self._file())
        self.known = Known()
        self.witness = Witness()
        self.polls: dict[int, int] = {}
        self.claimed: list[ClaimedRun | ClaimedTask] = []
        self.began()

    def _file(self) -> str:
        self.files += 1
        return str(self.directory / f"{self.files}.db")

    def began(self) -> None:
        """An engine has begun."""

    def keep(self) -> None:
        """What was done is written."""

    def lose(self) -> None:
        """What was done and not written has not happened."""

    def teardown(self) -> None:
        self.world.store.close()
        shutil.rmtree(self.directory)

    def run(self, data: st.DataObject) -> str:
        return data.draw(st.sampled_from(self.known.runs))

    def token(self, data: st.DataObject, of: str) -> str | None:
        return data.draw(st.sampled_from(self.known.tokens.get(of, [None])))

    def accept(self, of: str, token: str | None) -> None:
        """A report was accepted, which happens once with each token."""
        if token is not None:
            assert token not in self.known.accepted.setdefault(of, set())
            self.known.accepted[of].add(token)

    # --- workflows --------------------------------------------------------------------------

    @initialize()
    def first(self) -> None:
        self.known.runs.append(self.world.start())
        self.keep()

    @rule(key=st.sampled_from([None, None, "key-1", "key-5"]), priority=st.sampled_from([0, 60]))
    def start(self, key: str | None, priority: int) -> None:
        try:
            run = self.world.start(key=key, priority_seconds=priority)
        except AlreadyExists:
            return
        if run not in self.known.runs:
            self.known.runs.append(run)

    @rule(link=LINKS, worker=WORKERS, process=st.sampled_from(["", "1", "2"]))
    def register(self, link: int, worker: str, process: str) -> None:
        self.world.engine.workers.register(
            self.world.caller(link),
            name=worker,
            version="1",
            worker_type="UNIFIED",
            host="h",
            process=process,
            workflows={"order": b""},
            tasks={"charge": b""},
        )

    @rule(link=LINKS, worker=WORKERS)
    def beat(self, link: int, worker: str) -> None:
        try:
            self.world.engine.workers.heartbeat(self.world.caller(link), worker)
        except NotFound:
            assert self.world.store.workers.find(ORG, worker) is None

    @rule(link=LINKS, worker=WORKERS)
    def claim(self, link: int, worker: str) -> None:
        engine, caller = self.world.engine, self.world.caller(link)
        claimed = engine.workflows.claim(caller, self.world.poller("workflow", worker, link))
        if claimed is not None:
            self.claimed.append(claimed)
            self.known.tokens.setdefault(claimed.run.id, [None]).append(claimed.token)

    @precondition(lambda self: self.claimed)
    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        claimed = data.draw(st.sampled_from(self.claimed))
        if isinstance(claimed, ClaimedRun):
            self.world.engine.workflows.give_back(claimed)
        else:
            self.world.engine.tasks.give_back(claimed)

    @rule(link=LINKS, data=st.data())
    def read(self, link: int, data: st.DataObject) -> None:
        run = self.run(data)
        token = self.token(data, run)
        assert self.world.engine.workflows.events(self.world.caller(link, token), run)
        try:
            self.world.engine.workflows.events(Caller(STRANGER, link), run)
        except NotFound:
            return
        raise AssertionError("a stranger has read it")

    @rule(
        link=LINKS,
        commands=st.lists(commands(), max_size=4),
        last=st.sampled_from([suspend(), suspend(), suspend(), complete(), fail(), cancel()]),
        data=st.data(),
    )
    def submit(
        self, link: int, commands: list[pb.WorkflowCommand], last: pb.WorkflowCommand, data: st.DataObject
    ) -> None:
        run = self.run(data)
        token = self.token(data, run)
        before = self.world.history(run)
        try:
            self.world.submit(run, *commands, last, claim=token, link=link)
        except (FailedPrecondition, InvalidArgument, AlreadyExists):  # an id or a key of another run; no such promise
            assert self.world.history(run) == before
        else:
            self.known.runs += [row.id for row in self.world.store.runs.all() if row.id not in self.known.runs]
            self.accept(run, token)

    @rule(data=st.data())
    def signal(self, data: st.DataObject) -> None:
        run = self.run(data)
        try:
            sent = self.world.signal(run)
        except FailedPrecondition:
            assert self.world.status(run) in ENDED
        else:
            assert self.world.history(run)[sent - 1][0] == "SIGNAL_RECEIVED"
            assert self.world.status(run) in {"PENDING", "RUNNING"}

    @rule(key=st.sampled_from(["key-1", "key-3"]))
    def signal_with_start(self, key: str) -> None:
        try:
            sent = self.world.signal_with_start(key)
        except AlreadyExists:
            return
        assert (sent.run_id in self.known.runs) is not sent.created
        if sent.created:
            self.known.runs.append(sent.run_id)
        assert self.world.status(sent.run_id) in {"PENDING", "RUNNING"}

    @rule(how=st.sampled_from(["resolve", "reject"]), data=st.data())
    def settle_promise(self, how: str, data: st.DataObject) -> None:
        promises = self.world.store.promises.all()
        promise = data.draw(st.sampled_from(promises)) if promises else None
        engine, caller = self.world.engine.promises, self.world.caller()
        try:
            if promise is None:
                engine.reject(caller, "unknown", "no")
            elif how == "resolve":
                assert engine.resolve(caller, promise.id, b"1") is (promise.status == "PENDING")
            else:
                assert engine.reject(caller, promise.id, "no") is (promise.status == "PENDING")
        except NotFound:
            assert promise is None
        except FailedPrecondition:
            assert promise is not None
            assert promise.status == "CLOSED"

    @rule(name=st.sampled_from(["a", "child-0"]), data=st.data())
    def adopt(self, name: str, data: st.DataObject) -> None:
        run = self.run(data)
        try:
            child = self.world.engine.workflows.start_child(self.world.caller(), run, name, Start("order"))
        except FailedPrecondition:
            assert self.world.status(run) in ENDED
        else:
            if child not in self.known.runs:
                self.known.runs.append(child)

    @rule(cooperates=st.booleans())
    def describe(self, cooperates: bool) -> None:
        self.world.now += 1  # what was registered last counts
        self.world.cooperate(b'{"cancellation":"scopes"}' if cooperates else b"")

    @rule(data=st.data())
    def request_cancel(self, data: st.DataObject) -> None:
        run = self.run(data)
        try:
            self.world.engine.request_cancel(self.world.caller(), run, reason="r")
        except FailedPrecondition:
            assert self.world.status(run) in ENDED

    @rule(data=st.data())
    def retry(self, data: st.DataObject) -> None:
        run = self.run(data)
        failed = self.world.status(run) == "FAILED"
        try:
            self.world.engine.retries.retry(self.world.caller(), run, note="n", requested_by="me")
        except FailedPrecondition:
            row = self.world.run(run)
            assert not failed or row.cancel_reason is not None or row.tells_parent
        else:
            assert failed
            ended = self.known.ends.pop(run)
            assert self.world.history(run)[: len(ended)] == ended

    # --- tasks ------------------------------------------------------------------------------

    @rule(key=st.sampled_from([None, "key-1", "key-4"]), timeout_ms=st.sampled_from([None, 700]))
    def submit_task(self, key: str | None, timeout_ms: int | None) -> None:
        wanted = TaskWanted("charge", self.world.new_id(), key=key, timeout_ms=timeout_ms, max_retries=0)
        try:
            submitted = self.world.engine.tasks.submit(self.world.caller(), wanted)
        except AlreadyExists:
            return
        task = self.world.store.tasks.find(submitted.task_id)
        assert task is not None
        assert task.status in ({"PENDING"} if submitted.key_new else {"PENDING", "RUNNING", "COMPLETED"})

    @rule(link=LINKS, worker=WORKERS)
    def claim_task(self, link: int, worker: str) -> None:
        engine, caller = self.world.engine, self.world.caller(link)
        claimed = engine.tasks.claim(caller, self.world.poller("task", worker, link))
        if claimed is not None:
            self.claimed.append(claimed)
            self.known.tokens.setdefault(claimed.task.id, [None]).append(claimed.token)

    @rule(
        link=LINKS,
        number=NUMBERS,
        how=st.sampled_from(["complete", "fail", "fail for good", "heartbeat", "cancel"]),
        data=st.data(),
    )
    def report(self, link: int, number: int, how: str, data: st.DataObject) -> None:
        task = data.draw(st.sampled_from([task_id(number), *self.known.tokens]))
        token = self.token(data, task)
        caller, tasks = self.world.caller(link, token), self.world.engine.tasks
        try:
            match how:
                case "complete":
                    tasks.complete(caller, task, b"1")
                case "fail":
                    tasks.fail(caller, task, "no")
                case "fail for good":
                    tasks.fail(caller, task, FINAL)
                case "heartbeat":
                    tasks.heartbeat(caller, task)
                case _:
                    tasks.cancel(Caller(caller.org_id, link), task)
        except (FailedPrecondition, NotFound):
            pass
        else:
            if how not in {"heartbeat", "cancel"}:
                self.accept(task, token)

    @rule(link=LINKS, what=st.sampled_from(["put", "clear", "clear all", "progress", "log"]), data=st.data())
    def note(self, link: int, what: str, data: st.DataObject) -> None:
        task = data.draw(st.sampled_from([task_id(0), *self.known.tokens]))
        caller, notes = self.world.caller(link, self.token(data, task)), self.world.engine.notes
        try:
            match what:
                case "put":
                    notes.put(caller, task, "k", b"1")
                    assert notes.keys(caller, task) == ["k"]
                case "clear":
                    notes.clear(caller, task, "k")
                case "clear all":
                    notes.clear_all(caller, task)
                    assert notes.get(caller, task, "k") is None
                case "progress":
                    notes.progress(caller, task, 0.5, "half")
                case _:
                    notes.log(caller, task, "INFO", "line")
        except (FailedPrecondition, NotFound):
            pass

    @rule(milliseconds=st.sampled_from([-1, 0, 300]), withdrawn=st.booleans())
    def schedule_task(self, milliseconds: int, withdrawn: bool) -> None:
        tasks, at = self.world.engine.tasks, self.world.now + milliseconds
        task = tasks.submit(self.world.caller(), TaskWanted("charge", self.world.new_id(), scheduled_at=at)).task_id
        if withdrawn:
            tasks.withdraw(self.world.caller(), task)

    # --- time and connections ---------------------------------------------------------------

    @rule(milliseconds=st.sampled_from([0, 1, 500, 1_000, 5_000, 60_000, 86_400_000]))
    def advance(self, milliseconds: int) -> None:
        self.world.advance(milliseconds)

    @rule(milliseconds=st.integers(0, 20_000))
    def jump(self, milliseconds: int) -> None:
        """The machine was suspended: nothing ticked in between."""
        self.world.now += milliseconds
        self.world.engine.tick()

    @rule(milliseconds=st.integers(0, 20_000))
    def shift(self, milliseconds: int) -> None:
        """The clock of a test was moved: whoever is connected loses nothing by that."""
        held = {claim.token for claim in self.world.engine.core.leases.claims() if claim.link is not None}
        lapsing = {claim.token for claim in self.world.engine.core.leases.claims() if self.lapses(claim)}
        self.world.now += milliseconds
        self.world.engine.core.leases.shift(milliseconds)
        overdue = {
            claim.token
            for claim in self.world.engine.core.leases.claims()
            if self.lapses(claim) and claim.token in held - lapsing
        }
        assert not overdue

    def lapses(self, claim: Any) -> bool:
        return self.world.engine.core.leases.ends_at(claim) <= self.world.now

    @rule(link=LINKS)
    def poll(self, link: int) -> None:
        self.world.engine.poll_begun(self.world.caller(link))
        self.polls[link] = self.polls.get(link, 0) + 1

    @precondition(lambda self: self.polls)
    @rule(data=st.data())
    def end_poll(self, data: st.DataObject) -> None:
        link = data.draw(st.sampled_from(sorted(self.polls)))
        self.world.engine.poll_ended(self.world.caller(link))
        self.polls[link] -= 1
        if not self.polls[link]:
            del self.polls[link]

    @rule(link=LINKS)
    def disconnect(self, link: int) -> None:
        self.polls.pop(link, None)
        self.world.engine.disconnected(link)

    # --- crashes ----------------------------------------------------------------------------

    @rule()
    def crash(self) -> None:
        """Whatever was in memory is gone: the file is opened by the next server, as it is at this moment."""
        self.lose()
        self.polls.clear()
        self.claimed.clear()
        old, path = self.world.store, self._file()
        for suffix in ("", "-wal"):
            if Path(f"{self.world.path}{suffix}").exists():
                shutil.copy(f"{self.world.path}{suffix}", f"{path}{suffix}")
        old.database.roll_back()
        old.close()
        self.world.path = path
        self.world.open()
        self.began()

    @rule()
    def restart(self) -> None:
        """The server ends as it should, and begins again."""
        self.keep()
        self.polls.clear()
        self.claimed.clear()
        self.world.restart()
        self.began()

    @invariant()
    def sound(self) -> None:
        assert self.witness.violations(self.world.engine) == []
        for run in self.known.runs:
            if self.world.status(run) in ENDED:
                history = self.world.history(run)
                assert self.known.ends.setdefault(run, history) == history


class GroupedMachine(Machine):
    """The same through a shell, whose steps are kept in groups; a group may be lost, with all that came of it."""

    def began(self) -> None:
        self.shell = Shell(self.world.engine, Keys([Key("t", ORG, "Worker")]))
        self.kept = self._snapshot()

    def _snapshot(self) -> tuple[Known, Witness, int]:
        return deepcopy(self.known), self.witness.copy(), len(self.claimed)

    def keep(self) -> None:
        self.shell.write()
        self.kept = self._snapshot()

    def lose(self) -> None:
        self.known, self.witness, claimed = self.kept
        del self.claimed[claimed:]
        self.kept = self._snapshot()

    @rule()
    def write(self) -> None:
        self.keep()

    @rule()
    def fail_to_write(self) -> None:
        """The disk is full at the very end: nothing of the group has happened."""
        store = self.world.store
        commit, written = store.commit, self.world.store.database.connection.in_transaction

        def full() -> None:
            store.database.roll_back()
            raise ServerUnavailable("disk full")

        store.commit = full  # type: ignore[method-assign]
        logging.disable()
        try:
            self.shell.write()
        finally:
            logging.disable(logging.NOTSET)
            store.commit = commit  # type: ignore[method-assign]
        if written:
            self.lose()


TestMachine = Machine.TestCase
TestGroupedMachine = GroupedMachine.TestCase
