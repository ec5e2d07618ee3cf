"""Signals: values sent to a workflow, each of them an event of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from flovyn.errors import FailedPrecondition
from flovyn.server.engine import events, history, keys, payloads, starting, validation

if TYPE_CHECKING:
    from flovyn.server.engine.core import Caller, Core
    from flovyn.server.engine.events import Event
    from flovyn.server.engine.starting import Start
    from flovyn.server.engine.workflows import Workflows
    from flovyn.server.store.runs import RunRow

__all__ = ["Signalled", "Signals"]


@dataclass(frozen=True, slots=True)
class Signalled:
    """The answer to a signal.

    Attributes:
        run_id: The execution that got it.
        created: It was started for this signal.
        sequence: The number of the signal in its history.
    """

    run_id: str
    created: bool
    sequence: int


class Signals:
    """What can be sent to workflows."""

    def __init__(self, core: Core, workflows: Workflows) -> None:
        self._core = core
        self._workflows = workflows

    def signal(self, caller: Caller, run_id: str, name: str, value: bytes) -> Signalled:
        """Send a signal to a workflow that has not ended.

        Raises:
            NotFound: There is no such execution in the caller's organisation.
            FailedPrecondition: It has ended.
            InvalidArgument: The name is empty or too long, or the value is not JSON.
        """
        event = _event(name, value)
        run = self._workflows.find(caller, run_id)
        if run.status in history.ENDED:
            raise FailedPrecondition(f"workflow {run.id} cannot be signalled: it is {run.status}")
        with self._core.transaction():
            return self._deliver(run, event)

    def signal_with_start(self, caller: Caller, wanted: Start, name: str, value: bytes) -> Signalled:
        """Send a signal to the workflow that has this key; if there is none, or it has ended, to a new one.

        Args:
            caller: Who calls.
            wanted: What to start if need be; its key is what the caller calls the workflow's id.
            name: The signal.
            value: Its value as JSON.

        Raises:
            InvalidArgument: A value makes no sense; the message names it.
            AlreadyExists: The key stands for something that is no workflow.
        """
        core = self._core
        event = _event(name, value)
        key = validation.name(wanted.key or "", "workflow_id")
        prepared = starting.prepare(core, caller.org_id, wanted)
        with core.transaction():
            existing = keys.find(core, caller.org_id, key, "workflow", "workflow_id")
            run = None if existing is None else core.store.runs.find(existing)
            if run is not None and run.status not in history.ENDED:
                return self._deliver(run, event)
            starting.create(core, prepared, event)
        return Signalled(prepared.run.id, created=True, sequence=prepared.run.sequence)

    def _deliver(self, run: RunRow, event: Event) -> Signalled:
        core = self._core
        history.append(core, run, [event], external=True)
        history.wake(core, run)
        core.store.runs.save(run)
        return Signalled(run.id, created=False, sequence=run.sequence)


def _event(name: str, value: bytes) -> Event:
    return events.signal_received(validation.name(name, "signal_name"), value=payloads.checked(value, "signal_value"))
