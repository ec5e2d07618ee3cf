"""Histories as a server would have them, made by running a workflow on the little platform of the replay tests."""

from __future__ import annotations

from flovyn.testing import History, RecordedEvent
from replay.replay_platform import WORKFLOW_ID, Run
from replay.worlds import World

__all__ = ["history_of"]


def history_of(run: Run | World) -> History:
    """The history of a run so far."""
    return History(
        workflow_id=WORKFLOW_ID,
        kind=run.info.kind,
        org_id=run.info.org_id,
        queue=run.info.queue,
        input=run.info.input.replace(b" ", b""),
        events=tuple(RecordedEvent(number, *event) for number, event in enumerate(run.platform.written, 1)),
    )
