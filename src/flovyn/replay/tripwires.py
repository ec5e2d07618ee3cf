"""Which code the tripwires of the nursery watch: that of the workflows, wherever it is installed."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from flovyn.nursery import Tripwires

if TYPE_CHECKING:
    from collections.abc import Iterable

    from flovyn.definitions import Workflow

__all__ = ["watching"]


def watching(workflows: Iterable[Workflow[..., Any]], tripwires: Tripwires | None = None) -> Tripwires:
    """Tripwires for the code of some workflows.

    Args:
        workflows: The definitions. The packages that they stand in are watched although they may be installed.
        tripwires: The switches; those of `Tripwires()` if left out.
    """
    tripwires = tripwires or Tripwires()
    packages = dict.fromkeys((*tripwires.code, *(_package(workflow) for workflow in workflows)))
    return dataclasses.replace(tripwires, code=tuple(packages))


def _package(workflow: Workflow[..., Any]) -> str:
    code = workflow.fn if workflow.parts is None else workflow.parts.cls
    return code.__module__.partition(".")[0]
