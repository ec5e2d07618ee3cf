"""What is to be said when a test waits, and nothing that it has could ever go on by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from flovyn.server.engine import Engine

__all__ = ["open_workflows"]

_SHOWN: Final = 10


class _Suspended(msgspec.Struct):
    reason: str = ""


_decode: Final = msgspec.json.Decoder(_Suspended).decode


def open_workflows(engine: Engine) -> str:
    """The workflows that have not ended, and what each of them waits for; one a line."""
    runs = [run for run in engine.core.store.runs.all() if run.completed_at is None]
    lines: list[str] = []
    for run in runs[:_SHOWN]:
        if run.status == "PENDING":
            lines.append(f"{run.kind} {run.id} is in queue {run.queue!r}, which no worker polls for it")
            continue
        suspended = engine.core.store.runs.events(run.n, "WORKFLOW_SUSPENDED")
        reason = _decode(suspended[-1].data).reason if suspended else "it runs"
        lines.append(f"{run.kind} {run.id}: {reason}")
    if len(runs) > _SHOWN:
        lines.append(f"and {len(runs) - _SHOWN} more")
    return "\n".join(lines)
