"""The Replayer: runs code against histories, and tells where they part."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flovyn.errors import DefinitionError, DeterminismViolation
from flovyn.replay import Activation, Execution, RunInfo, read_event
from flovyn.replay.events import ENDINGS
from flovyn.replay.history import History as Record
from flovyn.replay.names import SOON
from flovyn.testing.replayer.diff import compare
from flovyn.testing.replayer.probe import records_in, run_again
from flovyn.testing.replayer.report import Report
from flovyn.testing.replayer.streams import made_lines, recorded_lines
from flovyn.workflow import WorkflowContext

if TYPE_CHECKING:
    from collections.abc import Iterable

    from flovyn.definitions import Workflow
    from flovyn.replay.history import Block
    from flovyn.testing.replayer.diff import Line
    from flovyn.testing.replayer.history import History

__all__ = ["Replayer"]


class Replayer:
    """Replays histories with today's code, without a server, an event loop or the body of any `ctx.run` or task.

    Args:
        workflows: The definitions, by whose kind histories find theirs.
        step_limit: How many scheduler steps one activation may take before it counts as running away.

    Raises:
        DefinitionError: Two of the workflows are of one kind.
    """

    def __init__(self, workflows: Iterable[Workflow[..., Any]], *, step_limit: int = 100_000) -> None:
        self._workflows: dict[str, Workflow[..., Any]] = {}
        for workflow in workflows:
            if workflow.kind in self._workflows:
                raise DefinitionError(f"two workflows are of the kind {workflow.kind!r}: replay each by itself")
            self._workflows[workflow.kind] = workflow
        self._step_limit = step_limit

    def replay(self, history: History) -> Report:
        """Replay one history, as far as activations of the past have seen it; nothing is raised, all is reported."""
        run: _Run | None = None
        try:
            run = _Run(self._definition(history.kind), history, self._step_limit)
            run.go()
        except DeterminismViolation as violation:
            assert run is not None
            return run.violated(violation)
        except Exception as error:  # noqa: BLE001 - whatever it is, the report says it
            return Report(
                status="error",
                workflow_id=history.workflow_id,
                kind=history.kind,
                source=history.source,
                activations=0 if run is None else run.done,
                error=error,
            )
        return Report(
            status="equal",
            workflow_id=history.workflow_id,
            kind=history.kind,
            source=history.source,
            activations=run.done,
        )

    def replay_all(self, histories: Iterable[History]) -> list[Report]:
        """Replay each; one report for each, in order."""
        return [self.replay(history) for history in histories]

    def _definition(self, kind: str) -> Workflow[..., Any]:
        workflow = self._workflows.get(kind)
        if workflow is None:
            known = ", ".join(self._workflows) or "none"
            raise DefinitionError(f"the history is of workflow kind {kind!r}; the replayer was given: {known}")
        return workflow


class _Run:
    """One history being replayed, activation by activation."""

    def __init__(self, workflow: Workflow[..., Any], history: History, step_limit: int) -> None:
        self.done = 0
        self._workflow = workflow
        self._history = history
        self._step_limit = step_limit
        self._events = [read_event(event.sequence, event.type, event.data) for event in history.events]
        record = Record()
        record.extend(self._events)
        self._blocks = record.kept

    def go(self) -> None:
        execution = self._execution()
        try:
            for number, block in enumerate(self._blocks):
                self._reenact(execution, block)
                self._compare_ends(execution, block, number + 1)
                self.done += 1
        finally:
            execution.close()

    def _execution(self) -> Execution:
        history = self._history
        info = RunInfo(history.workflow_id, history.org_id, history.kind, history.queue, history.input)
        return Execution(self._workflow, info, WorkflowContext, step_limit=self._step_limit)

    def _reenact(self, execution: Execution, block: Block) -> None:
        execution.load(self._events[execution.history.length : block.end.sequence])
        activation = Activation(execution, at_ms=0, salt="")
        for _ in activation._reenact(block):
            pass

    def _compare_ends(self, execution: Execution, block: Block, activation: int) -> None:
        """The end of an activation is a command like any other: the same kind of end, and the same value or error."""
        result, (recorded,) = execution.result, recorded_lines(self._history.events[block.end.sequence - 1 :][:1])
        if block.end.type in ENDINGS:
            got = "suspended" if result is None else made_lines([result])[0]
            if result is not None and recorded.key == got[0]:
                return
        elif result is None or self._is_put_off(block):
            return
        got = None if result is None else made_lines([result])[0].text
        raise DeterminismViolation(
            f"Determinism violation: Workflow end mismatch in activation {activation}: "
            f"expected '{recorded.text}', got '{got or 'suspended'}'",
            expected=recorded.text,
            got=got,
        )

    def _is_put_off(self, block: Block) -> bool:
        """Whether the end that the program had reached was put off, for cancels that had to be sent before."""
        armed: dict[str, None] = {}
        for event in self._events[: block.end.sequence]:
            identity = event.data.timer_id or ""
            if identity.startswith(f"{SOON}/"):
                if event.type == "TIMER_STARTED":
                    armed[identity] = None
                else:
                    armed.pop(identity, None)
        return bool(armed)

    def violated(self, violation: DeterminismViolation) -> Report:
        """The report of a violation, with what the code would do in the activation where it parts from history."""
        history, block = self._history, self._blocks[self.done]
        events = (block.events[0].sequence, block.end.sequence)
        return Report(
            status="violation",
            workflow_id=history.workflow_id,
            kind=history.kind,
            source=history.source,
            activations=self.done,
            events=events,
            diff=compare(
                recorded_lines(history.events[event.sequence - 1] for event in block.events),
                self._again(block),
                names=(
                    f"history: activation {self.done + 1}, events {events[0]} to {events[1]}",
                    f"code: {self._workflow.kind} {self._workflow.version}",
                ),
            ),
            error=violation,
        )

    def _again(self, block: Block) -> list[Line]:
        marker = block.marker
        assert marker is not None
        execution = self._execution()
        try:
            for earlier in self._blocks[: self.done]:
                self._reenact(execution, earlier)
            execution.load(self._events[execution.history.length : max(execution.history.length, marker.seen)])
            through = [event for kept in self._blocks[: self.done + 1] for event in kept.events]
            return run_again(execution, marker, records_in(through))
        finally:
            execution.close()
