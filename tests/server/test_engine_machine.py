"""Random interleavings of every call, with crashes and clock jumps between them; the invariants hold after each."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from flovyn.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from flovyn.server.engine import Caller, Start, TaskWanted
from flovyn.wire.messages.flovyn import v1 as pb
from server.world import (
    World,
    cancel,
    cancel_child,
    complete,
    create_promise,
    fail,
    resolve_promise,
    schedule,
    schedule_child,
    start_timer,
    suspend,
    task_id,
)

LINKS = st.integers(1, 4)
NUMBERS = st.integers(0, 5)


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


def commands() -> st.SearchStrategy[pb.WorkflowCommand]:
    return st.one_of(
        schedule_commands(), timer_commands(), cancel_timer_commands(), promise_commands(), child_commands()
    )


class Machine(RuleBasedStateMachine):
    """Four connections, on each of which any worker may show up; callers remember every token they ever got."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.runs: list[str] = []
        self.tokens: dict[str, list[str | None]] = {}
        self.ended: dict[str, list[tuple[str, Any]]] = {}
        self.polls: dict[int, int] = {}
        self.accepted: dict[str, set[str]] = {}

    def teardown(self) -> None:
        self.world.store.close()

    @initialize()
    def first(self) -> None:
        self.runs.append(self.world.start())

    @rule()
    def start(self) -> None:
        self.runs.append(self.world.start())

    @rule(link=LINKS, worker=st.sampled_from("wv"), process=st.sampled_from(["", "1", "2"]))
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

    @rule(link=LINKS, worker=st.sampled_from("wv"))
    def claim(self, link: int, worker: str) -> None:
        claimed = self.world.claim(worker, link)
        if claimed is not None:
            self.tokens.setdefault(claimed[0], [None]).append(claimed[1])

    @rule(link=LINKS, data=st.data())
    def read(self, link: int, data: st.DataObject) -> None:
        run = data.draw(st.sampled_from(self.runs))
        token = data.draw(st.sampled_from(self.tokens.get(run, [None])))
        self.world.engine.workflows.events(self.world.caller(link, token), run)

    @rule(
        link=LINKS,
        commands=st.lists(commands(), max_size=4),
        last=st.sampled_from([suspend(), suspend(), suspend(), complete(), fail(), cancel()]),
        data=st.data(),
    )
    def submit(
        self, link: int, commands: list[pb.WorkflowCommand], last: pb.WorkflowCommand, data: st.DataObject
    ) -> None:
        run = data.draw(st.sampled_from(self.runs))
        token = data.draw(st.sampled_from(self.tokens.get(run, [None])))
        before = self.world.history(run)
        try:
            self.world.submit(run, *commands, last, claim=token, link=link)
        except (FailedPrecondition, InvalidArgument, AlreadyExists):  # an id or a key of another run; no such promise
            assert self.world.history(run) == before
        else:
            assert self.world.history(run)[: len(before)] == before
            self.runs += [row.id for row in self.world.store.runs.all() if row.id not in self.runs]
            if token is not None:
                assert token not in self.accepted.setdefault(run, set())
                self.accepted[run].add(token)

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

    @rule(link=LINKS, worker=st.sampled_from("wv"))
    def claim_task(self, link: int, worker: str) -> None:
        claimed = self.world.claim_task(worker, link)
        if claimed is not None:
            self.tokens.setdefault(claimed[0], [None]).append(claimed[1])

    @rule(link=LINKS, number=NUMBERS, how=st.sampled_from(["complete", "fail", "heartbeat", "cancel"]), data=st.data())
    def report(self, link: int, number: int, how: str, data: st.DataObject) -> None:
        task = data.draw(st.sampled_from([task_id(number), *self.tokens]))
        token = data.draw(st.sampled_from(self.tokens.get(task, [None])))
        caller, tasks = self.world.caller(link, token), self.world.engine.tasks
        try:
            if how == "complete":
                tasks.complete(caller, task, b"1")
            elif how == "fail":
                tasks.fail(caller, task, "no")
            elif how == "heartbeat":
                tasks.heartbeat(caller, task)
            else:
                tasks.cancel(Caller(caller.org_id, link), task)
        except (FailedPrecondition, NotFound):
            pass
        else:
            if token is not None and how in {"complete", "fail"}:
                assert token not in self.accepted.setdefault(task, set())
                self.accepted[task].add(token)

    @rule(data=st.data())
    def signal(self, data: st.DataObject) -> None:
        run = data.draw(st.sampled_from(self.runs))
        try:
            sent = self.world.signal(run)
        except FailedPrecondition:
            assert self.world.status(run) in {"COMPLETED", "FAILED", "CANCELLED"}
        else:
            assert self.world.history(run)[sent - 1][0] == "SIGNAL_RECEIVED"
            assert self.world.status(run) in {"PENDING", "RUNNING"}

    @rule(key=st.sampled_from(["key-1", "key-3"]))
    def signal_with_start(self, key: str) -> None:
        try:
            sent = self.world.signal_with_start(key)
        except AlreadyExists:
            return
        assert (sent.run_id in self.runs) is not sent.created
        if sent.created:
            self.runs.append(sent.run_id)
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
        run = data.draw(st.sampled_from(self.runs))
        try:
            child = self.world.engine.workflows.start_child(self.world.caller(), run, name, Start("order"))
        except FailedPrecondition:
            assert self.world.status(run) in {"COMPLETED", "FAILED", "CANCELLED"}
        else:
            if child not in self.runs:
                self.runs.append(child)

    @rule(cooperates=st.booleans())
    def describe(self, cooperates: bool) -> None:
        self.world.now += 1  # what was registered last counts
        self.world.cooperate(b'{"cancellation":"scopes"}' if cooperates else b"")

    @rule(data=st.data())
    def request_cancel(self, data: st.DataObject) -> None:
        run = data.draw(st.sampled_from(self.runs))
        try:
            self.world.engine.request_cancel(self.world.caller(), run, reason="r")
        except FailedPrecondition:
            assert self.world.status(run) in {"COMPLETED", "FAILED", "CANCELLED"}

    @rule(data=st.data())
    def retry(self, data: st.DataObject) -> None:
        run = data.draw(st.sampled_from(self.runs))
        failed = self.world.status(run) == "FAILED"
        try:
            self.world.engine.retries.retry(self.world.caller(), run, note="n", requested_by="me")
        except FailedPrecondition:
            row = self.world.run(run)
            assert not failed or row.cancel_reason is not None or row.tells_parent
        else:
            assert failed
            assert self.world.history(run)[: len(self.ended[run])] == self.ended.pop(run)

    @rule(milliseconds=st.sampled_from([-1, 0, 300]), withdrawn=st.booleans())
    def schedule_task(self, milliseconds: int, withdrawn: bool) -> None:
        tasks, at = self.world.engine.tasks, self.world.now + milliseconds
        task = tasks.submit(self.world.caller(), TaskWanted("charge", self.world.new_id(), scheduled_at=at)).task_id
        if withdrawn:
            tasks.withdraw(self.world.caller(), task)

    @rule(milliseconds=st.sampled_from([0, 1, 500, 1_000, 5_000, 60_000, 86_400_000]))
    def advance(self, milliseconds: int) -> None:
        self.world.advance(milliseconds)

    @rule(milliseconds=st.integers(0, 20_000))
    def jump(self, milliseconds: int) -> None:
        """The machine was suspended: nothing ticked in between."""
        self.world.now += milliseconds
        self.world.engine.tick()

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

    @rule()
    def crash(self) -> None:
        self.polls.clear()
        self.world.crash()

    @invariant()
    def sound(self) -> None:
        self.world.sound()
        for run in self.runs:
            if self.world.status(run) in {"COMPLETED", "FAILED", "CANCELLED"}:
                history = self.world.history(run)
                assert self.ended.setdefault(run, history) == history


TestMachine = Machine.TestCase
