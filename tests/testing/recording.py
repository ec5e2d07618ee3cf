"""Histories as a server would have them, made by running a workflow on the little platform of the replay tests."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from flovyn.testing import History, RecordedEvent
from replay.replay_platform import OPEN, WORKFLOW_ID, Platform, Run

__all__ = ["Recorder", "evict", "history_of", "recorded"]


@dataclass
class Recorder(Platform):
    """A platform that keeps what it would send, to the letter."""

    raw: list[RecordedEvent] = field(default_factory=list[RecordedEvent])

    def append(self, kind: str, /, **data: Any) -> int:
        text = json.dumps(data, separators=(",", ":"), ensure_ascii=False)
        self.raw.append(RecordedEvent(len(self.raw) + 1, kind, text.encode()))
        return super().append(kind, **data)


def recorded(workflow: Any, data: Any = None) -> Run:
    """A run whose platform is a `Recorder`."""
    return Run(workflow, data, platform=Recorder())


def history_of(run: Run) -> History:
    """The history of a run so far."""
    platform = run.platform
    assert isinstance(platform, Recorder)
    return History(
        workflow_id=WORKFLOW_ID,
        kind=run.info.kind,
        org_id=run.info.org_id,
        queue=run.info.queue,
        input=run.info.input.replace(b" ", b""),
        events=tuple(platform.raw),
    )


def evict() -> None:
    """End every execution that a test has made."""
    while OPEN:
        OPEN.pop().close()
