"""The Replayer: runs code against histories, and tells where they part."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from flovyn.definitions import definition_of
from flovyn.errors import DefinitionError, DeterminismViolation
from flovyn.nursery import Tripwires, arm_tripwires
from flovyn.replay.tripwires import watching
from flovyn.testing.replayer.report import Report, Status
from flovyn.testing.replayer.run import Run

if TYPE_CHECKING:
    from collections.abc import Iterable

    from flovyn.definitions import AnyWorkflow, Workflow
    from flovyn.testing.replayer.history import History

__all__ = ["Replayer"]

_STRICT: Final = Tripwires(clock="error", randomness="error")


class Replayer:
    """Replays histories with the code as it is now.

    No server is needed, and no event loop; no task is run and no body of a `ctx.run`. What has happened since the last
    activation of a history, which no code has seen yet, is not replayed: it can go either way.

    Args:
        workflows: The definitions, by whose kind histories find theirs.
        tripwires: What becomes of code that reaches outside. An error in every case if left out: under test, a warning
            is easily missed.
        step_limit: How many scheduler steps the program may take without waiting for anything durable, before it counts
            as running away.

    Raises:
        DefinitionError: One of them is no workflow or has no code here, or two are of one kind.

    Example:
        ```python
        def test_running_orders_survive_this_deployment() -> None:
            replayer = Replayer([place_order])
            for path in Path("tests/histories").glob("*.json"):
                replayer.replay(History.read(path)).raise_for_status()
        ```
    """

    def __init__(
        self,
        workflows: Iterable[AnyWorkflow[..., Any]],
        *,
        tripwires: Tripwires | None = None,
        step_limit: int = 100_000,
    ) -> None:
        self._workflows: dict[str, Workflow[..., Any]] = {}
        self._step_limit = step_limit
        for workflow in map(definition_of, workflows):
            if not workflow.has_code:
                raise DefinitionError(f"{workflow!r} has no code here to be replayed: give the @workflow itself")
            if workflow.kind in self._workflows:
                raise DefinitionError(
                    f"two workflows are of the kind {workflow.kind!r}: give each a replayer of its own"
                )
            self._workflows[workflow.kind] = workflow
        self._tripwires = watching(self._workflows.values(), tripwires or _STRICT)

    def replay(self, history: History) -> Report:
        """Replay one history; nothing is raised, all is reported."""
        arm_tripwires()
        run: Run | None = None
        try:
            workflow = self._definition(history.kind)
            history.refuse_encoded()
            run = Run(workflow, history, tripwires=self._tripwires, step_limit=self._step_limit)
            run.replay()
        except DeterminismViolation as violation:
            return _report("violation", history, run, violation)
        except Exception as error:  # noqa: BLE001 - whatever it is, the report says it
            return _report("error", history, run, error)
        return _report("equal", history, run, None)

    def replay_all(self, histories: Iterable[History]) -> list[Report]:
        """Replay each; one report for each, in order."""
        return [self.replay(history) for history in histories]

    def _definition(self, kind: str) -> Workflow[..., Any]:
        workflow = self._workflows.get(kind)
        if workflow is None:
            known = ", ".join(self._workflows) or "none"
            raise DefinitionError(f"the history is of workflow kind {kind!r}; the replayer was given: {known}")
        return workflow


def _report(status: Status, history: History, run: Run | None, error: Exception | None) -> Report:
    parting = run.parting() if run is not None and status == "violation" else None
    return Report(
        status=status,
        workflow_id=history.workflow_id,
        kind=history.kind,
        source=history.source,
        activations=0 if run is None else run.done,
        events=None if parting is None else parting.events,
        diff="" if parting is None else parting.diff,
        error=error,
    )
