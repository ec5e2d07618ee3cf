"""The gRPC services: each handler checks the caller, takes one step of the engine, and answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flovyn.server.acceptor import Routes
from flovyn.server.rpc import messages, notes, reading, tasks, workers, workflows

if TYPE_CHECKING:
    from flovyn.server.shell import Shell

__all__ = ["routes"]


def routes(shell: Shell) -> Routes:
    """Every RPC that this server answers; the acceptor refuses all others as UNIMPLEMENTED."""
    table = Routes()
    workflows.add(table, shell)
    messages.add(table, shell)
    tasks.add(table, shell)
    notes.add(table, shell)
    reading.add(table, shell)
    workers.add(table, shell)
    return table
