"""A run of a workflow, as far as this process has got with it.

`Execution` holds the program and everything it has called; `flovyn.replay.activation` moves it on.
"""

from __future__ import annotations

from collections import deque
from contextvars import Context
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from flovyn.errors import CodecError, DeterminismError
from flovyn.nursery.kernel import Cancelled, CancelScope, Kernel
from flovyn.replay.access import Access
from flovyn.replay.children import Children
from flovyn.replay.commands import CancelWorkflow, CompleteWorkflow
from flovyn.replay.history import History
from flovyn.replay.identifiers import Identifiers, Xorshift
from flovyn.replay.journal import Journal
from flovyn.replay.names import timer_of
from flovyn.replay.operations import Operation, Pending
from flovyn.replay.patches import Patches
from flovyn.replay.promises import Promises
from flovyn.replay.recordings import Kind
from flovyn.replay.settlements import Settlements
from flovyn.replay.signals import Signals
from flovyn.replay.state import State
from flovyn.replay.submission import failure
from flovyn.replay.tasks import Tasks
from flovyn.replay.timers import DurableTimers
from flovyn.replay.waits import waits_for_timer
from flovyn.serde.envelope import members_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator

    from flovyn.definitions import Workflow
    from flovyn.nursery import Tripwires
    from flovyn.nursery.kernel import Outcome
    from flovyn.replay.events import Event
    from flovyn.replay.submission import Result

__all__ = ["Execution", "RunInfo"]


@dataclass(frozen=True, slots=True)
class RunInfo:
    """What a run is told about itself.

    Attributes:
        workflow_id: The id of the execution.
        org_id: The org that it belongs to.
        kind: The workflow's kind.
        queue: The queue that it was started on.
        input: The input, as JSON.
    """

    workflow_id: str
    org_id: str
    kind: str
    queue: str
    input: bytes


