"""Letting a run that has failed go on, when somebody outside asks for it.

Its history stays as it is, with the failure in it: workers replay up to there and make the last activation anew. What
was closed with the run is opened again, and the run is told what it missed while it counted as ended: the tasks that
were cancelled with it, and the ends of its children.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from flovyn.errors import FailedPrecondition
from flovyn.server import limits
from flovyn.server.engine import events, history, validation
from flovyn.server.engine.payloads import NULL
from flovyn.server.store.runs import RetryRow

if TYPE_CHECKING:
    from flovyn.server.engine.core import Caller, Core
    from flovyn.server.engine.events import Event
    from flovyn.server.engine.workflows import Workflows
    from flovyn.server.store.runs import EventRow, RunRow

__all__ = ["Retries"]


class _Data(msgspec.Struct, rename="camel"):
    """What says whose event it is."""

    task_execution_id: str = ""
    child_execution_id: str = ""
    timer_id: str = ""
    fire_at_ms: int = 0
    output: msgspec.Raw = NULL
    error: str = ""
    reason: str = ""


_decode: Final = msgspec.json.Decoder(_Data).decode


class Retries:
    """What can be done for runs that have failed."""

    def __init__(self, core: Core, workflows: Workflows) -> None:
        self._core = core
        self._workflows = workflows

    def retry(self, caller: Caller, run_id: str, *, note: str, requested_by: str) -> None:
        """Put a run that has failed back in its queue.

        Raises:
            NotFound: There is no such execution in the caller's organisation.
            FailedPrecondition: It has not failed, was asked to stop before it did, or its parent was told of it.
            InvalidArgument: The note is too long.
        """
        core = self._core
        run = self._workflows.find(caller, run_id)
        validation.text(note, "note", limits.LOG_LINE_LENGTH)
        self._refuse(run)
        with core.transaction():
            core.store.runs.put_retry(RetryRow(run.n, run.sequence, core.clock(), note, requested_by))
            run.status = "PENDING"
            run.completed_at = None
            core.store.promises.reopen_run(run.n)
            core.due(core.clock())  # a promise or a timer may be overdue already
            told = core.store.runs.events(run.n)
            self._rearm(run, told)
            missed = [*self._ends_of_tasks(run, told), *self._ends_of_children(told)]
            history.append(core, run, missed, external=True)
            core.store.runs.save(run)
            core.make_ready("workflow", run.org_id, run.queue, run.kind)

    def _refuse(self, run: RunRow) -> None:
        if run.status != "FAILED":
            raise FailedPrecondition(f"workflow {run.id} cannot be retried: it is {run.status}, not FAILED")
        if run.cancel_reason is not None:
            raise FailedPrecondition(f"workflow {run.id} cannot be retried: it was asked to stop before it failed")
        if run.parent is not None and run.tells_parent:
            parent = self._core.store.runs.get(run.parent).id
            raise FailedPrecondition(
                f"workflow {run.id} cannot be retried: its parent {parent} was told that it failed; retry that one"
            )

    def _rearm(self, run: RunRow, told: list[EventRow]) -> None:
        timers = self._core.store.timers
        for event in told:
            if event.type == "TIMER_STARTED":
                data = _decode(event.data)
                timers.arm(run.n, data.timer_id, data.fire_at_ms)
            elif event.type in {"TIMER_FIRED", "TIMER_CANCELLED"}:
                timers.disarm(run.n, _decode(event.data).timer_id)

    def _ends_of_tasks(self, run: RunRow, told: list[EventRow]) -> list[Event]:
        store, news = self._core.store, list["Event"]()
        ended = {_decode(event.data).task_execution_id for event in told if event.type in _ENDS_OF_TASK}
        for event in told:
            if event.type == "TASK_SCHEDULED" and (task_id := _decode(event.data).task_execution_id) not in ended:
                ended.add(task_id)
                task = store.tasks.find(task_id)
                if task is not None and task.run == run.n and task.status == "CANCELLED":
                    news += history.cancelled(task)
        return news

    def _ends_of_children(self, told: list[EventRow]) -> list[Event]:
        store, news = self._core.store, list["Event"]()
        ended = {_decode(event.data).child_execution_id for event in told if event.type in _ENDS_OF_CHILD}
        for event in told:
            if event.type == "CHILD_WORKFLOW_INITIATED":
                child_id = _decode(event.data).child_execution_id
                child = store.runs.find(child_id)
                if child_id not in ended and child is not None and child.status in history.ENDED:
                    ended.add(child_id)
                    news.append(self._end_of_child(child))
        return news

    def _end_of_child(self, child: RunRow) -> Event:
        last = self._core.store.runs.event(child.n, child.sequence)
        data = _decode(last.data)
        closing = history.Closing(
            child.status, events.Event(last.type, last.data), output=data.output, error=data.error or data.reason
        )
        return history.told_to_parent(child, closing)


_ENDS_OF_TASK: Final = frozenset({"TASK_COMPLETED", "TASK_FAILED", "TASK_CANCELLED"})
_ENDS_OF_CHILD: Final = frozenset({"CHILD_WORKFLOW_COMPLETED", "CHILD_WORKFLOW_FAILED"})
