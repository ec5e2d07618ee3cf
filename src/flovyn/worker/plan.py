"""What a worker is to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flovyn.definitions import Task, Workflow
    from flovyn.serde.chain import CodecChain
    from flovyn.worker.options import WorkerOptions

__all__ = ["Plan"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a worker is to do, settled before it begins."""

    org_id: str
    queue: str
    name: str
    workflows: Sequence[Workflow[..., Any]]
    tasks: Sequence[Task[..., Any]]
    codecs: CodecChain
    options: WorkerOptions