class Execution:
    """A run of a workflow.

    Args:
        workflow: The definition.
        info: What the run is told about itself.
        context: Makes the context that the user's function gets.
        step_limit: How many scheduler steps the program may take without waiting for anything durable, before it counts
            as running away.
        tripwires: What becomes of code that reaches outside; None if nobody watches.

    Attributes:
        history: What has been read.
        result: How the program ended, once it has.
        seen: The sequence number of the last event that an activation was shown.
        pending: The operations that the program waits for.
        tasks: Its tasks; likewise `children`, `promises`, `signals` and `state`.
        read_only: `with execution.read_only:` every operation that would change the run raises.
        waits: What the program waits for, in words, in the order in which the waits began.
        context: What the user's function was given, once it has begun.
    """

    def __init__(
        self,
        workflow: Workflow[..., Any],
        info: RunInfo,
        context: Callable[[Execution], object],
        *,
        step_limit: int = 100_000,
        tripwires: Tripwires | None = None,
    ) -> None:
        self.workflow = workflow
        self.info = info
        self.history: History = History()
        self.journal: Journal = Journal()
        self.timers: DurableTimers = DurableTimers(self.journal)
        self.kernel: Kernel = Kernel(self.timers, step_limit=step_limit, tripwires=tripwires, private=True)
        self.timers.bind(self.kernel)
        self.settlements: Settlements = Settlements(self.kernel)
        self.read_only: Access = Access(self.kernel)
        self.identifiers: Identifiers = Identifiers(info.workflow_id, self.read_only)
        self.randomness: Xorshift = Xorshift(info.workflow_id, self.read_only)
        parts = (self.journal, self.identifiers, self.settlements, self.history, self.read_only)
        self.tasks: Tasks = Tasks(*parts)
        self.children: Children = Children(*parts)
        self.promises: Promises = Promises(
            info.workflow_id, self.journal, self.settlements, self.history, self.read_only
        )
        self.signals: Signals = Signals(self.kernel, self.read_only)
        self.state: State = State(self.journal, self.read_only)
        self._patches = Patches(self.journal, self.read_only)
        self.root: CancelScope = self.kernel.create_scope()
        self.result: Result | None = None
        self.seen: int = 0
        self.pending: Pending = Pending()
        self.waits: dict[object, str] = {}
        self.context: object = None
        self._context = context
        self._unrecorded: deque[Operation] = deque()
        self._crash: BaseException | None = None

    # --- what the program calls -------------------------------------------------------------

    @property
    def replaying(self) -> bool:
        """Whether the past is re-enacted; else the program is live."""
        return not self.journal.live or self.journal.foretold

    def patched(self, patch_id: str) -> bool:
        """Whether the activation that runs is to take the new way at a patch (rule 9).

        Raises:
            UsageError: The run is read-only.
        """
        return self._patches.patched(patch_id)

    def start_operation(
        self, name: str, body: Callable[[], Awaitable[Any] | Any], encode: Callable[[Any], bytes]
    ) -> Operation:
        """Call `ctx.run`; the host runs the body unless history has the answer.

        Raises:
            DeterminismViolation: History has another name here.
        """
        index = self.journal.call_operation(name)
        operation = Operation(self.kernel, self.pending, index, name, body, encode)
        self.pending[index] = operation
        if index >= self.journal.records:
            self._unrecorded.append(operation)
        return operation

    # --- moving on --------------------------------------------------------------------------

    def load(self, events: Iterable[Event]) -> None:
        """Read on in the history.

        Raises:
            HistoryGap: These events do not follow the last one read.
            DeterminismViolation: A worker without markers wrote some of them, behind activations that have one.
        """
        self.history.extend(events)
        self.journal.load(self.history)
        while self._unrecorded and self._unrecorded[0].index < self.journal.records:
            self._unrecorded.popleft()

    def let_go(self) -> None:
        """Between activations: keep nothing of what has been re-enacted that nobody can ask for any more."""
        journal, pending = self.journal, self.pending
        self.history.let_go(journal.activation)
        journal.let_go(pending.first.index if pending else journal.calls(Kind.OPERATION))
        if not pending:
            self.timers.let_go()

    @property
    def is_current(self) -> bool:
        """Whether the last activation that counts is the one that was last run here."""
        history, activation = self.history, self.journal.activation
        if history.counted != activation or history.final is not None:
            return False
        return history.newest is None or history.newest.id == self.journal.salt

    def start(self) -> None:
        """Begin the program; input that does not fit its signature fails it."""
        try:
            self.context = self._context(self)
            program = self.workflow.invoke(self.context, self.info.input)
        except Exception as error:  # noqa: BLE001 - a PayloadError, or whatever the type's own code raises
            self.result = failure(error, retryable=False)
        else:
            # In a context of its own: what the worker has in its context variables differs from replay to replay.
            self.kernel.start(program, name=self.info.kind, scope=self.root, done=self._done, context=Context())

    def horizon(self, last: int) -> list[Event]:
        """The events of the outside world that were not shown yet, up to a sequence number."""
        return self.history.unseen(last)

    def see(self, last: int) -> None:
        """Everything up to a sequence number has been shown."""
        self.history.see(last)
        self.seen = max(self.seen, last)

    def deliver(self, event: Event) -> None:
        """Show the program one event of the outside world."""
        self.history.deliver(event)
        match event.type:
            case "TIMER_FIRED":
                self._fire(event.data.timer_id or "")
            case "TASK_COMPLETED" | "TASK_FAILED" | "TASK_CANCELLED":
                self.tasks.settle(event)
            case "CHILD_WORKFLOW_COMPLETED" | "CHILD_WORKFLOW_FAILED" | "CHILD_WORKFLOW_CANCELLED":
                self.children.settle(event)
            case "PROMISE_RESOLVED" | "PROMISE_REJECTED" | "PROMISE_TIMEOUT":
                self.promises.settle(event)
            case "SIGNAL_RECEIVED":
                self.signals.deliver(event)
            case "CANCELLATION_REQUESTED" if self.workflow.cancellable:
                reason = event.data.reason
                self.root.cancel(reason if isinstance(reason, str) else None)
            case _:
                pass  # nothing in this program can wait for it

    def _fire(self, identity: str) -> None:
        timer = timer_of(identity)
        if timer is not None:
            self.timers.fire(timer)

    def unrecorded(self) -> Iterator[Operation]:
        """The operations to record now.

        One that is not answered yet holds back those after it, so that the N-th call stays the N-th record.
        """
        for operation in self._unrecorded:
            if operation.answer is None:
                return
            yield operation

    def waiting(self) -> str:
        """What the program waits for, as the platform words it: the newest of its waits stands for all."""
        if self.waits:
            return next(reversed(self.waits.values()))
        timer = self.timers.newest()
        return "Waiting" if timer is None else waits_for_timer(timer.id)

    def raise_crash(self) -> None:
        """Raise what ended the program without being its own doing (Ctrl-C in the middle of a step)."""
        if self._crash is not None:
            raise self._crash

    def close(self) -> None:
        """Evict: end the program's coroutines without letting them reach the server."""
        self.kernel.close()

    def _done(self, outcome: Outcome) -> None:
        error = _without_cancellation(outcome.error)
        if error is None:
            try:
                self.result = CompleteWorkflow(self.workflow.encode_output(outcome.value))
            except Exception as unwritable:  # noqa: BLE001 - likewise, of the value
                self.result = failure(unwritable, retryable=False)
        elif isinstance(error, Cancelled):
            self.result = CancelWorkflow(self.root.cancel_reason or "cancelled")
        elif (crash := _crash_in(error)) is not None:
            self._crash = crash
        else:
            # Whatever else it is (`sys.exit()`, a cancelled exception of asyncio's), the program raised it, and would
            # raise it in the next worker too.
            self.result = failure(error)


def _without_cancellation(error: BaseException | None) -> BaseException | None:
    """What is left of an error outside the root scope, which takes its own cancellation out of a group as any does."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    group = cast("BaseExceptionGroup[BaseException]", error)
    return group.split(Cancelled)[1] or Cancelled()


def _crash_in(error: BaseException) -> BaseException | None:
    """What must not count as the program's failure: Ctrl-C above all, a fault of determinism, and a missing codec."""
    return _find(error, KeyboardInterrupt) or _find(error, DeterminismError) or _find(error, CodecError)


def _find(error: BaseException, kind: type[BaseException]) -> BaseException | None:
    if isinstance(error, kind):
        return error
    return next((found for member in members_of(error) if (found := _find(member, kind))), None)
