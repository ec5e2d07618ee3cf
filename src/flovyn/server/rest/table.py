"""The route table. What it holds is served, and is described by the OpenAPI document: neither has another source."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from flovyn.server.rest import orgs, promises, signals, stopping, system, tasks, workers, workflows

if TYPE_CHECKING:
    from flovyn.server.rest.route import Route

__all__ = ["ROUTES"]

ROUTES: Final[tuple[Route[Any, Any], ...]] = (
    *signals.ROUTES,  # one of its addresses could be taken for that of an execution
    *workflows.ROUTES,
    *stopping.ROUTES,
    *tasks.ROUTES,
    *promises.ROUTES,
    *workers.ROUTES,
    *orgs.ROUTES,
    *system.ROUTES,
)
